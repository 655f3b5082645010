//! Steps 2 and 3 without stored state: what an epoch key makes of an INITREQ, the same each time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use rand::CryptoRng;
use rand::rngs::StdRng;

use crate::Rejected;
use crate::crypto::exchange::encapsulate;
use crate::crypto::pake::Spake2Half;
use crate::crypto::schedule::{AttemptId, Cookie, Digest, Schedule, Topics, answer_rng, cookie, digest, verify_cookie};
use crate::handshake::Party;
use crate::handshake::party::agree;
use crate::message::{AuthReq, InitAck, InitReq};
use crate::role::Role;
use crate::secret::{Epoch, Key};

/// How long INITREQs are answered with an epoch key; AUTHREQs are accepted under it for as long again.
const EPOCH_INTERVAL: Duration = Duration::from_secs(60);

/// Attempts that an epoch remembers.
const MAX_RECENT_ATTEMPTS: usize = 1024;

/// One epoch: its key, in memory only, and the attempts that must not begin again.
#[derive(Debug)]
pub(in crate::handshake) struct EpochState {
    key: Key<Epoch>,
    since: Instant,
    /// Authenticated attempts that were discarded: a replay of one is neither signed nor kept a second time.
    discarded: HashSet<AttemptId>,
    recent: RecentAttempts,
}

/// The attempts whose INITREQs came in an AUTHREQ with a good cookie: the latest ones, each by the digest of that INITREQ
/// and of its topics. So each of them costs one key exchange and one verified signature, however many AUTHREQs name it.
#[derive(Default)]
struct RecentAttempts {
    by_init_req: HashMap<Digest, RecentAttempt>,
    /// The latest last.
    order: VecDeque<Digest>,
}

/// The keys of an attempt that nobody has proved anything of.
pub(super) struct RecentAttempt {
    pub(super) schedule: Schedule,
    /// Whether a signature of an AUTHREQ of it was verified, or found wrong: its master makes only one.
    pub(super) has_checked_signature: bool,
}

/// The epochs of which the keys exist, newest first: the one that answers INITREQs, and the one before it, whose answers may
/// still come back.
#[derive(Debug)]
pub(in crate::handshake) struct Epochs(VecDeque<EpochState>);

impl Epochs {
    pub(super) fn new(now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self(VecDeque::from([EpochState::new(now, rng)]))
    }

    /// The one that answers INITREQs.
    pub(in crate::handshake) fn current(&self) -> &EpochState {
        &self.0[0]
    }

    #[cfg(test)]
    pub(in crate::handshake) fn current_mut(&mut self) -> &mut EpochState {
        &mut self.0[0]
    }

    /// When the current one ends.
    pub(super) fn end(&self) -> Instant {
        self.current().since + EPOCH_INTERVAL
    }

    /// Begins another one, if the current one has ended; returns whether it has.
    pub(super) fn rotate(&mut self, now: Instant, rng: &mut impl CryptoRng) -> bool {
        let has_ended = now >= self.end();
        if has_ended {
            // After a long silence even the epoch that just ended is older than it may be.
            self.0.truncate(usize::from(now < self.end() + EPOCH_INTERVAL));
            self.0.push_front(EpochState::new(now, rng));
        }
        has_ended
    }

    /// Remembers a discarded attempt for as long as an epoch key could open its AUTHREQ again.
    pub(super) fn discard(&mut self, id: AttemptId) {
        for epoch in &mut self.0 {
            epoch.discarded.insert(id);
        }
    }

    /// The INITREQ in an AUTHREQ, by the digest of itself and its topics, and whether its attempt is among the recent ones, so
    /// that it costs no key exchange; [`Rejected::Unexpected`] if the cookie is of no epoch.
    pub(super) fn has_recent(&self, topics: &Topics, auth_req: &AuthReq<'_>) -> (Digest, Result<bool, Rejected>) {
        let init_req = digest(&[auth_req.init_req.frame]);
        let has_recent = self.find(topics, &init_req, auth_req).map(|epoch| self.0[epoch].remembers(topics, &init_req));
        (key_of(topics, &init_req), has_recent)
    }

    /// The attempt that an AUTHREQ names.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] if its cookie is of no epoch, or if its INITREQ led to another attempt;
    /// [`Rejected::Duplicate`] if the attempt was discarded.
    pub(super) fn attempt(
        &mut self,
        party: &Party,
        topics: &Topics,
        auth_req: &AuthReq<'_>,
    ) -> Result<&mut RecentAttempt, Rejected> {
        let init_req = digest(&[auth_req.init_req.frame]);
        let epoch = self.find(topics, &init_req, auth_req)?;
        let epoch = &mut self.0[epoch];
        if epoch.discarded.contains(auth_req.attempt) {
            return Err(Rejected::Duplicate);
        }
        epoch.attempt(party, topics, auth_req, &init_req)
    }

    /// The epoch that made the cookie of an AUTHREQ; `init_req` is the digest of its INITREQ.
    fn find(&self, topics: &Topics, init_req: &Digest, auth_req: &AuthReq<'_>) -> Result<usize, Rejected> {
        self.0.iter().position(|epoch| epoch.made(topics, init_req, auth_req.cookie)).ok_or(Rejected::Unexpected)
    }
}

/// It only saves time: nothing depends on which attempts are in it.
impl fmt::Debug for RecentAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecentAttempts")
    }
}

impl EpochState {
    fn new(now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self {
            key: Key::generate(32, |bytes| rng.fill_bytes(bytes)),
            since: now,
            discarded: HashSet::new(),
            recent: RecentAttempts::default(),
        }
    }

    /// Step 2, made only from the frame, the topics, the epoch key and the code, if there is one.
    pub(super) fn answer(&self, party: &Party, topics: &Topics, init_req: &InitReq<'_>) -> Result<Vec<u8>, Rejected> {
        self.exchange_keys(party, topics, init_req, &mut self.rng(init_req)).map(|(init_ack, _)| init_ack)
    }

    /// The generator of all that is random in the answer to an INITREQ.
    fn rng(&self, init_req: &InitReq<'_>) -> StdRng {
        answer_rng(&self.key, init_req.frame)
    }

    /// Step 2, and the keys of the attempt.
    pub(in crate::handshake) fn exchange_keys(
        &self,
        party: &Party,
        topics: &Topics,
        init_req: &InitReq<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, Schedule), Rejected> {
        party.check_share(init_req.share)?;
        let ours = encapsulate(init_req.x25519, init_req.encapsulation_key, rng)?;
        let half = party.half(Role::Slave, rng);
        let pake = agree(half.as_ref(), init_req.share)?;
        let digest = digest(&[init_req.frame]);
        let reference = digest.first_chunk().expect("a digest is longer than that");
        let (cookie, share) = (cookie(&self.key, &key_of(topics, &digest)), half.as_ref().map(Spake2Half::share));
        let init_ack = InitAck::frame(reference, &cookie, &ours.x25519, &ours.ciphertext, share);
        let schedule = Schedule::new(topics, init_req.frame, &init_ack, &ours.shared, pake.as_ref());
        Ok((init_ack, schedule))
    }

    /// Whether this cookie was made under the epoch key, on these topics, for the INITREQ with this digest.
    fn made(&self, topics: &Topics, init_req: &Digest, cookie: &Cookie) -> bool {
        verify_cookie(&self.key, &key_of(topics, init_req), cookie).is_ok()
    }

    /// Whether the attempt of the INITREQ with this digest is among the recent ones.
    fn remembers(&self, topics: &Topics, init_req: &Digest) -> bool {
        self.recent.by_init_req.contains_key(&key_of(topics, init_req))
    }

    /// The attempt that an AUTHREQ with a good cookie names; `init_req` is the digest of its INITREQ.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] if its INITREQ led to another one.
    fn attempt(
        &mut self,
        party: &Party,
        topics: &Topics,
        auth_req: &AuthReq<'_>,
        init_req: &Digest,
    ) -> Result<&mut RecentAttempt, Rejected> {
        party.check_share(auth_req.init_req.share)?;
        let key = key_of(topics, init_req);
        if !self.recent.by_init_req.contains_key(&key) {
            let mut rng = self.rng(&auth_req.init_req);
            let (_, schedule) = self.exchange_keys(party, topics, &auth_req.init_req, &mut rng)?;
            self.recent.insert(key, RecentAttempt { schedule, has_checked_signature: false });
        }
        let attempt = self.recent.by_init_req.get_mut(&key).ok_or(Rejected::Unexpected)?;
        if attempt.schedule.attempt() == *auth_req.attempt { Ok(attempt) } else { Err(Rejected::Unexpected) }
    }

    /// Takes the keys of an attempt over, as if its AUTHREQ had come before.
    #[cfg(test)]
    pub(in crate::handshake) fn remember(&mut self, topics: &Topics, init_req: &Digest, schedule: Schedule) {
        self.recent.insert(key_of(topics, init_req), RecentAttempt { schedule, has_checked_signature: false });
    }
}

impl RecentAttempts {
    fn insert(&mut self, key: Digest, attempt: RecentAttempt) {
        if self.order.len() == MAX_RECENT_ATTEMPTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_init_req.remove(&oldest);
        }
        self.order.push_back(key);
        self.by_init_req.insert(key, attempt);
    }
}

fn key_of(topics: &Topics, init_req: &Digest) -> Digest {
    let (m2s, s2m) = (topics.master_to_slave.as_bytes(), topics.slave_to_master.as_bytes());
    digest(&[m2s, s2m, init_req])
}
