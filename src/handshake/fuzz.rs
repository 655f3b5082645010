//! Both sides of the handshake, with a peer's genuine frames, what an attacker makes of them, and what somebody seals who has the
//! keys of an attempt but neither a key that is pinned nor the code. A frame that is rejected must leave its machine as it was;
//! only genuine frames may lead to a session.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{
    Action, Code, Enrolment, Handshake, HandshakeFailure, MAX_CODE_ATTEMPTS, Party, Peer, Trust, init_req_reference,
};
use crate::Rejected;
use crate::crypto::exchange::{Ephemeral, encapsulate};
use crate::crypto::pake::{SHARE_LEN, Spake2Half};
use crate::crypto::schedule::{Schedule, Topics, seal_once};
use crate::fuzz::input::{FuzzInput, forge};
use crate::identity::Identity;
use crate::message::{AuthAck, AuthReq, FrameType, InitAck, InitReq};
use crate::role::Role;
use crate::secret::{Key, Pake};
use crate::suite::Suite;

/// Frames of one handshake.
const FRAMES: usize = 8;

/// How the two devices pair.
#[derive(Clone, Copy)]
struct Way {
    suite: Suite,
    /// With a one-time code, in place of pinned keys.
    by_code: bool,
}

/// What all inputs that pair in one way share: two devices, and the frames by which they paired, in order.
struct Recorded {
    now: Instant,
    devices: [Arc<Identity>; 2],
    way: Way,
    frames: Vec<Vec<u8>>,
}

/// One side, with its own generator, so that each run of the same steps makes the same frames.
struct HandshakeMachine {
    handshake: Handshake,
    now: Instant,
    rng: StdRng,
    is_master: bool,
    by_code: bool,
}

pub(crate) fn master(data: &[u8]) {
    drive(true, data);
}

pub(crate) fn slave(data: &[u8]) {
    drive(false, data);
}

fn topics() -> Topics {
    Topics { master_to_slave: "m2s".to_owned(), slave_to_master: "s2m".to_owned() }
}

/// All ways, and what is recorded of each that an input has asked for.
const WAYS: usize = 2 * Suite::ALL.len();
static RECORDED: [OnceLock<Recorded>; WAYS] = [const { OnceLock::new() }; WAYS];

fn recorded(way: usize) -> &'static Recorded {
    let suite = Suite::ALL[way % Suite::ALL.len()];
    RECORDED[way].get_or_init(|| Recorded::of(Way { suite, by_code: way >= Suite::ALL.len() }))
}

fn devices() -> [Arc<Identity>; 2] {
    static DEVICES: OnceLock<[Arc<Identity>; 2]> = OnceLock::new();
    let device = |seed| Identity::generate_bits(&mut StdRng::seed_from_u64(seed), 2048).expect("2048 bits are enough");
    DEVICES.get_or_init(|| [1, 2].map(|seed| Arc::new(device(seed)))).clone()
}

impl Recorded {
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    fn of(way: Way) -> Self {
        let mut recorded = Self { now: Instant::now(), devices: devices(), way, frames: Vec::new() };
        let (mut master, mut slave) = (HandshakeMachine::new(true, &recorded), HandshakeMachine::new(false, &recorded));
        recorded.frames.extend(master.due());
        while recorded.frames.len() < FRAMES {
            let receiver = if recorded.frames.len() % 2 == 1 { &mut slave } else { &mut master };
            let answer = receiver.genuine(&recorded.frames[recorded.frames.len() - 1]);
            recorded.frames.push(answer.expect("each frame but the last is answered"));
        }
        recorded
    }
}

/// Frame `at` of a handshake goes to the master if this is odd.
fn drive(is_master: bool, data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let recorded = recorded(input.below(WAYS));
    let mut machine = HandshakeMachine::new(is_master, recorded);
    // How far the handshake is before anything else comes.
    let own: Vec<_> = recorded.frames.iter().skip(usize::from(is_master)).step_by(2).collect();
    if is_master {
        machine.due();
    }
    for frame in own.iter().take(input.below(4)) {
        machine.genuine(frame);
    }
    while !input.is_empty() {
        match input.below(8) {
            0 => {
                let frame = own[input.below(own.len())];
                let _ = machine.accept(frame);
            }
            1 => {
                machine.now += input.duration().min(Duration::from_secs(300));
                machine.due();
            }
            2 => machine.rogue(&mut input),
            3 => machine.forged(input.chunk(), &recorded.frames),
            _ => {
                let genuine = &recorded.frames[input.below(FRAMES)];
                machine.forged(&forge(genuine, &mut input), &recorded.frames);
            }
        }
    }
}

impl HandshakeMachine {
    fn new(is_master: bool, recorded: &Recorded) -> Self {
        let (own, other) = if is_master { (0, 1) } else { (1, 0) };
        let name = |device: usize| ["master", "slave"][device].parse().expect("it is a name");
        let Way { suite, by_code } = recorded.way;
        let peer = Peer { name: name(other), key: recorded.devices[other].public().clone() };
        let trust = if by_code {
            let code = Code::generate(&mut StdRng::seed_from_u64(3));
            Trust::Code(Enrolment::new(code, MAX_CODE_ATTEMPTS, Vec::new(), Vec::new()))
        } else {
            Trust::Pinned([peer].into_iter().collect())
        };
        let party = Party { identity: recorded.devices[own].clone(), name: name(own), suite, trust };
        let (now, mut rng) = (recorded.now, StdRng::seed_from_u64(own as u64));
        let mut handshake =
            if is_master { Handshake::master(party, topics(), now) } else { Handshake::slave(party, now, &mut rng) };
        handshake.begin(now, &mut rng);
        Self { handshake, now, rng, is_master, by_code }
    }

    /// Has the machine do what is due; returns the last frame that it sends.
    fn due(&mut self) -> Option<Vec<u8>> {
        let mut last = None;
        while let Some((_, action)) = self.handshake.poll(self.now, &mut self.rng) {
            last = frame_of(action).or(last);
        }
        last
    }

    fn accept(&mut self, frame: &[u8]) -> Result<Action, Rejected> {
        let _ = self.handshake.key_exchange(&topics(), frame);
        self.handshake.accept(&topics(), frame, self.now, &mut self.rng)
    }

    /// A frame of the peer's; returns the answer.
    fn genuine(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        match self.accept(frame) {
            Ok(Action::Wait) => self.due(),
            Ok(action) => frame_of(action),
            Err(_) => None,
        }
    }

    /// A frame that nobody made who has a key.
    fn forged(&mut self, frame: &[u8], genuine: &[Vec<u8>]) {
        if genuine.iter().any(|genuine| genuine == frame) {
            return;
        }
        // A slave changes its epoch by the clock, whatever comes.
        self.due();
        let before = self.state();
        match self.accept(frame) {
            Err(why) => assert_eq!(before, self.state(), "a frame that is rejected ({why:?}) changes nothing"),
            Ok(action) => self.check_unproved(&action),
        }
    }

    /// All of it that is no secret.
    fn state(&self) -> String {
        format!("{:?} {:?}", self.handshake, self.handshake.deadline())
    }

    /// A device without a pinned key gets an answer to step 1 or 2; otherwise it may only be reported. One without the code may
    /// also use up its attempts.
    fn check_unproved(&self, action: &Action) {
        let is_harmless = match action {
            Action::Claim(..) | Action::Wait => true,
            Action::WrongCode { .. }
            | Action::CodeRejected { .. }
            | Action::Fail(HandshakeFailure::CodeErased(_), _) => self.by_code,
            // The refusal of a wrong code, again.
            Action::Send(frame)
                if self.by_code && !self.is_master && FrameType::of(frame) == Ok(FrameType::AuthAck) =>
            {
                true
            }
            Action::Send(frame) => {
                let answer = if self.is_master { FrameType::AuthReq } else { FrameType::InitAck };
                FrameType::of(frame) == Ok(answer)
            }
            _ => false,
        };
        assert!(is_harmless, "{action:?}");
        let mut pending = self.handshake.pending();
        assert!(pending.all(|session| session.peer.name.as_str() == "master"));
    }

    /// The half of SPAKE2 of somebody without the code, if there is a code.
    fn wrong_half(&self, role: Role) -> Option<Spake2Half> {
        self.by_code.then(|| Spake2Half::draw(role, b"not a code", &mut StdRng::seed_from_u64(9)))
    }

    /// Somebody who makes an attempt of its own, and seals what it wants under the attempt's keys.
    fn rogue(&mut self, input: &mut FuzzInput<'_>) {
        let _ = if self.is_master { self.rogue_slave(input) } else { self.rogue_master(input) };
    }

    fn rogue_slave(&mut self, input: &mut FuzzInput<'_>) -> Option<()> {
        // The master's next INITREQ, if it still sends any.
        self.now += Duration::from_secs(10);
        let init_req = self.due().filter(|frame| FrameType::of(frame) == Ok(FrameType::InitReq))?;
        let parsed = InitReq::parse(&init_req).ok()?;
        let mut rng = StdRng::seed_from_u64(9);
        let ours = encapsulate(parsed.x25519, parsed.encapsulation_key, &mut rng).ok()?;
        let half = self.wrong_half(Role::Slave);
        let (share, pake) = (half.as_ref().map(Spake2Half::share), agreed(half.as_ref(), parsed.share));
        let reference = init_req_reference(&init_req);
        let init_ack = InitAck::frame(&reference, &[0; 16], &ours.x25519, &ours.ciphertext, share);
        let schedule = Schedule::new(&topics(), &init_req, &init_ack, &ours.shared, pake.as_ref());
        let auth_req = self.genuine(&init_ack)?;
        let clear = AuthAck::clear(&schedule.attempt());
        for _ in 0..=input.below(3) {
            let sealed = seal_once(schedule.hs_s(&schedule.th2(&auth_req)), &clear, input.chunk());
            if let Ok(action) = self.accept(&[&clear[..], &sealed].concat()) {
                self.check_unproved(&action);
            }
        }
        Some(())
    }

    fn rogue_master(&mut self, input: &mut FuzzInput<'_>) -> Option<()> {
        let ours = Ephemeral::generate(&mut StdRng::seed_from_u64(9));
        let half = self.wrong_half(Role::Master);
        let share = half.as_ref().map(Spake2Half::share);
        let init_req = InitReq::frame(&input.array(), 1, &ours.x25519(), &ours.encapsulation_key(), share);
        let init_ack = self.genuine(&init_req)?;
        let parsed = InitAck::parse(&init_ack).ok()?;
        let shared = ours.agree(parsed.x25519, parsed.ciphertext).ok()?;
        let pake = agreed(half.as_ref(), parsed.share);
        let schedule = Schedule::new(&topics(), &init_req, &init_ack, &shared, pake.as_ref());
        let clear = AuthReq::clear(&schedule.attempt(), parsed.cookie, &init_req);
        for _ in 0..=input.below(3) {
            let sealed = seal_once(schedule.hs_m(), &clear, input.chunk());
            if let Ok(action) = self.accept(&[&clear[..], &sealed].concat()) {
                self.check_unproved(&action);
            }
        }
        Some(())
    }
}

/// What the two halves give together, if both sides sent one.
fn agreed(half: Option<&Spake2Half>, share: Option<&[u8; SHARE_LEN]>) -> Option<Key<Pake>> {
    half?.agree(share?).ok()
}

/// The frame that an action sends, if it does.
fn frame_of(action: Action) -> Option<Vec<u8>> {
    match action {
        Action::Send(frame)
        | Action::MasterAuthenticated(frame)
        | Action::StorePending(_, frame)
        | Action::StoreCurrent(_, frame)
        | Action::Promote(_, frame)
        | Action::WrongCode { frame, .. } => Some(frame),
        Action::Fail(_, frame) | Action::Claim(_, frame) => frame,
        Action::Wait | Action::Finished(_) | Action::CodeRejected { .. } => None,
    }
}
