//! MQTT 3.1 cannot say whether the broker kept the session: what follows is right whether it did or not.

use super::*;

fn up() -> Rig {
    let mut rig = Rig::new(|options| options.version = Version::V31);
    rig.connect(true);
    rig
}

#[test]
fn a_session_is_never_taken_for_present() {
    let mut rig = up();
    assert!(matches!(rig.events()[..], [Event::Up { session_present: false }]));
}

#[test]
fn every_connection_subscribes_again() {
    let mut rig = up();
    rig.session.subscribe("in", Qos::AtLeastOnce, rig.now).unwrap();
    assert!(matches!(rig.sent()[..], [Packet::Subscribe(_)]));
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    rig.drop_connection();
    rig.connect(true);
    assert!(matches!(rig.sent()[..], [Packet::Subscribe(_)]));
}

#[test]
fn what_may_be_half_delivered_is_sent_from_the_start_as_a_repeat() {
    let mut rig = up();
    rig.publish("a", Qos::AtLeastOnce);
    rig.publish("b", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(2)).unwrap();
    assert_eq!(rig.sent(), [pubrel(2)]);
    rig.now += 10 * SECOND;
    rig.drop_connection();
    rig.connect(true);
    // A broker that kept the session knows both by their identifiers; one that did not would lose "b" to a PUBREL.
    assert_eq!(published(&rig.sent()), [row("a", 1, true), row("b", 2, true)]);
    rig.receive(&puback(1)).unwrap();
    rig.receive(&pubrec(2)).unwrap();
    assert_eq!(rig.sent(), [pubrel(2)]);
    rig.receive(&pubcomp(2)).unwrap();
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
}

#[test]
fn a_message_at_qos_2_may_come_twice_rather_than_never() {
    let mut rig = up();
    rig.deliver(QoS::ExactlyOnce, 7, "first", false);
    let receipt = rig.messages().remove(0).receipt;
    rig.session.ack(receipt);
    assert_eq!(rig.sent(), [pubrec(7)]);
    rig.drop_connection();
    rig.connect(true);
    // The same one, or another with its identifier, from a broker that forgot the session.
    rig.deliver(QoS::ExactlyOnce, 7, "second", false);
    let message = rig.messages().remove(0);
    assert_eq!(message.payload, "second");
    rig.session.ack(message.receipt);
    assert_eq!(rig.sent(), [pubrec(7)]);
}

#[test]
fn after_a_clean_start_there_is_certainly_no_session() {
    let mut rig = Rig::new(|options| (options.version, options.clean_session) = (Version::V31, true));
    rig.connect(true);
    rig.publish("a", Qos::AtLeastOnce);
    rig.sent();
    rig.now += 10 * SECOND;
    rig.drop_connection();
    rig.connect(true);
    assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
}
