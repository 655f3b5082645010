use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{self, ConnectReturnCode, Packet, SubscribeReasonCode};

use super::*;
use crate::mqtt::outbound::PUBLISH_IDS;
use crate::mqtt::{Login, Message, Unacknowledged, Version, Window};

const SECOND: Duration = Duration::from_secs(1);

/// A session, the time, and the broker's end of the stream.
struct Rig {
    session: Session,
    now: Instant,
    rng: StdRng,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new("me");
        options.clean_session = false;
        change(&mut options);
        Self { session: Session::new(options).unwrap(), now: Instant::now(), rng: StdRng::seed_from_u64(0) }
    }

    fn up() -> Self {
        let mut rig = Self::new(|_| {});
        rig.connect(false);
        rig
    }

    /// CONNECT, CONNACK; returns what the client sent before CONNACK.
    fn connect(&mut self, session_present: bool) -> Vec<Packet> {
        self.session.connected(self.now);
        let sent = self.sent();
        self.connack(session_present, ConnectReturnCode::Success).unwrap();
        sent
    }

    fn connack(&mut self, session_present: bool, code: ConnectReturnCode) -> std::result::Result<(), Lost> {
        self.receive(&Packet::ConnAck(v4::ConnAck::new(code, session_present)))
    }

    /// The peer drops the connection.
    fn drop_connection(&mut self) -> Duration {
        self.session.disconnected("gone", self.now, &mut self.rng) - self.now
    }

    fn receive(&mut self, packet: &Packet) -> std::result::Result<(), Lost> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.session.received(&mut bytes, self.now)
    }

    fn deliver(&mut self, qos: QoS, pkid: u16, payload: &str, dup: bool) {
        let mut publish = v4::Publish::new("in", qos, payload);
        (publish.pkid, publish.dup) = (pkid, dup);
        self.receive(&Packet::Publish(publish)).unwrap();
    }

    /// The socket takes everything, and the broker reads it.
    fn sent(&mut self) -> Vec<Packet> {
        let mut all = BytesMut::new();
        while !self.session.outgoing().is_empty() {
            all.extend_from_slice(self.session.outgoing());
            self.session.sent(self.session.outgoing().len(), self.now);
        }
        parse(all)
    }

    fn publish(&mut self, payload: &'static str, qos: Qos) -> Token {
        self.session.publish("out", Bytes::from_static(payload.as_bytes()), qos, false).unwrap()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.next_event()).collect()
    }

    fn acked(&mut self) -> Vec<Token> {
        let acked = |event| if let Event::Acked(token) = event { Some(token) } else { None };
        self.events().into_iter().filter_map(acked).collect()
    }

    fn messages(&mut self) -> Vec<Message> {
        let message = |event| if let Event::Message(message) = event { Some(message) } else { None };
        self.events().into_iter().filter_map(message).collect()
    }

    fn refused(&mut self) -> Option<Error> {
        self.events().into_iter().find_map(|event| if let Event::Refused(error) = event { Some(error) } else { None })
    }
}

fn parse(mut bytes: BytesMut) -> Vec<Packet> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        packets.push(Packet::read(&mut bytes, usize::MAX).unwrap());
    }
    packets
}

fn puback(pkid: u16) -> Packet {
    Packet::PubAck(v4::PubAck::new(pkid))
}

fn pubrec(pkid: u16) -> Packet {
    Packet::PubRec(v4::PubRec::new(pkid))
}

fn pubrel(pkid: u16) -> Packet {
    Packet::PubRel(v4::PubRel::new(pkid))
}

fn pubcomp(pkid: u16) -> Packet {
    Packet::PubComp(v4::PubComp::new(pkid))
}

fn suback(pkid: u16, code: SubscribeReasonCode) -> Packet {
    Packet::SubAck(v4::SubAck::new(pkid, vec![code]))
}

/// Payload, identifier and DUP of each PUBLISH.
fn published(packets: &[Packet]) -> Vec<(String, u16, bool)> {
    packets
        .iter()
        .map(|packet| match packet {
            Packet::Publish(one) => (String::from_utf8(one.payload.to_vec()).unwrap(), one.pkid, one.dup),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn row(payload: &str, pkid: u16, dup: bool) -> (String, u16, bool) {
    (payload.to_owned(), pkid, dup)
}

#[test]
fn connect_says_what_the_options_say() {
    let mut rig = Rig::new(|options| {
        options.keep_alive = Duration::from_millis(1500);
        options.login = Some(Login { username: "user".into(), password: "secret".to_owned().into() });
    });
    match &rig.connect(false)[..] {
        [Packet::Connect(connect)] => {
            assert_eq!((connect.client_id.as_str(), connect.keep_alive, connect.clean_session), ("me", 2, false));
            assert!(connect.login.as_ref().unwrap().validate("user", "secret"));
        }
        other => panic!("{other:?}"),
    }
    assert!(!format!("{:?}", rig.session).contains("secret"));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let login = |username: &str| Some(Login { username: username.into(), password: "x".to_owned().into() });
    let wrong: [fn(&mut Options); 4] = [
        |options| options.keep_alive = Duration::from_secs(65_536),
        |options| options.client_id = String::new(),
        |options| options.client_id = "x".repeat(65_536),
        |options| options.version = Version::V5,
    ];
    for change in wrong {
        let mut options = Options { clean_session: false, ..Options::new("me") };
        change(&mut options);
        assert_eq!(Session::new(options).unwrap_err().exit(), Exit::Config);
    }
    assert!(Session::new(Options { login: login(""), ..Options::new("me") }).is_err());
    assert!(Session::new(Options { login: login("user"), ..Options::new("me") }).is_ok());
}

#[test]
fn what_does_not_fit_never_enters_the_window() {
    let mut rig = Rig::new(|options| {
        options.max_send = 10;
        options.window = Window { messages: 2, bytes: 20 };
    });
    let mut publish = |topic: &str, len| rig.session.publish(topic, vec![0; len].into(), Qos::AtLeastOnce, false);
    assert_eq!(publish("a/+", 1).unwrap_err().exit(), Exit::Config);
    assert_eq!(publish("", 1).unwrap_err().exit(), Exit::Config);
    let error = publish("t", 11).unwrap_err();
    assert!(error.to_string().contains("11 bytes") && error.to_string().contains("`max_message`"), "{error}");
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
    rig.session.publish("t", vec![0; 10].into(), Qos::AtLeastOnce, false).unwrap();
    assert!(rig.session.room(9) && !rig.session.room(10));
    rig.session.publish("t", vec![0; 1].into(), Qos::AtLeastOnce, false).unwrap();
    assert!(!rig.session.room(0));
    assert!(rig.session.publish("t", Bytes::new(), Qos::AtLeastOnce, false).is_err());
    assert_eq!(rig.session.unacknowledged(), Unacknowledged { messages: 2, bytes: 13 });
}

#[test]
fn the_window_starts_at_the_oldest_unacknowledged() {
    let mut rig = Rig::new(|options| options.window.messages = 3);
    rig.connect(false);
    let tokens: Vec<_> = ["a", "b", "c"].into_iter().map(|one| rig.publish(one, Qos::AtLeastOnce)).collect();
    rig.sent();
    rig.receive(&puback(2)).unwrap();
    rig.receive(&puback(3)).unwrap();
    assert_eq!(rig.acked(), tokens[1..]);
    assert_eq!(rig.session.unacknowledged().messages, 1);
    assert!(!rig.session.room(0));
    rig.receive(&puback(1)).unwrap();
    assert_eq!(rig.acked(), tokens[..1]);
    assert!(rig.session.room(0));
}

#[test]
fn identifiers_go_round_without_meeting_one_in_flight() {
    let mut rig = Rig::up();
    let mut seen = 0_u32;
    for _ in 0..70_000 {
        rig.publish("x", Qos::AtLeastOnce);
        let packets = rig.sent();
        let pkid = published(&packets)[0].1;
        assert!((1..=PUBLISH_IDS).contains(&pkid));
        rig.receive(&puback(pkid)).unwrap();
        seen += u32::try_from(rig.acked().len()).unwrap();
    }
    assert_eq!(seen, 70_000);
}

#[test]
fn unknown_and_stale_acknowledgements_are_ignored() {
    let mut rig = Rig::up();
    let token = rig.publish("a", Qos::AtLeastOnce);
    // Before the socket took it, nothing can be an answer to it.
    rig.receive(&puback(1)).unwrap();
    rig.sent();
    for packet in [puback(0), puback(2), puback(PUBLISH_IDS), puback(u16::MAX), pubcomp(1)] {
        rig.receive(&packet).unwrap();
    }
    assert!(rig.acked().is_empty());
    rig.receive(&puback(1)).unwrap();
    rig.receive(&puback(1)).unwrap();
    assert_eq!(rig.acked(), [token]);
}

#[test]
fn a_kept_session_gets_repeats_in_order_and_a_forgetful_one_new_messages() {
    for session_present in [true, false] {
        let mut rig = Rig::up();
        let first = rig.publish("a", Qos::AtLeastOnce);
        let second = rig.publish("b", Qos::AtLeastOnce);
        rig.publish("c", Qos::AtLeastOnce);
        rig.sent();
        rig.receive(&puback(2)).unwrap();
        rig.drop_connection();
        rig.publish("d", Qos::AtLeastOnce);
        assert_eq!(rig.acked(), [second]);
        rig.connect(session_present);
        // An acknowledgement from before the repeat is from before the connection.
        rig.receive(&puback(1)).unwrap();
        assert!(rig.acked().is_empty());
        let dup = session_present;
        let packets = rig.sent();
        assert_eq!(published(&packets), [row("a", 1, dup), row("c", 3, dup), row("d", 4, false)]);
        rig.receive(&puback(1)).unwrap();
        assert_eq!(rig.acked(), [first]);
    }
}

#[test]
fn a_message_that_the_socket_did_not_take_is_no_repeat() {
    let mut rig = Rig::up();
    rig.publish("a", Qos::AtLeastOnce);
    rig.publish("b", Qos::AtLeastOnce);
    let half = rig.session.outgoing().len() / 2;
    rig.session.sent(half + 3, rig.now);
    rig.now += 6 * SECOND;
    rig.drop_connection();
    rig.connect(true);
    let packets = rig.sent();
    assert_eq!(published(&packets), [row("a", 1, true), row("b", 2, false)]);
}

#[test]
fn qos_0_counts_when_the_socket_took_it_and_is_repeated_when_it_did_not() {
    let mut rig = Rig::up();
    let first = rig.publish("a", Qos::AtMostOnce);
    let second = rig.publish("b", Qos::AtMostOnce);
    let len = rig.session.outgoing().len() / 2;
    rig.session.sent(len - 1, rig.now);
    assert!(rig.acked().is_empty());
    rig.session.sent(1, rig.now);
    assert_eq!(rig.acked(), [first]);
    rig.session.sent(len - 1, rig.now);
    assert_eq!(rig.session.unacknowledged().messages, 1);
    rig.drop_connection();
    rig.connect(false);
    let packets = rig.sent();
    assert_eq!(published(&packets), [row("b", 0, false)]);
    assert_eq!(rig.acked(), [second]);
}

#[test]
fn qos_2_goes_through_its_steps_and_repeats_the_right_one() {
    let mut rig = Rig::up();
    let first = rig.publish("a", Qos::ExactlyOnce);
    let second = rig.publish("b", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(1)).unwrap();
    assert_eq!(rig.sent(), [pubrel(1)]);
    rig.drop_connection();
    rig.connect(true);
    let packets = rig.sent();
    assert_eq!(packets[0], pubrel(1));
    assert_eq!(published(&packets[1..]), [row("b", 2, true)]);
    rig.receive(&pubcomp(1)).unwrap();
    assert_eq!(rig.acked(), [first]);
    rig.receive(&pubcomp(2)).unwrap();
    assert!(rig.acked().is_empty());
    rig.receive(&pubrec(2)).unwrap();
    rig.sent();
    rig.receive(&pubcomp(2)).unwrap();
    assert_eq!(rig.acked(), [second]);
}

#[test]
fn qos_2_is_sent_anew_when_the_broker_forgot_before_pubcomp() {
    let mut rig = Rig::up();
    rig.publish("a", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(1)).unwrap();
    rig.sent();
    rig.drop_connection();
    rig.connect(false);
    assert!(rig.acked().is_empty());
    let packets = rig.sent();
    assert_eq!(published(&packets), [row("a", 1, false)]);
}

#[test]
fn a_lost_connack_leaves_doubt_about_the_session() {
    let mut rig = Rig::new(|_| {});
    rig.session.subscribe("in", Qos::ExactlyOnce, rig.now).unwrap();
    rig.connect(false);
    rig.sent();
    rig.receive(&suback(PUBLISH_IDS + 1, SubscribeReasonCode::Success(QoS::ExactlyOnce))).unwrap();
    rig.publish("a", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(1)).unwrap();
    rig.drop_connection();
    rig.session.connected(rig.now);
    rig.sent();
    rig.drop_connection();
    rig.connect(true);
    let packets = rig.sent();
    assert!(matches!(packets[0], Packet::Subscribe(_)));
    assert_eq!(published(&packets[1..]), [row("a", 1, true)]);
    assert!(rig.events().iter().any(|event| matches!(event, Event::Up { session_present: false })));
}

#[test]
fn an_early_pubrec_does_not_release_what_is_still_to_be_repeated() {
    let mut rig = Rig::up();
    rig.publish("a", Qos::ExactlyOnce);
    rig.sent();
    rig.drop_connection();
    rig.session.connected(rig.now);
    rig.sent();
    rig.connack(true, ConnectReturnCode::Success).unwrap();
    rig.receive(&pubrec(1)).unwrap();
    let packets = rig.sent();
    assert_eq!(published(&packets), [row("a", 1, true)]);
    // One that belongs to nothing of ours is let go of.
    rig.receive(&pubrec(9)).unwrap();
    assert_eq!(rig.sent(), [pubrel(9)]);
}

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
    let mut rig = Rig::new(|options| options.max_receive = 100);
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
        Some(Event::Subscribed { filter, asked, granted }) => {
            assert_eq!((filter.as_str(), asked, granted), ("a/#", Qos::ExactlyOnce, Qos::AtLeastOnce));
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
    rig.receive(&suback(PUBLISH_IDS + 1, SubscribeReasonCode::Failure)).unwrap();
    let error = rig.refused().unwrap();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert!(error.to_string().contains("secret/topic"), "{error}");
    // Nobody waits for these.
    rig.receive(&suback(PUBLISH_IDS + 1, SubscribeReasonCode::Failure)).unwrap();
    rig.receive(&suback(1, SubscribeReasonCode::Failure)).unwrap();
    assert!(rig.events().is_empty());
}

#[test]
fn a_refused_connection_says_what_to_mend() {
    for (code, words) in [
        (ConnectReturnCode::RefusedProtocolVersion, "mqtt_version"),
        (ConnectReturnCode::BadClientId, "clientid"),
        (ConnectReturnCode::BadUserNamePassword, "password"),
        (ConnectReturnCode::NotAuthorized, "username"),
    ] {
        let mut rig = Rig::new(|_| {});
        rig.session.connected(rig.now);
        assert!(rig.connack(false, code).is_err());
        let error = rig.refused().unwrap();
        assert_eq!(error.exit(), Exit::Unavailable);
        assert!(error.hint_text().unwrap().contains(words), "{error}");
    }
    let mut rig = Rig::new(|_| {});
    rig.session.connected(rig.now);
    let lost = rig.connack(false, ConnectReturnCode::ServiceUnavailable).unwrap_err();
    assert!(lost.to_string().contains("unavailable"));
    assert!(rig.refused().is_none());
}

#[test]
fn a_broker_that_breaks_the_protocol_is_left() {
    let mut rig = Rig::new(|_| {});
    rig.session.connected(rig.now);
    assert!(rig.receive(&puback(1)).is_err());
    let mut rig = Rig::up();
    assert!(rig.connack(false, ConnectReturnCode::Success).is_err());
    let mut rig = Rig::up();
    assert!(rig.session.received(&mut BytesMut::from(&b"HTTP/1.1 400 Bad Request"[..]), rig.now).is_err());
}

#[test]
fn connack_and_suback_must_come() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.session.deadline(), None);
    rig.session.connected(rig.now);
    rig.now = rig.session.deadline().unwrap();
    assert!(rig.session.tick(rig.now.checked_sub(SECOND).unwrap()).is_ok());
    assert!(rig.session.tick(rig.now).unwrap_err().to_string().contains("CONNACK"));
    let mut rig = Rig::up();
    rig.session.subscribe("a", Qos::AtMostOnce, rig.now).unwrap();
    rig.now = rig.session.deadline().unwrap();
    assert!(rig.session.tick(rig.now).unwrap_err().to_string().contains("SUBACK"));
}

#[test]
fn pingreq_goes_only_after_silence() {
    let mut rig = Rig::up();
    rig.sent();
    for _ in 0..100 {
        rig.now += 50 * SECOND;
        rig.session.tick(rig.now).unwrap();
        rig.publish("x", Qos::AtMostOnce);
        assert_eq!(rig.sent().len(), 1);
        rig.deliver(QoS::AtMostOnce, 0, "x", false);
    }
    assert_eq!(rig.session.deadline(), Some(rig.now + 60 * SECOND));
    rig.now += 60 * SECOND;
    rig.session.tick(rig.now).unwrap();
    assert_eq!(rig.sent(), [Packet::PingReq]);
    rig.now += 3 * SECOND;
    rig.receive(&Packet::PingResp).unwrap();
    assert_eq!(rig.session.deadline(), Some(rig.now + 57 * SECOND));
    let mut rig = Rig::new(|options| options.keep_alive = Duration::ZERO);
    rig.connect(false);
    assert_eq!(rig.session.deadline(), None);
}

#[test]
fn a_half_open_connection_is_found_though_the_socket_takes_bytes() {
    let mut rig = Rig::up();
    rig.sent();
    let start = rig.now;
    let lost = loop {
        rig.now += SECOND;
        rig.publish("x", Qos::AtMostOnce);
        rig.sent();
        if let Err(lost) = rig.session.tick(rig.now) {
            break lost;
        }
        assert!(rig.now - start < 200 * SECOND);
    };
    assert!(lost.to_string().contains("PINGRESP"));
    assert!(rig.now - start <= 91 * SECOND);
}

#[test]
fn a_stuck_socket_is_found_and_a_slow_one_is_not() {
    let mut rig = Rig::up();
    rig.sent();
    rig.session.publish("t", vec![0; 60_000].into(), Qos::AtLeastOnce, false).unwrap();
    // One byte a second: PINGREQ waits behind the message, and nobody is to blame.
    for _ in 0..600 {
        rig.now += SECOND;
        rig.session.sent(1, rig.now);
        rig.session.tick(rig.now).unwrap();
    }
    let deadline = rig.session.deadline().unwrap();
    assert!(deadline - rig.now <= 30 * SECOND);
    assert!(rig.session.tick(deadline).is_err());
}

#[test]
fn while_nobody_reads_pingreq_goes_out_and_no_answer_is_late() {
    let mut rig = Rig::up();
    rig.session.subscribe("a", Qos::AtMostOnce, rig.now).unwrap();
    rig.sent();
    rig.session.pause_reading(true, rig.now);
    for _ in 0..10 {
        rig.now = rig.session.deadline().unwrap();
        rig.session.tick(rig.now).unwrap();
        assert_eq!(rig.sent(), [Packet::PingReq]);
    }
    rig.now += 59 * SECOND;
    rig.session.pause_reading(false, rig.now);
    rig.session.tick(rig.now + 15 * SECOND).unwrap();
    // From here on answers are awaited again.
    rig.now += 30 * SECOND;
    assert!(rig.session.tick(rig.now).is_err());
}

#[test]
fn disconnect_goes_after_what_is_queued() {
    let mut rig = Rig::up();
    for _ in 0..20 {
        rig.session.publish("t", vec![0; 50_000].into(), Qos::AtMostOnce, false).unwrap();
    }
    rig.session.finish();
    assert!(!rig.session.finished() && !rig.session.room(0));
    assert!(rig.session.publish("t", Bytes::new(), Qos::AtMostOnce, false).is_err());
    let packets = rig.sent();
    assert_eq!(packets.len(), 21);
    assert_eq!(packets.last(), Some(&Packet::Disconnect));
    assert!(rig.session.finished());
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
}

#[test]
fn the_outgoing_buffer_is_bounded() {
    let mut rig = Rig::new(|options| options.window.bytes = 64 << 20);
    rig.connect(false);
    for _ in 0..500 {
        rig.session.publish("t", vec![0; 60_000].into(), Qos::AtLeastOnce, false).unwrap();
        assert!(rig.session.outgoing().len() < HIGH_WATER + 61_000);
    }
    assert_eq!(rig.sent().len(), 500);
}

#[test]
fn backoff_grows_until_a_connection_was_worth_something() {
    let mut rig = Rig::new(|_| {});
    let delays: Vec<_> = (0..12).map(|_| rig.drop_connection()).collect();
    assert!(delays[0] <= Duration::from_millis(100) && delays[11] >= 15 * SECOND);
    rig.connect(false);
    rig.now += 6 * SECOND;
    assert!(rig.drop_connection() <= Duration::from_millis(100));
    rig.drop_connection();
    rig.connect(false);
    rig.publish("a", Qos::AtLeastOnce);
    rig.sent();
    rig.receive(&puback(1)).unwrap();
    assert!(rig.drop_connection() <= Duration::from_millis(100));
}

#[test]
fn a_broker_that_comes_and_goes_is_not_asked_ever_faster() {
    // It is heard from each time, and attempts that fail lie between: neither makes it a broker that is well.
    for malformed in [false, true] {
        let mut rig = Rig::new(|_| {});
        let mut waited = Duration::ZERO;
        for _ in 0..40 {
            rig.connect(false);
            rig.deliver(QoS::AtMostOnce, 0, "junk", false);
            if malformed {
                assert!(rig.session.received(&mut BytesMut::from(&[0xff, 0][..]), rig.now).is_err());
            }
            waited += rig.drop_connection();
            waited += rig.drop_connection();
        }
        assert!(waited > 300 * SECOND, "{waited:?}");
    }
}

#[test]
fn a_broker_that_sends_and_does_not_read_is_left() {
    for call in [Packet::PubRel(v4::PubRel::new(1)), Packet::PubRec(v4::PubRec::new(1))] {
        let mut rig = Rig::up();
        rig.sent();
        let mut answered = 0_u32;
        while rig.receive(&call).is_ok() {
            answered += 1;
            assert!(answered < 1_000_000 && rig.session.outgoing().len() < 4 << 20);
        }
        assert!(answered > 65_535, "each packet identifier may have its answer");
        rig.drop_connection();
        assert!(rig.session.outgoing().is_empty());
    }
    let mut rig = Rig::up();
    for round in 0..1_000_000 {
        let mut bytes = BytesMut::new();
        let mut publish = v4::Publish::new("in", QoS::AtLeastOnce, "");
        publish.pkid = 1;
        Packet::Publish(publish).write(&mut bytes, usize::MAX).unwrap();
        if rig.session.received(&mut bytes, rig.now).is_err() {
            return;
        }
        for event in rig.events() {
            if let Event::Message(message) = event {
                rig.session.ack(message.receipt);
            }
        }
        assert!(round < 900_000, "PUBACKs pile up");
    }
}

#[test]
fn a_takeover_is_suspected() {
    let mut rig = Rig::new(|_| {});
    for round in 1..=5 {
        rig.connect(true);
        rig.sent();
        rig.now += SECOND;
        rig.drop_connection();
        let contested = rig.events().into_iter().any(|event| matches!(event, Event::Contested { times: 5 }));
        assert_eq!(contested, round == 5);
    }
    // A broker that is restarted again and again is something else: attempts fail in between.
    for _ in 0..20 {
        rig.connect(true);
        rig.drop_connection();
        rig.drop_connection();
    }
    assert!(!rig.events().iter().any(|event| matches!(event, Event::Contested { .. })));
}

#[test]
fn a_message_that_ends_each_connection_is_named() {
    let mut rig = Rig::up();
    let good = rig.publish("good", Qos::AtLeastOnce);
    rig.publish("poison", Qos::AtLeastOnce);
    rig.publish("later", Qos::AtLeastOnce);
    rig.sent();
    rig.receive(&puback(1)).unwrap();
    assert_eq!(rig.acked(), [good]);
    rig.drop_connection();
    for round in 1..=3 {
        assert!(rig.refused().is_none());
        rig.connect(true);
        let packets = rig.sent();
        // Alone, from the second time on: then it is known to be the one.
        assert_eq!(packets.len(), if round == 1 { 2 } else { 1 });
        rig.drop_connection();
    }
    let error = rig.refused().unwrap();
    assert_eq!(error.exit(), Exit::DataLost);
    assert!(error.to_string().contains("6 bytes"), "{error}");
    assert!(error.hint_text().unwrap().contains("max_message"));
}

#[test]
fn an_acknowledgement_clears_the_suspicion() {
    let mut rig = Rig::up();
    rig.publish("a", Qos::AtLeastOnce);
    rig.publish("b", Qos::AtLeastOnce);
    for _ in 0..2 {
        rig.sent();
        rig.drop_connection();
        rig.connect(true);
    }
    assert_eq!(rig.sent().len(), 1);
    rig.receive(&puback(1)).unwrap();
    assert_eq!(published(&rig.sent()).len(), 1);
    rig.drop_connection();
    assert!(rig.refused().is_none());
}
