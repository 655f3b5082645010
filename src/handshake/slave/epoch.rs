//! Steps 2 and 3 without any state of theirs: what an epoch key makes of an INITREQ, each time the same.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use rand::CryptoRng;

use crate::Rejected;
use crate::crypto::exchange::encapsulate;
use crate::crypto::pake::Half;
use crate::crypto::schedule::{AttemptId, Digest, Schedule, Topics, answer_rng, digest};
use crate::handshake::enrolment::agree;
use crate::handshake::{Party, init_req_reference};
use crate::message::{AuthReq, InitAck, InitReq};
use crate::role::Role;
use crate::secret::{Epoch, Key};

/// How long an epoch key answers; it is accepted for as long again.
pub(super) const EPOCH: Duration = Duration::from_secs(60);

/// One epoch: its key, in memory only, and what of its attempts must not come again.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) key: Key<Epoch>,
    pub(super) since: Instant,
    /// Authenticated attempts that were let go: a replay of one is neither signed nor kept a second time.
    pub(super) gone: HashSet<AttemptId>,
    answers: Answers,
}

/// Which attempt each of the latest INITREQs of an AUTHREQ has led to. Whoever forges INITACKs makes an honest master send
/// an AUTHREQ for each, which this slave also hears: it must not encapsulate anew for every one.
struct Answers(VecDeque<(Digest, AttemptId)>);

impl Answers {
    const MOST: usize = 64;

    fn get(&self, init_req: &Digest) -> Option<&AttemptId> {
        self.0.iter().find(|(known, _)| known == init_req).map(|(_, attempt)| attempt)
    }

    fn put(&mut self, init_req: Digest, attempt: AttemptId) {
        self.0.truncate(Self::MOST - 1);
        self.0.push_front((init_req, attempt));
    }
}

/// What is remembered only for speed is no state.
impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

impl Generation {
    pub(super) fn new(now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self {
            key: Key::generate(32, |bytes| rng.fill_bytes(bytes)),
            since: now,
            gone: HashSet::new(),
            answers: Answers(VecDeque::new()),
        }
    }
}

/// Step 2, made from nothing but the frame, the topics, an epoch key and the code, if there is one.
pub(super) fn answer(
    party: &Party,
    epoch: &Key<Epoch>,
    topics: &Topics,
    init_req: &InitReq<'_>,
) -> Result<(Vec<u8>, Schedule), Rejected> {
    party.check_share(init_req.share)?;
    let mut rng = answer_rng(epoch, init_req.frame);
    let ours = encapsulate(init_req.x25519, init_req.encapsulation_key, &mut rng)?;
    let half = party.half(Role::Slave, &mut rng);
    let pake = agree(half.as_ref(), init_req.share)?;
    let reference = init_req_reference(init_req.frame);
    let init_ack = InitAck::frame(&reference, &ours.x25519, &ours.ciphertext, half.as_ref().map(Half::share));
    let schedule = Schedule::new(topics, init_req.frame, &init_ack, &ours.shared, pake.as_ref());
    Ok((init_ack, schedule))
}

/// The schedule of the attempt that AUTHREQ names, under whichever epoch key answered its INITREQ.
pub(super) fn schedule_of<'e>(
    party: &Party,
    epochs: impl Iterator<Item = &'e mut Generation>,
    topics: &Topics,
    auth_req: &AuthReq<'_>,
) -> Result<(&'e Generation, Schedule), Rejected> {
    let (m2s, s2m) = (topics.master_to_slave.as_bytes(), topics.slave_to_master.as_bytes());
    let asked = digest(&[m2s, s2m, auth_req.init_req.frame]);
    for epoch in epochs {
        let known = epoch.answers.get(&asked).copied();
        if known.is_some_and(|attempt| attempt != *auth_req.attempt) {
            continue;
        }
        let (_, schedule) = answer(party, &epoch.key, topics, &auth_req.init_req)?;
        if known.is_none() {
            epoch.answers.put(asked, schedule.attempt());
        }
        if schedule.attempt() == *auth_req.attempt {
            return Ok((epoch, schedule));
        }
    }
    Err(Rejected::Unexpected)
}
