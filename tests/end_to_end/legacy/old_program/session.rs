//! One session of it: what it does with each message.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use k256::elliptic_curve::point::AffineCoordinates;
use k256::{AffinePoint, FieldBytes, NonZeroScalar, ProjectivePoint};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rumqttc::{Client, QoS};

use super::{Input, Logged, Role, Seen, Settings};

/// From its start to "encryption on", else it exits.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the slave ignores everything after RDYACK.
const PAUSE: Duration = Duration::from_secs(1);
/// From a KILL to its disconnection.
const LEAVE: Duration = Duration::from_secs(2);

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Subscription,
    InitReq,
    InitAck,
    AuthReq,
    AuthAck,
    RdyReq,
    RdyAck,
    Pause,
    On,
    Leave,
}

pub(super) struct Session {
    client: Client,
    seen: Arc<Mutex<Seen>>,
    settings: Settings,
    rng: StdRng,
    step: Step,
    started: Instant,
    /// When the pause, or the leave, is over.
    until: Instant,
    own_id: Vec<u8>,
    peer_id: Vec<u8>,
    secret: NonZeroScalar,
    key: Vec<u8>,
    chain: [u8; 16],
    /// So many messages still come before one is lost.
    loses_after: Option<usize>,
    /// What is on its way.
    delayed: Vec<Vec<u8>>,
}

impl Session {
    pub(super) fn new(client: Client, seen: Arc<Mutex<Seen>>, settings: Settings) -> Self {
        let mut rng = StdRng::seed_from_u64(settings.seed);
        // 64 random bits, and zeros: that is how weak its keys are.
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&rng.random::<[u8; 8]>());
        let secret = NonZeroScalar::from_repr(FieldBytes::from(secret)).unwrap();
        let now = Instant::now();
        let (own_id, peer_id, key) = (Vec::new(), Vec::new(), Vec::new());
        let (chain, loses_after) = ([0; 16], None);
        let step = Step::Subscription;
        Self {
            client,
            seen,
            settings,
            rng,
            step,
            started: now,
            until: now,
            own_id,
            peer_id,
            secret,
            key,
            chain,
            loses_after,
            delayed: Vec::new(),
        }
    }

    pub(super) fn run(mut self, inputs: &Receiver<Input>) {
        while self.seen.lock().unwrap().ended.is_none() {
            let deadline = match self.step {
                Step::Pause | Step::Leave => self.until,
                Step::On => Instant::now() + Duration::from_secs(600),
                _ => self.started + START_LIMIT,
            };
            match inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => match self.step {
                    Step::Pause => self.turn_on(),
                    Step::Leave => self.end("disconnected"),
                    Step::On => {}
                    _ => self.end("the program exited: not started in time"),
                },
            }
        }
    }

    fn end(&mut self, why: &'static str) {
        self.client.disconnect().ok();
        self.seen.lock().unwrap().ended = Some(why);
    }

    fn log(&self, event: Logged) {
        self.seen.lock().unwrap().log.push(event);
    }

    fn turn_on(&mut self) {
        self.step = Step::On;
        let mut seen = self.seen.lock().unwrap();
        (seen.is_on, seen.is_agreed) = (true, true);
    }

    fn take(&mut self, input: Input) {
        match (input, self.step) {
            (Input::Subscribed, Step::Subscription) => {
                self.step = Step::InitReq;
                if self.settings.role == Role::Master {
                    let mut id =
                        || -> Vec<u8> { (0..31).map(|_| b"az<>+$[]^&@K7"[self.rng.random_range(0..13)]).collect() };
                    (self.own_id, self.peer_id) = (id(), id());
                    let ids = [&self.own_id[..], &self.peer_id].concat();
                    self.request("INITREQ:", &ids);
                    self.step = Step::InitAck;
                }
            }
            (Input::Message(payload), Step::On) => self.decrypt(&payload),
            (Input::Message(_), Step::Pause | Step::Leave | Step::Subscription) | (Input::Subscribed, _) => {}
            (Input::Message(payload), _) => self.handshake(&payload),
            (Input::Text { text, lost }, Step::On) => {
                let payload = self.encrypt([b"ENC:", text.as_bytes()].concat());
                self.log(Logged::Sent { lost });
                if !lost {
                    self.publish(payload);
                }
            }
            (Input::Delayed(text), Step::On) => {
                let payload = self.encrypt([b"ENC:", text.as_bytes()].concat());
                self.delayed.push(payload);
            }
            (Input::Arrive, _) => {
                for payload in std::mem::take(&mut self.delayed) {
                    self.publish(payload);
                }
            }
            (Input::LoseAfter(messages), _) => self.loses_after = Some(messages),
            (Input::SwitchOff, _) => self.end("switched off"),
            (Input::Stop, Step::On) => {
                let kill = self.encrypt(b"KILL:".to_vec());
                self.publish(kill);
                self.leave();
            }
            (Input::Text { .. } | Input::Delayed(_) | Input::Stop, _) => {}
        }
    }

    fn leave(&mut self) {
        self.step = Step::Leave;
        self.until = Instant::now() + LEAVE;
    }

    fn publish(&self, payload: Vec<u8>) {
        self.client.publish(self.settings.publish.clone(), QoS::AtMostOnce, false, payload).unwrap();
    }

    fn request(&self, header: &str, data: &[u8]) {
        let mut clear: Vec<u8> = [header.as_bytes(), data].concat().iter().map(|byte| byte.reverse_bits()).collect();
        clear[0] ^= 1;
        self.publish(clear);
    }

    fn handshake(&mut self, payload: &[u8]) {
        let mut clear = payload.to_vec();
        if let Some(first) = clear.first_mut() {
            *first ^= 1;
        }
        let clear: Vec<u8> = clear.iter().map(|byte| byte.reverse_bits()).collect();
        let Some(at) = clear.iter().position(|byte| *byte == b':') else { return };
        let (header, data) = clear.split_at(at + 1);
        let header = String::from_utf8_lossy(header);
        let is_master = self.settings.role == Role::Master;
        match (&*header, self.step) {
            ("INITREQ:", Step::InitReq) if data.len() == 62 && !data.contains(&0) => {
                (self.peer_id, self.own_id) = (data[..31].to_vec(), data[31..].to_vec());
                self.request("INITACK:", &[]);
                self.step = Step::AuthReq;
            }
            ("INITACK:", Step::InitAck) if data.is_empty() => {
                self.request("AUTHREQ:", &self.peer_id);
                self.step = Step::AuthAck;
            }
            ("AUTHREQ:", Step::AuthReq) if data == self.own_id => {
                self.request("AUTHACK:", &[]);
                if is_master {
                    self.request_ready();
                    self.step = Step::RdyAck;
                } else {
                    self.request("AUTHREQ:", &self.peer_id);
                    self.step = Step::AuthAck;
                }
            }
            ("AUTHACK:", Step::AuthAck) if data.is_empty() => {
                self.step = if is_master { Step::AuthReq } else { Step::RdyReq };
            }
            ("RDYREQ:", Step::RdyReq) => {
                let Some(key) = self.agree(data) else { return };
                self.chain = key[..16].try_into().unwrap();
                self.key = key;
                self.request("RDYACK:", &[]);
                if is_master {
                    self.turn_on();
                } else {
                    self.request_ready();
                    self.step = Step::RdyAck;
                }
            }
            ("RDYACK:", Step::RdyAck) if data.is_empty() => {
                if is_master {
                    self.step = Step::RdyReq;
                } else {
                    (self.step, self.until) = (Step::Pause, Instant::now() + PAUSE);
                    self.seen.lock().unwrap().is_agreed = true;
                }
            }
            _ => {}
        }
    }

    fn request_ready(&self) {
        let point = (ProjectivePoint::GENERATOR * *self.secret).to_affine();
        let digits = |number: FieldBytes| -> String {
            number.iter().skip_while(|byte| **byte == 0).map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat()
        };
        self.request("RDYREQ:", format!("X{}Y{}", digits(point.x()), digits(point.y())).as_bytes());
    }

    /// The session key; `None` where it refuses it, without a word.
    fn agree(&self, data: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(data).ok()?;
        let (x, y) = text.get(1..)?.split_once('Y')?;
        let number = |digits: &str| -> Option<FieldBytes> {
            let padded = format!("{digits:0>64}");
            let bytes: Option<Vec<u8>> =
                (0..32).map(|at| u8::from_str_radix(padded.get(2 * at..2 * at + 2)?, 16).ok()).collect();
            Some(FieldBytes::from(<[u8; 32]>::try_from(bytes?).ok()?))
        };
        let point = AffinePoint::from_coordinates(&number(x)?, &number(y)?).into_option()?;
        let shared = (ProjectivePoint::from(point) * *self.secret).to_affine().x().to_vec();
        let before_zero = shared.iter().take_while(|byte| **byte != 0).count();
        (before_zero == 0 || before_zero == 32).then_some(shared)
    }

    fn cipher(&self) -> Aes256 {
        Aes256::new_from_slice(&self.key).unwrap()
    }

    fn encrypt(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        message.resize(message.len().next_multiple_of(16), 0);
        let cipher = self.cipher();
        for block in message.chunks_mut(16) {
            if self.settings.is_cbc {
                block.iter_mut().zip(self.chain).for_each(|(byte, value)| *byte ^= value);
            }
            let mut array = Array::try_from(&*block).unwrap();
            cipher.encrypt_block(&mut array);
            block.copy_from_slice(&array);
            self.chain.copy_from_slice(block);
        }
        message
    }

    fn decrypt(&mut self, payload: &[u8]) {
        match self.loses_after {
            Some(0) => {
                self.loses_after = None;
                return self.log(Logged::Missed);
            }
            Some(messages) => self.loses_after = Some(messages - 1),
            None => {}
        }
        if payload.len() > 1019 - self.settings.listen.len() {
            return self.end("a message was too long");
        }
        if self.settings.is_cbc && !payload.len().is_multiple_of(16) {
            return;
        }
        let cipher = self.cipher();
        let mut message = Vec::new();
        for block in payload.chunks_exact(16) {
            let mut array = Array::try_from(block).unwrap();
            cipher.decrypt_block(&mut array);
            if self.settings.is_cbc {
                array.iter_mut().zip(self.chain).for_each(|(byte, value)| *byte ^= value);
            }
            message.extend_from_slice(&array);
            self.chain.copy_from_slice(block);
        }
        let header = message.iter().take(10).position(|byte| *byte == b':').map_or(0, |at| at + 1);
        if &message[..header] == b"KILL:" {
            return self.leave();
        }
        let text = message[header..].split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        self.seen.lock().unwrap().displayed.push(text.clone());
        self.log(Logged::Displayed(text));
    }
}
