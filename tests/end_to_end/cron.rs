//! Claim: `--if-older` keeps a session that both ends have, and replaces one that either end has lost or finds too old. If
//! cron starts both ends within the same minute, they end up with one session and exit status 0.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use sts::crypto::schedule::digest;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, M2S, Pair, S2M};
use crate::process::{Ended, Process, wait_until};
use crate::sniffer::Sniffer;

/// First bytes of messages, `sts-protocol(7)`, "Header".
const INITREQ: u8 = 0x21;
const RDYREQ: u8 = 0x25;
const RDYACK: u8 = 0x26;

/// The file with the sessions of a device, and its text.
fn session_file(device: &Device) -> (PathBuf, String) {
    let mut files = device.runtime_files().into_iter();
    let found = files.find(|(_, content)| content.starts_with(b"# Keys of a session"));
    let (path, content) = found.expect("there is a session");
    (path, String::from_utf8(content).unwrap())
}

/// The id of the newest session that is not pending.
fn session(device: &Device) -> String {
    let (_, text) = session_file(device);
    let current = text.split_once("standing = current\nid = ").expect("one session is current").1;
    current.lines().next().unwrap().to_owned()
}

/// Moves the creation time of all sessions of a device this many seconds into the past.
fn age(device: &Device, seconds: i64) {
    let (path, text) = session_file(device);
    let mut aged = String::new();
    for line in text.lines().filter(|line| !line.starts_with("sum = ")) {
        match line.strip_prefix("created = ") {
            Some(created) => writeln!(aged, "created = {}", created.parse::<i64>().unwrap() - seconds).unwrap(),
            None => writeln!(aged, "{line}").unwrap(),
        }
    }
    let sum = digest(&[aged.as_bytes()])[..8].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    fs::write(path, format!("{aged}sum = {sum}\n")).unwrap();
}

/// A run from cron that replaces sessions older than an hour.
fn cron(device: &Device, timeout: &str) -> Process {
    Process::spawn(device.pair(&["--if-older", "1h", "--timeout", timeout, LINK]))
}

fn silent(ended: Ended) {
    let ended = ended.succeeded();
    assert_eq!((ended.stdout.as_slice(), ended.stderr.as_str()), (&[][..], ""), "mail for nothing");
}

const MINUTES: i64 = 60;

#[test]
fn a_young_session_is_kept_and_nothing_is_said() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let before = session(&pair.master);

    // The question is answered by sts-recv, by an idle sts-send --confirm, and by nobody.
    let receiver = pair.slave.listen(&[]);
    let start = Instant::now();
    silent(cron(&pair.master, "5").wait());
    // If the machine is so slow that the answer came too late, the run pairs.
    let in_time = start.elapsed() < Duration::from_secs(3);
    sniffer.wait_for_type(M2S, RDYREQ, 1);
    sniffer.wait_for_type(S2M, RDYACK, 1);
    assert!(!in_time || sniffer.seen_of_type(M2S, INITREQ).is_empty(), "nothing to pair");
    receiver.stop().succeeded();

    let subscribed = broker.times_logged("Sending SUBACK");
    let sender = Process::spawn(pair.master.send(&["--confirm", LINK]));
    broker.wait_for_log("Sending SUBACK", subscribed + 1);
    silent(cron(&pair.slave, "5").wait());
    sniffer.wait_for_type(S2M, RDYREQ, 1);
    sniffer.wait_for_type(M2S, RDYACK, 1);
    drop(sender);

    for device in [&pair.master, &pair.slave] {
        silent(cron(device, "1").wait());
        assert_eq!(session(device), before);
    }
}

#[test]
fn two_that_find_it_young_end_with_one_session_and_soon() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    for _ in 0..3 {
        // Without a timeout: a run that heard nothing from the other would not end.
        let runs = [&pair.slave, &pair.master].map(|device| cron(device, "0"));
        for run in runs {
            run.wait().succeeded();
        }
        assert_eq!(session(&pair.master), session(&pair.slave));
    }
    assert!(!sniffer.seen_of_type(M2S, RDYREQ).is_empty() && !sniffer.seen_of_type(S2M, RDYREQ).is_empty());
}

#[test]
fn a_peer_that_lost_its_session_is_noticed() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    for (lost, kept) in [(slave, master), (master, slave), (slave, master)] {
        let before = session(kept);
        // A reboot: /run is empty, and the first tool creates the directory again.
        fs::remove_dir_all(lost.runtime_dir()).unwrap();
        Process::spawn(lost.recv(&[LINK])).wait().failed(&[75], &["no session"]);
        let runs = [lost, kept].map(|device| cron(device, "50"));
        for run in runs {
            run.wait().succeeded();
        }
        assert_eq!(session(master), session(slave));
        assert_ne!(session(master), before);
    }
    pair.carries(&[], b"after three reboots\n");
}

#[test]
fn ends_that_disagree_on_its_age_end_with_one_session() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    let receivers = [master, slave].map(|device| device.listen(&[]));
    for (old, young) in [(slave, master), (master, slave)] {
        // The end that wants a new session starts first: its sts-recv must not answer for it that the session is there.
        age(old, 61 * MINUTES);
        let before = session(young);
        let subscribed = broker.times_logged("Sending SUBACK");
        let first = cron(old, "50");
        broker.wait_for_log("Sending SUBACK", subscribed + 1);
        cron(young, "50").wait().succeeded();
        first.wait().succeeded();
        assert_eq!(session(master), session(slave));
        assert_ne!(session(master), before, "a new one was wanted");

        // It starts when the other one has kept the session and exited: the existing session is good enough.
        age(old, 61 * MINUTES);
        let before = session(young);
        silent(cron(young, "5").wait());
        let late = cron(old, "2").wait().succeeded();
        assert!(late.stderr.contains("stays in use"), "{}", late.stderr);
        assert_eq!([session(master), session(slave)], [before.clone(), before]);
        // Undo the change.
        age(old, -61 * MINUTES);
    }
    for receiver in receivers {
        receiver.stop().succeeded();
    }
    pair.carries(&[], b"still there\n");
}

#[test]
fn nobody_there_is_an_error_only_when_the_session_is_too_old() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for device in [&pair.master, &pair.slave] {
        let files = |device: &Device| session_file(device).1;
        age(device, 119 * MINUTES);
        let before = files(device);
        let ended = cron(device, "1").wait().succeeded();
        assert!(ended.stderr.contains("timed out") && ended.stderr.contains("stays in use"), "{}", ended.stderr);
        silent(Process::spawn(device.pair(&["-q", "--if-older", "1h", "--timeout", "1", LINK])).wait());

        age(device, 2 * MINUTES);
        cron(device, "1").wait().failed(&[75], &["timed out"]);
        // Its time is from a clock that was wrong, so its age is unknown.
        age(device, -200 * MINUTES);
        cron(device, "1").wait().failed(&[75], &["timed out"]);
        age(device, 79 * MINUTES);
        silent(cron(device, "1").wait());
        age(device, 119 * MINUTES);
        assert_eq!(files(device), before, "nothing changed");
    }
}

#[test]
fn a_run_that_overlaps_another_says_so() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let first = cron(&pair.slave, "0");
    broker.wait_for_log("Sending SUBACK", 1);
    cron(&pair.slave, "30").wait().failed(&[75], &["another sts-pair is already running"]);
    first.stop().failed(&[75], &["signal"]);
}

#[test]
fn it_is_for_links_with_one_peer_at_a_time() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    pair.slave.trust("stranger", &Device::with(Identity::Stranger));
    let both = ["-o", "peer=station stranger", "-o", "subtop=+/up", "-o", "pubtop=+/down", "--if-older", "1h", LINK];
    Process::spawn(pair.slave.pair(&both)).wait().failed(&[64], &["--if-older", "station, stranger"]);
}

#[test]
fn an_age_without_its_form_is_a_usage_error() {
    let device = Device::bare();
    for (bad, said) in [("0h", "at least 1 second"), ("30m1h", "90s, 1h30m, 7d"), ("soon", "1h30m"), ("-3h", "1h30m")] {
        let option = format!("--if-older={bad}");
        Process::spawn(device.pair(&[&option, LINK])).wait().failed(&[64], &[said]);
    }
    Process::spawn(device.pair(&["--if-older", "1h", "--key"])).wait().failed(&[64], &["--key"]);
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man/examples").join(name)
}

#[test]
fn the_crontab_of_the_examples_keeps_two_devices_going() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let text = fs::read_to_string(example("crontab")).unwrap();
    let job = |tool: &str| {
        let line = text.lines().find(|line| !line.starts_with('#') && line.contains(tool)).unwrap();
        line.splitn(6, ' ').last().unwrap().trim().to_owned()
    };
    for device in [&pair.master, &pair.slave] {
        fs::copy(device.config_dir().join("gateway.conf"), device.config_dir().join("plant.conf")).unwrap();
    }
    let both = || {
        let runs = [&pair.slave, &pair.master].map(|device| device.shell(&["sh", "-c", &job("sts-pair")]));
        for run in runs.map(Process::spawn) {
            silent(run.wait());
        }
    };
    for _ in 0..2 {
        both();
        assert_eq!(session(&pair.master), session(&pair.slave));
    }

    let receiver = Process::spawn(pair.slave.recv(&["--once", "plant"]));
    silent(Process::spawn(pair.master.shell(&["sh", "-c", &job("sts-send")])).wait());
    let ended = receiver.wait().succeeded();
    assert!(ended.text().starts_with("Filesystem") && ended.text().lines().count() == 2, "{}", ended.text());
}

#[test]
fn the_syslog_pipeline_of_the_examples_outlives_its_logger_and_ends_as_a_whole() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // Takes the place of logger(1), and exits at the first line that tells it to.
    let logger = pair.slave.path().join("bin");
    fs::create_dir(&logger).unwrap();
    let script =
        "#!/bin/sh\nwhile read -r line; do\n  echo \"$2: $line\" >>log\n  case $line in die) exit 1 ;; esac\ndone\n";
    fs::write(logger.join("logger"), script).unwrap();
    fs::set_permissions(logger.join("logger"), fs::Permissions::from_mode(0o755)).unwrap();

    let mut command = pair.slave.shell(&[example("sts-log").to_str().unwrap(), LINK]);
    let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_str().unwrap().to_owned();
    command.env("PATH", format!("{}:{path}", logger.display())).env("STS_LOG_PAUSE", "0.1");
    command.process_group(0);
    let mut pipeline = Process::spawn(command);
    let group = Group(Pid::from_raw(pipeline.id().cast_signed()).unwrap());
    let log = || fs::read_to_string(pair.slave.path().join("log")).unwrap_or_default();
    let mut expected = String::new();
    for line in ["one", "die", "two", "die", "three"] {
        pair.master.send_all(&["--confirm"], format!("{line}\n")).succeeded();
        writeln!(expected, "sts-{LINK}: {line}").unwrap();
        wait_until("the line to be logged", || log() == expected);
    }
    // To the script alone, as init does.
    pipeline.signal(Signal::TERM);
    wait_until("the script to end", || !pipeline.is_running());
    assert_eq!(
        rustix::process::test_kill_process_group(group.0),
        Err(Errno::SRCH),
        "a process of the pipeline runs on"
    );
    assert_eq!(pipeline.wait().status, 143);
}

/// A process and everything that it started; killed when dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        rustix::process::kill_process_group(self.0, Signal::KILL).ok();
    }
}

#[test]
fn status_tells_how_old_keys_are_and_when_the_next_are_due() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "cbc");
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--each", "--confirm"], "one\ntwo\nthree\n").succeeded();
    receiver.stop().succeeded();
    // A stray file, whose link is not a valid name.
    fs::write(pair.slave.runtime_dir().join(format!("?@{}", "0123456789abcdef".repeat(2))), "stray").unwrap();
    let status = |arguments: &[&str]| {
        let arguments = [&["--status"], arguments].concat();
        Process::spawn(pair.slave.pair(&arguments)).wait().succeeded().text().to_owned()
    };
    age(&pair.slave, 40 * MINUTES + 5);
    let rows = |text: &str| text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    let table: Vec<Vec<String>> = rows(&status(&[]));
    let head = ["LINK", "PEER", "KEY", "AGE", "SENT", "RECV", "LAST", "GAPS", "REJECT", "NEXT"];
    assert_eq!(table[0], head);
    assert_eq!(
        (table[1][..2].join(" "), table[1][4..6].join(" "), table[1][7..].join(" ")),
        ("gateway station".into(), "0 3".into(), "0 0 -".into())
    );
    assert!(table[1][3].starts_with("40m") || table[1][3].starts_with("41m"), "{table:?}");
    assert!(status(&["--json"]).contains(r#""if_older":null,"next":null"#));

    cron(&pair.slave, "1").wait().succeeded();
    let table: Vec<Vec<String>> = rows(&status(&[]));
    assert!(table[1][9].starts_with("19m") || table[1][9].starts_with("18m"), "{table:?}");
    let json = status(&["--json"]);
    for field in [r#"{"link":"gateway","peer":"station","fingerprint":"SHA256:"#, r#""if_older":3600,"next":11"#] {
        assert!(json.contains(field), "no {field} in {json}");
    }
    Process::spawn(pair.slave.pair(&["--json"])).wait().failed(&[64], &["--status"]);

    Process::spawn(pair.slave.pair(&["--forget", "station"])).wait().succeeded();
    assert_eq!(status(&[]), "");
}

#[test]
fn colours_are_for_terminals_only() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let on_a_terminal = |name: &str, value: &str| {
        let mut command = pair.slave.shell(&["script", "-qec", "sts-pair --status", "/dev/null"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").env(name, value);
        Process::spawn(command).wait().succeeded().text().to_owned()
    };
    assert!(on_a_terminal("NO_COLOR", "").contains("\x1b[1mLINK\x1b[0m"));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_a_terminal(name, value);
        assert!(text.contains("LINK") && !text.contains('\x1b'), "{name}={value}: {text:?}");
    }
    let mut piped = pair.slave.pair(&["--status"]);
    piped.env("TERM", "xterm");
    assert!(!Process::spawn(piped).wait().succeeded().text().contains('\x1b'));
}
