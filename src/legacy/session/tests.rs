//! Claim: what either device makes, the other reads, unless a message before it is lost; what comes again is told from what is new.

use super::super::chain::MAX_RECENT;
use super::*;

pub(in crate::legacy) fn session(is_cbc: bool) -> LegacySession {
    let key = Key::generate(32, |bytes| bytes.fill(7));
    LegacySession::new([1; 8], Role::Master, key, is_cbc, 1000)
}

#[test]
fn a_text_is_as_long_as_the_old_program_makes_it() {
    for (text, len) in [("", 16), ("a", 16), ("twelve bytes", 16), ("thirteen byte", 32)] {
        for is_cbc in [true, false] {
            let (mut one, mut other) = (session(is_cbc), session(is_cbc));
            let payload = one.seal(text.as_bytes());
            assert_eq!(payload.len(), len);
            assert_eq!(other.open(&payload, Reading::Write), Decrypted::Text(text.into()));
        }
    }
}

#[test]
fn what_is_no_message_changes_nothing_or_is_damaged() {
    for is_cbc in [true, false] {
        let mut session = session(is_cbc);
        let before = session.clone();
        for payload in [&[][..], &[0; 15], &[0; 17], &[0; MAX_PAYLOAD + BLOCK_LEN]] {
            assert_eq!(session.open(payload, Reading::Write), Decrypted::NotWhole);
        }
        assert_eq!(session, before);
        assert!(matches!(session.open(&[0; 48], Reading::Write), Decrypted::Damaged(_)));
        assert!(matches!(session.open(&[1; MAX_PAYLOAD], Reading::Write), Decrypted::Damaged(_)));
        assert_eq!(session.counters, TextCounts { damaged: 2, ..TextCounts::default() });
    }
}

#[test]
fn debug_shows_no_key() {
    let shown = format!("{:?}", session(true));
    assert_eq!(shown, r#"LegacySession { role: Master, mode: "cbc", .. }"#);
}

/// The old program's own rule, which is the plain one.
fn plain(session: &mut LegacySession) {
    if let Mode::Cbc(chain) = &mut session.mode {
        chain.recent.truncate(1);
        chain.is_unanswered = false;
        *chain.next = chain.recent[0].block;
    }
}

#[test]
fn crossed_messages_are_read_here_and_cost_the_other_device_no_more_than_one() {
    let (mut ours, mut theirs) = (session(true), session(true));
    let (a, b) = (ours.seal(b"ours, which crosses"), theirs.seal(b"theirs, which crosses"));
    plain(&mut theirs);
    assert!(matches!(theirs.open(&a, Reading::Write), Decrypted::Damaged(_)));
    plain(&mut theirs);
    assert_eq!(ours.open(&b, Reading::Write), Decrypted::Text(b"theirs, which crosses".into()));
    assert_eq!(theirs.open(&ours.clone().seal(b"next"), Reading::Write), Decrypted::Text(b"next".into()));
}

#[test]
fn a_lost_message_garbles_the_first_block_of_the_next_and_no_more() {
    let (mut ours, mut theirs) = (session(true), session(true));
    for _ in 0..40 {
        let _ = theirs.seal(b"lost");
    }
    plain(&mut theirs);
    let next = theirs.seal(b"twelve bytes and then the rest");
    assert_eq!(ours.open(&next, Reading::Write), Decrypted::Damaged(b" and then the rest".into()));
    assert_eq!(theirs.open(&ours.seal(b"answer"), Reading::Write), Decrypted::Text(b"answer".into()));
}

/// At most so many that [`crate::legacy::TEXT_RATE`] lets us send in the meantime.
#[test]
fn a_message_that_was_made_before_many_of_ours_is_read() {
    let (mut ours, mut theirs) = (session(true), session(true));
    let late = theirs.seal(b"made before all of them");
    for number in 0..MAX_RECENT - 1 {
        let _ = ours.seal(format!("text {number}").as_bytes());
    }
    assert_eq!(ours.open(&late, Reading::Write), Decrypted::Text(b"made before all of them".into()));
}

#[test]
fn two_tools_may_take_the_same_messages() {
    let (mut ours, mut theirs) = (session(true), session(true));
    let texts = [b"one", b"two"].map(|text| theirs.seal(text));
    for text in &texts {
        let _ = ours.open(text, Reading::Follow);
    }
    assert_eq!(ours.counters, TextCounts::default());
    // The second tool has taken the first of them only: what is sent now must continue from the last.
    let before = ours.clone();
    assert_eq!(ours.open(&texts[0], Reading::Write), Decrypted::Text(b"one".into()));
    let (Mode::Cbc(now), Mode::Cbc(then)) = (&ours.mode, &before.mode) else { unreachable!() };
    assert!(now.next == then.next && now.is_unanswered == then.is_unanswered, "a second look changes nothing");
    assert_eq!(theirs.open(&ours.seal(b"answer"), Reading::Write), Decrypted::Text(b"answer".into()));
    assert_eq!(ours.open(&texts[1], Reading::Write), Decrypted::Text(b"two".into()));
}

#[test]
fn a_message_that_comes_again_is_not_written_again() {
    let (mut ours, mut theirs) = (session(true), session(true));
    let texts: Vec<_> = (0..40).map(|_| theirs.seal(b"21.5 ")).collect();
    for text in &texts {
        assert_eq!(
            ours.open(text, Reading::Write),
            Decrypted::Text(b"21.5 ".into()),
            "the same text is another message"
        );
    }
    let before = ours.clone();
    for text in &texts {
        assert_eq!(ours.open(text, Reading::Write), Decrypted::Repeated);
    }
    let stranger = [0x55; 32];
    assert!(ours == before && matches!(ours.open(&stranger, Reading::Write), Decrypted::Damaged(_)));
    assert_eq!(ours.open(&stranger, Reading::Write), Decrypted::Repeated);
    // In ECB the two cannot be told apart.
    let (mut ours, mut theirs) = (session(false), session(false));
    let text = theirs.seal(b"21.5 ");
    for _ in 0..2 {
        assert_eq!(ours.open(&text, Reading::Write), Decrypted::Text(b"21.5 ".into()));
    }
}

#[test]
fn an_own_message_that_comes_back_is_not_written() {
    for reading in [Reading::Write, Reading::Follow] {
        let (mut ours, mut theirs) = (session(true), session(true));
        let own = [ours.seal(b"one"), ours.seal(b"two"), ours.kill()];
        let before = ours.clone();
        for message in &own {
            assert_eq!(ours.open(message, reading), Decrypted::Repeated);
            let _ = theirs.open(message, reading);
        }
        assert!(ours == before);
        assert_eq!(ours.open(&theirs.seal(b"answer "), reading), Decrypted::Text(b"answer ".into()));
    }
}

#[test]
fn a_text_that_both_devices_send_at_the_same_time_is_read_once() {
    let (mut ours, mut theirs) = (session(true), session(true));
    let (own, same) = (ours.seal(b"0 "), theirs.seal(b"0 "));
    assert_eq!(own, same);
    assert_eq!(ours.open(&same, Reading::Follow), Decrypted::Text(b"0 ".into()));
    assert_eq!(ours.open(&same, Reading::Write), Decrypted::Text(b"0 ".into()));
    assert_eq!(ours.open(&own, Reading::Write), Decrypted::Repeated, "this is ours, or a repeated one");
    plain(&mut theirs);
    let _ = theirs.open(&own, Reading::Write);
    assert_eq!(theirs.open(&ours.seal(b"next"), Reading::Write), Decrypted::Text(b"next".into()));
}

#[test]
fn a_message_in_the_other_mode_is_named() {
    let (mut cbc, mut ecb) = (session(true), session(false));
    for text in ["short", "", "a text that is longer than one block", "KILL:"] {
        let payload = ecb.seal(text.as_bytes());
        assert_eq!(cbc.open(&payload, Reading::Write), Decrypted::OtherMode, "{text}");
    }
    assert_eq!(cbc.open(&ecb.kill(), Reading::Write), Decrypted::OtherMode);
    assert_eq!(cbc.counters.damaged, 5);
    let (mut cbc, mut ecb) = (session(true), session(false));
    assert_eq!(ecb.open(&cbc.seal(b"first"), Reading::Write), Decrypted::OtherMode);
    assert_eq!(ecb.open(&cbc.seal("größer als ein Block".as_bytes()), Reading::Write), Decrypted::OtherMode);
    // That is not known of what is shorter, and not of a stranger's.
    assert_eq!(ecb.open(&cbc.seal(b"short"), Reading::Write), Decrypted::Damaged(Vec::new()));
    assert_eq!(ecb.open(&[0x55; 48], Reading::Write), Decrypted::Damaged(Vec::new()));
    assert_eq!(ecb.counters.damaged, 4);
}
