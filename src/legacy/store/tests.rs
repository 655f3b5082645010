//! Claim: the tools share one session, and no step of one is lost on the other; a KILL ends it, and nothing else does.

use super::*;
use crate::legacy::session::tests::session;
use crate::suite::Suite;

fn store(dir: &std::path::Path, role: Role) -> Store {
    let cache = Cache::create(&dir.join(role.name()), &"gateway".parse().unwrap(), "gateway").unwrap();
    Store::new(cache, Legacy { role, aes: Suite::Cbc })
}

/// Two devices with a session under the same key.
fn devices(dir: &std::path::Path) -> [Store; 2] {
    [Role::Master, Role::Slave].map(|role| {
        let store = store(dir, role);
        let session = LegacySession { role, ..session(true) };
        store.store_pending(session.clone()).unwrap();
        assert!(store.promote(session.id).unwrap());
        store
    })
}

fn one(store: &Store, text: &str) -> Vec<u8> {
    store.seal(text.as_bytes()).unwrap()
}

#[test]
fn two_tools_continue_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let [master, slave] = devices(dir.path());
    // As another process does.
    let again = store(dir.path(), Role::Master);
    for round in 0..5 {
        let text = format!("round {round}, a text of several blocks");
        assert_eq!(slave.open(&one(&master, &text)).unwrap(), Some(Decrypted::Text(text.clone().into())));
        assert_eq!(again.open(&one(&slave, &text)).unwrap(), Some(Decrypted::Text(text.into())));
    }
    let TextCounts { sent, received, damaged, last_text } = status(&master.cache, 1060).unwrap()[0].counters;
    assert_eq!((sent, received, damaged), (5, 5, 0));
    assert!(last_text.is_some_and(|at| at > 1_000_000_000));
    assert_eq!(master.age(1060).unwrap(), Some(60));
}

#[test]
fn what_was_not_published_costs_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let [master, slave] = devices(dir.path());
    // Killed before it was published.
    let _ = one(&master, "lost");
    assert_eq!(
        master.open(&one(&slave, "crossed, they say")).unwrap(),
        Some(Decrypted::Text("crossed, they say".into()))
    );
    let garbled = slave.open(&one(&master, "garbled at the other device")).unwrap();
    assert!(matches!(garbled, Some(Decrypted::Damaged(_))), "{garbled:?}");
    assert_eq!(slave.open(&one(&master, "read again")).unwrap(), Some(Decrypted::Text("read again".into())));
}

#[test]
fn a_pending_session_decrypts_and_becomes_the_current_one_by_that() {
    let dir = tempfile::tempdir().unwrap();
    let [master, _] = devices(dir.path());
    let key = crate::secret::Key::generate(32, |bytes| bytes.fill(9));
    let next = LegacySession::new([2; 8], Role::Master, key, true, 2000);
    master.store_pending(next.clone()).unwrap();
    assert_eq!(status(&master.cache, 2000).unwrap().len(), 2);
    assert_eq!(master.open(&[0; 15]).unwrap(), Some(Decrypted::NotWhole));
    let first = next.clone().seal(b"first under the new key");
    assert_eq!(master.open(&first).unwrap(), Some(Decrypted::Text(b"first under the new key".into())));
    let left = status(&master.cache, 2000).unwrap();
    assert_eq!((left.len(), left[0].standing, left[0].age), (1, Standing::Current, Some(0)));
    assert!(master.promote(next.id).unwrap(), "it is current already");
}

#[test]
fn a_kill_deletes_the_session_and_only_a_real_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let [master, slave] = devices(dir.path());
    assert!(matches!(master.open(&[0x55; 16]).unwrap(), Some(Decrypted::Damaged(_))));
    assert!(master.check().is_ok());
    let _ = one(&slave, "lost");
    let kill = slave.kill().unwrap().unwrap();
    assert!(kill.may_be_missed && matches!(master.open(&kill.payload).unwrap(), Some(Decrypted::Damaged(_))));
    let kill = slave.kill().unwrap().unwrap();
    assert_eq!(master.open(&kill.payload).unwrap(), Some(Decrypted::Kill));
    assert_eq!((master.check().unwrap_err().exit(), master.open(&[0; 16]).unwrap()), (Exit::TryAgain, None));
    assert!(master.kill().unwrap().is_none() && master.seal(b"x").is_err());
    assert!(slave.delete().unwrap() && !slave.delete().unwrap());
}

#[test]
fn a_tool_that_only_follows_leaves_what_sts_recv_has_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let [master, slave] = devices(dir.path());
    let (text, kill) = (one(&slave, "text"), slave.kill().unwrap().unwrap().payload);
    let receiving = master.cache.lock_receiving().unwrap();
    for _ in 0..2 {
        assert_eq!(master.follow(&text).unwrap(), Some(Decrypted::Text(b"text".into())));
        assert_eq!(master.follow(&kill).unwrap(), Some(Decrypted::Kill));
    }
    assert_eq!(master.open(&text).unwrap(), Some(Decrypted::Text(b"text".into())));
    let TextCounts { sent, received, damaged, .. } = status(&master.cache, 1000).unwrap()[0].counters;
    assert_eq!((sent, received, damaged), (0, 1, 0));
    drop(receiving);
    assert_eq!(master.follow(&kill).unwrap(), Some(Decrypted::Kill));
    assert!(master.check().is_err(), "nobody else would delete it");
}

#[test]
fn a_session_that_the_configuration_contradicts_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let [master, _] = devices(dir.path());
    let cache = Cache::create(master.cache.dir().path(), &"gateway".parse().unwrap(), "gateway").unwrap();
    let other = Store::new(cache, Legacy { role: Role::Master, aes: Suite::Ecb });
    assert!(other.check().unwrap_err().to_string().contains("another sts_mode or aes"));
    assert!(other.seal(b"x").is_err() && other.open(&[0; 16]).unwrap().is_none());
}

#[test]
fn a_malformed_file_is_an_error_until_a_pairing_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let [master, _] = devices(dir.path());
    let path = master.cache.dir().join("gateway@sts1");
    std::fs::write(&path, "junk").unwrap();
    let error = master.seal(b"x").unwrap_err();
    assert_eq!((error.exit(), error.hint_text().unwrap().ends_with("sts-pair gateway")), (Exit::Failed, true));
    master.store_pending(session(true)).unwrap();
    assert!(master.check().is_ok());
}

#[test]
fn a_pairing_replaces_the_file_of_an_earlier_version_and_not_of_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let [master, _] = devices(dir.path());
    let path = master.cache.dir().join("gateway@sts1");
    let text = std::fs::read_to_string(&path).unwrap();
    let of_version = |number: u32| {
        let (body, _) = text.split_once("sum = ").unwrap();
        let body = body.replace("format = sts1-sessions-3", &format!("format = sts1-sessions-{number}"));
        std::fs::write(&path, format!("{body}sum = {}\n", crate::cache::field_text::sum(&body))).unwrap();
        master.seal(b"x").unwrap_err()
    };
    let error = of_version(4);
    assert!(error.exit() == Exit::Protocol && error.to_string().ends_with("a later version of these tools wrote it"));
    assert_eq!(master.store_pending(session(true)).unwrap_err().exit(), Exit::Protocol);
    assert_eq!(master.age(1060).unwrap_err().exit(), Exit::Protocol);
    let error = of_version(2);
    assert!(
        error.exit() == Exit::Protocol && error.to_string().ends_with("an earlier version of these tools wrote it")
    );
    assert!(error.hint_text().unwrap().ends_with("sts-pair gateway"));
    assert_eq!(master.age(1060).unwrap(), None, "--if-older replaces it");
    master.store_pending(session(true)).unwrap();
    assert!(master.check().is_ok());
}

#[test]
fn one_process_sends_and_one_receives() {
    let dir = tempfile::tempdir().unwrap();
    let [master, _] = devices(dir.path());
    let held = (master.lock_sending().unwrap(), master.cache.lock_receiving().unwrap());
    assert_eq!(master.lock_sending().unwrap_err().exit(), Exit::TryAgain);
    assert!(master.cache.lock_receiving().is_err() && master.cache.is_receiving().unwrap());
    drop(held);
    assert!(master.lock_sending().is_ok() && !master.cache.is_receiving().unwrap());
}

#[test]
fn what_cannot_be_recorded_is_read_in_order_and_an_end_deletes_the_session_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let [master, slave] = devices(dir.path());
    let texts = ["one", "two", "three"];
    let mut payloads: Vec<Bytes> = texts.iter().map(|text| one(&master, text).into()).collect();
    payloads.push(master.kill().unwrap().unwrap().payload.into());
    let before = slave.read().unwrap();
    for (at, text) in texts.iter().enumerate() {
        let opened = slave.peek(&payloads[..at], &payloads[at]).unwrap();
        assert_eq!(opened, Some(Decrypted::Text(text.as_bytes().to_vec())));
        assert!(slave.read().unwrap() == before, "nothing is recorded");
    }
    assert_eq!(slave.peek(&payloads[..3], &payloads[3]).unwrap(), Some(Decrypted::Kill));
    assert!(slave.read().unwrap().is_empty());
}
