//! What only MQTT 5 can say: limits, reasons, and a word at the end.

use rumqttc::v5::mqttbytes::v5::ConnAckProperties;

use super::*;

pub(super) const NOT_AUTHORIZED: u8 = 0x87;
const UNSPECIFIED: u8 = 0x80;
const QUOTA_EXCEEDED: u8 = 0x97;

/// A session of MQTT 5, not connected yet.
pub(super) fn rig() -> Rig {
    Rig::new(|options| options.version = Version::V5)
}

/// A session of MQTT 5 that is connected to a broker like this.
pub(super) fn up(change: impl FnOnce(&mut ConnAckProperties)) -> Rig {
    let mut rig = rig();
    change(&mut rig.broker.capabilities);
    rig.connect(false);
    rig.events();
    rig
}

impl Rig {
    /// The broker sends these bytes.
    pub(super) fn receive_bytes(&mut self, bytes: &[u8]) -> std::result::Result<(), ConnectionLost> {
        self.session.bytes_received(&mut BytesMut::from(bytes), self.now)
    }

    /// PUBACK with a reason code.
    pub(super) fn puback_because(&mut self, pkid: u16, code: u8) {
        let [high, low] = pkid.to_be_bytes();
        self.receive_bytes(&[0x40, 3, high, low, code]).unwrap();
    }

    /// Waits for the deadline, and does what is due then.
    pub(super) fn wait(&mut self) -> Duration {
        let before = self.now;
        self.now = self.session.deadline().unwrap();
        self.session.tick(self.now).unwrap();
        self.now - before
    }
}

pub(super) fn warnings(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| if let Event::Warning(error) = event { Some(error.to_string()) } else { None };
    events.iter().filter_map(text).collect()
}

pub(super) fn notes(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| if let Event::Note(note) = event { Some(&**note) } else { None }).collect()
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
        // A new message for the broker, which has forgotten its identifier. It is the oldest, and alone, or the broker could
        // accept another one before it.
        assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
        refuse(&mut rig, 1);
        assert!(warnings(&rig.events()).is_empty());
        assert_eq!(rig.wait(), 2 * SECOND);
        assert_eq!(published(&rig.sent()), [row("a", 1, false)]);
        let accept = |rig: &mut Rig, pkid| {
            if qos == Qos::AtLeastOnce {
                rig.receive(&puback(pkid)).unwrap();
            } else {
                rig.receive(&pubrec(pkid)).unwrap();
                assert_eq!(rig.sent().len(), 1, "PUBREL");
                rig.receive(&pubcomp(pkid)).unwrap();
            }
            rig.sent()
        };
        assert_eq!(published(&accept(&mut rig, 1)), [row("b", 2, false), row("c", 3, false)]);
        accept(&mut rig, 2);
        accept(&mut rig, 3);
        let acknowledged = rig.acknowledged();
        assert!(tokens.iter().all(|token| acknowledged.contains(token)) && acknowledged.len() == 3);
        assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
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
        (
            &[0xe0, 9, 0x9c, 7, 28, 0, 4, b'h', b':', b'1', 7],
            "use another server for now; it names h:1\\x07",
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
        let names_server = bytes.contains(&28);
        assert_eq!(lost.hint_text(), names_server.then_some("it names another broker: set `host = h:1\\x07`"));
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
        (&[0x20, 8, 0, 0x9c, 5, 28, 0, 2, b'h', b'2'], false, "use another server for now (CONNACK 0x9c)"),
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
        if bytes.contains(&28) {
            let hint = "it names another broker: set `host = h2`";
            assert_eq!(lost.hint_text(), Some(hint));
            assert!(error.is_none_or(|error| error.hint_text() == Some(hint)));
        }
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
