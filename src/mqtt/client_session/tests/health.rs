//! Time and misfortune: keep-alive, back-pressure, backoff, and who is to blame.

use super::*;

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

/// What the user reads of connections that end soon: after `sent` at QoS 0, and an answer of the broker if it `answers`.
fn told_after(rig: &mut Rig, sent: &[&'static str], answers: bool) -> Vec<String> {
    let mut told = Vec::new();
    for payload in sent {
        rig.connect(true);
        rig.publish(payload, Qos::AtMostOnce);
        rig.sent();
        if answers {
            rig.receive(&Packet::PingResp).unwrap();
        }
        rig.now += SECOND;
        rig.drop_connection();
        let events = rig.events();
        told.extend(events.iter().filter_map(|event| match event {
            Event::Warning(error) => Some(format!("{error}; {}", error.hint_text().unwrap_or_default())),
            _ => None,
        }));
    }
    told
}

#[test]
fn a_message_without_an_answer_that_each_connection_ends_after_is_named_once_with_its_length() {
    let mut rig = Rig::new(|_| {});
    assert_eq!(told_after(&mut rig, &["hello"; 2], false), [""; 0]);
    let told = told_after(&mut rig, &["hello"; 5], false);
    assert_eq!(told.len(), 1, "{told:?}");
    for said in ["3 times in a row", "a message of 5 bytes", "\"out\"", "size of a message", "`clientid`"] {
        assert!(told[0].contains(said), "{told:?}");
    }
}

#[test]
fn messages_of_other_lengths_or_that_the_broker_has_read_are_not_blamed() {
    let mut rig = Rig::new(|options| options.unique_client_id = true);
    assert_eq!(told_after(&mut rig, &["a", "bb", "a", "bb", "a", "a"], false), [""; 0]);
    assert_eq!(told_after(&mut rig, &["a"; 10], true), [""; 0]);
    // Nor if attempts fail in between, as with a broker that is restarted.
    for _ in 0..10 {
        assert_eq!(told_after(&mut rig, &["a"], false), [""; 0]);
        rig.drop_connection();
    }
    let told = told_after(&mut rig, &["a"; 3], false);
    assert!(told.len() == 1 && !told[0].contains("`clientid`"), "{told:?}");
}

/// As on a link that keeps breaking, below a tool whose messages all have one length.
#[test]
fn a_message_is_not_blamed_if_the_broker_answered_one_as_long_on_the_same_connection() {
    for delivers in [true, false] {
        let mut rig = Rig::new(|_| {});
        let mut contested = 0;
        for _ in 0..12 {
            rig.connect(true);
            let confirm = |rig: &mut Rig| {
                rig.publish("as long", Qos::AtMostOnce);
                rig.sent();
            };
            confirm(&mut rig);
            if delivers {
                rig.deliver(QoS::AtMostOnce, 0, "in", false);
            } else {
                let Packet::Publish(kept) = publish_and_take(&mut rig) else { panic!("one message") };
                rig.receive(&puback(kept.pkid)).unwrap();
            }
            confirm(&mut rig);
            rig.publish("shorter", Qos::AtMostOnce);
            rig.sent();
            rig.now += SECOND;
            rig.drop_connection();
            let events = rig.events();
            assert!(!events.iter().any(|event| matches!(event, Event::Warning(_))), "{events:?}");
            contested += events.iter().filter(|event| matches!(event, Event::Contested { .. })).count();
        }
        assert!(contested > 0, "another client is");
    }
}

/// A message that the broker is to acknowledge, as it was sent.
fn publish_and_take(rig: &mut Rig) -> Packet {
    rig.publish("kept", Qos::AtLeastOnce);
    rig.sent().remove(0)
}

#[test]
fn a_message_is_named_whatever_shorter_ones_or_answers_to_earlier_requests_come_after_it() {
    let mut rig = Rig::new(|options| options.clean_session = true);
    rig.session.subscribe("in", Qos::AtLeastOnce, rig.now).unwrap();
    let mut told = Vec::new();
    for round in 0..3 {
        rig.connect(false);
        let [Packet::Subscribe(subscribe)] = &rig.sent()[..] else { panic!("one request") };
        let Packet::Publish(kept) = publish_and_take(&mut rig) else { panic!("one message") };
        rig.publish("short", Qos::AtMostOnce);
        rig.publish("longer than that", Qos::AtMostOnce);
        rig.publish(["a", "bb", "ccc"][round], Qos::AtMostOnce);
        rig.sent();
        rig.receive(&suback(subscribe.pkid, SubscribeReasonCode::Success(QoS::AtLeastOnce))).unwrap();
        rig.receive(&puback(kept.pkid)).unwrap();
        rig.drop_connection();
        told.extend(rig.events().into_iter().filter_map(|event| match event {
            Event::Warning(error) => Some(error.to_string()),
            _ => None,
        }));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("a message of 16 bytes"), "{told:?}");
}

#[test]
fn a_message_that_connections_end_after_is_named_again_after_a_stable_one_and_its_hint_once_at_a_time() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..2 {
        assert_eq!(told_after(&mut rig, &["hello"; 2], false), [""; 0]);
        rig.connect(true);
        rig.publish("hello", Qos::AtMostOnce);
        rig.sent();
        rig.drop_connection();
        let events = rig.events();
        let has_hint = |event: &Event| match event {
            Event::Warning(error) => error.hint_text().is_some_and(|hint| hint.contains("size of a message")),
            Event::Down { outage, .. } => outage.hint().is_some_and(|hint| hint.contains("size of a message")),
            _ => false,
        };
        assert_eq!(events.iter().filter(|event| has_hint(event)).count(), 1, "{events:?}");
        assert_eq!(told_after(&mut rig, &["hello"], false), [""; 0]);
        rig.connect(true);
        rig.now += MIN_STABLE_LIFETIME;
        rig.drop_connection();
    }
}

/// As NATS, which also closes a connection before it accepts it, now and then.
#[test]
fn connections_that_the_broker_closes_at_a_request_are_told_once_for_each_request() {
    let mut rig = Rig::new(|_| {});
    rig.session.subscribe("in", Qos::AtLeastOnce, rig.now).unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        for accepts in [true, true, true, true, false] {
            rig.session.transport_opened(rig.now);
            if accepts {
                rig.connack(false, ConnectReturnCode::Success).unwrap();
            }
            rig.sent();
            rig.now += SECOND;
            rig.drop_connection();
            let events = rig.events();
            let warning =
                |event: &Event| if let Event::Warning(error) = event { Some(error.to_string()) } else { None };
            told.extend(events.iter().filter_map(warning));
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("3 times in a row when \"in\" was subscribed"), "{told:?}");
}
