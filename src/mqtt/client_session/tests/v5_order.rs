//! A message that the broker refuses, and others that it accepts: what may be lost or out of order is known.

use super::v5::{up, warnings};
use super::*;
use crate::mqtt::client_session::publish_order::MAX_SINGLE;

const QUOTA_EXCEEDED: u8 = 0x97;

impl Rig {
    /// PUBACK or PUBREC, with a reason code.
    fn answer(&mut self, qos: Qos, pkid: u8, code: u8) {
        let first = if qos == Qos::AtLeastOnce { 0x40 } else { 0x50 };
        self.receive_bytes(&[first, 3, 0, pkid, code]).unwrap();
    }
}

/// Three messages are under way.
fn three(qos: Qos) -> (Rig, [Token; 3]) {
    let mut rig = up(|_| {});
    let tokens = ["a", "b", "c"].map(|payload| rig.publish(payload, qos));
    assert_eq!(rig.sent().len(), 3);
    (rig, tokens)
}

#[test]
fn a_refused_message_is_overtaken_by_any_newer_one_that_is_accepted() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        for answers in [[(1, QUOTA_EXCEEDED), (2, 0)], [(2, 0), (1, QUOTA_EXCEEDED)]] {
            let (mut rig, [oldest, ..]) = three(qos);
            for (at, (pkid, code)) in answers.into_iter().enumerate() {
                assert_eq!((at, rig.session.overtaken()), (at, None));
                rig.answer(qos, pkid, code);
            }
            assert_eq!(rig.session.overtaken(), Some(oldest), "{qos:?}, {answers:?}");
        }
    }
}

#[test]
fn a_refusal_of_what_is_not_sent_or_was_accepted_changes_nothing() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut rig = up(|_| {});
        let token = rig.publish("a", qos);
        rig.answer(qos, 1, QUOTA_EXCEEDED);
        assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
        rig.answer(qos, 1, 0);
        if qos == Qos::ExactlyOnce {
            assert_eq!(rig.sent(), [pubrel(1)]);
            rig.answer(qos, 1, QUOTA_EXCEEDED);
            rig.receive(&pubcomp(1)).unwrap();
        }
        assert_eq!((rig.acknowledged(), rig.sent()), (vec![token], Vec::new()), "{qos:?}");
    }
}

#[test]
fn no_message_is_overtaken_where_all_newer_ones_are_refused_or_not_sent() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let (mut rig, _) = three(qos);
        rig.answer(qos, 1, 0);
        for pkid in [3, 2] {
            rig.answer(qos, pkid, QUOTA_EXCEEDED);
        }
        rig.publish("d", qos);
        rig.sent();
        rig.drop_connection();
        rig.connect(true);
        rig.sent();
        if qos == Qos::ExactlyOnce {
            rig.receive(&pubcomp(1)).unwrap();
            rig.sent();
        }
        for pkid in 2..=4 {
            rig.answer(qos, pkid, 0);
            rig.sent();
            if qos == Qos::ExactlyOnce {
                rig.receive(&pubcomp(pkid.into())).unwrap();
                rig.sent();
            }
        }
        assert_eq!((rig.session.overtaken(), rig.session.unacknowledged().messages), (None, 0));
    }
}

#[test]
fn what_a_lost_connection_carried_after_a_refused_message_may_have_overtaken_it() {
    let (mut rig, [_, middle, _]) = three(Qos::AtLeastOnce);
    rig.answer(Qos::AtLeastOnce, 1, 0);
    rig.answer(Qos::AtLeastOnce, 2, QUOTA_EXCEEDED);
    assert_eq!(rig.session.overtaken(), None);
    rig.drop_connection();
    assert_eq!(rig.session.overtaken(), Some(middle));
}

#[test]
fn overtaken_messages_are_withdrawn_until_nothing_is_under_way_and_then_each_waits_for_its_answer() {
    let (mut rig, [a, b, c]) = three(Qos::AtLeastOnce);
    let later = rig.publish("d", Qos::AtLeastOnce);
    assert_eq!(rig.sent().len(), 1);
    rig.answer(Qos::AtLeastOnce, 1, QUOTA_EXCEEDED);
    rig.answer(Qos::AtLeastOnce, 3, 0);
    // One message was accepted, so the oldest is sent again.
    assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
    rig.answer(Qos::AtLeastOnce, 2, QUOTA_EXCEEDED);
    assert_eq!(rig.session.withdraw_overtaken(), [b]);
    assert_eq!((rig.session.overtaken(), rig.acknowledged()), (Some(a), vec![c]));
    rig.answer(Qos::AtLeastOnce, 4, 0);
    rig.answer(Qos::AtLeastOnce, 1, QUOTA_EXCEEDED);
    assert_eq!(rig.session.withdraw_overtaken(), [a]);
    assert_eq!((rig.session.overtaken(), rig.acknowledged()), (None, vec![later]));
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());

    for payload in ["a", "b"] {
        rig.publish(payload, Qos::AtLeastOnce);
    }
    assert!(rig.sent().is_empty(), "the pause after the last refusal");
    rig.wait();
    assert_eq!(published(&rig.sent()), [row("a", 5, false)]);
    rig.answer(Qos::AtLeastOnce, 5, 0);
    assert_eq!(published(&rig.sent()), [row("b", 6, false)]);
    rig.publish("c", Qos::AtLeastOnce);
    assert!(rig.sent().is_empty());
    rig.drop_connection();
    rig.connect(true);
    assert_eq!(rig.sent().len(), 2, "another connection is another broker, perhaps");
}

/// Publishes two messages at a time, until both are sent at once; returns how many were accepted before.
fn count_single(rig: &mut Rig, pkid: u8) -> u8 {
    for accepted in 0..100 {
        rig.publish("x", Qos::AtLeastOnce);
        rig.publish("y", Qos::AtLeastOnce);
        let sent = rig.sent().len();
        for (at, next) in (pkid + 2 * accepted..).take(2).enumerate() {
            rig.answer(Qos::AtLeastOnce, next, 0);
            assert_eq!(rig.sent().len(), usize::from(sent == 1 && at == 0));
        }
        if sent == 2 {
            return 2 * accepted;
        }
    }
    panic!("each message waits for the one before it");
}

#[test]
fn a_broker_that_accepts_many_messages_one_at_a_time_gets_several_again() {
    let (mut rig, [a, ..]) = three(Qos::AtLeastOnce);
    for (pkid, code) in [(2, 0), (1, QUOTA_EXCEEDED), (3, 0)] {
        rig.answer(Qos::AtLeastOnce, pkid, code);
    }
    // The last acceptance has ended the pause, and the refused one is under way again.
    rig.sent();
    assert_eq!(rig.session.withdraw_overtaken(), []);
    rig.answer(Qos::AtLeastOnce, 1, QUOTA_EXCEEDED);
    assert_eq!(rig.session.withdraw_overtaken(), [a]);
    rig.wait();
    rig.publish("b", Qos::AtLeastOnce);
    rig.sent();
    rig.answer(Qos::AtLeastOnce, 4, 0);
    rig.publish("c", Qos::AtLeastOnce);
    rig.sent();
    rig.answer(Qos::AtLeastOnce, 5, QUOTA_EXCEEDED);
    rig.wait();
    rig.sent();
    rig.answer(Qos::AtLeastOnce, 5, 0);
    assert_eq!(u32::from(count_single(&mut rig, 6)), MAX_SINGLE, "they count in a row");
}

#[test]
fn a_message_that_others_may_overtake_is_not_overtaken() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let (mut rig, [oldest, middle, _]) = three(qos);
        rig.session.exempt_from_order(oldest);
        rig.answer(qos, 1, QUOTA_EXCEEDED);
        rig.answer(qos, 3, 0);
        assert_eq!(rig.session.overtaken(), None);
        rig.answer(qos, 2, QUOTA_EXCEEDED);
        assert_eq!(rig.session.overtaken(), Some(middle));
    }
}

#[test]
fn a_refused_message_that_is_sent_later_at_qos_0_is_not_overtaken() {
    let (mut rig, _) = three(Qos::AtLeastOnce);
    for (pkid, code) in [(1, 0), (2, 0), (3, QUOTA_EXCEEDED)] {
        rig.answer(Qos::AtLeastOnce, pkid, code);
    }
    rig.drop_connection();
    rig.broker.capabilities.max_qos = Some(0);
    rig.connect(true);
    assert_eq!(published(&rig.sent()), [row("c", 0, false)]);
    assert_eq!((rig.session.overtaken(), rig.session.unacknowledged().messages), (None, 0));
    rig.drop_connection();
    rig.broker.capabilities.max_qos = None;
    rig.connect(true);
    rig.publish("d", Qos::AtLeastOnce);
    rig.sent();
    rig.answer(Qos::AtLeastOnce, 4, 0);
    assert_eq!((rig.session.overtaken(), rig.session.unacknowledged().messages), (None, 0));
}

#[test]
fn once_no_more_answers_are_heard_what_was_sent_after_a_refused_message_may_have_overtaken_it() {
    for (refused, is_overtaken) in [(1, true), (3, false)] {
        let (mut rig, tokens) = three(Qos::AtLeastOnce);
        rig.session.give_up_answers();
        assert_eq!(rig.session.overtaken(), None, "nothing was refused");
        rig.answer(Qos::AtLeastOnce, refused, QUOTA_EXCEEDED);
        rig.session.give_up_answers();
        assert_eq!(rig.session.overtaken(), Some(tokens[usize::from(refused) - 1]).filter(|_| is_overtaken));
    }
}

#[test]
fn a_message_that_was_taken_back_is_not_overtaken() {
    let (mut rig, _) = three(Qos::AtLeastOnce);
    for pkid in 1..=3 {
        rig.answer(Qos::AtLeastOnce, pkid, QUOTA_EXCEEDED);
    }
    rig.drop_connection();
    assert_eq!(rig.session.withdraw().len(), 3);
    rig.connect(true);
    rig.publish("d", Qos::AtLeastOnce);
    rig.sent();
    rig.answer(Qos::AtLeastOnce, 4, 0);
    assert_eq!((rig.session.overtaken(), rig.session.unacknowledged().messages), (None, 0));
}

#[test]
fn a_broker_that_is_over_its_quota_again_and_again_is_warned_of_once() {
    let mut rig = up(|_| {});
    let mut said = Vec::new();
    for pkid in 1..=3 {
        rig.publish("a", Qos::AtLeastOnce);
        rig.sent();
        rig.answer(Qos::AtLeastOnce, pkid, QUOTA_EXCEEDED);
        rig.wait();
        rig.sent();
        rig.answer(Qos::AtLeastOnce, pkid, 0);
        said.extend(warnings(&rig.events()));
    }
    assert_eq!(said.len(), 1, "{said:?}");
}
