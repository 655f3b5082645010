//! Steps 2 and 3 without stored state: what an epoch key makes of an INITREQ, the same each time.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use rand::CryptoRng;

use crate::Rejected;
use crate::crypto::exchange::encapsulate;
use crate::crypto::pake::Spake2Half;
use crate::crypto::schedule::{AttemptId, Digest, Schedule, Topics, answer_rng, digest};
use crate::handshake::party::agree;
use crate::handshake::{Party, init_req_reference};
use crate::message::{AuthReq, InitAck, InitReq};
use crate::role::Role;
use crate::secret::{Epoch, Key};

/// How long INITREQs are answered with an epoch key; AUTHREQs are accepted under it for as long again.
pub(super) const EPOCH_INTERVAL: Duration = Duration::from_secs(60);

/// INITREQs whose attempt an epoch remembers.
const MAX_CACHED_INIT_REQS: usize = 64;

/// One epoch: its key, in memory only, and the attempts that must not begin again.
#[derive(Debug)]
pub(super) struct EpochState {
    pub(super) key: Key<Epoch>,
    pub(super) since: Instant,
    /// Authenticated attempts that were discarded: a replay of one is neither signed nor kept a second time.
    pub(super) discarded: HashSet<AttemptId>,
    cache: InitReqCache,
}

/// Which attempt each of the latest INITREQs inside an AUTHREQ has led to. A device that forges INITACKs makes an honest
/// master send an AUTHREQ for each, which this slave hears, too: it must not encapsulate anew for every one.
struct InitReqCache(VecDeque<(Digest, AttemptId)>);

impl InitReqCache {
    fn get(&self, init_req: &Digest) -> Option<&AttemptId> {
        self.0.iter().find(|(known, _)| known == init_req).map(|(_, attempt)| attempt)
    }

    fn put(&mut self, init_req: Digest, attempt: AttemptId) {
        self.0.truncate(MAX_CACHED_INIT_REQS - 1);
        self.0.push_front((init_req, attempt));
    }
}

/// A cache is not state: nothing depends on it but speed.
impl fmt::Debug for InitReqCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InitReqCache")
    }
}

impl EpochState {
    pub(super) fn new(now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self {
            key: Key::generate(32, |bytes| rng.fill_bytes(bytes)),
            since: now,
            discarded: HashSet::new(),
            cache: InitReqCache(VecDeque::new()),
        }
    }
}

/// Step 2, made only from the frame, the topics, an epoch key and the code, if there is one.
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
    let init_ack = InitAck::frame(&reference, &ours.x25519, &ours.ciphertext, half.as_ref().map(Spake2Half::share));
    let schedule = Schedule::new(topics, init_req.frame, &init_ack, &ours.shared, pake.as_ref());
    Ok((init_ack, schedule))
}

/// The schedule of the attempt that an AUTHREQ names, and the epoch whose key answered its INITREQ.
pub(super) fn schedule_of<'e>(
    party: &Party,
    epochs: impl Iterator<Item = &'e mut EpochState>,
    topics: &Topics,
    auth_req: &AuthReq<'_>,
) -> Result<(&'e EpochState, Schedule), Rejected> {
    let (m2s, s2m) = (topics.master_to_slave.as_bytes(), topics.slave_to_master.as_bytes());
    let init_req = digest(&[m2s, s2m, auth_req.init_req.frame]);
    for epoch in epochs {
        let cached = epoch.cache.get(&init_req).copied();
        if cached.is_some_and(|attempt| attempt != *auth_req.attempt) {
            continue;
        }
        let (_, schedule) = answer(party, &epoch.key, topics, &auth_req.init_req)?;
        if cached.is_none() {
            epoch.cache.put(init_req, schedule.attempt());
        }
        if schedule.attempt() == *auth_req.attempt {
            return Ok((epoch, schedule));
        }
    }
    Err(Rejected::Unexpected)
}
