//! The time that a pairing takes while a stranger, on the same processors, sends frames of one type.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sts::crypto::exchange::Ephemeral;
use sts::crypto::schedule::digest;
use sts::message::{FrameType, InitAck, InitReq};

use crate::Result;
use crate::devices::{Bench, Device, TOPIC};
use crate::process::Running;
use crate::relay::Raw;

/// The topic that the master listens on.
const TO_MASTER: &str = "to_station";
/// Frames that are sent together, and how often.
const BURST: u32 = 10;
const BURST_INTERVAL: Duration = Duration::from_millis(1);
/// How late a slow slave answers.
const SLOW: Duration = Duration::from_millis(300);
/// Cookies that a stranger collects first: more than a slave remembers attempts.
const COOKIES: usize = 3000;

/// What a stranger sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forged {
    /// A frame of this type.
    OfType(FrameType),
    /// An AUTHREQ with a cookie that the slave made.
    AuthReqWithCookie,
}

impl Forged {
    /// All of them, with their names.
    pub(crate) fn all() -> impl Iterator<Item = (Self, &'static str)> {
        let of_types = FrameType::ALL.into_iter().map(|frame_type| (Self::OfType(frame_type), frame_type.name()));
        of_types.chain([(Self::AuthReqWithCookie, "AUTHREQ with a good cookie")])
    }

    fn topic(self) -> &'static str {
        match self {
            Self::OfType(FrameType::InitAck | FrameType::AuthAck) => TO_MASTER,
            Self::OfType(_) | Self::AuthReqWithCookie => TOPIC,
        }
    }
}

/// What was overheard of the genuine master: its latest INITREQ and AUTHREQ.
#[derive(Clone, Default)]
struct Overheard {
    init_req: Vec<u8>,
    auth_req: Vec<u8>,
}

/// A stranger at work, until dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The times of `runs` pairings while frames of this type arrive at 10,000 per second.
pub(crate) fn pairings(bench: &Bench, forged: Forged, runs: usize) -> Result<Vec<f64>> {
    let mut command = bench.tool(Device::Gateway, "sts-pair", &["-v", "--serve"]);
    let mut slave = Running::start(command.stderr(std::process::Stdio::piped()))?;
    slave.wait_for_stderr("listening on")?;
    let mut took = Vec::new();
    for _ in 0..runs {
        let flood = Flood::start(bench.broker.port, forged)?;
        // Its queues are full by then.
        thread::sleep(Duration::from_millis(500));
        // A flood for the master begins once it was overheard; the slave is slow, or its answer would always come first.
        let is_slow = forged.topic() == TO_MASTER;
        slave.stop(is_slow)?;
        let start = Instant::now();
        let mut master = Running::start(&mut bench.tool(Device::Station, "sts-pair", &["-q"]))?;
        if is_slow {
            thread::sleep(SLOW);
        }
        slave.stop(false)?;
        master.succeeds()?;
        took.push(start.elapsed().as_secs_f64());
        drop(flood);
    }
    slave.terminate()?;
    Ok(took)
}

impl Flood {
    fn start(port: u16, forged: Forged) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let overheard = Arc::new(Mutex::new(Overheard::default()));
        let mut source = Source::new(port, forged, overheard.clone())?;
        let mut sender = Raw::connect(port)?;
        let told = stop.clone();
        let flood = thread::spawn(move || {
            let begun = Instant::now();
            let mut sent = 0;
            while !told.load(Ordering::Relaxed) {
                let due = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX).saturating_mul(BURST);
                let frames: Vec<_> = (sent..due).filter_map(|_| source.frame()).collect();
                sent = due;
                if sender.send(forged.topic(), &frames).is_err() {
                    return;
                }
                thread::sleep(BURST_INTERVAL);
            }
        });
        let mut threads = vec![flood];
        if forged.topic() == TO_MASTER {
            threads.push(listen(port, overheard, stop.clone())?);
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Overhears the genuine master.
fn listen(port: u16, overheard: Arc<Mutex<Overheard>>, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    let mut eavesdropper = Raw::connect(port)?;
    eavesdropper.subscribe(TOPIC)?;
    eavesdropper.give_up_after(Duration::from_millis(100))?;
    Ok(thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let Ok((_, payload)) = eavesdropper.message() else { continue };
            let mut overheard = overheard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match payload.first() {
                Some(first) if *first == FrameType::InitReq.byte() => overheard.init_req = payload,
                Some(first) if *first == FrameType::AuthReq.byte() => overheard.auth_req = payload,
                _ => {}
            }
        }
    }))
}

/// Makes frames, each different from the others.
struct Source {
    forged: Forged,
    rng: StdRng,
    /// An INITREQ that lacks its random bytes.
    init_req: Vec<u8>,
    overheard: Arc<Mutex<Overheard>>,
    /// INITREQs with the cookies of their INITACKs.
    cookies: Vec<(Vec<u8>, [u8; 16])>,
    next: usize,
}

impl Source {
    fn new(port: u16, forged: Forged, overheard: Arc<Mutex<Overheard>>) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(u64::from(crate::unique()));
        let ephemeral = Ephemeral::generate(&mut rng);
        let init_req = InitReq::frame(&[0; 16], 1, &ephemeral.x25519(), &ephemeral.encapsulation_key(), None);
        let mut source = Self { forged, rng, init_req, overheard, cookies: Vec::new(), next: 0 };
        if forged == Forged::AuthReqWithCookie {
            source.collect_cookies(port)?;
        }
        Ok(source)
    }

    fn collect_cookies(&mut self, port: u16) -> Result<()> {
        let mut stranger = Raw::connect(port)?;
        stranger.subscribe(TO_MASTER)?;
        while self.cookies.len() < COOKIES {
            let mut sent: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
            for _ in 0..100 {
                let init_req = self.init_req();
                sent.insert(digest(&[&init_req])[..16].to_vec(), init_req);
            }
            stranger.send(TOPIC, &sent.values().cloned().collect::<Vec<_>>())?;
            while !sent.is_empty() {
                let (_, init_ack) = stranger.message()?;
                if let Some(init_req) = sent.remove(&init_ack[1..17]) {
                    self.cookies.push((init_req, init_ack[17..33].try_into()?));
                }
            }
        }
        Ok(())
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn init_req(&mut self) -> Vec<u8> {
        self.rng.fill_bytes(&mut self.init_req[1..17]);
        self.init_req.clone()
    }

    fn auth_req(&mut self, cookie: &[u8], init_req: &[u8]) -> Vec<u8> {
        let len = u16::try_from(init_req.len()).unwrap_or_default().to_be_bytes();
        [&[FrameType::AuthReq.byte()][..], &self.bytes(16), cookie, &len, init_req, &self.bytes(860)].concat()
    }

    /// The next one; `None` as long as what it is made of was not overheard.
    fn frame(&mut self) -> Option<Vec<u8>> {
        self.next += 1;
        match self.forged {
            Forged::OfType(frame_type) => self.frame_of(frame_type),
            Forged::AuthReqWithCookie => {
                let (init_req, cookie) = self.cookies[self.next % self.cookies.len()].clone();
                Some(self.auth_req(&cookie, &init_req))
            }
        }
    }

    fn frame_of(&mut self, frame_type: FrameType) -> Option<Vec<u8>> {
        let Overheard { init_req, auth_req } =
            self.overheard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let rest = match frame_type {
            FrameType::InitReq => return Some(self.init_req()),
            FrameType::AuthReq => {
                let (cookie, init_req) = (self.bytes(16), self.init_req());
                return Some(self.auth_req(&cookie, &init_req));
            }
            FrameType::InitAck if init_req.is_empty() => return None,
            FrameType::InitAck => [&digest(&[&init_req])[..16], &self.bytes(InitAck::LEN - 17)].concat(),
            FrameType::AuthAck if auth_req.is_empty() => return None,
            FrameType::AuthAck => [&auth_req[1..17], &self.bytes(880)].concat(),
            // Every second one is a question whether a session is still there, or the answer to one.
            FrameType::RdyReq | FrameType::RdyAck => self.bytes(if self.next.is_multiple_of(2) { 48 } else { 64 }),
            FrameType::Enc => self.bytes(200),
            FrameType::Kill => self.bytes(40),
            FrameType::Will => self.bytes(60),
        };
        Some([&[frame_type.byte()][..], &rest].concat())
    }
}
