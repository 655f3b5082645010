//! A pairing of two devices and the session after it, by messages that arrive, are lost, repeated or forged. Nothing here is
//! authentic, so a forged message may be accepted; but one that is rejected must change nothing.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::chain::{ChainValue, MAX_RECENT, Origin};
use super::frame::Frame;
use super::pairing::{Pairing, PairingOutput, is_accepted};
use super::session::{Decrypted, LegacySession, Mode, Reading, is_ciphertext};
use super::session_file::{self, Sessions};
use super::text::max_text_len;
use crate::crypto::legacy::{Block, KEY_LEN, LegacyCipher};
use crate::fuzz::input::{FuzzInput, forge};
use crate::role::Role;
use crate::secret::Key;

/// Most steps of one input: a step may be two multiplications of points.
const MAX_STEPS: usize = 100;
/// No machine has more to do at one time.
const MAX_OUTPUTS: usize = 8;

/// One side of a pairing. Its state cannot be seen, so a second machine is not given what is forged and rejected by the first
/// one: both must do the same from then on.
struct PairingMachine {
    pairing: Pairing,
    undisturbed: Pairing,
    /// Seeds what is drawn in a step, so that both machines draw the same.
    step: u64,
    has_begun: bool,
    stored: Option<Key<LegacyCipher>>,
}

/// Master and slave, and the messages between them.
pub(crate) fn pairing(data: &[u8]) {
    let (mut input, mut now) = (FuzzInput::new(data), begin_of_time());
    let mut machines = [PairingMachine::new(Role::Master, 1 << 32), PairingMachine::new(Role::Slave, 2 << 32)];
    // What is on its way to each.
    let mut messages = [const { VecDeque::<Vec<u8>>::new() }; 2];
    // Nothing was lost, repeated or forged, and no time has passed.
    let mut is_quiet = true;
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        let to = input.below(2);
        let (machine, queue) = (&mut machines[to], &mut messages[to]);
        let step = input.below(10);
        is_quiet &= step > 4;
        match step {
            0 => now += input.duration().min(Duration::from_secs(60)),
            1 => machine.accept(input.chunk(), true, now),
            2 => drop(queue.pop_front()),
            3 => queue.extend(queue.front().cloned()),
            4 => {
                let genuine = queue.front().cloned().unwrap_or_default();
                machine.accept(&forge(&genuine, &mut input), true, now);
            }
            5 => machine.begin(now),
            _ => {
                if let Some(message) = queue.pop_front() {
                    machine.accept(&message, false, now);
                }
            }
        }
        for (machine, to) in machines.iter_mut().zip([1, 0]) {
            messages[to].extend(machine.poll(now));
        }
        let [master, slave] = machines.each_ref().map(|machine| machine.stored.as_ref());
        assert!(!is_quiet || master.is_none() || master == slave, "two keys for one session");
    }
}

#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn begin_of_time() -> Instant {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    *BEGIN.get_or_init(Instant::now)
}

impl PairingMachine {
    fn new(role: Role, step: u64) -> Self {
        let (pairing, undisturbed) = (Pairing::new(role, true), Pairing::new(role, true));
        Self { pairing, undisturbed, step, has_begun: false, stored: None }
    }

    /// Two generators that draw the same, and nothing that was drawn before.
    fn generators(&mut self) -> [StdRng; 2] {
        self.step += 1;
        [(); 2].map(|()| StdRng::seed_from_u64(self.step))
    }

    fn begin(&mut self, now: Instant) {
        let [mut rng, mut same] = self.generators();
        self.pairing.begin(now, &mut rng);
        self.undisturbed.begin(now, &mut same);
        self.has_begun = true;
    }

    fn accept(&mut self, payload: &[u8], is_forged: bool, now: Instant) {
        let Some(frame) = Frame::parse(payload) else { return };
        assert_eq!(Frame::parse(&frame.encode()), Some(frame.clone()), "it means the same written again");
        let [mut rng, mut same] = self.generators();
        let is_accepted = self.pairing.accept(&frame, now, &mut rng);
        assert!(self.has_begun || !is_accepted, "{frame:?} before it begins");
        if is_accepted || !is_forged {
            assert_eq!(is_accepted, self.undisturbed.accept(&frame, now, &mut same), "{frame:?}");
        }
    }

    /// Has the machine do what is due; returns what it sends.
    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for count in 0.. {
            assert!(count <= MAX_OUTPUTS, "it does not come to an end");
            let [mut rng, mut same] = self.generators();
            let output = self.pairing.poll(now, true, &mut rng);
            assert_eq!(output, self.undisturbed.poll(now, true, &mut same), "what was rejected has changed something");
            match output {
                Some(PairingOutput::Send(frame)) => {
                    let payload = frame.encode();
                    assert!(Frame::parse(&payload) == Some(frame) && !is_ciphertext(&payload));
                    sent.push(payload);
                }
                Some(PairingOutput::Store(key)) => {
                    assert!(is_accepted(&key), "the old program refuses this key");
                    self.stored = Some(key);
                }
                Some(PairingOutput::StoreOther(key)) => {
                    assert!(is_accepted(&key), "the old program refuses this key, too");
                }
                Some(PairingOutput::Agreed) => assert!(self.stored.is_some(), "there is nothing to agree on"),
                Some(PairingOutput::Abandon) => assert!(self.stored.take().is_some(), "there is nothing to delete"),
                None => break,
            }
        }
        let deadline = self.pairing.deadline();
        assert_eq!(deadline, self.undisturbed.deadline());
        assert!(deadline.is_none_or(|at| at > now), "a deadline in the past would spin");
        assert_eq!(self.pairing.is_under_way(), self.undisturbed.is_under_way());
        sent
    }
}

/// A message on its way.
struct SentText {
    payload: Vec<u8>,
    /// What it was made from.
    from: Option<Block>,
    meaning: Decrypted,
}

/// Two devices with one session, and the file that one of them keeps it in.
pub(crate) fn session(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let is_cbc = input.flag();
    let mut devices = [Role::Master, Role::Slave].map(|role| {
        let key = Key::generate(KEY_LEN, |bytes| bytes.fill(7));
        LegacySession::new([1; 8], role, key, is_cbc, 1000)
    });
    let mut messages = [const { VecDeque::<SentText>::new() }; 2];
    // After a forged message any other may be garbled; after a lost one, the next.
    let (mut is_forged, mut is_lost) = (false, false);
    for step in 0..input.below(MAX_STEPS) {
        let to = input.below(2);
        let queue = &mut messages[to];
        match input.below(8) {
            0 => is_lost |= queue.pop_front().is_some(),
            1 => {
                is_forged = true;
                open(&mut devices[to], input.chunk());
            }
            2 => {
                is_forged = true;
                let genuine = queue.front().map_or(&[][..], |message| &message.payload);
                open(&mut devices[to], &forge(genuine, &mut input));
            }
            3..5 => queue.push_back(seal(&mut devices[1 - to], &mut input)),
            _ => {
                let Some(SentText { payload, from, meaning }) = queue.pop_front() else { continue };
                let is_known = is_known(&devices[to], from);
                assert!(is_known || is_forged || is_lost || step >= MAX_RECENT, "what it was made from is forgotten");
                // The same text, made from the same value at both devices.
                let is_own = is_own(&devices[to], &payload);
                let opened = open(&mut devices[to], &payload);
                let is_right = opened == meaning || (is_own && opened == Decrypted::Repeated);
                assert!(!is_known || is_forged || is_right, "{opened:?} instead of {meaning:?}");
            }
        }
    }
    let [current, _] = devices;
    let sessions = Sessions { current: Some(current), pending: None };
    let text = session_file::encode("link", &sessions);
    assert_eq!(session_file::parse("link", text.as_bytes()).as_ref(), Ok(&sessions));
    let forged = forge(text.as_bytes(), &mut input);
    assert!(forged == text.as_bytes() || session_file::parse("link", &forged).is_err());
}

/// The values that a message may have been made from; none in ECB.
fn recent(session: &LegacySession) -> &[ChainValue] {
    match &session.mode {
        Mode::Cbc(chain) => &chain.recent,
        Mode::Ecb => &[],
    }
}

/// Whether this device knows what a message was made from.
fn is_known(session: &LegacySession, from: Option<Block>) -> bool {
    from.is_none_or(|from| recent(session).iter().any(|value| value.block == from))
}

/// Whether this device has sent the same.
fn is_own(session: &LegacySession, payload: &[u8]) -> bool {
    let is_end = |value: &ChainValue| value.origin == Origin::Sent && payload.ends_with(&value.block);
    recent(session).iter().any(is_end)
}

fn seal(session: &mut LegacySession, input: &mut FuzzInput<'_>) -> SentText {
    let from = if let Mode::Cbc(chain) = &session.mode { Some(*chain.next) } else { None };
    let text =
        input.chunk().iter().copied().filter(|byte| *byte != 0).take(max_text_len(0, usize::MAX)).collect::<Vec<u8>>();
    let (payload, meaning) = match input.below(8) {
        0 => (session.kill(), Decrypted::Kill),
        _ => (session.seal(&text), Decrypted::Text(text)),
    };
    assert!(is_ciphertext(&payload) && Frame::parse(&payload).is_none());
    SentText { payload, from, meaning }
}

/// Opens a payload from any sender.
fn open(session: &mut LegacySession, payload: &[u8]) -> Decrypted {
    let before = session.clone();
    let opened = session.open(payload, Reading::Write);
    let is_of_session = matches!(opened, Decrypted::Text(_) | Decrypted::Kill);
    assert!(before.opens(payload) == is_of_session || opened == Decrypted::Repeated);
    match &opened {
        Decrypted::NotWhole | Decrypted::Repeated => assert!(*session == before, "what is no message changes nothing"),
        Decrypted::OtherMode => assert_eq!(session.counters.damaged, before.counters.damaged + 1),
        Decrypted::Text(text) | Decrypted::Damaged(text) => {
            assert!(text.len() < payload.len() && !text.contains(&0), "a text ends at its first zero");
        }
        Decrypted::Kill => assert_eq!(session.counters, before.counters),
    }
    if let Mode::Cbc(chain) = &session.mode {
        let recent = &chain.recent;
        assert!((1..=MAX_RECENT).contains(&recent.len()));
        let is_among = |value: &ChainValue, others: &[ChainValue]| others.iter().any(|it| it.block == value.block);
        assert!(recent.iter().enumerate().all(|(at, value)| !is_among(value, &recent[..at])), "one value twice");
        let is_remembered = recent.iter().any(|value| payload.ends_with(&value.block));
        assert!(opened == Decrypted::NotWhole || is_remembered, "{opened:?} is forgotten");
    }
    opened
}
