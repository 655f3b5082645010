//! Claim: keys and sessions are read from and written to only files and directories that no other user can read or
//! write.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::broker::Broker;
use crate::device::{LINK, Pair};
use crate::process::Process;

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
        // Only root can give a directory away.
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
            // A lock holds nothing to protect.
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
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

    // No file may grow, as on a full disk; the signal that comes with the limit is ignored, so that write fails.
    let pairing = pair.master.pair(&["--timeout", "10", LINK]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]);
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
