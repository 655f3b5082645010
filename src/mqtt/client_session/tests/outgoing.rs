//! What we publish, and how it is acknowledged and repeated.

use super::*;
use crate::secret::Password;

#[test]
fn connect_says_what_the_options_say() {
    let mut rig = Rig::new(|options| {
        options.keep_alive = Duration::from_millis(1500);
        options.login = Some(Login { username: "user".into(), password: Some(Password::new("secret".into())) });
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
    let login = |username: &str| Some(Login { username: username.into(), password: Some(Password::new("x".into())) });
    let wrong: [fn(&mut ClientOptions); 4] = [
        |options| options.keep_alive = Duration::from_secs(65_536),
        |options| options.client_id = String::new(),
        |options| options.client_id = "x".repeat(65_536),
        |options| (options.version, options.client_id) = (Version::V31, "x".repeat(24)),
    ];
    for change in wrong {
        let mut options = ClientOptions { clean_session: false, ..ClientOptions::new("me") };
        change(&mut options);
        assert_eq!(ClientSession::new(options).unwrap_err().exit(), Exit::Config);
    }
    assert!(ClientSession::new(ClientOptions { login: login(""), ..ClientOptions::new("me") }).is_err());
    assert!(ClientSession::new(ClientOptions { login: login("user"), ..ClientOptions::new("me") }).is_ok());
}

#[test]
fn what_does_not_fit_never_enters_the_window() {
    let mut rig = Rig::new(|options| {
        options.limits.max_send = 10;
        options.limits.in_flight = InFlightLimit { messages: 2, bytes: 20 };
    });
    let mut publish = |topic: &str, len| rig.session.publish(topic, vec![0; len].into(), Qos::AtLeastOnce, false);
    assert_eq!(publish("a/+", 1).unwrap_err().exit(), Exit::Config);
    assert_eq!(publish("", 1).unwrap_err().exit(), Exit::Config);
    let error = publish("t", 11).unwrap_err();
    assert!(error.to_string().contains("11 bytes") && error.to_string().contains("`max_message`"), "{error}");
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
    rig.session.publish("t", vec![0; 10].into(), Qos::AtLeastOnce, false).unwrap();
    assert!(rig.session.has_room(9) && !rig.session.has_room(10));
    rig.session.publish("t", vec![0; 1].into(), Qos::AtLeastOnce, false).unwrap();
    assert!(!rig.session.has_room(0));
    assert!(rig.session.publish("t", Bytes::new(), Qos::AtLeastOnce, false).is_err());
    assert_eq!(rig.session.unacknowledged(), Unacknowledged { messages: 2, bytes: 13 });
}

#[test]
fn the_window_starts_at_the_oldest_unacknowledged() {
    let mut rig = Rig::new(|options| options.limits.in_flight.messages = 3);
    rig.connect(false);
    let tokens: Vec<_> = ["a", "b", "c"].into_iter().map(|one| rig.publish(one, Qos::AtLeastOnce)).collect();
    rig.sent();
    rig.receive(&puback(2)).unwrap();
    rig.receive(&puback(3)).unwrap();
    assert_eq!(rig.acknowledged(), tokens[1..]);
    assert_eq!(rig.session.unacknowledged().messages, 1);
    assert!(!rig.session.has_room(0));
    rig.receive(&puback(1)).unwrap();
    assert_eq!(rig.acknowledged(), tokens[..1]);
    assert!(rig.session.has_room(0));
}

#[test]
fn identifiers_go_round_without_meeting_one_in_flight() {
    let mut rig = Rig::up();
    let mut seen = 0_u32;
    for _ in 0..70_000 {
        rig.publish("x", Qos::AtLeastOnce);
        let packets = rig.sent();
        let pkid = published(&packets)[0].1;
        assert!((1..=MAX_PUBLISH_ID).contains(&pkid));
        rig.receive(&puback(pkid)).unwrap();
        seen += u32::try_from(rig.acknowledged().len()).unwrap();
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
    for packet in [puback(0), puback(2), puback(MAX_PUBLISH_ID), puback(u16::MAX), pubcomp(1)] {
        rig.receive(&packet).unwrap();
    }
    assert!(rig.acknowledged().is_empty());
    rig.receive(&puback(1)).unwrap();
    rig.receive(&puback(1)).unwrap();
    assert_eq!(rig.acknowledged(), [token]);
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
        assert_eq!(rig.acknowledged(), [second]);
        rig.connect(session_present);
        // An acknowledgement from before the repeat is from before the connection.
        rig.receive(&puback(1)).unwrap();
        assert!(rig.acknowledged().is_empty());
        let dup = session_present;
        let packets = rig.sent();
        assert_eq!(published(&packets), [row("a", 1, dup), row("c", 3, dup), row("d", 4, false)]);
        rig.receive(&puback(1)).unwrap();
        assert_eq!(rig.acknowledged(), [first]);
    }
}

#[test]
fn a_message_that_the_socket_did_not_take_is_no_repeat() {
    let mut rig = Rig::up();
    rig.publish("a", Qos::AtLeastOnce);
    rig.publish("b", Qos::AtLeastOnce);
    let half = rig.session.bytes_to_send().len() / 2;
    rig.session.bytes_sent(half + 3, rig.now);
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
    let len = rig.session.bytes_to_send().len() / 2;
    rig.session.bytes_sent(len - 1, rig.now);
    assert!(rig.acknowledged().is_empty());
    rig.session.bytes_sent(1, rig.now);
    assert_eq!(rig.acknowledged(), [first]);
    rig.session.bytes_sent(len - 1, rig.now);
    assert_eq!(rig.session.unacknowledged().messages, 1);
    rig.now += 6 * SECOND;
    rig.drop_connection();
    rig.connect(false);
    let packets = rig.sent();
    assert_eq!(published(&packets), [row("b", 0, false)]);
    assert_eq!(rig.acknowledged(), [second]);
}

#[test]
fn qos_2_goes_through_its_steps_and_repeats_the_right_one() {
    let mut rig = Rig::up();
    let first = rig.publish("a", Qos::ExactlyOnce);
    let second = rig.publish("b", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(1)).unwrap();
    assert_eq!(rig.sent(), [pubrel(1)]);
    rig.now += 6 * SECOND;
    rig.drop_connection();
    rig.connect(true);
    let packets = rig.sent();
    assert_eq!(packets[0], pubrel(1));
    assert_eq!(published(&packets[1..]), [row("b", 2, true)]);
    rig.receive(&pubcomp(1)).unwrap();
    assert_eq!(rig.acknowledged(), [first]);
    rig.receive(&pubcomp(2)).unwrap();
    assert!(rig.acknowledged().is_empty());
    rig.receive(&pubrec(2)).unwrap();
    rig.sent();
    rig.receive(&pubcomp(2)).unwrap();
    assert_eq!(rig.acknowledged(), [second]);
}

#[test]
fn qos_2_goes_out_no_faster_than_brokers_take_it() {
    let mut rig = Rig::up();
    for _ in 0..50 {
        rig.publish("a", Qos::ExactlyOnce);
    }
    assert_eq!(rig.sent().len(), 20);
    rig.receive(&pubrec(1)).unwrap();
    assert_eq!(rig.sent(), [pubrel(1)]);
    rig.receive(&pubcomp(1)).unwrap();
    assert_eq!(published(&rig.sent()), [row("a", 21, false)]);
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
    assert!(rig.acknowledged().is_empty());
    let packets = rig.sent();
    assert_eq!(published(&packets), [row("a", 1, false)]);
}

#[test]
fn a_lost_connack_leaves_doubt_about_the_session() {
    let mut rig = Rig::new(|_| {});
    rig.session.subscribe("in", Qos::ExactlyOnce, rig.now).unwrap();
    rig.connect(false);
    rig.sent();
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Success(QoS::ExactlyOnce))).unwrap();
    rig.publish("a", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(1)).unwrap();
    rig.drop_connection();
    rig.session.transport_opened(rig.now);
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
    rig.now += 6 * SECOND;
    rig.drop_connection();
    rig.session.transport_opened(rig.now);
    rig.sent();
    rig.connack(true, ConnectReturnCode::Success).unwrap();
    rig.receive(&pubrec(1)).unwrap();
    let packets = rig.sent();
    assert_eq!((published(&packets), packets.len()), (vec![row("a", 1, true)], 1), "no PUBREL");
    // One that belongs to nothing of ours is let go of.
    rig.receive(&pubrec(9)).unwrap();
    assert_eq!(rig.sent(), [pubrel(9)]);
}

#[test]
fn a_pubrec_for_what_the_socket_has_not_taken_releases_nothing() {
    let mut rig = Rig::up();
    rig.publish("a", Qos::ExactlyOnce);
    rig.receive(&pubrec(1)).unwrap();
    let packets = rig.sent();
    assert_eq!((published(&packets), packets.len()), (vec![row("a", 1, false)], 1), "no PUBREL");
}

#[test]
fn puback_for_a_message_at_qos_2_is_the_end_of_it() {
    let mut rig = Rig::up();
    let tokens = [rig.publish("a", Qos::ExactlyOnce), rig.publish("b", Qos::ExactlyOnce)];
    rig.sent();
    rig.receive(&puback(1)).unwrap();
    rig.receive(&puback(2)).unwrap();
    let events = rig.events();
    let warnings: Vec<_> =
        events.iter().filter_map(|event| if let Event::Warning(error) = event { Some(error) } else { None }).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].hint_text().unwrap().contains("`qos = 1`"), "{warnings:?}");
    let acknowledged: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Acknowledged(token) = event { Some(*token) } else { None })
        .collect();
    assert_eq!(acknowledged, tokens);
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
    // After PUBREC it is none.
    let token = rig.publish("c", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(3)).unwrap();
    rig.receive(&puback(3)).unwrap();
    assert!(rig.acknowledged().is_empty());
    assert_eq!(rig.sent(), [pubrel(3)]);
    rig.receive(&pubcomp(3)).unwrap();
    assert_eq!(rig.acknowledged(), [token]);
}
