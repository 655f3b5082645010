//! What the broker sends: messages, subscriptions, refusals.

use super::*;

#[test]
fn the_tool_decides_when_a_message_is_acknowledged() {
    let mut rig = Rig::up();
    rig.deliver(QoS::AtMostOnce, 0, "zero", false);
    rig.deliver(QoS::AtLeastOnce, 7, "one", false);
    rig.deliver(QoS::ExactlyOnce, 8, "two", false);
    let messages = rig.messages();
    assert_eq!(messages.iter().map(|one| &one.payload[..]).collect::<Vec<_>>(), [&b"zero"[..], b"one", b"two"]);
    assert!(rig.sent().is_empty());
    for message in messages {
        rig.session.ack(message.receipt);
    }
    assert_eq!(rig.sent(), [puback(7), pubrec(8)]);
    rig.receive(&pubrel(8)).unwrap();
    assert_eq!(rig.sent(), [pubcomp(8)]);
}

#[test]
fn a_receipt_is_good_for_its_own_connection() {
    let mut rig = Rig::up();
    rig.deliver(QoS::AtLeastOnce, 7, "old", false);
    let old = rig.messages().remove(0);
    rig.drop_connection();
    rig.connect(true);
    rig.deliver(QoS::AtLeastOnce, 7, "another", false);
    rig.session.ack(old.receipt);
    assert!(rig.sent().is_empty());
    let message = rig.messages().remove(0);
    rig.session.ack(message.receipt);
    assert_eq!(rig.sent(), [puback(7)]);
}

#[test]
fn qos_2_arrives_once_until_pubrel() {
    let mut rig = Rig::up();
    rig.deliver(QoS::ExactlyOnce, 5, "x", false);
    rig.deliver(QoS::ExactlyOnce, 5, "x", true);
    let mut messages = rig.messages();
    assert_eq!(messages.len(), 1);
    assert!(rig.sent().is_empty());
    // Over a connection that the session outlived, too: the repeat is answered, not delivered.
    rig.drop_connection();
    rig.connect(true);
    rig.session.ack(messages.remove(0).receipt);
    assert!(rig.sent().is_empty());
    rig.deliver(QoS::ExactlyOnce, 5, "x", true);
    assert!(rig.messages().is_empty());
    assert_eq!(rig.sent(), [pubrec(5)]);
    rig.receive(&pubrel(5)).unwrap();
    assert_eq!(rig.sent(), [pubcomp(5)]);
    rig.deliver(QoS::ExactlyOnce, 5, "y", false);
    assert_eq!(rig.messages().len(), 1);
}

#[test]
fn a_forgetful_broker_starts_new_deliveries() {
    let mut rig = Rig::up();
    rig.deliver(QoS::ExactlyOnce, 5, "x", false);
    let old = rig.messages().remove(0);
    rig.drop_connection();
    rig.connect(false);
    rig.deliver(QoS::ExactlyOnce, 5, "y", false);
    assert_eq!(rig.messages().len(), 1);
    rig.session.ack(old.receipt);
    assert!(rig.sent().is_empty());
}

#[test]
fn a_message_over_the_limit_is_announced_and_can_be_acknowledged() {
    let mut rig = Rig::new(|options| options.limits.max_receive = 100);
    rig.connect(false);
    rig.deliver(QoS::AtLeastOnce, 3, &"x".repeat(200), false);
    rig.deliver(QoS::AtLeastOnce, 4, "small", false);
    let mut events = rig.events().into_iter().skip(1);
    match events.next() {
        Some(Event::Oversize { topic, len, receipt }) => {
            assert_eq!((topic.as_str(), len), ("in", 200));
            rig.session.ack(receipt);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(events.next(), Some(Event::Message(_))));
    assert_eq!(rig.sent(), [puback(3)]);
}

#[test]
fn subscriptions_are_made_again_where_the_broker_has_them_not() {
    let mut rig = Rig::new(|_| {});
    rig.session.subscribe("a/#", Qos::ExactlyOnce, rig.now).unwrap();
    rig.connect(true);
    let asked = rig.sent();
    let pkid = match &asked[..] {
        [Packet::Subscribe(one)] => {
            assert_eq!((one.filters[0].path.as_str(), one.filters[0].qos), ("a/#", QoS::ExactlyOnce));
            one.pkid
        }
        other => panic!("{other:?}"),
    };
    // Not confirmed: asked again even of a broker that kept the session.
    rig.drop_connection();
    rig.connect(true);
    assert_eq!(rig.sent(), asked);
    rig.receive(&suback(pkid, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    match rig.events().pop() {
        Some(Event::Subscribed { filter, requested, granted }) => {
            assert_eq!((filter.as_str(), requested, granted), ("a/#", Qos::ExactlyOnce, Qos::AtLeastOnce));
        }
        other => panic!("{other:?}"),
    }
    rig.drop_connection();
    rig.connect(true);
    assert!(rig.sent().is_empty());
    rig.drop_connection();
    rig.connect(false);
    assert_eq!(rig.sent(), asked);
    assert!(rig.session.subscribe("a/#b", Qos::AtMostOnce, rig.now).is_err());
}

#[test]
fn a_refused_subscription_names_its_filter() {
    let mut rig = Rig::up();
    rig.session.subscribe("secret/topic", Qos::AtLeastOnce, rig.now).unwrap();
    rig.sent();
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Failure)).unwrap();
    let error = rig.events().into_iter().find_map(|event| match event {
        Event::Warning(error) => Some(error),
        _ => None,
    });
    assert!(error.is_some_and(|error| error.to_string().contains("secret/topic")));
    // Nobody waits for these.
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Failure)).unwrap();
    rig.receive(&suback(1, SubscribeReasonCode::Failure)).unwrap();
    assert!(rig.events().is_empty());
}

#[test]
fn a_refused_connection_says_what_to_mend() {
    for (code, words) in [
        (ConnectReturnCode::RefusedProtocolVersion, "mqtt_version = 5 (MQTT 5), mqtt_version = 3 (MQTT 3.1)"),
        (ConnectReturnCode::BadClientId, "clientid"),
        (ConnectReturnCode::BadUserNamePassword, "password"),
        (ConnectReturnCode::NotAuthorized, "username"),
    ] {
        let mut rig = Rig::new(|_| {});
        rig.session.transport_opened(rig.now);
        assert!(rig.connack(false, code).is_err());
        let error = rig.refused().unwrap();
        assert_eq!(error.exit(), Exit::Unavailable);
        assert!(error.hint_text().unwrap().contains(words), "{error}");
    }
    let mut rig = Rig::new(|_| {});
    rig.session.transport_opened(rig.now);
    let lost = rig.connack(false, ConnectReturnCode::ServiceUnavailable).unwrap_err();
    assert!(lost.to_string().contains("unavailable"));
    assert!(rig.refused().is_none());
}

#[test]
fn a_broker_that_breaks_the_protocol_is_left() {
    let mut rig = Rig::new(|_| {});
    rig.session.transport_opened(rig.now);
    assert!(rig.receive(&puback(1)).is_err());
    let mut rig = Rig::up();
    assert!(rig.connack(false, ConnectReturnCode::Success).is_err());
    let mut rig = Rig::up();
    assert!(rig.session.bytes_received(&mut BytesMut::from(&b"HTTP/1.1 400 Bad Request"[..]), rig.now).is_err());
}

/// The refusal of a subscription, as the broker of a cluster that fails over gives it.
fn refuse(rig: &mut Rig, pkid: u16) -> Vec<Event> {
    rig.receive(&suback(pkid, SubscribeReasonCode::Failure)).unwrap();
    rig.events()
}

/// Whether this is the word to the user that something is refused for now, the refusal that ends a run, or anything else.
fn kinds(events: &[Event]) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::Warning(_) => "warning",
        Event::Refused(_) => "refused",
        Event::Subscribed { .. } => "subscribed",
        _ => "other",
    };
    events.iter().map(kind).collect()
}

#[test]
fn a_subscription_that_was_granted_in_this_run_is_refused_for_now_only() {
    let mut rig = Rig::up();
    rig.session.subscribe("a", Qos::AtLeastOnce, rig.now).unwrap();
    rig.sent();
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    rig.drop_connection();
    rig.connect(false);
    rig.sent();
    rig.events();
    assert_eq!(kinds(&refuse(&mut rig, MAX_PUBLISH_ID + 1)), ["warning"]);
    let mut requested_at = vec![rig.now];
    while requested_at.len() < 20 {
        rig.now = rig.session.deadline().unwrap();
        rig.session.tick(rig.now).unwrap();
        let sent = rig.sent();
        if sent.contains(&Packet::PingReq) {
            rig.receive(&Packet::PingResp).unwrap();
        }
        if sent.iter().any(|packet| matches!(packet, Packet::Subscribe(_))) {
            requested_at.push(rig.now);
            assert!(refuse(&mut rig, MAX_PUBLISH_ID + 1).is_empty(), "it was said once");
        }
    }
    let delays: Vec<_> = requested_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(delays[0] < 4 * SECOND && delays.is_sorted(), "they grow: {delays:?}");
    assert_eq!(delays[10], 10 * SECOND, "a run with a --timeout gets more than a few answers: {delays:?}");
    rig.now += 60 * SECOND;
    rig.session.tick(rig.now).unwrap();
    assert!(rig.sent().iter().any(|packet| matches!(packet, Packet::Subscribe(_))));
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    assert_eq!(kinds(&rig.events()), ["subscribed"]);
}

#[test]
fn a_subscription_is_refused_for_now_where_another_one_is_granted() {
    let mut rig = Rig::up();
    rig.session.subscribe("a", Qos::AtLeastOnce, rig.now).unwrap();
    rig.session.subscribe("b", Qos::AtLeastOnce, rig.now).unwrap();
    rig.sent();
    rig.receive(&suback(MAX_PUBLISH_ID + 2, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    rig.events();
    for _ in 0..20 {
        assert!(!kinds(&refuse(&mut rig, MAX_PUBLISH_ID + 1)).contains(&"refused"));
        rig.now += 60 * SECOND;
        rig.session.tick(rig.now).unwrap();
        rig.receive(&Packet::PingResp).unwrap();
        rig.sent();
    }
}

#[test]
fn a_broker_that_never_granted_is_asked_three_times_within_ten_seconds() {
    let mut rig = Rig::up();
    rig.session.subscribe("a", Qos::AtLeastOnce, rig.now).unwrap();
    rig.events();
    let (start, mut said) = (rig.now, Vec::new());
    while !said.contains(&"refused") {
        assert_eq!(rig.sent().len(), 1, "SUBSCRIBE");
        said.extend(kinds(&refuse(&mut rig, MAX_PUBLISH_ID + 1)));
        rig.now = rig.session.deadline().unwrap();
        rig.session.tick(rig.now).unwrap();
    }
    assert_eq!(said, ["warning", "refused"]);
    assert!(rig.now - start >= 10 * SECOND && rig.now - start < 30 * SECOND, "{:?}", rig.now - start);
}

#[test]
fn a_message_that_is_not_released_is_found() {
    let mut rig = Rig::up();
    rig.deliver(QoS::ExactlyOnce, 5, "x", false);
    let message = rig.messages().remove(0);
    rig.session.ack(message.receipt);
    assert_eq!(rig.sent(), [pubrec(5)]);
    let lost = (0..200).find_map(|_| {
        rig.now += SECOND;
        let lost = rig.session.tick(rig.now).err();
        if rig.sent().contains(&Packet::PingReq) {
            rig.receive(&Packet::PingResp).unwrap();
        }
        lost
    });
    assert!(lost.expect("PUBREL is overdue").to_string().contains("acknowledge"));
    rig.drop_connection();
    rig.connect(true);
    rig.receive(&pubrel(5)).unwrap();
    assert_eq!(rig.sent(), [pubcomp(5)]);
    rig.now += 59 * SECOND;
    assert!(rig.session.tick(rig.now).is_ok());
}
