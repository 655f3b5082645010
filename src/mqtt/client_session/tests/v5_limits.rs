//! The limits that a broker and a client tell each other with MQTT 5, and what becomes of a message that is over one.

use super::v5::{notes, rig, up, warnings};
use super::*;

#[test]
fn no_more_is_in_flight_than_the_broker_takes() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut rig = up(|broker| broker.receive_max = Some(2));
        for payload in ["a", "b", "c", "d"] {
            rig.publish(payload, qos);
        }
        assert_eq!(published(&rig.sent()), [row("a", 1, false), row("b", 2, false)]);
        if qos == Qos::AtLeastOnce {
            rig.receive(&puback(2)).unwrap();
        } else {
            rig.receive(&pubrec(2)).unwrap();
            assert_eq!(rig.sent(), [pubrel(2)]);
            rig.receive(&pubcomp(2)).unwrap();
        }
        assert_eq!(published(&rig.sent()), [row("c", 3, false)]);
        // What needs no acknowledgement is not counted.
        rig.drop_connection();
        assert_eq!(rig.connect(true).len(), 1);
        assert_eq!(rig.sent().len(), 2);
    }
    let mut rig = up(|broker| broker.receive_max = Some(1));
    for payload in ["a", "b", "c"] {
        rig.publish(payload, Qos::AtMostOnce);
    }
    assert_eq!(rig.sent().len(), 3);
}

#[test]
fn a_message_over_the_limit_of_the_broker_is_named_and_not_sent() {
    let mut rig = rig();
    rig.publish("short", Qos::AtLeastOnce);
    rig.session.publish("out", vec![b'x'; 1000].into(), Qos::AtLeastOnce, false).unwrap();
    rig.broker.capabilities.max_packet_size = Some(500);
    rig.connect(false);
    assert_eq!(published(&rig.sent()), [row("short", 1, false)]);
    let events = rig.events();
    assert_eq!(notes(&events), ["the broker accepts packets of at most 500 bytes"]);
    let too_long = |event| if let Event::TooLong(error) = event { Some(error) } else { None };
    let refused: Vec<_> = events.into_iter().filter_map(too_long).collect();
    assert_eq!((refused.len(), refused[0].exit()), (1, Exit::DataLost));
    let max = rig.session.max_payload("out");
    assert!(refused[0].to_string().contains(&format!("at most {max} bytes")), "{}", refused[0]);
    assert_eq!(refused[0].hint_text().unwrap(), format!("set `max_message = {max}`, or raise the limit of the broker"));
    rig.publish("later", Qos::AtLeastOnce);
    assert!(rig.sent().is_empty() && rig.events().is_empty(), "it is said once, and nothing overtakes it");
    // The longest one that it takes.
    let mut rig = up(|broker| broker.max_packet_size = Some(500));
    rig.session.publish("out", vec![b'x'; max].into(), Qos::AtLeastOnce, false).unwrap();
    assert!((480..=500).contains(&rig.session.bytes_to_send().len()));
}

#[test]
fn what_the_broker_does_not_support_is_left_out_and_said_once() {
    let mut rig = up(|broker| (broker.max_qos, broker.retain_available) = (Some(0), Some(0)));
    for _ in 0..2 {
        rig.session.publish("out", Bytes::from_static(b"x"), Qos::ExactlyOnce, true).unwrap();
    }
    let sent = rig.sent();
    assert!(
        sent.iter().all(|packet| matches!(packet, Packet::Publish(one) if one.qos == QoS::AtMostOnce && !one.retain))
    );
    let events = rig.events();
    let warnings = warnings(&events);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("QoS 0 instead of 2") && warnings[1].contains("`retain`"), "{warnings:?}");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Acknowledged(_))).count(), 2);
}

#[test]
fn a_topic_is_sent_once_for_each_connection() {
    let mut rig = up(|_| {});
    let publish = |rig: &mut Rig| {
        for _ in 0..3 {
            rig.session.publish("plant/station/up", Bytes::from_static(b"x"), Qos::AtMostOnce, false).unwrap();
        }
        let len = rig.session.bytes_to_send().len();
        assert_eq!(rig.sent().len(), 3);
        len
    };
    // Two bytes of fixed header, two of the topic's length, four for its alias, and the payload.
    assert_eq!(publish(&mut rig), 3 * 9 + "plant/station/up".len());
    rig.drop_connection();
    rig.connect(true);
    assert_eq!(publish(&mut rig), 3 * 9 + "plant/station/up".len());
}

#[test]
fn the_broker_sets_the_keep_alive_interval_and_the_client_id() {
    let mut rig = Rig::new(|options| {
        (options.version, options.client_id, options.clean_session) = (Version::V5, String::new(), true);
    });
    rig.broker.capabilities.server_keep_alive = Some(7);
    rig.broker.capabilities.assigned_client_identifier = Some("you".into());
    rig.connect(false);
    let noted = rig.events();
    assert_eq!(
        notes(&noted),
        ["the broker sets the keep-alive interval to 7 seconds", "the broker chose the client id you"]
    );
    assert_eq!(rig.wait(), 7 * SECOND);
    assert_eq!(rig.sent(), [Packet::PingReq]);
    rig.drop_connection();
    match &rig.connect(false)[..] {
        [Packet::Connect(connect)] => assert_eq!(connect.client_id, "you"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_over_our_limit_is_announced() {
    let mut rig = Rig::new(|options| (options.version, options.limits.max_receive) = (Version::V5, 100));
    rig.connect(false);
    rig.events();
    rig.deliver(QoS::AtLeastOnce, 3, &"x".repeat(200), false);
    match &rig.events()[..] {
        [Event::Oversize { topic, len, .. }] => assert!(topic == "in" && (200..220).contains(len), "{len}"),
        other => panic!("{other:?}"),
    }
}

/// Which quality of service the will in CONNECT has (MQTT 5, 3.1.2.6), and whether the broker is to keep it.
fn will_in_connect(rig: &mut Rig) -> (u8, bool) {
    rig.session.transport_opened(rig.now);
    let connect = rig.session.bytes_to_send().to_vec();
    rig.session.bytes_sent(connect.len(), rig.now);
    let flags = connect[2..].iter().skip_while(|byte| **byte != 5).nth(1).unwrap();
    assert_eq!(flags & 4, 4, "a will");
    (flags >> 3 & 3, flags & 0x20 != 0)
}

#[test]
fn a_will_that_the_broker_does_not_bear_asks_for_less_the_next_time() {
    let mut rig = rig();
    let will =
        Will { topic: "will".to_owned(), payload: Bytes::from_static(b"gone"), qos: Qos::ExactlyOnce, retain: true };
    rig.session.set_will(Some(will)).unwrap();
    let said_max_qos_0: &[u8] = &[0x20, 5, 0, 0x9b, 2, 0x24, 0];
    for (expected, refusal) in [
        ((2, true), &[0x20, 3, 0, 0x9a, 0][..]),
        ((2, false), &[0x20, 3, 0, 0x9b, 0]),
        ((1, false), &[0x20, 3, 0, 0x9b, 0]),
    ] {
        assert_eq!(will_in_connect(&mut rig), expected);
        rig.receive_bytes(refusal).unwrap_err();
        rig.drop_connection();
    }
    assert_eq!(will_in_connect(&mut rig), (0, false));
    let events = rig.events();
    let told = warnings(&events);
    assert!(!events.iter().any(|event| matches!(event, Event::Refused(_))), "{events:?}");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].contains("the will is sent without `retain`")
            && told[2].contains("the will is sent with QoS 0 instead of 2")
    );
    // It can be accepted now, and the broker's word counts for the next one.
    rig.broker.capabilities.max_qos = Some(1);
    rig.connack(false, ConnectReturnCode::Success).unwrap();
    rig.drop_connection();
    assert_eq!(will_in_connect(&mut rig), (1, true));
    rig.receive_bytes(said_max_qos_0).unwrap_err();
    rig.drop_connection();
    assert_eq!(will_in_connect(&mut rig), (0, true));
    // There is nothing to lower, so it is for something else.
    rig.receive_bytes(&[0x20, 3, 0, 0x9b, 0]).unwrap_err();
    assert!(rig.refused().unwrap().to_string().contains("QoS not supported"));
}

#[test]
fn what_is_too_long_now_is_taken_back_and_its_identifier_is_not_used_again() {
    for session_present in [false, true] {
        let mut rig = up(|_| {});
        let token = rig.publish("carried", Qos::ExactlyOnce);
        rig.session.publish("out", vec![b'x'; 1000].into(), Qos::ExactlyOnce, false).unwrap();
        rig.publish("after it", Qos::ExactlyOnce);
        rig.sent();
        rig.receive(&pubrec(3)).unwrap();
        // So long that the message is not suspected.
        rig.now += 10 * SECOND;
        rig.drop_connection();
        rig.broker.capabilities.max_packet_size = Some(500);
        rig.connect(session_present);
        assert_eq!(published(&rig.sent()), [row("carried", 1, session_present)]);
        let withdrawn: Vec<_> = rig.session.withdraw().into_iter().map(|(_, payload)| payload.len()).collect();
        // What the broker has received is not taken back.
        let (expected, released) =
            if session_present { (vec![1000], vec![pubrel(3)]) } else { (vec![1000, 8], vec![]) };
        assert_eq!(withdrawn, expected);
        rig.publish("shorter", Qos::ExactlyOnce);
        let sent = rig.sent();
        let (before, publish) = sent.split_at(sent.len() - 1);
        assert_eq!((before, published(publish)), (&released[..], vec![row("shorter", 4, false)]));
        rig.receive(&pubrec(1)).unwrap();
        assert_eq!(rig.sent(), [pubrel(1)]);
        rig.receive(&pubcomp(1)).unwrap();
        assert_eq!(rig.acknowledged(), [token]);
        assert_eq!(rig.session.unacknowledged().messages, 1 + released.len());
    }
}

#[test]
fn what_the_broker_has_is_released_though_it_would_be_too_long_now() {
    let mut rig = up(|_| {});
    let token = rig.session.publish("out", vec![b'x'; 1000].into(), Qos::ExactlyOnce, false).unwrap();
    rig.sent();
    rig.receive(&pubrec(1)).unwrap();
    rig.drop_connection();
    rig.broker.capabilities.max_packet_size = Some(500);
    rig.connect(true);
    assert_eq!(rig.sent(), [pubrel(1)]);
    rig.receive(&pubcomp(1)).unwrap();
    assert_eq!(rig.acknowledged(), [token]);
}
