//! What only MQTT 5 can say: limits, reasons, and a word at the end.

use rumqttc::v5::mqttbytes::v5::ConnAckProperties;

use super::*;

const NOT_AUTHORIZED: u8 = 0x87;
const UNSPECIFIED: u8 = 0x80;
const QUOTA_EXCEEDED: u8 = 0x97;

/// A session of MQTT 5, not connected yet.
fn rig() -> Rig {
    Rig::new(|options| options.version = Version::V5)
}

/// A session of MQTT 5 that is connected to a broker like this.
fn up(change: impl FnOnce(&mut ConnAckProperties)) -> Rig {
    let mut rig = rig();
    change(&mut rig.broker.capabilities);
    rig.connect(false);
    rig.events();
    rig
}

impl Rig {
    /// The broker sends these bytes.
    fn receive_bytes(&mut self, bytes: &[u8]) -> std::result::Result<(), ConnectionLost> {
        self.session.bytes_received(&mut BytesMut::from(bytes), self.now)
    }

    /// PUBACK with a reason code.
    fn puback_because(&mut self, pkid: u16, code: u8) {
        let [high, low] = pkid.to_be_bytes();
        self.receive_bytes(&[0x40, 3, high, low, code]).unwrap();
    }

    /// Waits for the deadline, and does what is due then.
    fn wait(&mut self) -> Duration {
        let before = self.now;
        self.now = self.session.deadline().unwrap();
        self.session.tick(self.now).unwrap();
        self.now - before
    }
}

fn warnings(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| if let Event::Warning(error) = event { Some(error.to_string()) } else { None };
    events.iter().filter_map(text).collect()
}

fn notes(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| if let Event::Note(note) = event { Some(&**note) } else { None }).collect()
}

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
fn a_session_that_the_broker_does_not_keep_long_is_known() {
    let mut rig = up(|_| {});
    assert!(rig.session.keeps(Qos::AtLeastOnce));
    rig.drop_connection();
    rig.broker.capabilities.session_expiry_interval = Some(0);
    rig.connect(true);
    assert_eq!(notes(&rig.events()), ["the broker keeps the session for 0 seconds after a connection"]);
    assert!(!rig.session.keeps(Qos::AtLeastOnce));
}

#[test]
fn a_message_that_may_not_be_published_is_refused_by_name() {
    for (packet, pkid) in [(0x40, 1), (0x50, 1)] {
        let mut rig = up(|_| {});
        rig.publish("x", if packet == 0x40 { Qos::AtLeastOnce } else { Qos::ExactlyOnce });
        rig.sent();
        rig.receive_bytes(&[packet, 10, 0, pkid, NOT_AUTHORIZED, 6, 31, 0, 3, b'n', b'o', b'\n']).unwrap();
        let error = rig.refused().unwrap();
        assert_eq!(error.exit(), Exit::Unavailable);
        let text = "the broker refused a message of 1 bytes on \"out\": not authorized (reason code 0x87: no\\n)";
        assert_eq!(error.to_string(), text);
        assert!(error.hint_text().unwrap().contains("right to publish"));
        assert_eq!(rig.session.unacknowledged().messages, 1, "it is not lost");
        assert!(rig.sent().is_empty(), "there is no PUBREL after a refusal");
    }
}

#[test]
fn a_message_without_subscribers_is_delivered_and_said_once() {
    let mut rig = up(|_| {});
    for pkid in 1..=2 {
        let token = rig.publish("x", Qos::AtLeastOnce);
        rig.sent();
        rig.puback_because(pkid, 0x10);
        let events = rig.events();
        assert!(events.iter().any(|event| matches!(event, Event::Acknowledged(one) if *one == token)));
        assert_eq!(notes(&events).len(), usize::from(pkid == 1));
    }
}

#[test]
fn a_broker_over_its_quota_is_given_time() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut rig = up(|_| {});
        let tokens = [rig.publish("a", qos), rig.publish("b", qos)];
        rig.sent();
        let refuse = |rig: &mut Rig, pkid| {
            let mut bytes = BytesMut::new();
            let ack = if qos == Qos::AtLeastOnce { puback(pkid) } else { pubrec(pkid) };
            rig.broker.write_refusal(&ack, &mut bytes);
            rig.receive_bytes(&bytes).unwrap();
        };
        refuse(&mut rig, 2);
        refuse(&mut rig, 1);
        let warned = warnings(&rig.events());
        assert!(warned.len() == 1 && warned[0].contains("quota exceeded"), "{warned:?}");
        rig.publish("c", qos);
        assert!(rig.sent().is_empty(), "nothing is published in a pause");
        assert_eq!(rig.wait(), SECOND);
        // New messages for the broker, which has forgotten their identifiers.
        assert_eq!(published(&rig.sent()), [row("b", 2, false), row("a", 1, false), row("c", 3, false)]);
        refuse(&mut rig, 1);
        assert!(warnings(&rig.events()).is_empty());
        assert_eq!(rig.wait(), 2 * SECOND);
        assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
        for pkid in 1..=3 {
            if qos == Qos::AtLeastOnce {
                rig.receive(&puback(pkid)).unwrap();
            } else {
                rig.receive(&pubrec(pkid)).unwrap();
                rig.sent();
                rig.receive(&pubcomp(pkid)).unwrap();
            }
        }
        let acknowledged = rig.acknowledged();
        assert!(tokens.iter().all(|token| acknowledged.contains(token)) && acknowledged.len() == 3);
        assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
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

#[test]
fn a_pause_ends_with_its_connection() {
    let mut rig = up(|_| {});
    rig.publish("a", Qos::AtLeastOnce);
    rig.sent();
    rig.puback_because(1, QUOTA_EXCEEDED);
    rig.drop_connection();
    rig.connect(true);
    assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
}

#[test]
fn a_refusal_without_a_cause_is_final_after_several() {
    let mut rig = up(|_| {});
    rig.publish("a", Qos::AtLeastOnce);
    let begin = rig.now;
    for pauses in 1..=5 {
        assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
        rig.puback_because(1, UNSPECIFIED);
        if pauses < 5 {
            assert!(rig.refused().is_none(), "after {pauses}");
            rig.wait();
        }
    }
    assert!(rig.now - begin >= 10 * SECOND);
    assert_eq!(rig.refused().unwrap().exit(), Exit::Unavailable);
}

#[test]
fn a_broker_says_why_it_ends_the_connection() {
    for (bytes, words, obstacle) in [
        (&[0xe0, 1, 0x8e][..], "another client connected with this client id", Obstacle::TakenOver),
        (&[0xe0, 1, 0x8b], "broker shutting down", Obstacle::Other),
        (
            &[0xe0, 9, 0x9d, 7, 28, 0, 4, b'h', b':', b'1', 7],
            "the broker has moved; it names h:1\\x07",
            Obstacle::Other,
        ),
        (&[0xe0, 0], "success", Obstacle::Other),
    ] {
        let mut rig = up(|_| {});
        rig.publish("a", Qos::AtLeastOnce);
        rig.sent();
        let lost = rig.receive_bytes(bytes).unwrap_err();
        assert_eq!(lost.to_string(), format!("the broker ended the connection: {words}"));
        assert_eq!(lost.obstacle(), obstacle);
        for _ in 0..9 {
            rig.drop_connection();
            rig.connect(true);
            rig.sent();
            rig.receive_bytes(bytes).unwrap_err();
        }
        let events = rig.events();
        let blamed = |event: &Event| matches!(event, Event::Refused(_) | Event::Warning(_) | Event::Contested { .. });
        assert!(!events.iter().any(blamed), "no message is blamed: {events:?}");
    }
}

#[test]
fn a_message_for_which_the_broker_ends_the_connection_is_found() {
    for (code, exit) in [(0x95, Exit::DataLost), (NOT_AUTHORIZED, Exit::Unavailable)] {
        let mut rig = up(|_| {});
        rig.publish("good", Qos::AtLeastOnce);
        rig.publish("bad", Qos::AtLeastOnce);
        rig.sent();
        rig.receive_bytes(&[0xe0, 1, code]).unwrap_err();
        assert!(rig.refused().is_none(), "it may be the other one");
        rig.drop_connection();
        for pkid in [1, 2] {
            rig.connect(true);
            assert_eq!(rig.sent(), [Packet::PingReq]);
            rig.receive(&Packet::PingResp).unwrap();
            assert_eq!(rig.sent().len(), 1, "alone");
            if pkid == 1 {
                rig.receive(&puback(1)).unwrap();
                assert_eq!(rig.sent().len(), 1);
                rig.receive_bytes(&[0xe0, 1, code]).unwrap_err();
                assert!(rig.refused().is_none());
                rig.drop_connection();
            }
        }
        rig.receive_bytes(&[0xe0, 1, code]).unwrap_err();
        let error = rig.refused().unwrap();
        assert_eq!(error.exit(), exit);
        assert!(error.to_string().contains("3 bytes on \"out\"") && error.to_string().contains("ended the connection"));
    }
}

#[test]
fn extended_authentication_is_refused_clearly() {
    let mut rig = rig();
    rig.session.transport_opened(rig.now);
    rig.sent();
    assert!(rig.receive_bytes(&[0xf0, 2, 0x18, 0]).is_err());
    let error = rig.refused().unwrap();
    assert!(error.exit() == Exit::Unavailable && error.to_string().contains("extended authentication"), "{error}");
    assert!(error.hint_text().unwrap().contains("`username`"));
}

#[test]
fn a_refused_connection_gives_the_words_of_the_broker() {
    for (bytes, refused, words) in [
        (&[0x20, 9, 0, 0x87, 6, 31, 0, 3, b'n', b'o', b'!'][..], true, "not authorized (CONNACK 0x87: no!)"),
        (&[0x20, 8, 0, 0x9d, 5, 28, 0, 2, b'h', b'2'], true, "the broker has moved (CONNACK 0x9d)"),
        (&[0x20, 3, 0, 0x8c, 0], true, "authentication method not supported (CONNACK 0x8c)"),
        (&[0x20, 3, 0, 0x89, 0], false, "broker busy (CONNACK 0x89)"),
        (&[0x20, 3, 0, 0x97, 0], false, "quota exceeded (CONNACK 0x97)"),
        (&[0x20, 3, 0, 0x80, 0], false, "no reason given (CONNACK 0x80)"),
    ] {
        let mut rig = rig();
        rig.session.transport_opened(rig.now);
        rig.sent();
        let lost = rig.receive_bytes(bytes).unwrap_err();
        assert!(lost.to_string().ends_with(words), "{lost}");
        let error = rig.refused();
        assert_eq!(error.is_some(), refused, "{words}");
        if bytes[3] == 0x9d {
            assert_eq!(error.unwrap().hint_text().unwrap(), "it names another broker: set `host = h2`");
        }
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
fn a_broker_cannot_put_off_that_a_dead_connection_is_found() {
    for (asked_for, set, expected) in
        [(60, 10, Some(10)), (60, 600, Some(60)), (60, 0, Some(60)), (0, 10, Some(10)), (0, 0, None)]
    {
        let mut rig = Rig::new(|options| {
            (options.version, options.keep_alive) = (Version::V5, asked_for * SECOND);
        });
        rig.broker.capabilities.server_keep_alive = Some(set);
        rig.connect(false);
        assert_eq!(rig.session.deadline(), expected.map(|seconds| rig.now + seconds * SECOND), "{asked_for}, {set}");
    }
}
