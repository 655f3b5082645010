//! The slave: answers every INITREQ and keeps nothing for it, then sees authenticated attempts through.
//!
//! All randomness of an answer comes from a generator keyed by the epoch key and the frame that is answered, so an equal
//! frame gets an equal answer, and AUTHREQ, which carries its INITREQ, is enough to make the attempt's keys again. A flood
//! of INITREQs costs one X25519 and one ML-KEM each, no memory and no RSA.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use rand::CryptoRng;

use super::batch;
use super::{
    Established, Hint, Move, Party, Refusal, Repeat, VERDICT_AGREED, VERDICT_SUITE_DIFFERS, confirm,
    init_req_reference, sign,
};
use crate::Rejected;
use crate::crypto::exchange::encapsulate;
use crate::crypto::schedule::{
    AttemptId, Confirmation, Digest, Schedule, Topics, answer_rng, digest, open_once, refusal_mac, seal_once,
    signed_by_master, signed_by_slave,
};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, InitAck, InitReq, Ready, Type, split_path};
use crate::secret::{Epoch, Key};

/// How long an epoch key answers; it is accepted for as long again.
const EPOCH: Duration = Duration::from_secs(60);
/// How long an attempt is kept for what its master may repeat; one whose session is stored is kept for its proof.
const PATIENCE: Duration = Duration::from_secs(120);
/// Authenticated attempts kept for each peer; the oldest makes room.
const ATTEMPTS_PER_PEER: usize = 4;

/// The slave's side of all pairings on a link.
#[derive(Debug)]
pub struct Slave {
    party: Party,
    epoch: Generation,
    last_epoch: Option<Generation>,
    attempts: Vec<Attempt>,
}

/// One epoch: its key, in memory only, and what of its attempts must not come again.
#[derive(Debug)]
struct Generation {
    key: Key<Epoch>,
    since: Instant,
    /// Authenticated attempts that were let go: a replay of one is neither signed nor kept a second time.
    gone: HashSet<AttemptId>,
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

/// An attempt whose master is authentic.
#[derive(Debug)]
struct Attempt {
    id: AttemptId,
    auth_req: Digest,
    auth_ack: Vec<u8>,
    session: Established,
    state: State,
    since: Instant,
}

#[derive(Debug)]
enum State {
    /// Step 4 was sent.
    AwaitingRequest,
    /// Step 6 was sent and is repeated, for as long as its master may be there.
    AwaitingMasterReady(Option<Repeat>),
    /// Step 7 came, or another proof that the master has the session.
    Done,
}

impl Generation {
    fn new(now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self {
            key: Key::generate(32, |bytes| rng.fill_bytes(bytes)),
            since: now,
            gone: HashSet::new(),
            answers: Answers(VecDeque::new()),
        }
    }
}

impl Slave {
    /// Begins to listen.
    pub fn new(party: Party, now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self { party, epoch: Generation::new(now, rng), last_epoch: None, attempts: Vec::new() }
    }

    /// This end of the link; its list of peers may change while the slave runs.
    pub fn party_mut(&mut self) -> &mut Party {
        &mut self.party
    }

    /// When [`Slave::poll`] has something to do, if nothing arrives before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let repeats = self.attempts.iter().filter_map(|attempt| match &attempt.state {
            State::AwaitingMasterReady(repeat) => repeat.as_ref().map(|repeat| repeat.due),
            State::AwaitingRequest | State::Done => None,
        });
        // With an epoch key whoever recorded an INITREQ has what was agreed: it goes in time even if nothing comes any more.
        repeats.chain([self.epoch.since + EPOCH]).min()
    }

    /// A frame that is due at `now`, if one is, and the topics of its handshake; ask again until there is none.
    pub fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<(Topics, Vec<u8>)> {
        self.turn_epoch(now, rng);
        self.attempts.iter_mut().find_map(|attempt| match &mut attempt.state {
            State::AwaitingMasterReady(Some(repeat)) => {
                repeat.is_due(now, rng).then(|| (attempt.session.topics.clone(), attempt.ready()))
            }
            State::AwaitingMasterReady(None) | State::AwaitingRequest | State::Done => None,
        })
    }

    /// Lets go of what was begun with peers that are not accepted any more.
    pub fn forget_others(&mut self) {
        let Self { party, attempts, .. } = self;
        attempts.retain(|attempt| party.peers.contains(&attempt.session.peer));
    }

    /// Notes that the master of this session proved to have it by other means than step 7: by a message under its key.
    /// Returns the session if that is news.
    pub fn proved(&mut self, session_id: &[u8]) -> Option<Established> {
        let attempt = self.attempts.iter_mut().find(|attempt| {
            matches!(attempt.state, State::AwaitingMasterReady(_)) && attempt.session.keys.id == session_id
        })?;
        attempt.state = State::Done;
        Some(attempt.session.clone())
    }

    /// The sessions that are stored as pending and wait for their master's proof.
    pub fn pending(&self) -> impl Iterator<Item = &Established> {
        self.attempts
            .iter()
            .filter(|attempt| matches!(attempt.state, State::AwaitingMasterReady(_)))
            .map(|attempt| &attempt.session)
    }

    /// Takes one frame from a master's topic; `topics` are that one and the one to answer on. An attempt's frames all
    /// belong to the same two.
    ///
    /// # Errors
    /// Whatever is wrong with the frame; the machine is then as it was.
    pub fn accept(
        &mut self,
        topics: &Topics,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Move, Rejected> {
        self.turn_epoch(now, rng);
        match Type::of(frame)? {
            Type::InitReq => {
                let init_req = InitReq::parse(frame)?;
                let (init_ack, _) = answer(&self.epoch.key, topics, &init_req)?;
                Ok(Move::Send(init_ack))
            }
            Type::AuthReq => self.authenticate(topics, frame, now),
            Type::RdyReq => {
                let (at, mac) = self.attempt(topics, frame, Type::RdyReq)?;
                Confirmation::Request.verify(&self.attempts[at].session.keys, mac)?;
                if self.is_superseded(at) {
                    return Err(Rejected::Unexpected);
                }
                let attempt = &mut self.attempts[at];
                let ready = attempt.ready();
                if matches!(attempt.state, State::AwaitingRequest) {
                    attempt.state = State::AwaitingMasterReady(Some(Repeat::after(now, rng)));
                    return Ok(Move::Store(Box::new(attempt.session.clone()), ready));
                }
                Ok(Move::Send(ready))
            }
            Type::RdyAck => {
                let (at, mac) = self.attempt(topics, frame, Type::RdyAck)?;
                let attempt = &mut self.attempts[at];
                Confirmation::MasterReady.verify(&attempt.session.keys, mac)?;
                let done = confirm(Type::RdyAck, &attempt.id, Confirmation::SlaveDone, &attempt.session);
                match attempt.state {
                    // Step 7 follows from step 6, which this slave has not sent: a master that runs ahead.
                    State::AwaitingRequest => Err(Rejected::Unexpected),
                    State::AwaitingMasterReady(_) => {
                        attempt.state = State::Done;
                        Ok(Move::Promote(Box::new(attempt.session.clone()), done))
                    }
                    State::Done => Ok(Move::Send(done)),
                }
            }
            Type::InitAck | Type::AuthAck | Type::Enc | Type::Kill => Err(Rejected::Unexpected),
        }
    }

    fn turn_epoch(&mut self, now: Instant, rng: &mut impl CryptoRng) {
        let age = now.saturating_duration_since(self.epoch.since);
        if age >= EPOCH {
            let ended = std::mem::replace(&mut self.epoch, Generation::new(now, rng));
            // After a long silence even the epoch that just ended is older than it may be.
            self.last_epoch = (age < 2 * EPOCH).then_some(ended);
            self.grow_old(now);
        }
    }

    /// A slave that serves for months keeps what is under way, and nothing else.
    fn grow_old(&mut self, now: Instant) {
        let (old, kept) = std::mem::take(&mut self.attempts)
            .into_iter()
            .partition(|attempt| now.saturating_duration_since(attempt.since) >= PATIENCE);
        self.attempts = kept;
        for mut attempt in old {
            if matches!(attempt.state, State::AwaitingMasterReady(_)) {
                attempt.state = State::AwaitingMasterReady(None);
                self.attempts.push(attempt);
            } else {
                self.let_go(attempt.id);
            }
        }
        // Oldest first, which decides who makes room.
        self.attempts.sort_by_key(|attempt| attempt.since);
    }

    /// Steps 3 to 4.
    fn authenticate(&mut self, topics: &Topics, frame: &[u8], now: Instant) -> Result<Move, Rejected> {
        let auth_req = AuthReq::parse(frame)?;
        let id = *auth_req.attempt;
        let frame_digest = digest(&[frame]);
        if let Some(known) = self.attempts.iter().find(|attempt| attempt.id == id) {
            // The same AUTHREQ again: its answer was lost. Another one for the same attempt: no honest master sends it.
            let same = known.auth_req == frame_digest && known.session.topics == *topics;
            return if same { Ok(Move::Send(known.auth_ack.clone())) } else { Err(Rejected::Unexpected) };
        }
        let (epoch, schedule) =
            schedule_of(std::iter::once(&mut self.epoch).chain(&mut self.last_epoch), topics, &auth_req)?;
        if epoch.gone.contains(&id) {
            return Err(Rejected::Duplicate);
        }
        let plaintext = open_once(&schedule.hs_m(), auth_req.clear, auth_req.sealed)?;
        let (path, credentials) = split_path(&plaintext)?;
        let credentials = Credentials::parse(credentials)?;
        if path.len() > batch::LONGEST_PATH {
            return Err(Rejected::Length);
        }
        let name = std::str::from_utf8(credentials.name).map_err(|_| Rejected::NotAuthentic)?;
        let Some(peer) = self.party.peer(credentials.key).cloned() else {
            let mut refusal = AuthAck::clear(auth_req.attempt);
            refusal.push(Refusal::UnknownKey.code());
            let mac = refusal_mac(&schedule.refusal(), &refusal);
            refusal.extend_from_slice(&mac);
            return Ok(Move::Hint(Hint::UnknownKey(Fingerprint::of(credentials.key)), Some(refusal)));
        };
        let root = batch::climb(&schedule.master_leaf(name, credentials.key), path);
        peer.key.verify(&signed_by_master(&root), credentials.signature).map_err(|_| Rejected::NotAuthentic)?;

        let th2 = schedule.th2(frame);
        let agreed = auth_req.init_req.suite == self.party.suite.code();
        let verdict = [if agreed { VERDICT_AGREED } else { VERDICT_SUITE_DIFFERS }, self.party.suite.code()];
        let own = (self.party.name.as_str(), self.party.identity.public().der());
        let signed = signed_by_slave(&th2, &verdict, own.0, own.1);
        let signature = sign(&self.party.identity, &signed, &mut answer_rng(&epoch.key, frame))?;
        let mut answer = verdict.to_vec();
        Credentials { name: own.0.as_bytes(), key: own.1, signature: &signature }.put(&mut answer);
        let mut auth_ack = AuthAck::clear(auth_req.attempt);
        let sealed = seal_once(schedule.hs_s(&th2), &auth_ack, &answer);
        auth_ack.extend_from_slice(&sealed);
        if !agreed {
            let theirs = auth_req.init_req.suite;
            self.let_go(id);
            return Ok(Move::SuiteDiffers { peer: peer.name, theirs, frame: Some(auth_ack) });
        }

        let keys = schedule.session(&th2, &auth_ack, self.party.suite);
        let session = Established { keys, suite: self.party.suite, peer, topics: topics.clone() };
        self.make_room(&session);
        self.attempts.push(Attempt {
            id,
            auth_req: frame_digest,
            auth_ack: auth_ack.clone(),
            session,
            state: State::AwaitingRequest,
            since: now,
        });
        Ok(Move::Send(auth_ack))
    }

    fn make_room(&mut self, session: &Established) {
        let same_peer = |attempt: &Attempt| attempt.session.peer.key == session.peer.key;
        if self.attempts.iter().filter(|attempt| same_peer(attempt)).count() >= ATTEMPTS_PER_PEER
            && let Some(oldest) = self.attempts.iter().position(same_peer)
        {
            let oldest = self.attempts.remove(oldest);
            self.let_go(oldest.id);
        }
    }

    /// Remembers an attempt for as long as an epoch key could open its AUTHREQ again.
    fn let_go(&mut self, id: AttemptId) {
        self.epoch.gone.insert(id);
        if let Some(last) = &mut self.last_epoch {
            last.gone.insert(id);
        }
    }

    /// The attempt that step 5 or 7 is about, by its place, and the frame's MAC.
    fn attempt<'a>(&self, topics: &Topics, frame: &'a [u8], kind: Type) -> Result<(usize, &'a Digest), Rejected> {
        let ready = Ready::parse(frame, kind)?;
        let is_it = |attempt: &Attempt| attempt.id == *ready.attempt && attempt.session.topics == *topics;
        let at = self.attempts.iter().position(is_it);
        Ok((at.ok_or(Rejected::Unexpected)?, ready.mac))
    }

    /// Whether its master has gone on to a later attempt: a step 5 that was held back must not be stored over that one.
    fn is_superseded(&self, at: usize) -> bool {
        let waits = |attempt: &Attempt| matches!(attempt.state, State::AwaitingRequest);
        let peer = &self.attempts[at].session.peer.key;
        let mut later = self.attempts[at + 1..].iter().filter(|attempt| attempt.session.peer.key == *peer);
        waits(&self.attempts[at]) && later.any(|attempt| !waits(attempt))
    }
}

/// Step 2, made from nothing but the frame, the topics and an epoch key.
fn answer(epoch: &Key<Epoch>, topics: &Topics, init_req: &InitReq<'_>) -> Result<(Vec<u8>, Schedule), Rejected> {
    let mut rng = answer_rng(epoch, init_req.frame);
    let ours = encapsulate(init_req.x25519, init_req.encapsulation_key, &mut rng)?;
    let init_ack = InitAck::frame(&init_req_reference(init_req.frame), &ours.x25519, &ours.ciphertext);
    let schedule = Schedule::new(topics, init_req.frame, &init_ack, &ours.shared);
    Ok((init_ack, schedule))
}

/// The schedule of the attempt that AUTHREQ names, under whichever epoch key answered its INITREQ.
fn schedule_of<'e>(
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
        let (_, schedule) = answer(&epoch.key, topics, &auth_req.init_req)?;
        if known.is_none() {
            epoch.answers.put(asked, schedule.attempt());
        }
        if schedule.attempt() == *auth_req.attempt {
            return Ok((epoch, schedule));
        }
    }
    Err(Rejected::Unexpected)
}

impl Attempt {
    /// Step 6.
    fn ready(&self) -> Vec<u8> {
        confirm(Type::RdyAck, &self.id, Confirmation::SlaveReady, &self.session)
    }
}
