//! Claim: a flood of frames that anyone can make does not prevent a pairing, whichever side it is aimed at, and does not
//! fill the memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::RngExt;
use rustix::process::Signal;
use sts::crypto::exchange::{Ephemeral, encapsulate};
use sts::crypto::pake::Spake2Half;
use sts::crypto::schedule::digest;
use sts::handshake::Code;
use sts::message::{FrameType, InitAck, InitReq};
use sts::role::Role;

use crate::broker::Broker;
use crate::device::{LINK, M2S, Pair, S2M};
use crate::process::{Process, wait_until};
use crate::sniffer::Sniffer;

const ENC: u8 = 0x27;
/// Where the seq is in a sealed frame.
const SEQ: std::ops::Range<usize> = 16..20;
/// How long a receiver may put a confirm off (`sts-protocol(7)`, "Confirms").
const MAX_CONFIRM_DELAY: Duration = Duration::from_millis(50);

/// A client that publishes at QoS 0 without a pause, until dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(
        broker: &Broker,
        topic: &'static str,
        pause: Duration,
        mut frame: impl FnMut() -> Vec<u8> + Send + 'static,
    ) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
        // CONNECT: MQTT 3.1.1, a clean session, no keep-alive, a client id that the broker chooses.
        socket.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00").unwrap();
        socket.read_exact(&mut [0; 4]).unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, count) = (stop.clone(), sent.clone());
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                socket.write_all(&publish(topic, &frame())).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(pause);
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    fn wait_for(&self, count: usize) {
        wait_until("the flood", || self.sent.load(Ordering::Relaxed) >= count);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// PUBLISH at QoS 0 (MQTT 3.1.1, 3.3), of up to 16,383 bytes.
fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let len = 2 + topic.len() + payload.len();
    let mut packet = vec![0x30];
    if len < 128 {
        packet.push(u8::try_from(len).unwrap());
    } else {
        packet.extend([u8::try_from(len % 128).unwrap() | 0x80, u8::try_from(len / 128).unwrap()]);
    }
    packet.extend_from_slice(&u16::try_from(topic.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn forged_init_acks_do_not_keep_a_master_from_its_slave() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let master = Process::spawn(pair.master.pair(&["--timeout", "60", LINK]));
    let init_req = sniffer.wait_for_type(M2S, 0x21, 1).remove(0);
    let flood = Flood::start(&broker, S2M, Duration::from_millis(5), move || {
        let parsed = InitReq::parse(&init_req).unwrap();
        let forged = encapsulate(parsed.x25519, parsed.encapsulation_key, &mut rand::rng()).unwrap();
        let answers = digest(&[&init_req]);
        InitAck::frame(answers.first_chunk().unwrap(), &[0; 16], &forged.x25519, &forged.ciphertext, None)
    });
    flood.wait_for(100);
    let slave = Process::spawn(pair.slave.pair(&["--timeout", "60", LINK]));
    master.wait().succeeded();
    slave.wait().succeeded();
    drop(flood);
    pair.carries(&[], b"after the flood\n");
}

#[test]
fn strangers_init_reqs_do_not_keep_a_slave_from_its_master() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    slave.wait_for("listening on");
    let before = slave.memory();
    let mut count = 0_u64;
    let ephemeral = Ephemeral::generate(&mut rand::rng());
    let flood = Flood::start(&broker, M2S, Duration::from_millis(2), move || {
        // Half of them cannot be answered; the others are as valid as any.
        count += 1;
        let random = u128::from(count).to_be_bytes();
        let key = if count.is_multiple_of(2) { vec![0xff; 1184] } else { ephemeral.encapsulation_key().to_vec() };
        InitReq::frame(&random, 1, &ephemeral.x25519(), &key.try_into().unwrap(), None)
    });
    flood.wait_for(500);
    Process::spawn(pair.master.pair(&["--timeout", "60", LINK])).wait().succeeded();
    slave.wait_for("paired with station");
    flood.wait_for(1_500);
    let grown = slave.memory().saturating_sub(before) >> 10;
    assert!(grown < 8 << 10, "{grown} KiB for strangers");
    drop(flood);
    slave.stop().succeeded();
}

/// A slave with a code answers INITREQs, as an answer confirms nothing; none of them counts as a guess.
#[test]
fn strangers_init_reqs_cost_a_slave_with_a_code_none_of_it() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let code = Code::generate(&mut rand::rng()).expose();
    let mut slave = pair.slave.pair(&["-v", "--code", "--name", "gateway", LINK]);
    slave.env("STS_CODE", code.as_str());
    let slave = Process::spawn(slave);
    slave.wait_for("listening on");
    let mut count = 0_u64;
    let ephemeral = Ephemeral::generate(&mut rand::rng());
    let share = *Spake2Half::draw(Role::Master, b"000000000", &mut rand::rng()).share();
    let flood = Flood::start(&broker, M2S, Duration::from_millis(5), move || {
        count += 1;
        let random = u128::from(count).to_be_bytes();
        let share = (!count.is_multiple_of(4)).then_some(&share);
        InitReq::frame(&random, 1, &ephemeral.x25519(), &ephemeral.encapsulation_key(), share)
    });
    flood.wait_for(200);
    let mut master = pair.master.pair(&["--code", "--name", "station", LINK]);
    master.env("STS_CODE", code.as_str());
    Process::spawn(master).wait().succeeded();
    let ended = slave.wait().succeeded();
    assert!(!ended.stderr.contains("wrong code"), "{}", ended.stderr);
    assert!(ended.stderr.contains("pairs without a code (unverified)"), "{}", ended.stderr);
    drop(flood);
    pair.carries(&[], b"after the flood\n");
}

/// A frame of this type with random bytes.
fn random_frame(first_byte: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    rand::rng().fill(&mut frame[..]);
    frame[0] = first_byte;
    frame
}

/// An AUTHREQ that is right in all that a stranger can know.
fn auth_req(cookie: &[u8], init_req: &[u8]) -> Vec<u8> {
    let len = u16::try_from(init_req.len()).unwrap().to_be_bytes();
    [&random_frame(0x23, 17)[..], cookie, &len, init_req, &random_frame(0, 880)].concat()
}

#[test]
fn auth_reqs_with_and_without_cookies_do_not_keep_a_slave_from_its_master() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    slave.wait_for("listening on");
    let sniffer = Sniffer::start(&broker);
    let ephemeral = Ephemeral::generate(&mut rand::rng());
    let (x25519, key) = (ephemeral.x25519(), ephemeral.encapsulation_key());
    let init_req = move |number: u32| InitReq::frame(&u128::from(number).to_be_bytes(), 1, &x25519, &key, None);
    let mut count = 0;
    let asking = Flood::start(&broker, M2S, Duration::from_millis(1), move || {
        count += 1;
        init_req(count)
    });
    // Cookies for many INITREQs, and no two AUTHREQs alike.
    let cookies: Vec<_> =
        sniffer.wait_for_type(S2M, 0x22, 500).iter().map(|init_ack| init_ack[1..33].to_vec()).collect();
    drop(asking);
    let known = cookies.iter().filter_map(|both| {
        let (reference, cookie) = both.split_at(16);
        let number = (1..10_000).find(|number| digest(&[&init_req(*number)])[..16] == *reference)?;
        Some((init_req(number), cookie.to_vec()))
    });
    let known: Vec<_> = known.collect();
    assert!(known.len() >= 500);
    let before = slave.memory();
    let mut turn = 0;
    let flood = Flood::start(&broker, M2S, Duration::from_millis(1), move || {
        turn += 1;
        let (init_req, cookie) = &known[turn % known.len()];
        if turn.is_multiple_of(2) { auth_req(cookie, init_req) } else { auth_req(&random_frame(0, 16), init_req) }
    });
    flood.wait_for(1000);
    Process::spawn(pair.master.pair(&["--timeout", "60", LINK])).wait().succeeded();
    slave.wait_for("paired with station");
    let grown = slave.memory().saturating_sub(before) >> 10;
    assert!(grown < 8 << 10, "{grown} KiB for strangers");
    drop(flood);
    slave.stop().succeeded();
    pair.carries(&[], b"after the flood\n");
}

/// The lengths of frames of a type: one that it allows, of two forms where there are two, and one that is too long for a type
/// that has a longest.
fn lengths(frame_type: FrameType) -> &'static [usize] {
    match frame_type {
        FrameType::InitReq => &[1234, 9000],
        FrameType::InitAck => &[InitAck::LEN, 9000],
        // The other form of it, as right as a stranger can make it, has a test of its own.
        FrameType::AuthReq => &[2000, 9000],
        FrameType::AuthAck => &[900, 50],
        FrameType::RdyReq | FrameType::RdyAck => &[49, 65],
        FrameType::Enc => &[200],
        FrameType::Kill => &[40],
        FrameType::Will => &[60],
    }
}

#[test]
fn random_frames_of_any_type_do_not_keep_two_devices_from_each_other() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    slave.wait_for("listening on");
    let of_type = |frame_type: FrameType| lengths(frame_type).iter().map(move |len| (frame_type.byte(), *len));
    let kinds: Vec<_> = FrameType::ALL.into_iter().flat_map(of_type).collect();
    for topic in [M2S, S2M] {
        let mut kinds = kinds.clone().into_iter().cycle();
        let flood = Flood::start(&broker, topic, Duration::from_millis(1), move || {
            let (first_byte, len) = kinds.next().unwrap();
            random_frame(first_byte, len)
        });
        flood.wait_for(500);
        Process::spawn(pair.master.pair(&["--timeout", "60", LINK])).wait().succeeded();
        drop(flood);
    }
    slave.stop().succeeded();
    pair.carries(&[], b"after the flood\n");
}

/// Who has seen one frame of a session knows its tag, and who has seen a question its id: so each forged frame costs the
/// receiver the way to a key.
#[test]
fn frames_that_name_a_session_keep_nothing_from_its_receiver() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    pair.agree();
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&[], "overheard\n").succeeded();
    Process::spawn(pair.master.pair(&["--if-older", "1d", LINK])).wait().succeeded();
    let overheard = sniffer.wait_for_type(M2S, ENC, 1).remove(0);
    let question = sniffer.wait_for_type(M2S, 0x25, 1).remove(0);
    receiver.wait_for_stdout(b"overheard\n");
    let before = receiver.memory();
    let mut written = "overheard\n".to_owned();
    for first_byte in [ENC, 0x28, 0x29, 0x25] {
        let (overheard, question) = (overheard.clone(), question.clone());
        let flood = Flood::start(&broker, M2S, Duration::from_millis(1), move || {
            if first_byte == 0x25 {
                let mut forged = question.clone();
                forged[33..].fill_with(|| rand::rng().random());
                return forged;
            }
            // The number with the longest way, and as many parts ahead as it still opens.
            let mut forged = random_frame(first_byte, 200);
            forged[1..4].copy_from_slice(&overheard[1..4]);
            forged[4..8].copy_from_slice(&0x7fff_fffe_u32.to_be_bytes());
            forged[SEQ].copy_from_slice(&(19_u32 << 20).to_be_bytes());
            forged
        });
        flood.wait_for(1000);
        let line = format!("beside {first_byte:#x}\n");
        pair.master.send_all(&["--confirm"], line.clone()).succeeded();
        written.push_str(&line);
        receiver.wait_for_stdout(written.as_bytes());
    }
    assert!(receiver.memory() < before + (8 << 20), "{} before {before}", receiver.memory());
    receiver.stop().succeeded().wrote(written.as_bytes());
}

/// Who has seen a frame can play it again; and each confirm takes a number, of which a session has only so many.
#[test]
fn early_frames_that_are_played_again_draw_few_confirms() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    pair.agree();
    let sniffer = Sniffer::start(&broker);
    let mut sender = Process::spawn(pair.master.send(&["--confirm", "--each", LINK]));
    sender.write("first\nsecond\nthird\n");
    let frame = |seq: u8| {
        let mut frames = sniffer.seen_of_type(M2S, ENC).into_iter();
        frames.find(|frame| frame[SEQ] == [0, 0, 0, seq])
    };
    wait_until("three frames", || frame(0).is_some() && frame(2).is_some());
    let (first, third) = (frame(0).unwrap(), frame(2).unwrap());
    sender.signal(Signal::KILL);
    sender.wait();

    let receiver = pair.slave.listen(&[]);
    let started = Instant::now();
    let mut next = first;
    let flood =
        Flood::start(&broker, M2S, Duration::from_millis(1), move || std::mem::replace(&mut next, third.clone()));
    receiver.wait_for_stdout(b"first\n");
    wait_until("a confirm", || !sniffer.seen_of_type(S2M, ENC).is_empty());
    flood.wait_for(1500);
    drop(flood);
    let most = 10 + 2 * started.elapsed().as_millis() / MAX_CONFIRM_DELAY.as_millis();
    let confirms = sniffer.seen_of_type(S2M, ENC).len() as u128;
    assert!(confirms <= most, "{confirms} confirms, {most} expected at most");
    receiver.stop().succeeded();
}
