//! The slave: answers every INITREQ and keeps nothing for it, then sees authenticated attempts through.
//!
//! All randomness of an answer comes from a generator keyed by the epoch key and the frame that is answered, so an equal
//! frame gets an equal answer, and AUTHREQ, which carries its INITREQ, is enough to make the attempt's keys again. A flood
//! of INITREQs costs one X25519 and one ML-KEM each, no memory and no RSA.

mod epoch;

use std::time::{Duration, Instant};

use rand::CryptoRng;

use self::epoch::{EPOCH, Generation, answer, schedule_of};
use super::batch;
use super::{
    Action, AuthRefusal, Claim, Established, Party, Repeat, VERDICT_AGREED, VERDICT_SUITE_DIFFERS, VERDICT_UNFIT,
    confirm, sign,
};
use crate::Rejected;
use crate::crypto::schedule::{
    AttemptId, Confirmation, Digest, Schedule, Topics, answer_rng, digest, open_once, refusal_mac, seal_once,
    signed_by_master, signed_by_slave,
};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, FrameType, InitReq, Ready, split_path};

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

impl Slave {
    /// Begins to listen.
    pub fn new(party: Party, now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self { party, epoch: Generation::new(now, rng), last_epoch: None, attempts: Vec::new() }
    }

    /// This end of the link.
    #[must_use]
    pub fn party(&self) -> &Party {
        &self.party
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
    ) -> Result<Action, Rejected> {
        self.turn_epoch(now, rng);
        match FrameType::of(frame)? {
            FrameType::InitReq => {
                let init_req = InitReq::parse(frame)?;
                match (&self.party.enrolment, init_req.share) {
                    (None, Some(_)) => return Ok(Action::Claim(Claim::CodeThere, None)),
                    (Some(enrolment), None) if enrolment.is_alive() => return Ok(Action::Claim(Claim::CodeHere, None)),
                    _ => {}
                }
                let (init_ack, _) = answer(&self.party, &self.epoch.key, topics, &init_req)?;
                Ok(Action::Send(init_ack))
            }
            FrameType::AuthReq => self.authenticate(topics, frame, now),
            FrameType::RdyReq => {
                let (at, mac) = self.attempt(topics, frame, FrameType::RdyReq)?;
                Confirmation::Request.verify(&self.attempts[at].session.keys, mac)?;
                if self.is_superseded(at) {
                    return Err(Rejected::Unexpected);
                }
                let attempt = &mut self.attempts[at];
                let ready = attempt.ready();
                if matches!(attempt.state, State::AwaitingRequest) {
                    // The code dies at its first success: another attempt that had it, too, comes too late.
                    if self.party.enrolment.as_mut().is_some_and(|enrolment| !enrolment.erase()) {
                        return Err(Rejected::Unexpected);
                    }
                    attempt.state = State::AwaitingMasterReady(Some(Repeat::after(now, rng)));
                    return Ok(Action::Store(Box::new(attempt.session.clone()), ready));
                }
                Ok(Action::Send(ready))
            }
            FrameType::RdyAck => {
                let (at, mac) = self.attempt(topics, frame, FrameType::RdyAck)?;
                let attempt = &mut self.attempts[at];
                Confirmation::MasterReady.verify(&attempt.session.keys, mac)?;
                let done = confirm(FrameType::RdyAck, &attempt.id, Confirmation::SlaveDone, &attempt.session);
                match attempt.state {
                    // Step 7 follows from step 6, which this slave has not sent: a master that runs ahead.
                    State::AwaitingRequest => Err(Rejected::Unexpected),
                    State::AwaitingMasterReady(_) => {
                        attempt.state = State::Done;
                        Ok(Action::Promote(Box::new(attempt.session.clone()), done))
                    }
                    State::Done => Ok(Action::Send(done)),
                }
            }
            FrameType::InitAck | FrameType::AuthAck | FrameType::Enc | FrameType::Kill => Err(Rejected::Unexpected),
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
    fn authenticate(&mut self, topics: &Topics, frame: &[u8], now: Instant) -> Result<Action, Rejected> {
        let auth_req = AuthReq::parse(frame)?;
        let id = *auth_req.attempt;
        let frame_digest = digest(&[frame]);
        if let Some(known) = self.attempts.iter().find(|attempt| attempt.id == id) {
            // The same AUTHREQ again: its answer was lost. Another one for the same attempt: no honest master sends it.
            let same = known.auth_req == frame_digest && known.session.topics == *topics;
            return if same { Ok(Action::Send(known.auth_ack.clone())) } else { Err(Rejected::Unexpected) };
        }
        let (epoch, schedule) =
            schedule_of(&self.party, std::iter::once(&mut self.epoch).chain(&mut self.last_epoch), topics, &auth_req)?;
        if epoch.gone.contains(&id) {
            return Err(Rejected::Duplicate);
        }
        let th2 = schedule.th2(frame);
        let plaintext = match open_once(&schedule.hs_m(), auth_req.clear, auth_req.sealed) {
            Ok(plaintext) => plaintext,
            Err(rejected) => return self.count(id, &schedule, &th2).ok_or(rejected),
        };
        let (path, credentials) = split_path(&plaintext)?;
        let credentials = Credentials::parse(credentials)?;
        if path.len() > batch::LONGEST_PATH {
            return Err(Rejected::Length);
        }
        let name = std::str::from_utf8(credentials.name).map_err(|_| Rejected::NotAuthentic)?;
        let Some(peer) = self.party.sender(&credentials)? else {
            let frame = refuse(AuthRefusal::UnknownKey, id, &schedule, &th2);
            return Ok(Action::Claim(Claim::UnknownKey(Fingerprint::of(credentials.key)), Some(frame)));
        };
        let root = batch::climb(&schedule.master_leaf(name, credentials.key), path);
        peer.key.verify(&signed_by_master(&root), credentials.signature).map_err(|_| Rejected::NotAuthentic)?;

        let theirs = auth_req.init_req.suite;
        let unfit = self.party.unfit(&peer);
        let verdict = match &unfit {
            Some(_) => VERDICT_UNFIT,
            None if theirs == self.party.suite.code() => VERDICT_AGREED,
            None => VERDICT_SUITE_DIFFERS,
        };
        let verdict = [verdict, self.party.suite.code()];
        let own = (self.party.name.as_str(), self.party.identity.public().der());
        let signed = signed_by_slave(&th2, &verdict, own.0, own.1);
        let signature = sign(&self.party.identity, &signed, &mut answer_rng(&epoch.key, frame))?;
        let mut answer = verdict.to_vec();
        Credentials { name: own.0.as_bytes(), key: own.1, signature: &signature }.put(&mut answer);
        let mut auth_ack = AuthAck::clear(auth_req.attempt);
        let sealed = seal_once(schedule.hs_s(&th2), &auth_ack, &answer);
        auth_ack.extend_from_slice(&sealed);
        if verdict[0] != VERDICT_AGREED {
            self.let_go(id);
            let frame = Some(auth_ack);
            return Ok(match unfit {
                Some(_) => Action::EnrolmentConflict { peer, why: unfit, frame },
                None => Action::SuiteDiffers { peer: peer.name, theirs, frame },
            });
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
        Ok(Action::Send(auth_ack))
    }

    /// An AUTHREQ of this attempt did not open. With a code that is a guess: counted once an attempt, whatever is sent in
    /// it, since one share is good for one guess. `None` without a code: whatever it is, it is nothing to answer.
    fn count(&mut self, id: AttemptId, schedule: &Schedule, th2: &Digest) -> Option<Action> {
        let enrolment = self.party.enrolment.as_mut()?;
        let fresh = enrolment.count(id);
        let erased = enrolment.attempts_left() == 0;
        if erased {
            enrolment.erase();
        }
        let frame = refuse(if erased { AuthRefusal::CodeErased } else { AuthRefusal::WrongCode }, id, schedule, th2);
        Some(if fresh { Action::WrongCode { erased, frame: Some(frame) } } else { Action::Send(frame) })
    }

    fn make_room(&mut self, session: &Established) {
        // Who has the code may show any number of keys.
        let coded = self.party.enrolment.is_some();
        let same_peer = |attempt: &Attempt| coded || attempt.session.peer.key == session.peer.key;
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
    fn attempt<'a>(
        &self,
        topics: &Topics,
        frame: &'a [u8],
        frame_type: FrameType,
    ) -> Result<(usize, &'a Digest), Rejected> {
        let ready = Ready::parse(frame, frame_type)?;
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

/// Step 4 where the master is refused.
fn refuse(why: AuthRefusal, id: AttemptId, schedule: &Schedule, th2: &Digest) -> Vec<u8> {
    let mut frame = AuthAck::clear(&id);
    frame.push(why.code());
    let mac = refusal_mac(&schedule.refusal(th2), &frame);
    frame.extend_from_slice(&mac);
    frame
}

impl Attempt {
    /// Step 6.
    fn ready(&self) -> Vec<u8> {
        confirm(FrameType::RdyAck, &self.id, Confirmation::SlaveReady, &self.session)
    }
}
