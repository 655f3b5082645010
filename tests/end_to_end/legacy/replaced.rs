//! Claim: once both devices run this program, the session with the old one is deleted by itself, or by `--end`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::Link;
use super::old_program::Role;
use crate::broker::Broker;
use crate::device::{Device, LINK, Pair, settings};
use crate::process::Process;

const DELETED: &str = "deleted the session with the old program";

fn session_file(device: &Device) -> PathBuf {
    device.runtime_dir().join(format!("{LINK}@sts1"))
}

/// A session with the old program, as its file is.
struct OldSession(Vec<u8>);

impl OldSession {
    fn agree(broker: &Broker) -> Self {
        let mut link = Link::new(broker.port(), Role::Slave, true, 64);
        let _old = link.paired();
        Self(fs::read(session_file(&link.device)).unwrap())
    }

    /// This device had it before the program at the other end was replaced.
    fn was_of(&self, device: &Device) {
        let file = session_file(device);
        fs::write(&file, &self.0).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert!(status(device).contains(r#""sts_version":1"#));
    }
}

fn status(device: &Device) -> String {
    Process::spawn(device.pair(&["--status", "--json"])).wait().succeeded().text().to_owned()
}

#[test]
fn a_pairing_deletes_the_session_with_the_old_program() {
    let broker = Broker::start();
    let (old, pair) = (OldSession::agree(&broker), Pair::enrolled(&broker, "gcm"));
    let ends = [&pair.slave, &pair.master];
    for device in ends {
        old.was_of(device);
    }
    let runs = ends.map(|device| Process::spawn(device.pair(&[LINK])));
    for (run, device) in runs.into_iter().zip(ends) {
        run.wait().failed(&[0], &[DELETED]);
        assert!(!session_file(device).exists() && !status(device).contains("sts_version"), "{}", status(device));
    }
    // A service does so, too, and the next pairing has nothing to say.
    old.was_of(&pair.slave);
    let service = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    service.wait_for("listening on");
    let again = Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    assert!(!again.stderr.contains(DELETED), "{}", again.stderr);
    service.wait_for(DELETED);
    assert!(!session_file(&pair.slave).exists());
    service.stop().succeeded();
    pair.carries(&[], b"as ever\n");
}

/// An earlier pairing may have been unable to delete it.
#[test]
fn a_session_that_is_kept_deletes_the_one_with_the_old_program() {
    let broker = Broker::start();
    let (old, pair) = (OldSession::agree(&broker), Pair::paired(&broker, "gcm"));
    let service = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    service.wait_for("listening on");
    old.was_of(&pair.master);
    Process::spawn(pair.master.pair(&["--if-older", "1h", LINK])).wait().failed(&[0], &[DELETED]);
    assert!(!session_file(&pair.master).exists());
    old.was_of(&pair.master);
    let keeping = Process::spawn(pair.master.pair(&["--keep", "1h", LINK]));
    keeping.wait_for(DELETED);
    assert!(!session_file(&pair.master).exists());
    keeping.stop().succeeded();
    service.stop().succeeded();
    // Nor does it need a peer that answers.
    old.was_of(&pair.master);
    let if_older = ["--if-older", "1h", "--timeout", "1", LINK];
    Process::spawn(pair.master.pair(&if_older)).wait().failed(&[0], &[DELETED]);
    pair.carries(&[], b"as ever\n");
}

#[test]
fn end_deletes_the_session_with_the_old_program() {
    let broker = Broker::start();
    let (old, pair) = (OldSession::agree(&broker), Pair::paired(&broker, "gcm"));
    let end = || Process::spawn(pair.master.pair(&["--end", LINK])).wait();
    old.was_of(&pair.master);
    end().failed(&[0], &[DELETED, "deleted the sessions with gateway"]);
    assert!(!session_file(&pair.master).exists());
    // It may be the only one, with or without a key that is trusted.
    old.was_of(&pair.master);
    end().failed(&[0], &[DELETED]);
    end().failed(&[75], &["no session"]);
    let fresh = Device::bare();
    fresh.configure(&settings(&broker.port().to_string(), "master", "gcm"));
    old.was_of(&fresh);
    Process::spawn(fresh.pair(&["--end", LINK])).wait().failed(&[0], &[DELETED]);
    assert!(!session_file(&fresh).exists());
}

#[test]
fn end_deletes_it_on_an_encrypted_link_only() {
    let broker = Broker::start();
    let (old, device) = (OldSession::agree(&broker), Device::bare());
    device.configure(&settings(&broker.port().to_string(), "master", "gcm"));
    old.was_of(&device);
    let end = Process::spawn(device.pair(&["--end", "-o", "sts_mode=nosec", "-o", "aes=null", LINK])).wait();
    let end = end.failed(&[64], &["nothing to pair"]);
    assert!(session_file(&device).exists() && !end.stderr.contains(DELETED), "{}", end.stderr);
}

#[test]
fn end_succeeds_if_it_was_the_only_one_with_a_peer_of_the_link() {
    let broker = Broker::start();
    let (old, pair) = (OldSession::agree(&broker), Pair::paired(&broker, "gcm"));
    let end = || Process::spawn(pair.master.pair(&["--end", LINK])).wait();
    end().succeeded();
    old.was_of(&pair.master);
    // The file of a peer that is not trusted: --end neither reads nor deletes it.
    let of_another = pair.master.runtime_dir().join(format!("{LINK}@{}", "0".repeat(32)));
    fs::write(&of_another, "damaged").unwrap();
    fs::set_permissions(&of_another, Permissions::from_mode(0o600)).unwrap();
    end().failed(&[0], &[DELETED]);
    assert!(!session_file(&pair.master).exists() && of_another.exists());
    end().failed(&[75], &["no session"]);
}

#[test]
fn end_deletes_the_other_sessions_even_if_it_cannot_be_deleted() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    fs::create_dir(session_file(&pair.master)).unwrap();
    let end = Process::spawn(pair.master.pair(&["--end", LINK])).wait();
    end.failed(&[1, 77], &["@sts1", "deleted the sessions with gateway"]);
}
