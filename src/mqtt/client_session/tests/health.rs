//! Time and misfortune: keep-alive, back-pressure, backoff, and who is to blame.

use super::*;
use crate::secret::Password;

#[test]
fn connack_and_suback_must_come() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(rig.session.deadline(), None);
    rig.session.transport_opened(rig.now);
    rig.now = rig.session.deadline().unwrap();
    assert!(rig.session.tick(rig.now.checked_sub(SECOND).unwrap()).is_ok());
    assert!(rig.session.tick(rig.now).unwrap_err().to_string().contains("CONNACK"));
    let mut rig = Rig::up();
    rig.session.subscribe("a", Qos::AtMostOnce, rig.now).unwrap();
    rig.now = rig.session.deadline().unwrap();
    assert!(rig.session.tick(rig.now).unwrap_err().to_string().contains("SUBACK"));
}

#[test]
fn a_missing_suback_is_found_though_pingreq_is_due_as_well() {
    let mut rig = Rig::new(|options| options.keep_alive = ANSWER_TIMEOUT);
    rig.connect(false);
    rig.session.subscribe("a", Qos::AtMostOnce, rig.now).unwrap();
    rig.sent();
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
        rig.session.bytes_sent(1, rig.now);
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

/// Lets time pass with a broker that answers PINGREQ and does `each` second; returns why and when the connection is given up.
fn lost_within(rig: &mut Rig, seconds: u32, mut each: impl FnMut(&mut Rig)) -> Option<(String, Duration)> {
    let start = rig.now;
    for _ in 0..seconds {
        rig.now += SECOND;
        if let Err(lost) = rig.session.tick(rig.now) {
            return Some((lost.to_string(), rig.now - start));
        }
        if rig.sent().contains(&Packet::PingReq) {
            rig.receive(&Packet::PingResp).unwrap();
        }
        each(rig);
        assert!(rig.session.deadline().is_none_or(|deadline| deadline > rig.now));
    }
    None
}

#[test]
fn a_packet_that_the_broker_swallows_is_sent_again_on_another_connection() {
    for keep_alive in [0, 1, 60, 65_535].map(|seconds| seconds * SECOND) {
        for (qos, answered) in [(Qos::AtLeastOnce, false), (Qos::ExactlyOnce, false), (Qos::ExactlyOnce, true)] {
            let mut rig = Rig::new(|options| options.keep_alive = keep_alive);
            rig.connect(false);
            rig.publish("swallowed", qos);
            rig.sent();
            if answered {
                rig.receive(&pubrec(1)).unwrap();
            }
            let (why, after) = lost_within(&mut rig, 200, |_| {}).expect("an acknowledgement is overdue");
            assert!(why.contains("acknowledge"), "{why}");
            let timeout = if keep_alive.is_zero() { 60 * SECOND } else { keep_alive.clamp(10 * SECOND, 60 * SECOND) };
            assert!(after >= timeout && after <= 2 * timeout + 2 * SECOND, "{keep_alive:?}: {after:?}");
            assert!(rig.drop_connection() <= Duration::from_millis(100), "it was a stable one");
            rig.connect(true);
            let again = rig.sent();
            if answered {
                assert_eq!(again, [pubrel(1)]);
                rig.receive(&pubcomp(1)).unwrap();
            } else {
                assert_eq!(published(&again), [row("swallowed", 1, true)]);
            }
            assert!(!rig.events().iter().any(|event| matches!(event, Event::Warning(_) | Event::Refused(_))));
        }
    }
}

#[test]
fn a_swallowed_packet_is_found_though_later_ones_are_acknowledged() {
    let mut rig = Rig::up();
    rig.publish("swallowed", Qos::AtLeastOnce);
    rig.sent();
    let mut pkid = 1;
    let lost = lost_within(&mut rig, 200, |rig| {
        pkid += 1;
        rig.publish("later", Qos::AtLeastOnce);
        assert_eq!(published(&rig.sent()), [row("later", pkid, false)]);
        rig.receive(&puback(pkid)).unwrap();
    });
    assert!(lost.expect("an acknowledgement is overdue").0.contains("acknowledge"));
}

#[test]
fn a_slow_broker_that_acknowledges_in_order_keeps_its_connection() {
    let mut rig = Rig::up();
    for _ in 0..20 {
        rig.publish("x", Qos::AtLeastOnce);
        rig.publish("y", Qos::ExactlyOnce);
    }
    rig.sent();
    let mut answers =
        (1..=40).flat_map(|pkid| if pkid % 2 == 1 { vec![puback(pkid)] } else { vec![pubrec(pkid), pubcomp(pkid)] });
    let mut seconds = 0;
    let lost = lost_within(&mut rig, 59 * 60, |rig| {
        seconds += 1;
        if seconds % 59 == 0
            && let Some(answer) = answers.next()
        {
            rig.receive(&answer).unwrap();
        }
    });
    assert_eq!(lost, None);
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
}

#[test]
fn no_acknowledgement_is_late_while_nobody_reads() {
    let mut rig = Rig::up();
    rig.publish("x", Qos::AtLeastOnce);
    rig.sent();
    assert_eq!(lost_within(&mut rig, 100, |_| {}), None);
    rig.session.pause_reading(true, rig.now);
    for _ in 0..10 {
        rig.now = rig.session.deadline().unwrap();
        rig.session.tick(rig.now).unwrap();
        assert_eq!(rig.sent(), [Packet::PingReq]);
    }
    rig.session.pause_reading(false, rig.now);
    rig.receive(&Packet::PingResp).unwrap();
    assert_eq!(lost_within(&mut rig, 59, |_| {}), None);
    rig.receive(&puback(1)).unwrap();
    assert_eq!(lost_within(&mut rig, 1000, |_| {}), None);
}

#[test]
fn without_keep_alive_a_ping_that_a_message_waits_for_is_answered_in_time() {
    let mut rig = Rig::new(|options| options.keep_alive = Duration::ZERO);
    rig.connect(false);
    rig.publish("suspected", Qos::AtLeastOnce);
    rig.sent();
    rig.drop_connection();
    rig.connect(true);
    assert_eq!(rig.sent(), [Packet::PingReq]);
    rig.now = rig.session.deadline().expect("a deadline of PINGRESP");
    assert!(rig.session.tick(rig.now).unwrap_err().to_string().contains("PINGRESP"));
}

#[test]
fn disconnect_goes_after_what_is_queued() {
    let mut rig = Rig::up();
    for _ in 0..20 {
        rig.session.publish("t", vec![0; 50_000].into(), Qos::AtMostOnce, false).unwrap();
    }
    rig.session.disconnect();
    assert!(!rig.session.is_disconnect_sent() && !rig.session.has_room(0));
    assert!(rig.session.publish("t", Bytes::new(), Qos::AtMostOnce, false).is_err());
    let packets = rig.sent();
    assert_eq!(packets.len(), 21);
    assert_eq!(packets.last(), Some(&Packet::Disconnect));
    assert!(rig.session.is_disconnect_sent());
    assert_eq!(rig.session.unacknowledged(), Unacknowledged::default());
}

#[test]
fn a_connection_that_is_renewed_ends_in_order_and_costs_nothing() {
    let mut rig = Rig::new(|_| {});
    rig.session.renew();
    assert!(rig.connect(false).len() == 1 && rig.sent().is_empty(), "there was none to renew");
    rig.events();
    let token = rig.publish("one", Qos::AtLeastOnce);
    let will =
        Will { topic: "w".to_owned(), payload: Bytes::from_static(b"gone"), qos: Qos::AtMostOnce, retain: false };
    rig.session.set_will(Some(will)).unwrap();
    rig.session.renew();
    let later = rig.publish("two", Qos::AtLeastOnce);
    let packets = rig.sent();
    assert_eq!((packets.len(), packets.last()), (2, Some(&Packet::Disconnect)), "what comes then waits");
    assert!(rig.session.is_disconnect_sent() && rig.session.transport_renewed() && !rig.session.transport_renewed());
    assert!(matches!(rig.events()[..], [Event::Renewed]));
    let Some(Packet::Connect(connect)) = rig.connect(false).into_iter().next() else { panic!("no CONNECT") };
    assert_eq!(connect.last_will.map(|will| will.message), Some(Bytes::from_static(b"gone")));
    let payloads: Vec<_> = published(&rig.sent()).into_iter().map(|(payload, ..)| payload).collect();
    assert_eq!(payloads, ["one", "two"]);
    rig.receive(&puback(1)).unwrap();
    rig.receive(&puback(2)).unwrap();
    assert_eq!(rig.acknowledged(), [token, later]);
    rig.session.renew();
    rig.session.disconnect();
    rig.sent();
    assert!(rig.session.is_disconnect_sent() && !rig.session.transport_renewed(), "it ends for good");
}

#[test]
fn the_outgoing_buffer_is_bounded() {
    let mut rig = Rig::new(|options| options.limits.in_flight.bytes = 64 << 20);
    rig.connect(false);
    for _ in 0..500 {
        rig.session.publish("t", vec![0; 60_000].into(), Qos::AtLeastOnce, false).unwrap();
        assert!(rig.session.bytes_to_send().len() < MAX_WRITE_BUFFER + 61_000);
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
        let refused = |event| if let Event::Refused(error) = event { Some(error) } else { None };
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
fn whoever_has_an_id_of_its_own_uses_a_broker_that_comes_and_goes() {
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
