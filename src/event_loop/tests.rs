use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::mqtt::{ClientOptions, Endpoint};
use crate::report::Level;

/// When a test fails instead of waiting for ever.
const HANG_TIMEOUT: Duration = Duration::from_secs(60);

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x32;
const PUBLISH_QOS0: u8 = 0x30;
const DISCONNECT: u8 = 0xe0;

/// Reads a short packet: its first byte, and what follows its length; `None` once the client has closed.
fn read_packet(mut stream: &TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut rest = vec![0; usize::from(head[1])];
    stream.read_exact(&mut rest).unwrap();
    Some((head[0], rest))
}

/// A broker for one client, that does with a PUBLISH what the test says. Gives the first bytes of all packets.
fn serve(listener: &TcpListener, mut on_publish: impl FnMut(&TcpStream, &[u8])) -> Vec<u8> {
    let (stream, _) = listener.accept().unwrap();
    let mut came = Vec::new();
    while let Some((first, rest)) = read_packet(&stream) {
        match first {
            CONNECT => (&stream).write_all(&[0x20, 2, 0, 0]).unwrap(),
            PUBLISH | PUBLISH_QOS0 => on_publish(&stream, &rest),
            _ => {}
        }
        came.push(first);
    }
    came
}

/// A loop with a connection that the broker accepted, and the time of its turn.
pub(crate) fn connected(port: u16, signals: Signals, report: &Reporter) -> (EventLoop<'_>, Instant) {
    let mut client = Client::new(Endpoint::tcp("127.0.0.1", port), ClientOptions::new("closing")).unwrap();
    client.connect(Instant::now());
    let mut events = EventLoop::new(client, signals, report);
    loop {
        let now = events.begin_turn();
        if let Some(BrokerEvent::Connected) = events.next_event().unwrap() {
            return (events, now);
        }
        events.wait(None, None, now).unwrap();
    }
}

/// A run that two signals have stopped while it was not reading, and that closes with a message on its way out. It has an
/// hour for that.
fn close(port: u16, signals: Signals, mut sent: &UnixStream) -> Signals {
    let report = Reporter::to("sts-test", Level::Error, Box::new(std::io::sink()));
    let (mut events, now) = connected(port, signals, &report);
    sent.write_all(b"XX").unwrap();
    assert_eq!(events.stop_requested(), Stop::AtOnce);
    events.pause_reading(true, now);
    // Closing sends it: once the broker has it, the run is closing.
    events.broker.publish("t", "last".into(), Qos::AtLeastOnce, false).unwrap();
    events.close_by(now + Duration::from_secs(3600), now).unwrap()
}

/// Has a run close, and the broker do this with its message. Returns the first bytes of all packets, and how many signals
/// came.
fn closed(on_publish: impl Fn(&TcpStream, &[u8], &UnixStream) + Send + 'static) -> (Vec<u8>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (signals, sent) = Signals::simulated();
    let again = sent.try_clone().unwrap();
    let broker = thread::spawn(move || serve(&listener, |stream, rest| on_publish(stream, rest, &again)));
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(close(port, signals, &sent).count()));
    let signals = outcome.recv_timeout(HANG_TIMEOUT).expect("it closes");
    (broker.join().unwrap(), signals)
}

#[test]
fn a_run_that_was_not_reading_hears_its_last_acknowledgement_and_says_farewell() {
    let (came, signals) = closed(|mut stream, publish, _| {
        let id_at = 2 + usize::from(publish[1]);
        stream.write_all(&[0x40, 2, publish[id_at], publish[id_at + 1]]).unwrap();
    });
    assert_eq!((&came[..], signals), (&[CONNECT, PUBLISH, DISCONNECT][..], 2));
}

#[test]
fn a_third_signal_ends_the_wait_for_the_last_acknowledgement() {
    let (came, signals) = closed(|_, _, mut sent| sent.write_all(b"X").unwrap());
    assert_eq!((&came[..], signals), (&[CONNECT, PUBLISH][..], 3));
}

/// Publishes at QoS 0 in each turn until a message comes from the broker.
fn publish_until_message(port: u16) {
    let report = Reporter::to("sts-test", Level::Error, Box::new(std::io::sink()));
    let (signals, _sent) = Signals::simulated();
    let (mut events, mut now) = connected(port, signals, &report);
    loop {
        while let Some(event) = events.next_event().unwrap() {
            if matches!(event, BrokerEvent::Message(_)) {
                return;
            }
        }
        events.broker.publish("t", "one of many".into(), Qos::AtMostOnce, false).unwrap();
        events.wait(None, None, now).unwrap();
        now = events.begin_turn();
    }
}

#[test]
fn a_run_that_publishes_at_qos_0_in_each_turn_reads_what_the_broker_sends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(&listener, |mut stream, _| stream.write_all(b"\x30\x04\0\x01tx").unwrap_or(())));
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || {
        publish_until_message(port);
        done.send(())
    });
    outcome.recv_timeout(HANG_TIMEOUT).expect("it reads");
}

/// The payloads of the messages that are queued.
fn messages(events: &mut EventLoop<'_>) -> Vec<u8> {
    let mut payloads = Vec::new();
    while let Some(event) = events.next_event().unwrap() {
        if let BrokerEvent::Message(message) = event {
            payloads.extend(&message.payload);
        }
    }
    payloads
}

#[test]
fn nothing_more_is_read_before_what_is_left_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, written) = mpsc::channel();
    thread::spawn(move || {
        let mut answers = [&b"\x30\x04\0\x01ta\x30\x04\0\x01tb"[..], b"\x30\x04\0\x01tc"].into_iter();
        serve(&listener, |mut stream, _| {
            stream.write_all(answers.next().unwrap_or_default()).unwrap();
            told.send(()).unwrap();
        })
    });
    let report = Reporter::to("sts-test", Level::Error, Box::new(std::io::sink()));
    let (signals, _sent) = Signals::simulated();
    let (mut events, mut now) = connected(port, signals, &report);
    let mut turn = |events: &mut EventLoop<'_>, publishes: bool| {
        if publishes {
            events.broker.publish("t", "answer".into(), Qos::AtMostOnce, false).unwrap();
        }
        events.wait(None, None, now).unwrap();
        if publishes {
            written.recv_timeout(HANG_TIMEOUT).expect("it answers");
        }
        now = events.begin_turn();
    };
    turn(&mut events, true);
    while !matches!(events.next_event().unwrap(), Some(BrokerEvent::Message(_))) {
        turn(&mut events, false);
    }
    // The second message is left, while the third one comes.
    turn(&mut events, true);
    turn(&mut events, false);
    assert_eq!(messages(&mut events), b"b");
    turn(&mut events, false);
    assert_eq!(messages(&mut events), b"c");
}

#[test]
fn a_signal_is_noticed_while_events_are_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        serve(&listener, |mut stream, _| stream.write_all(b"\x30\x04\0\x01ta\x30\x04\0\x01tb").unwrap())
    });
    let report = Reporter::to("sts-test", Level::Error, Box::new(std::io::sink()));
    let (signals, mut sent) = Signals::simulated();
    let (mut events, mut now) = connected(port, signals, &report);
    events.broker.publish("t", "ask".into(), Qos::AtMostOnce, false).unwrap();
    while !matches!(events.next_event().unwrap(), Some(BrokerEvent::Message(_))) {
        assert_eq!(events.stop_requested(), Stop::No);
        events.wait(None, None, now).unwrap();
        now = events.begin_turn();
    }
    // The second message is left in each turn, so nothing polls.
    for expected in [Stop::Gracefully, Stop::AtOnce] {
        sent.write_all(b"X").unwrap();
        events.wait(None, None, now).unwrap();
        assert_eq!(events.stop_requested(), expected);
    }
}
