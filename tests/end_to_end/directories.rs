//! Claim: keys and sessions are read from and written to only files and directories that no other user can read or
//! write; configurations and passwords are read only from files that no other user can change.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, Pair, settings};
use crate::process::{Ended, Process};
use crate::scratch::directory;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_missing_runtime_directory_is_made_and_ours_alone() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    fs::remove_dir(pair.master.runtime_dir()).unwrap();
    pair.master.send_all(&[], "too early\n").failed(&[75], &["no session"]);
    pair.agree();
    assert_eq!(mode(&pair.master.runtime_dir()), 0o700);
    let files = pair.master.runtime_files();
    assert!(!files.is_empty());
    for (path, _) in files {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    pair.carries(&[], b"hello\n");
}

#[test]
fn a_runtime_directory_that_others_can_enter_is_refused() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let directory = pair.master.runtime_dir();
    chmod(&directory, 0o755);
    let remedy = format!("chmod 700 {}", directory.display());
    pair.master.send_all(&[], "x\n").failed(&[77], &[&remedy]);
    Process::spawn(pair.master.recv(&[LINK])).wait().failed(&[77], &[&remedy]);
    Process::spawn(pair.master.pair(&["--timeout", "1", LINK])).wait().failed(&[77], &[&remedy]);
    chmod(&directory, 0o700);
    pair.carries(&[], b"mended\n");
}

#[test]
fn a_runtime_directory_that_is_a_link_is_refused() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let elsewhere = pair.master.path().join("elsewhere");
    fs::rename(pair.master.runtime_dir(), &elsewhere).unwrap();
    symlink(&elsewhere, pair.master.runtime_dir()).unwrap();
    let directory = pair.master.runtime_dir();
    pair.master.send_all(&[], "x\n").failed(&[77], &[directory.to_str().unwrap(), "link"]);
}

#[test]
fn a_runtime_directory_of_somebody_else_is_refused() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let directory = pair.master.runtime_dir();
    if chown(&directory, Some(65_534), None).is_err() {
        // Only root can change the owner of a directory.
        return;
    }
    pair.master.send_all(&[], "x\n").failed(&[77], &[directory.to_str().unwrap()]);
    chown(&directory, Some(rustix::process::getuid().as_raw()), None).unwrap();
}

#[test]
fn loose_session_files_are_refused() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for (path, content) in pair.master.runtime_files() {
        chmod(&path, 0o644);
        if content.is_empty() {
            // A lock file contains nothing to protect.
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with("@latest") {
            // Only read where the configuration names several peers.
            continue;
        }
        pair.master.send_all(&[], "x\n").failed(&[77], &["chmod 600", name]);
        chmod(&path, 0o600);
    }
}

#[test]
fn a_loose_identity_is_refused() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let identity = pair.master.config_dir().join("identity.pem");
    for bits in [0o640, 0o604, 0o620] {
        chmod(&identity, bits);
        let remedy = format!("chmod 600 {}", identity.display());
        Process::spawn(pair.master.pair(&["--timeout", "1", LINK])).wait().failed(&[77], &[&remedy]);
    }
}

#[test]
fn a_status_that_lacks_something_is_no_success() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.master.write("known_peers", "not a key\n", 0o600);
    let ended = Process::spawn(pair.master.pair(&["--status"])).wait().failed(&[78], &["known_peers, line 1"]);
    assert!(ended.text().contains("(unknown)"), "{ended:?}");
    pair.slave.write("../run/gateway@recv", "not a record\n", 0o600);
    let ended = Process::spawn(pair.slave.pair(&["--status"])).wait().failed(&[1], &["the receive state is damaged"]);
    assert!(ended.text().contains("station"), "{ended:?}");
}

/// A user other than root; only root can run a process as this user.
const NOBODY: u32 = 65_534;
/// Yet another one.
const DAEMON: u32 = 1;

/// Makes another user the owner of everything below a path; false if this process may not do so.
fn give_away(path: &Path, user: u32) -> bool {
    let inside = path.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path());
    lchown(path, Some(user), Some(user)).is_ok() && inside.into_iter().all(|path| give_away(&path, user))
}

/// Runs this tool as [`NOBODY`], with its own variables and these.
fn as_nobody(device: &Device, command: &Command, variables: &[(&str, &Path)]) -> Ended {
    let program = device.path().join(Path::new(command.get_program()).file_name().unwrap());
    // Copy it in another process: children of other tests could inherit the descriptor that this process writes with, and a
    // file that is open for writing cannot be executed.
    assert!(Command::new("cp").arg(command.get_program()).arg(&program).status().unwrap().success());
    let mut theirs = Command::new(program);
    theirs.args(command.get_args()).current_dir(device.path()).uid(NOBODY).gid(NOBODY);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => theirs.env(name, value),
            None => theirs.env_remove(name),
        };
    }
    for (name, value) in variables {
        match value.to_str() {
            Some("") => theirs.env_remove(name),
            _ => theirs.env(name, value),
        };
    }
    Process::spawn_with(theirs, "x\n").wait()
}

/// Here the hint must not be `chown`: this would take the state away from the service.
#[test]
fn root_looks_at_a_services_state_and_is_told_how_to_use_it() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let device = &pair.slave;
    pair.carries(&[], b"hello\n");
    if !give_away(&device.runtime_dir(), NOBODY) || !give_away(&device.config_dir(), NOBODY) {
        return;
    }
    let before = device.runtime_files();
    let status = Process::spawn(device.pair(&["--status"])).wait().succeeded();
    assert!(status.text().contains("station") && status.stderr.is_empty(), "{status:?}");
    assert!(device.runtime_files() == before);
    for command in [device.recv(&[LINK]), device.send(&[LINK]), device.pair(&["--timeout", "1", LINK])] {
        let tool = Path::new(command.get_program()).file_name().unwrap().to_str().unwrap().to_owned();
        let said = format!("hint: run this as that user: runuser -u nobody -- {tool} ");
        let ended = Process::spawn_with(command, "x\n").wait().failed(&[77], &["belongs to user nobody", &said]);
        assert!(!ended.stderr.contains("chown"), "{}", ended.stderr);
    }
    assert!(device.runtime_files() == before);
    // The command from the hint works.
    assert!(give_away(device.path(), NOBODY));
    as_nobody(device, &device.send(&[LINK]), &[]).succeeded();
}

#[test]
fn a_directory_that_is_missing_or_anothers_is_said_with_the_remedy() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let device = &pair.slave;
    let roots = directory("roots");
    if !give_away(device.path(), NOBODY) {
        return;
    }
    chmod(roots.path(), 0o755);
    let (missing, theirs) = (roots.path().join("sts"), roots.path().join("roots"));
    fs::create_dir(&theirs).unwrap();
    chmod(&theirs, 0o700);
    let remedy = format!("as root: install -d -m 0700 -o nobody {}; or set STS_RUNTIME_DIR", missing.display());
    let home = format!("HOME is {}, which belongs to user root: set HOME", theirs.display());
    let (of_home, variables) = ([&*home, "STS_CONFIG_DIR"], [("STS_CONFIG_DIR", Path::new("")), ("HOME", &theirs)]);
    let pairing = device.pair(&["--timeout", "1", LINK]);
    as_nobody(device, &pairing, &[("STS_RUNTIME_DIR", &missing)]).failed(&[1], &["cannot create", &remedy]);
    for command in [&pairing, &device.send(&[LINK]), &device.recv(&[LINK])] {
        let said = ["run this as user root; or set STS_RUNTIME_DIR to a directory of your own"];
        as_nobody(device, command, &[("STS_RUNTIME_DIR", &theirs)]).failed(&[1, 77], &said);
        // With the HOME that runuser(1) leaves.
        as_nobody(device, command, &variables).failed(&[78], &of_home);
    }
    as_nobody(device, &device.pair(&["--key"]), &variables).failed(&[1], &of_home);
    let said = ["run this as user root; or set STS_RUNTIME_DIR to a directory of your own"];
    as_nobody(device, &device.pair(&["--status"]), &[("STS_RUNTIME_DIR", &theirs)]).failed(&[1], &said);
    // A login user beside a service.
    assert!(give_away(&device.config_dir(), DAEMON));
    chmod(&device.config_dir(), 0o755);
    let said = ["run this as user daemon; or move it to a directory that only this user (nobody) and root can change"];
    as_nobody(device, &pairing, &[]).failed(&[77], &said);
}

/// Root with the variables of a user, as after su(1) or sudo(8): the user could not use what root creates there.
#[test]
fn root_makes_nothing_in_the_directories_of_another_user() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let device = &pair.slave;
    let theirs = device.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    if !give_away(&theirs, NOBODY) {
        return;
    }
    let mut key = device.pair(&["--key"]);
    key.env_remove("STS_CONFIG_DIR").env("HOME", &theirs);
    let said = [&format!("HOME is {}, which belongs to user nobody", theirs.display()), "STS_CONFIG_DIR"];
    Process::spawn(key).wait().failed(&[77], &said);
    let mut pairing = device.pair(&["--timeout", "1", LINK]);
    pairing.env_remove("STS_RUNTIME_DIR").env("XDG_RUNTIME_DIR", &theirs);
    let said = [&format!("XDG_RUNTIME_DIR is {}, which belongs to user nobody", theirs.display()), "STS_RUNTIME_DIR"];
    Process::spawn(pairing).wait().failed(&[77], &said);
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
}

/// A login session sets `XDG_RUNTIME_DIR`, but cron does not.
#[test]
fn a_session_in_the_other_usual_place_is_found_and_said() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let device = &pair.master;
    let (login, place) = (device.path().join("login"), device.path().join("login/sts"));
    fs::create_dir(&login).unwrap();
    fs::rename(device.runtime_dir(), &place).unwrap();
    let said = format!("there is one in {}", place.display());
    let remedy = format!("set STS_RUNTIME_DIR={}", place.display());
    for _ in 0..2 {
        for mut command in [device.send(&[LINK]), device.recv(&[LINK])] {
            command.env("XDG_RUNTIME_DIR", &login);
            Process::spawn_with(command, "x\n").wait().failed(&[75], &["no session for gateway", &said, &remedy]);
        }
        let mut status = device.pair(&["--status"]);
        status.env("XDG_RUNTIME_DIR", &login);
        let said = format!("there are some in {}", place.display());
        let remedy = format!("STS_RUNTIME_DIR={} sts-pair --status", place.display());
        Process::spawn(status).wait().failed(&[0], &["no sessions in", &said, &remedy]);
        let mut status = device.pair(&["--status", LINK]);
        status.env("XDG_RUNTIME_DIR", &login);
        Process::spawn(status).wait().failed(&[0], &["no sessions of gateway in"]);
        // The configured directory is absent the first time, and empty the second time.
        fs::create_dir_all(device.runtime_dir()).unwrap();
        chmod(&device.runtime_dir(), 0o700);
    }
    let mut command = device.send(&[LINK]);
    command.env("STS_RUNTIME_DIR", &place);
    Process::spawn_with(command, "x\n").wait().succeeded();
}

/// The owner of a configuration could turn encryption off with one line.
#[test]
fn a_configuration_that_another_user_can_change_is_refused() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let device = &pair.slave;
    let (dir, file) = (device.config_dir(), device.config_dir().join("gateway.conf"));
    let path = file.to_str().unwrap();
    let refused = |said: &[&str]| {
        for link in [LINK, path, "config/gateway.conf"] {
            for command in [device.send(&[link]), device.recv(&[link]), device.pair(&["--timeout", "1", link])] {
                Process::spawn_with(command, "x\n").wait().failed(&[77], said);
            }
        }
    };
    for mode in [0o620, 0o602] {
        chmod(&file, mode);
        refused(&["other users can write it", "chmod go-w"]);
    }
    chmod(&file, 0o644);
    for mode in [0o702, 0o770] {
        if chown(&dir, None, Some(NOBODY)).is_ok() {
            chmod(&dir, mode);
            refused(&["other users can", "chmod go-w"]);
        }
    }
    chmod(&dir, 0o700);
    // A parent is a way in, too.
    chmod(device.path(), 0o707);
    refused(&["other users can change", "chmod go-w", device.path().to_str().unwrap()]);
    chmod(device.path(), 0o700);
    if chown(&file, Some(NOBODY), None).is_ok() {
        refused(&["belongs to user nobody"]);
        let theirs = device.path().join("theirs.conf");
        fs::rename(&file, &theirs).unwrap();
        symlink(&theirs, &file).unwrap();
        refused(&["belongs to user nobody"]);
        chown(&theirs, Some(0), None).unwrap();
        pair.carries(&[], b"by a link that only we can change\n");
        lchown(&file, Some(NOBODY), None).unwrap();
        refused(&["belongs to user nobody, who can change it"]);
        fs::remove_file(&file).unwrap();
        fs::rename(&theirs, &file).unwrap();
    }
    pair.carries(&[], b"ours\n");
}

#[test]
fn a_password_file_that_another_user_can_change_is_refused() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let device = &pair.slave;
    let file = device.config_dir().join("gateway.conf");
    let text = fs::read_to_string(&file).unwrap() + "username = me\npassword_file = secret\n";
    device.write("gateway.conf", text, 0o600);
    device.write("secret", "word\n", 0o602);
    device.send_all(&[], "x\n").failed(&[77], &["secret", "other users can write it"]);
    let secret = device.config_dir().join("secret");
    chmod(&secret, 0o600);
    device.send_all(&[], "x\n").succeeded();
    if chown(&secret, Some(NOBODY), None).is_ok() {
        device.send_all(&[], "x\n").failed(&[77], &["secret", "belongs to user nobody"]);
    }
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_not_waited_for() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let device = &pair.slave;
    let config = fs::read_to_string(device.config_dir().join("gateway.conf")).unwrap();
    let with_password = config.clone() + "username = me\npassword_file = secret\n";
    for name in ["gateway.conf", "secret", "known_peers", "identity.pem"] {
        device.write("gateway.conf", &with_password, 0o600);
        device.write("secret", "word\n", 0o600);
        let (file, kept) = (device.config_dir().join(name), device.path().join("kept"));
        fs::rename(&file, &kept).unwrap();
        assert!(Command::new("mkfifo").arg("-m600").arg(&file).status().unwrap().success());
        Process::spawn(device.pair(&["--timeout", "1", LINK])).wait().failed(&[77], &[name, "not a regular file"]);
        fs::rename(&kept, &file).unwrap();
    }
    // A descriptor that the shell hands over is another matter.
    device.write("gateway.conf", &config, 0o600);
    let sending = device.send(&["/dev/fd/7"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 7<config/gateway.conf; exec \"$@\"", "sh"]).arg(sending.get_program()).arg("/dev/fd/7");
    for (key, value) in sending.get_envs() {
        value.map(|value| shell.env(key, value));
    }
    shell.current_dir(device.path());
    Process::spawn_with(shell, "x\n").wait().failed(&[75], &["no session"]);
}

#[test]
fn an_encrypted_link_does_not_become_plain_by_a_line_in_a_file() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let plain = settings(&port, "nosec", "null");
    let pair = Pair::paired(&broker, "gcm");
    let (device, said) = (&pair.slave, ["not encrypted (sts_mode = nosec)", "sent in the clear", "set sts_mode to"]);
    device.configure(&plain);
    device.send_all(&[], "secret\n").failed(&[78], &said);
    Process::spawn(device.recv(&[LINK])).wait().failed(&[78], &said);
    device.send_all(&["-o", "sts_version=2"], "secret\n").failed(&[78], &said);
    device.send_all(&["-o", "sts_mode=nosec"], "on purpose\n").succeeded();
    // Without its sessions, the peer that was trusted for the link says that it was encrypted.
    device.lose_runtime_files();
    device.send_all(&[], "secret\n").failed(&[78], &["trusted peers"]);
    let other = Device::configured(Identity::Stranger, &plain);
    other.send_all(&[], "plain\n").succeeded();
}

/// The runtime directory is empty after each start of the machine: then only `known_peers` says that a link was encrypted.
#[test]
fn an_encrypted_link_does_not_become_plain_by_a_file_that_cannot_be_used() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let pair = Pair::enrolled(&broker, "gcm");
    let device = &pair.slave;
    device.configure(&settings(&port, "nosec", "null"));
    let peers = fs::read(device.config_dir().join("known_peers")).unwrap();
    let mut garbage = peers.clone();
    garbage.extend(b"garbage\n");
    for (content, mode, exit) in [(&peers[..], 0o666, 77), (&garbage, 0o600, 78), (&peers[..100], 0o600, 78)] {
        device.write("known_peers", content, mode);
        device.send_all(&[], "secret\n").failed(&[exit], &["known_peers"]);
    }
    device.write("known_peers", &peers, 0o600);
    if chown(device.config_dir().join("known_peers"), Some(NOBODY), None).is_ok() {
        device.send_all(&[], "secret\n").failed(&[77], &["known_peers", "it belongs to user"]);
    }
    fs::remove_file(device.config_dir().join("known_peers")).unwrap();
    fs::set_permissions(device.runtime_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let runtime_dir = device.runtime_dir().display().to_string();
    device.send_all(&[], "secret\n").failed(&[77], &[&runtime_dir, "other users can enter it"]);
    device.send_all(&["-o", "sts_mode=nosec"], "on purpose\n").succeeded();
    fs::remove_dir_all(device.runtime_dir()).unwrap();
    device.send_all(&[], "plain\n").succeeded();
}

/// As cleaning up /run by hand may do it: a tool has only the directory that it opened.
#[test]
fn a_runtime_directory_that_is_made_anew_takes_a_restart_which_the_error_says() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    fs::remove_dir_all(pair.slave.runtime_dir()).unwrap();
    pair.agree();
    let hint = "hint: this directory was removed while the tool ran: start the tool again";
    receiver.wait().failed(&[1], &[pair.slave.runtime_dir().to_str().unwrap(), hint]);
    pair.carries(&[], b"y\n");
}

#[test]
fn a_tool_leaves_no_core_dump() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", receiver.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    receiver.stop().succeeded();
}

/// Moves a device's keys into a volume like a container's: the files are in a directory per version, behind two links.
fn mount_secrets(device: &Device) -> PathBuf {
    let secrets = device.path().join("secrets");
    fs::create_dir_all(secrets.join("..v1")).unwrap();
    chmod(&secrets, 0o755);
    symlink("..v1", secrets.join("..data")).unwrap();
    for name in ["identity.pem", "known_peers"] {
        let place = secrets.join("..v1").join(name);
        fs::rename(device.config_dir().join(name), &place).unwrap();
        chmod(&place, 0o400);
        symlink(Path::new("..data").join(name), secrets.join(name)).unwrap();
        symlink(secrets.join(name), device.config_dir().join(name)).unwrap();
    }
    secrets
}

/// The attribute of a file with its access control list (acl(5)).
const ACCESS_LIST: &str = "system.posix_acl_access";

/// Lets one user read a file, and no other and no group; false where the file system knows no such list.
fn allow_reading(path: &Path, user: u32) -> bool {
    let entries = [(1, 4, u32::MAX), (2, 4, user), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let entry = |(tag, permissions, id): &(u8, u8, u32)| [&[*tag, 0, *permissions, 0], &id.to_le_bytes()[..]].concat();
    let list = [vec![2, 0, 0, 0], entries.iter().flat_map(entry).collect()].concat();
    rustix::fs::setxattr(path, ACCESS_LIST, &list, rustix::fs::XattrFlags::empty()).is_ok()
}

#[test]
fn keys_that_an_administrator_put_in_place_are_taken() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let secrets = mount_secrets(&pair.slave);
    pair.agree();
    pair.carries(&[], b"from a secret\n");
    // Of a group in which others are, which may not read it: this user may by name, as a service may read systemd's credentials.
    let identity = secrets.join("..v1/identity.pem");
    if chown(&identity, None, Some(4_200_000)).is_ok() && allow_reading(&identity, rustix::process::geteuid().as_raw())
    {
        assert_eq!(mode(&identity), 0o440);
        chmod(&secrets.join("..v1/known_peers"), 0o444);
        pair.agree();
        rustix::fs::removexattr(&identity, ACCESS_LIST).unwrap();
        chmod(&identity, 0o440);
        let said = ["identity.pem", "other users can use it (mode 0440)", "chmod 600"];
        Process::spawn(pair.slave.pair(&["--key"])).wait().failed(&[77], &said);
        chmod(&identity, 0o400);
    }
    let said = ["known_peers", "it is a link", "change the file that it points to"];
    let key = Process::spawn(Device::with(Identity::Stranger).pair(&["--key"])).wait().succeeded().stdout;
    Process::spawn_with(pair.slave.pair(&["--trust", "third"]), key).wait().failed(&[78], &said);

    // Running tools notice a new version: in this one, the station is no longer trusted.
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--confirm"], "trusted\n").succeeded();
    fs::create_dir(secrets.join("..v2")).unwrap();
    fs::copy(&identity, secrets.join("..v2/identity.pem")).unwrap();
    fs::write(secrets.join("..v2/known_peers"), "# nobody\n").unwrap();
    symlink("..v2", secrets.join("..new")).unwrap();
    fs::rename(secrets.join("..new"), secrets.join("..data")).unwrap();
    pair.master.send_all(&[], "not trusted\n").succeeded();
    receiver.wait_for("dropped a message");
    receiver.stop().succeeded().wrote(b"trusted\n");
}

#[test]
fn a_read_only_key_file_is_read_and_not_written() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    for name in ["identity.pem", "known_peers"] {
        chmod(&pair.slave.config_dir().join(name), 0o400);
    }
    let before = fs::read(pair.slave.config_dir().join("known_peers")).unwrap();
    pair.agree();
    pair.carries(&[], b"read\n");
    assert_eq!(fs::read(pair.slave.config_dir().join("known_peers")).unwrap(), before);
    let key = Process::spawn(Device::with(Identity::Stranger).pair(&["--key"])).wait().succeeded().stdout;
    let trusting = Process::spawn_with(pair.slave.pair(&["--trust", "third"]), key);
    trusting.wait().failed(&[78], &["known_peers: it is read-only", "chmod u+w"]);
}

#[test]
fn a_link_that_others_can_change_is_refused_with_the_remedy() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let secrets = mount_secrets(&pair.slave);
    let pairing = || Process::spawn(pair.slave.pair(&["--timeout", "1", LINK])).wait();
    for dir in [secrets.clone(), secrets.join("..v1")] {
        let real = fs::canonicalize(&dir).unwrap();
        let ours = fs::metadata(&dir).unwrap().gid();
        for bits in [0o777, 0o775] {
            chmod(&dir, bits);
            // In our own group there may be nobody else.
            if bits == 0o775 && chown(&dir, None, Some(NOBODY)).is_err() {
                continue;
            }
            let remedy = format!("chmod go-w {}", real.display());
            pairing().failed(&[77], &["identity.pem: it is a link: other users can change", &remedy]);
        }
        // Like a volume of secrets: others can create files in it, but cannot replace ours.
        chmod(&dir, 0o1777);
        pairing().failed(&[75], &[]);
        chown(&dir, None, Some(ours)).unwrap();
        chmod(&dir, 0o755);
    }
    for bits in [0o444, 0o404, 0o640] {
        chmod(&secrets.join("..v1/identity.pem"), bits);
        pairing().failed(&[77], &["identity.pem: other users can use it", "chmod 600"]);
    }
    chmod(&secrets.join("..v1/identity.pem"), 0o400);
    if lchown(secrets.join("..data"), Some(65_534), None).is_ok() {
        pairing().failed(&[77], &["it is a link", "belongs to user nobody, who can change it", "replace the link"]);
        lchown(secrets.join("..data"), Some(rustix::process::getuid().as_raw()), None).unwrap();
    }
    fs::remove_file(secrets.join("..data")).unwrap();
    pairing().failed(&[77], &["it is a link", "No such file", "replace the link"]);
    symlink("..data", secrets.join("..data")).unwrap();
    pairing().failed(&[77], &["it is a link", "replace the link"]);
}

/// A file that only the tools write is never a link.
#[test]
fn a_session_file_that_is_a_link_is_refused_with_the_remedy() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for (path, _) in pair.master.runtime_files() {
        let elsewhere = pair.master.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        let remedy = format!("rm {}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with("@pair.lock") {
            Process::spawn(pair.master.pair(&["--timeout", "1", LINK]))
                .wait()
                .failed(&[77], &["it is a link", &remedy]);
        } else if name.ends_with("@lock") || !(name.ends_with("lock") || name.ends_with("@latest")) {
            pair.master.send_all(&[], "x\n").failed(&[77], &["it is a link", &remedy]);
        }
        fs::rename(&elsewhere, &path).unwrap();
    }
}

#[test]
fn a_password_that_others_can_read_is_a_warning() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let file = pair.master.config_dir().join("gateway.conf");
    let text = fs::read_to_string(&file).unwrap() + "username = me\npassword = hunter2\n";
    pair.master.write("gateway.conf", text, 0o644);
    let ended = pair.master.send_all(&[], "x\n").succeeded();
    assert!(ended.stderr.contains("gateway.conf") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[test]
fn a_full_disk_keeps_the_session_that_was_there() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let before = pair.master.runtime_files();

    // No file may grow, as on a full disk.
    let pairing = pair.master.pair(&["--timeout", "10", LINK]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 0; exec \"$@\"", "sh"]);
    limited.arg(pairing.get_program()).args(pairing.get_args());
    for (key, value) in pairing.get_envs() {
        value.map(|value| limited.env(key, value));
    }
    let slave = Process::spawn(pair.slave.pair(&["--timeout", "10", LINK]));
    let runtime = pair.master.runtime_dir();
    Process::spawn(limited).wait().failed(&[1], &[runtime.to_str().unwrap()]);
    slave.stop();

    assert_eq!(pair.master.runtime_files(), before);
    pair.carries(&[], b"under the old session\n");
}
