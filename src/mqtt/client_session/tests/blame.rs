//! Who is to blame for a connection that ends: another client, a message, a login, or nobody.

use super::*;
use crate::secret::Password;

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

/// The broker answers PINGREQ, if there is one, and then drops the connection; returns what the client sent before, and
/// waits for the next connection.
fn answer_ping_and_drop(rig: &mut Rig) -> Vec<Packet> {
    let mut packets = rig.sent();
    if packets.contains(&Packet::PingReq) {
        assert!(!packets.iter().any(|packet| matches!(packet, Packet::Publish(_))), "a message waits for the answer");
        rig.receive(&Packet::PingResp).unwrap();
        packets.extend(rig.sent());
    }
    let pause = rig.drop_connection();
    rig.now += pause;
    packets
}

#[test]
fn a_message_that_ends_each_connection_is_named() {
    let mut rig = Rig::up();
    let start = rig.now;
    let good = rig.publish("good", Qos::AtLeastOnce);
    rig.publish("poison", Qos::AtLeastOnce);
    rig.publish("later", Qos::AtLeastOnce);
    rig.sent();
    rig.receive(&puback(1)).unwrap();
    assert_eq!(rig.acknowledged(), [good]);
    rig.drop_connection();
    rig.connect(true);
    assert_eq!(answer_ping_and_drop(&mut rig).len(), 2, "the first time may be chance");
    let mut warnings = 0;
    let error = loop {
        assert!(rig.now - start < 60 * SECOND);
        rig.connect(true);
        let packets = answer_ping_and_drop(&mut rig);
        assert_eq!(packets[0], Packet::PingReq);
        assert_eq!(published(&packets[1..]), [row("poison", 2, true)], "alone: then it is known to be the one");
        let events = rig.events();
        warnings += events.iter().filter(|event| matches!(event, Event::Warning(_))).count();
        let refused = |event| if let Event::Refused(refusal) = event { Some(refusal.error) } else { None };
        if let Some(error) = events.into_iter().find_map(refused) {
            break error;
        }
    };
    assert!(rig.now - start >= 10 * SECOND, "{:?}", rig.now - start);
    assert_eq!((error.exit(), warnings), (Exit::DataLost, 1));
    assert!(error.to_string().contains("6 bytes"), "{error}");
    assert!(error.hint_text().unwrap().contains("max_message"));
}

#[test]
fn a_message_that_is_refused_again_and_again_is_warned_of_once() {
    let mut rig = Rig::up();
    rig.publish("poison", Qos::AtLeastOnce);
    let (mut refusals, mut said) = (0, Vec::new());
    while refusals < 3 {
        answer_ping_and_drop(&mut rig);
        let events = rig.events();
        refusals += events.iter().filter(|event| matches!(event, Event::Refused(_))).count();
        said.extend(warnings(&events));
        rig.connect(true);
    }
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_link_that_keeps_breaking_is_not_blamed_on_a_message() {
    // Whether it breaks before the broker can answer anything, or the broker was well, but not for long.
    for (answered, rounds) in [(0, 60), (6, 6)] {
        let mut rig = Rig::up();
        let token = rig.publish("innocent", Qos::AtLeastOnce);
        rig.sent();
        let mut longest = rig.drop_connection();
        for round in 0..rounds {
            rig.connect(true);
            rig.sent();
            if round < answered {
                rig.receive(&Packet::PingResp).unwrap();
                rig.sent();
            }
            rig.now += Duration::from_millis(round * 400 % 1500);
            let pause = rig.drop_connection();
            longest = longest.max(pause);
            rig.now += pause;
        }
        assert!(longest > SECOND, "pauses grow: {longest:?}");
        assert!(rig.refused().is_none());
        rig.connect(true);
        assert_eq!(rig.sent(), [Packet::PingReq]);
        rig.receive(&Packet::PingResp).unwrap();
        assert_eq!(published(&rig.sent()), [row("innocent", 1, true)]);
        rig.receive(&puback(1)).unwrap();
        assert_eq!(rig.acknowledged(), [token]);
    }
}

#[test]
fn a_broker_that_closes_at_the_second_step_of_qos_2_does_not_refuse_the_message() {
    let mut rig = Rig::up();
    rig.publish("a", Qos::ExactlyOnce);
    rig.sent();
    rig.receive(&pubrec(1)).unwrap();
    for _ in 0..20 {
        assert_eq!(answer_ping_and_drop(&mut rig), [pubrel(1)]);
        rig.connect(true);
    }
    assert!(!rig.events().iter().any(|event| matches!(event, Event::Refused(_) | Event::Warning(_))));
}

#[test]
fn a_message_no_longer_than_one_that_was_accepted_is_not_refused() {
    let mut rig = Rig::up();
    rig.publish("as long as this", Qos::AtLeastOnce);
    rig.sent();
    rig.receive(&puback(1)).unwrap();
    rig.publish("a shorter one", Qos::AtLeastOnce);
    for _ in 0..20 {
        answer_ping_and_drop(&mut rig);
        rig.connect(true);
    }
    let events = rig.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Refused(_))));
    let warnings: Vec<_> =
        events.iter().filter_map(|event| if let Event::Warning(error) = event { Some(error) } else { None }).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].hint_text().unwrap().contains("log"), "{warnings:?}");
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
    assert_eq!(rig.sent(), [Packet::PingReq]);
    rig.receive(&Packet::PingResp).unwrap();
    assert_eq!(rig.sent().len(), 1, "one message");
    rig.receive(&puback(1)).unwrap();
    assert_eq!(published(&rig.sent()).len(), 1);
    rig.drop_connection();
    assert!(rig.refused().is_none());
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
                assert!(rig.session.bytes_received(&mut BytesMut::from(&[0xff, 0][..]), rig.now).is_err());
            }
            waited += rig.drop_connection();
            waited += rig.drop_connection();
        }
        assert!(waited > 300 * SECOND, "{waited:?}");
    }
}

#[test]
fn a_client_with_an_id_of_its_own_uses_a_broker_that_comes_and_goes() {
    let mut rig = Rig::new(|options| options.unique_client_id = true);
    for round in 0..40 {
        rig.connect(false);
        rig.deliver(QoS::AtMostOnce, 0, "news", false);
        let waited = rig.drop_connection();
        assert!(waited < 2 * SECOND, "{waited:?}");
        assert!(round < 10 || waited > SECOND / 2, "{waited:?}");
    }
    assert!(!rig.events().iter().any(|event| matches!(event, Event::Contested { .. })));
}

#[test]
fn a_broker_that_sends_and_does_not_read_is_left() {
    for call in [Packet::PubRel(v4::PubRel::new(1)), Packet::PubRec(v4::PubRec::new(1))] {
        let mut rig = Rig::up();
        rig.sent();
        let mut answered = 0_u32;
        while rig.receive(&call).is_ok() {
            answered += 1;
            assert!(answered < 1_000_000 && rig.session.bytes_to_send().len() < 4 << 20);
        }
        assert!(answered > 65_535, "each packet identifier may have its answer");
        rig.drop_connection();
        assert!(rig.session.bytes_to_send().is_empty());
    }
    let mut rig = Rig::up();
    for round in 0..1_000_000 {
        let mut bytes = BytesMut::new();
        let mut publish = v4::Publish::new("in", QoS::AtLeastOnce, "");
        publish.pkid = 1;
        Packet::Publish(publish).write(&mut bytes, usize::MAX).unwrap();
        if rig.session.bytes_received(&mut bytes, rig.now).is_err() {
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

/// The text of each warning, with its hint.
fn warnings(events: &[Event]) -> Vec<String> {
    let text = |error: &Error| format!("{error}; {}", error.hint_text().unwrap_or_default());
    events.iter().filter_map(|event| if let Event::Warning(error) = event { Some(text(error)) } else { None }).collect()
}

#[test]
fn a_broker_that_closes_at_connect_is_waited_for_and_the_login_is_named() {
    let login = Login { username: "sensor".into(), password: Some(Password::new("x".into())) };
    let mut rig = Rig::new(|options| options.login = Some(login));
    let mut said = Vec::new();
    let mut waited = Duration::ZERO;
    for round in 1..=12 {
        rig.session.transport_opened(rig.now);
        rig.sent();
        waited += rig.drop_connection();
        let events = rig.events();
        said.extend(warnings(&events).into_iter().map(|text| (round, text)));
        if round >= 3 {
            let hint = events
                .iter()
                .find_map(|event| if let Event::Down { outage, .. } = event { outage.hint() } else { None });
            assert!(hint.is_some_and(|hint| hint.contains("sensor")), "for the end of the run: {hint:?}");
        }
    }
    assert!(waited > 30 * SECOND, "pauses grow: {waited:?}");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].0 == 3 && said[0].1.contains("sensor") && said[0].1.contains("password"), "{said:?}");
    // Once it has accepted the login, that is not the reason.
    rig.connect(false);
    for _ in 0..12 {
        rig.drop_connection();
        rig.session.transport_opened(rig.now);
        rig.sent();
    }
    assert_eq!(warnings(&rig.events()), Vec::<String>::new());
}

#[test]
fn a_broker_that_closes_at_subscribe_is_waited_for_and_the_topic_is_named() {
    let mut rig = Rig::new(|options| (options.unique_client_id, options.clean_session) = (true, true));
    rig.session.subscribe("denied/topic", Qos::AtLeastOnce, rig.now).unwrap();
    let (mut said, mut ids, mut waited) = (Vec::new(), Vec::new(), Duration::ZERO);
    for round in 1..=12 {
        match &rig.connect(false)[..] {
            [Packet::Connect(connect)] => ids.push(connect.client_id.clone()),
            other => panic!("{other:?}"),
        }
        rig.sent();
        waited += rig.drop_connection();
        let events = rig.events();
        said.extend(warnings(&events).into_iter().map(|text| (round, text)));
        let hint = |event: &Event| {
            if let Event::Down { outage, .. } = event { outage.hint().map(str::to_owned) } else { None }
        };
        let hint = events.iter().find_map(hint);
        assert_eq!(hint.is_some_and(|hint| hint.contains("subtop")), round >= 3, "one such connection says little");
    }
    assert!(waited > 30 * SECOND, "pauses grow: {waited:?}");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].0 == 3 && said[0].1.contains("denied/topic") && said[0].1.contains("subtop"), "{said:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 12, "a fresh identifier each time: the broker may hold the last one");
    assert!(rig.refused().is_none());
}

#[test]
fn a_client_id_that_is_not_drawn_or_names_a_session_is_kept() {
    for (unique, clean) in [(false, true), (true, false)] {
        let mut rig = Rig::new(|options| (options.unique_client_id, options.clean_session) = (unique, clean));
        rig.session.subscribe("t", Qos::AtLeastOnce, rig.now).unwrap();
        for _ in 0..3 {
            assert!(matches!(&rig.connect(false)[..], [Packet::Connect(connect)] if connect.client_id == "me"));
            rig.sent();
            rig.drop_connection();
        }
    }
}

#[test]
fn a_subscription_that_was_granted_is_not_doubted_in_a_failover() {
    let mut rig = Rig::up();
    rig.session.subscribe("t", Qos::AtLeastOnce, rig.now).unwrap();
    rig.sent();
    rig.receive(&suback(MAX_PUBLISH_ID + 1, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
    for _ in 0..4 {
        rig.drop_connection();
        rig.connect(false);
        rig.sent();
    }
    assert_eq!(warnings(&rig.events()), Vec::<String>::new());
}

#[test]
fn connections_that_fail_before_connack_count_as_a_takeover() {
    // The broker accepts one connection, and drops the next ones as they come: two clients take turns.
    let mut rig = Rig::new(|_| {});
    rig.connect(true);
    rig.drop_connection();
    for round in 2..=5 {
        rig.session.transport_opened(rig.now);
        rig.sent();
        rig.drop_connection();
        let contested = rig.events().into_iter().any(|event| matches!(event, Event::Contested { times: 5 }));
        assert_eq!(contested, round == 5);
    }
}

#[test]
fn a_broker_that_closes_at_qos_2_is_told_of_by_the_key() {
    let mut rig = Rig::up();
    rig.publish("x", Qos::ExactlyOnce);
    rig.sent();
    rig.drop_connection();
    let mut said = Vec::new();
    while said.is_empty() {
        rig.connect(true);
        answer_ping_and_drop(&mut rig);
        said = warnings(&rig.events());
    }
    assert!(said[0].contains("`qos = 1`"), "{said:?}");
}

#[test]
fn a_broker_that_fails_without_the_message_as_well_does_not_refuse_it() {
    // A cluster that fails over: connections are closed at PUBLISH, others are not accepted or closed at CONNECT.
    for is_accepted in [false, true] {
        let mut rig = Rig::up();
        rig.publish("innocent", Qos::AtLeastOnce);
        rig.sent();
        rig.drop_connection();
        for round in 1..=30 {
            rig.connect(true);
            answer_ping_and_drop(&mut rig);
            if round % 3 == 0 {
                if is_accepted {
                    rig.session.transport_opened(rig.now);
                    rig.sent();
                }
                rig.now += 30 * SECOND;
                rig.drop_connection();
            }
        }
        assert!(rig.refused().is_none());
    }
}

#[test]
fn a_broker_that_closes_at_connect_may_lack_the_version() {
    for (version, named) in [(Version::V31, true), (Version::V311, false), (Version::V5, true)] {
        let mut rig = Rig::new(|options| options.version = version);
        let mut said = Vec::new();
        for _ in 0..3 {
            rig.session.transport_opened(rig.now);
            rig.sent();
            rig.drop_connection();
            said.extend(rig.events());
        }
        let hint =
            said.iter().find_map(|event| if let Event::Warning(error) = event { error.hint_text() } else { None });
        assert_eq!(hint.unwrap().contains("set `mqtt_version = 4`"), named, "MQTT {version}: {hint:?}");
    }
}
