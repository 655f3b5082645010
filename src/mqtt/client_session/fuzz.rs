//! A broker that says anything at any time, in each version of MQTT: no message is acknowledged twice or without having been
//! published, and time never makes the session wait for what has passed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::ClientSession;
use crate::fuzz::input::{FuzzInput, check_text};
use crate::mqtt::{
    ClientLimits, ClientOptions, ConnectionLost, Event, InFlightLimit, Qos, Receipt, Token, V5Options, Version, Will,
};

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

struct FuzzedClient {
    session: ClientSession,
    version: Version,
    now: Instant,
    rng: StdRng,
    /// What of a packet is still to come.
    received: BytesMut,
    published: BTreeSet<Token>,
    acknowledged: BTreeSet<Token>,
    receipts: Vec<Receipt>,
    is_connected: bool,
}

pub(crate) fn session(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let version = Version::ALL[input.below(Version::ALL.len())];
    let options = ClientOptions {
        version,
        clean_session: input.flag(),
        keep_alive: Duration::from_secs(u64::from(input.byte())),
        unique_client_id: input.flag(),
        v5: V5Options {
            wants_retained: input.flag(),
            session_expiry: u32::from(input.byte()),
            message_expiry: input.flag().then_some(7),
        },
        will: input.flag().then(|| Will {
            topic: "will".to_owned(),
            payload: Bytes::from_static(b"gone"),
            qos: Qos::AtLeastOnce,
            retain: false,
        }),
        limits: ClientLimits {
            in_flight: InFlightLimit { messages: 1 + input.below(9), bytes: 1 + usize::from(input.byte()) },
            max_send: 200,
            max_receive: 300,
        },
        ..ClientOptions::new("client-01234567")
    };
    let session = ClientSession::new(options).expect("these options are good");
    let mut tool = FuzzedClient {
        session,
        version,
        now: start(),
        rng: StdRng::seed_from_u64(1),
        received: BytesMut::new(),
        published: BTreeSet::new(),
        acknowledged: BTreeSet::new(),
        receipts: Vec::new(),
        is_connected: false,
    };
    while !input.is_empty() {
        tool.step(&mut input);
        tool.take_events();
    }
}

/// One instant for all inputs: the session is told the time, and has no clock.
#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

impl FuzzedClient {
    fn step(&mut self, input: &mut FuzzInput<'_>) {
        match input.below(16) {
            0 if !self.is_connected => {
                self.session.transport_opened(self.now);
                (self.is_connected, self.received) = (true, BytesMut::new());
            }
            1 => self.lose(&ConnectionLost::new("the network is down")),
            2 | 3 => {
                let topic = ["a", "a/b", "", "#"][input.below(4)];
                let (qos, retain) = (QOS[input.below(3)], input.flag());
                if let Ok(token) = self.session.publish(topic, Bytes::copy_from_slice(input.chunk()), qos, retain) {
                    assert!(self.published.insert(token), "a token is used once");
                }
            }
            4 => {
                let filter = ["a", "a/#", "+", "x/#/y"][input.below(4)];
                let _ = self.session.subscribe(filter, QOS[input.below(3)], self.now);
            }
            5 if !self.receipts.is_empty() => {
                let receipt = self.receipts.swap_remove(input.below(256) % self.receipts.len());
                self.session.ack(receipt);
            }
            6 | 7 => {
                let count = self.session.bytes_to_send().len();
                let count = if input.flag() { count } else { count.min(usize::from(input.byte())) };
                if self.is_connected {
                    self.session.bytes_sent(count, self.now);
                }
            }
            8 => self.pass(input.duration()),
            9 => self.session.renew(),
            10 => self.session.pause_reading(input.flag(), self.now),
            11 => self.close(input.flag()),
            12 => self.receive(input.chunk()),
            _ => {
                let packet = packet(self.version, input);
                self.receive(&packet);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if let Err(lost) = self.session.tick(self.now) {
            return self.lose(&lost);
        }
        let deadline = self.session.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "a tick leaves nothing that was due");
    }

    fn receive(&mut self, bytes: &[u8]) {
        if !self.is_connected || self.session.is_paused() {
            return;
        }
        self.received.extend_from_slice(bytes);
        if let Err(lost) = self.session.bytes_received(&mut self.received, self.now) {
            check_text(&lost.to_string());
            self.lose(&lost);
        }
    }

    fn lose(&mut self, lost: &ConnectionLost) {
        let retry = self.session.transport_lost(&*lost.to_string(), self.now, &mut self.rng);
        assert!(retry >= self.now);
        self.is_connected = false;
    }

    /// Ends the connection as the driver does once DISCONNECT went out.
    fn close(&mut self, for_good: bool) {
        if for_good {
            self.session.disconnect();
        }
        if self.session.is_disconnect_sent() && (for_good || self.session.transport_renewed()) {
            if for_good {
                self.session.transport_closed();
            }
            self.is_connected = false;
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.next_event() {
            match event {
                Event::Acknowledged(token) => {
                    assert!(self.published.contains(&token), "{token:?} was not published");
                    assert!(self.acknowledged.insert(token), "{token:?} is acknowledged twice");
                }
                Event::Message(message) => self.receipts.push(message.receipt),
                Event::Oversize { receipt, .. } => self.receipts.push(receipt),
                Event::Refused(crate::mqtt::Refusal { error, .. }) | Event::Warning(error) => {
                    check_text(&error.to_string());
                }
                Event::Note(text) => check_text(&text),
                Event::Down { outage, .. } => check_text(&outage.to_string()),
                _ => {}
            }
        }
        assert!(!self.session.has_event());
    }
}

/// A packet that is whole, of any type: what a broker says when it speaks MQTT, and not always when it should.
fn packet(version: Version, input: &mut FuzzInput<'_>) -> Vec<u8> {
    let properties: &[u8] = if version.has_properties() { &[0] } else { &[] };
    let pkid = [0, input.byte() % 8];
    let (first, body) = match input.below(9) {
        0 | 1 => (0x20, [&[input.byte() & 1, input.byte() & input.byte()], properties].concat()),
        2 => {
            let first = 0x30 | (input.byte() & 0x0f);
            let id = if first & 6 == 0 { &[][..] } else { &pkid };
            (first, [b"\0\x01a", id, properties, input.chunk()].concat())
        }
        3 => (0x40, pkid.to_vec()),
        4 => (0x50, pkid.to_vec()),
        5 => (0x62, pkid.to_vec()),
        6 => (0x70, pkid.to_vec()),
        7 => (0x90, [&pkid[..], properties, &[input.byte() & 0x83]].concat()),
        _ => (0xd0, Vec::new()),
    };
    let mut packet = vec![first];
    let mut len = body.len();
    loop {
        let byte = u8::try_from(len % 128).expect("it is below 128");
        len /= 128;
        packet.push(if len > 0 { byte | 0x80 } else { byte });
        if len == 0 {
            break;
        }
    }
    packet.extend_from_slice(&body);
    packet
}
