//! A topic filter for which a broker of MQTT 5 ends the connection: it is refused by name, and nothing else is blamed.

use super::v5::{NOT_AUTHORIZED, rig, warnings};
use super::*;

/// What a broker says when it ends a connection for a SUBSCRIBE that it will not grant later.
const FOR_A_SUBSCRIPTION: [u8; 4] = [NOT_AUTHORIZED, 0x8f, 0x9e, 0xa2];

/// The filter of each SUBSCRIBE.
fn subscribed(packets: &[Packet]) -> Vec<&str> {
    let mut filters = Vec::new();
    for packet in packets {
        if let Packet::Subscribe(subscribe) = packet {
            filters.push(subscribe.filters[0].path.as_str());
        }
    }
    filters
}

impl Rig {
    /// Lets time pass on this connection, where PINGREQ is answered, until the client subscribes again; returns to what.
    fn wait_until_subscribed(&mut self) -> String {
        for _ in 0..100 {
            let sent = self.sent();
            if let Some(filter) = subscribed(&sent).first() {
                return (*filter).to_owned();
            }
            if sent.contains(&Packet::PingReq) {
                self.receive(&Packet::PingResp).unwrap();
            }
            self.wait();
        }
        panic!("nothing is subscribed");
    }

    /// The broker ends the connection with this reason code, and accepts another one.
    fn end_and_connect(&mut self, code: u8) -> ConnectionLost {
        let lost = self.receive_bytes(&[0xe0, 1, code]).unwrap_err();
        let pause = self.drop_connection();
        self.now += pause;
        self.connect(false);
        lost
    }
}

#[test]
fn a_topic_filter_for_which_the_broker_ends_the_connection_is_refused_by_name() {
    for code in FOR_A_SUBSCRIPTION {
        let mut rig = rig();
        rig.session.subscribe("denied/#", Qos::AtLeastOnce, rig.now).unwrap();
        rig.connect(false);
        let (begin, mut events) = (rig.now, Vec::new());
        for times in 1..=3 {
            assert_eq!(rig.wait_until_subscribed(), "denied/#");
            assert!(!events.iter().any(|event| matches!(event, Event::Refused(_))), "{times}");
            let lost = rig.end_and_connect(code);
            assert!(lost.to_string().contains("when \"denied/#\" was subscribed"), "{lost}");
            assert!(lost.hint_text().unwrap().contains("`subtop`"));
            events.extend(rig.events());
        }
        assert!(rig.now - begin >= 10 * SECOND);
        assert_eq!(warnings(&events).len(), 1, "it is said once: {events:?}");
        let refused = events
            .into_iter()
            .find_map(|event| if let Event::Refused(refusal) = event { Some(refusal.error) } else { None });
        let error = refused.unwrap();
        assert_eq!(error.exit(), Exit::Unavailable);
        let text = error.to_string();
        assert!(text.starts_with("the broker refused the subscription to \"denied/#\": "), "{text}");
        assert!(text.ends_with(&format!(" (DISCONNECT {code:#04x})")), "{text}");
        assert!(error.hint_text().unwrap().contains("`subtop`"));
    }
}

/// No cause, one of its own, or a quota: it may grant the filter later.
#[test]
fn a_topic_filter_is_named_and_asked_for_again_where_the_broker_gives_no_cause() {
    for code in [0x80, 0x83, 0x97] {
        let mut rig = rig();
        rig.session.subscribe("in/#", Qos::AtLeastOnce, rig.now).unwrap();
        rig.connect(false);
        let mut events = Vec::new();
        for _ in 0..6 {
            assert_eq!(rig.wait_until_subscribed(), "in/#");
            let lost = rig.end_and_connect(code);
            assert!(lost.to_string().contains("when \"in/#\" was subscribed"), "{lost}");
            events.extend(rig.events());
        }
        assert!(!events.iter().any(|event| matches!(event, Event::Refused(_))), "{code:#x}");
        let told = warnings(&events);
        assert_eq!(told.len(), 1, "it is said once: {told:?}");
        assert!(told[0].contains("subscription to \"in/#\"") && told[0].contains("trying again"), "{told:?}");
    }
}

#[test]
fn a_topic_filter_that_was_granted_in_this_run_is_asked_for_again_whatever_ends_the_connection() {
    let mut rig = rig();
    rig.session.subscribe("in", Qos::AtLeastOnce, rig.now).unwrap();
    rig.connect(false);
    rig.wait_until_subscribed();
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    rig.end_and_connect(0x8b);
    for _ in 0..20 {
        rig.wait_until_subscribed();
        rig.end_and_connect(NOT_AUTHORIZED);
    }
    assert!(rig.refused().is_none());
}

#[test]
fn of_several_topic_filters_only_the_next_to_be_answered_is_refused() {
    let mut rig = rig();
    for filter in ["good", "bad", "later"] {
        rig.session.subscribe(filter, Qos::AtLeastOnce, rig.now).unwrap();
    }
    rig.connect(false);
    assert_eq!(subscribed(&rig.sent()), ["good", "bad", "later"]);
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    rig.end_and_connect(NOT_AUTHORIZED);
    assert_eq!(subscribed(&rig.sent()), ["good", "later"]);
    for pkid in [1, 3] {
        rig.receive(&suback(MAX_PUBLISH_ID + pkid, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    }
    assert_eq!(rig.wait_until_subscribed(), "bad");
}

#[test]
fn a_message_on_its_way_is_not_blamed_for_a_topic_filter() {
    let mut rig = rig();
    rig.session.subscribe("denied", Qos::AtLeastOnce, rig.now).unwrap();
    rig.publish("innocent", Qos::AtLeastOnce);
    rig.connect(false);
    assert_eq!(rig.sent().len(), 2, "SUBSCRIBE and PUBLISH");
    rig.end_and_connect(NOT_AUTHORIZED);
    assert_eq!(published(&rig.sent()), [row("innocent", 1, false)], "at once, without PINGREQ");
    rig.receive(&puback(1)).unwrap();
    for _ in 0..2 {
        rig.wait_until_subscribed();
        rig.publish("as well", Qos::AtLeastOnce);
        rig.sent();
        rig.end_and_connect(NOT_AUTHORIZED);
        rig.receive(&puback(1)).unwrap();
    }
    assert!(rig.refused().unwrap().to_string().contains("subscription to \"denied\""));
}

#[test]
fn a_topic_filter_on_its_way_is_not_blamed_for_a_message() {
    let mut rig = rig();
    rig.session.subscribe("fine", Qos::AtLeastOnce, rig.now).unwrap();
    rig.publish("bad", Qos::AtLeastOnce);
    rig.connect(false);
    assert_eq!(rig.sent().len(), 2, "SUBSCRIBE and PUBLISH");
    rig.end_and_connect(NOT_AUTHORIZED);
    assert_eq!(published(&rig.sent()), [row("bad", 1, false)]);
    rig.end_and_connect(NOT_AUTHORIZED);
    assert_eq!(rig.sent(), [Packet::PingReq]);
    rig.receive(&Packet::PingResp).unwrap();
    assert_eq!(published(&rig.sent()), [row("bad", 1, false)]);
    rig.end_and_connect(NOT_AUTHORIZED);
    assert!(rig.refused().unwrap().to_string().contains("3 bytes on \"out\""));
    rig.wait_until_subscribed();
}
