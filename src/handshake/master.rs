//! The master: sends INITREQ until a slave that it trusts answers, then sees the session stored on both ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt};

use super::batch::{self, Batch, Leaf, Tree};
use super::{
    Established, Hint, Move, Party, Refusal, Repeat, VERDICT_AGREED, VERDICT_SUITE_DIFFERS, confirm,
    init_req_reference, sign,
};
use crate::Rejected;
use crate::crypto::exchange::Ephemeral;
use crate::crypto::schedule::{
    AttemptId, Confirmation, Digest, Schedule, Topics, digest, open_once, seal_once, signed_by_master, signed_by_slave,
    verify_refusal,
};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, InitAck, InitReq, NONCE_LEN, Ready, Type, put_path};

/// AUTHREQs that wait for their AUTHACK at the same time; the oldest makes room. At the pace of the signatures that is 4
/// seconds' worth, in less than 1 MiB.
const ATTEMPTS: usize = 4096;
/// Time between two signatures, so that forged INITACKs cannot keep the processor busy; each signs all that came meanwhile.
const SIGNATURE_EVERY: Duration = Duration::from_millis(250);
/// Signatures that may come without that time between them.
const SIGNATURE_BURST: u32 = 2;
/// RDYREQs without an answer after which the slave is taken to have started anew.
const UNANSWERED: u32 = 3;
/// How long after the last step 6 the master stays to answer another one: longer than the slave's first wait.
const LINGER: Duration = Duration::from_millis(1500);

/// The master's side of one pairing.
#[derive(Debug)]
pub struct Master {
    party: Party,
    topics: Topics,
    state: State,
    signatures: Budget,
}

#[derive(Debug)]
enum State {
    AwaitingAuthAck(AwaitingAuthAck),
    AwaitingSlaveReady(AwaitingSlaveReady),
    AwaitingSlaveDone(AwaitingSlaveDone),
    Finished,
}

/// Steps 1 to 3: one INITREQ, and an AUTHREQ for each INITACK that came for it.
struct AwaitingAuthAck {
    ephemeral: Ephemeral,
    init_req: Vec<u8>,
    answers: [u8; NONCE_LEN],
    repeat: Repeat,
    /// How often INITREQ was sent.
    sent: u32,
    /// INITACKs that wait for the next signature: at most [`batch::MOST`], of more any of them with the same chance.
    unsigned: Vec<Unsigned>,
    /// How many came since the last signature.
    came: usize,
    /// AUTHREQs that were made and not sent.
    outbox: VecDeque<AttemptId>,
    attempts: VecDeque<Attempt>,
}

/// One INITACK.
struct Unsigned {
    schedule: Schedule,
    init_ack: Digest,
}

/// One INITACK, and what the AUTHREQ that answers it is made of, each time the same.
struct Attempt {
    schedule: Schedule,
    init_ack: Digest,
    leaf: Leaf,
    th2: Digest,
    /// How often INITREQ had been sent when this was sent last.
    sent: u32,
}

/// Step 5.
#[derive(Debug)]
struct AwaitingSlaveReady {
    session: Established,
    attempt: AttemptId,
    repeat: Repeat,
    sent: u32,
}

/// Step 7.
#[derive(Debug)]
struct AwaitingSlaveDone {
    session: Established,
    attempt: AttemptId,
    leave: Instant,
}

impl std::fmt::Debug for AwaitingAuthAck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attempts: Vec<_> = self.attempts.iter().map(|attempt| (attempt.th2, attempt.sent)).collect();
        let unsigned: Vec<_> = self.unsigned.iter().map(|unsigned| unsigned.init_ack).collect();
        f.debug_struct("AwaitingAuthAck")
            .field("repeat", &self.repeat)
            .field("unsigned", &unsigned)
            .field("attempts", &attempts)
            .finish_non_exhaustive()
    }
}

/// A bucket of tokens: one a signature.
#[derive(Clone, Debug)]
struct Budget {
    tokens: u32,
    since: Instant,
}

impl Budget {
    /// The budget after spending one at `now`, if there is one to spend.
    fn spend(&self, now: Instant) -> Option<Self> {
        let earned = u32::try_from(now.saturating_duration_since(self.since).as_millis() / SIGNATURE_EVERY.as_millis())
            .unwrap_or(u32::MAX);
        let tokens = self.tokens.saturating_add(earned).min(SIGNATURE_BURST);
        let since = if earned > 0 { now } else { self.since };
        Some(Self { tokens: tokens.checked_sub(1)?, since })
    }

    /// When there is one to spend at the latest.
    fn next(&self) -> Instant {
        if self.tokens > 0 { self.since } else { self.since + SIGNATURE_EVERY }
    }
}

impl Master {
    /// Begins, on these topics as both ends name them: INITREQ is due at once.
    pub fn new(party: Party, topics: Topics, now: Instant, rng: &mut impl CryptoRng) -> Self {
        let state = State::AwaitingAuthAck(AwaitingAuthAck::new(&party, now, rng));
        Self { party, topics, state, signatures: Budget { tokens: SIGNATURE_BURST, since: now } }
    }

    /// The topics of its handshake.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// This end of the link.
    pub fn party_mut(&mut self) -> &mut Party {
        &mut self.party
    }

    /// When [`Master::poll`] has something to do, if nothing arrives before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::AwaitingAuthAck(state) if !state.outbox.is_empty() => Some(self.signatures.since),
            State::AwaitingAuthAck(state) if !state.unsigned.is_empty() => {
                Some(state.repeat.due.min(self.signatures.next()))
            }
            State::AwaitingAuthAck(state) => Some(state.repeat.due),
            State::AwaitingSlaveReady(state) => Some(state.repeat.due),
            State::AwaitingSlaveDone(state) => Some(state.leave),
            State::Finished => None,
        }
    }

    /// Whether the session is stored on both ends, as far as this end can know, and nothing is left to do.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// A frame that is due at `now`, if one is; ask again until there is none.
    pub fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<Vec<u8>> {
        match &mut self.state {
            State::AwaitingAuthAck(state) => {
                if state.repeat.is_due(now, rng) {
                    state.sent += 1;
                    return Some(state.init_req.clone());
                }
                state.sign(&self.party, &mut self.signatures, now, rng);
                state.next_auth_req(&self.party)
            }
            State::AwaitingSlaveReady(state) if state.repeat.due <= now && state.sent >= UNANSWERED => {
                self.state = State::AwaitingAuthAck(AwaitingAuthAck::new(&self.party, now, rng));
                self.poll(now, rng)
            }
            State::AwaitingSlaveReady(state) => state.repeat.is_due(now, rng).then(|| {
                state.sent += 1;
                confirm(Type::RdyReq, &state.attempt, Confirmation::Request, &state.session)
            }),
            State::AwaitingSlaveDone(state) => {
                if now >= state.leave {
                    self.state = State::Finished;
                }
                None
            }
            State::Finished => None,
        }
    }

    /// Takes one frame from the slave's topic.
    ///
    /// # Errors
    /// Whatever is wrong with the frame; the machine is then as it was.
    pub fn accept(&mut self, frame: &[u8], now: Instant, rng: &mut impl CryptoRng) -> Result<Move, Rejected> {
        match (Type::of(frame)?, &mut self.state) {
            (Type::InitReq, state) => {
                let ours = matches!(state, State::AwaitingAuthAck(state) if state.init_req == frame);
                InitReq::parse(frame)?;
                if ours { Err(Rejected::Unexpected) } else { Ok(Move::Hint(Hint::OtherMaster, None)) }
            }
            (Type::InitAck, State::AwaitingAuthAck(state)) => {
                state.answer(&self.party, &self.topics, &mut self.signatures, frame, now, rng)
            }
            (Type::AuthAck, State::AwaitingAuthAck(state)) => {
                let (attempt, verdict) = state.verify(&self.party, &self.topics, frame)?;
                Ok(match verdict {
                    Verdict::Agreed(session) => {
                        let frame = confirm(Type::RdyReq, &attempt, Confirmation::Request, &session);
                        let repeat = Repeat::after(now, rng);
                        self.state =
                            State::AwaitingSlaveReady(AwaitingSlaveReady { session, attempt, repeat, sent: 1 });
                        Move::Send(frame)
                    }
                    Verdict::Other(other) => other,
                })
            }
            (Type::RdyAck, State::AwaitingSlaveReady(state)) => {
                check(frame, &state.attempt, Confirmation::SlaveReady, &state.session)?;
                let session = state.session.clone();
                let attempt = state.attempt;
                let frame = confirm(Type::RdyAck, &attempt, Confirmation::MasterReady, &session);
                self.state = State::AwaitingSlaveDone(AwaitingSlaveDone {
                    session: session.clone(),
                    attempt,
                    leave: now + LINGER,
                });
                Ok(Move::Store(Box::new(session), frame))
            }
            (Type::RdyAck, State::AwaitingSlaveDone(state)) => {
                if check(frame, &state.attempt, Confirmation::SlaveDone, &state.session).is_ok() {
                    self.state = State::Finished;
                    return Ok(Move::Finished);
                }
                check(frame, &state.attempt, Confirmation::SlaveReady, &state.session)?;
                state.leave = now + LINGER;
                Ok(Move::Send(confirm(Type::RdyAck, &state.attempt, Confirmation::MasterReady, &state.session)))
            }
            _ => Err(Rejected::Unexpected),
        }
    }
}

/// The verified content of an AUTHACK.
enum Verdict {
    Agreed(Established),
    Other(Move),
}

impl AwaitingAuthAck {
    fn new(party: &Party, now: Instant, rng: &mut impl CryptoRng) -> Self {
        let ephemeral = Ephemeral::generate(rng);
        let mut random = [0; NONCE_LEN];
        rng.fill_bytes(&mut random);
        let init_req = InitReq::frame(&random, party.suite.code(), &ephemeral.x25519(), &ephemeral.encapsulation_key());
        let answers = init_req_reference(&init_req);
        Self {
            ephemeral,
            init_req,
            answers,
            repeat: Repeat::now(now),
            sent: 0,
            unsigned: Vec::new(),
            came: 0,
            outbox: VecDeque::new(),
            attempts: VecDeque::new(),
        }
    }

    /// Step 2 to 3. An INITACK that came before gets the same AUTHREQ again: it was lost, or its answer was. But the slave
    /// repeats itself only when INITREQ was repeated, so more often is no reason to send anything.
    fn answer(
        &mut self,
        party: &Party,
        topics: &Topics,
        signatures: &mut Budget,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Move, Rejected> {
        let init_ack = InitAck::parse(frame)?;
        if *init_ack.answers != self.answers {
            return Err(Rejected::Unexpected);
        }
        let id = digest(&[frame]);
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.init_ack == id) {
            if attempt.sent >= self.sent {
                return Err(Rejected::Duplicate);
            }
            attempt.sent = self.sent;
            return Ok(Move::Send(attempt.auth_req(party, &self.init_req)));
        }
        if self.unsigned.iter().any(|unsigned| unsigned.init_ack == id) {
            return Err(Rejected::Duplicate);
        }
        // Where there are more than one signature covers, each has the same chance, the genuine one as well.
        let place = if self.unsigned.len() < batch::MOST { self.came } else { rng.random_range(0..=self.came) };
        if place >= batch::MOST {
            self.came += 1;
            return Err(Rejected::Unexpected);
        }
        let shared = self.ephemeral.agree(init_ack.x25519, init_ack.ciphertext)?;
        let unsigned = Unsigned { schedule: Schedule::new(topics, &self.init_req, frame, &shared), init_ack: id };
        self.came += 1;
        match self.unsigned.get_mut(place) {
            Some(other) => *other = unsigned,
            None => self.unsigned.push(unsigned),
        }
        self.sign(party, signatures, now, rng);
        let latest = self.attempts.back().filter(|attempt| attempt.init_ack == id).map(|it| it.schedule.attempt());
        match latest {
            Some(attempt) if self.outbox.back() == Some(&attempt) => {
                let attempt = self.outbox.pop_back().and_then(|id| self.auth_req(party, &id));
                attempt.map(Move::Send).ok_or(Rejected::Unexpected)
            }
            _ => Ok(Move::Later),
        }
    }

    /// Signs what waits, if there is a signature to spend: an AUTHREQ for each goes into the outbox.
    fn sign(&mut self, party: &Party, signatures: &mut Budget, now: Instant, rng: &mut impl CryptoRng) {
        if self.unsigned.is_empty() {
            return;
        }
        let Some(left) = signatures.spend(now) else { return };
        *signatures = left;
        self.came = 0;
        let unsigned = std::mem::take(&mut self.unsigned);
        let (name, key) = (party.name.as_str(), party.identity.public().der());
        let tree = Tree::new(unsigned.iter().map(|one| one.schedule.master_leaf(name, key)).collect());
        // One that fails was a fault of the hardware: the INITACKs come again.
        let Ok(signature) = sign(&party.identity, &signed_by_master(&tree.root()), rng) else { return };
        let batch = Arc::new(Batch { tree, signature });
        for (at, Unsigned { schedule, init_ack }) in unsigned.into_iter().enumerate() {
            let leaf = Leaf { batch: batch.clone(), at };
            let mut attempt = Attempt { schedule, init_ack, leaf, th2: Digest::default(), sent: self.sent };
            attempt.th2 = attempt.schedule.th2(&attempt.auth_req(party, &self.init_req));
            if self.attempts.len() == ATTEMPTS {
                self.attempts.pop_front();
            }
            self.outbox.push_back(attempt.schedule.attempt());
            self.attempts.push_back(attempt);
        }
    }

    fn next_auth_req(&mut self, party: &Party) -> Option<Vec<u8>> {
        let id = self.outbox.pop_front()?;
        self.auth_req(party, &id)
    }

    /// Step 3 of an attempt, by its id: of those that were made last, most likely.
    fn auth_req(&self, party: &Party, id: &AttemptId) -> Option<Vec<u8>> {
        let attempt = self.attempts.iter().rev().find(|attempt| attempt.schedule.attempt() == *id)?;
        Some(attempt.auth_req(party, &self.init_req))
    }

    /// Step 4: under whichever of the attempts it verifies.
    fn verify(&self, party: &Party, topics: &Topics, frame: &[u8]) -> Result<(AttemptId, Verdict), Rejected> {
        let parsed = AuthAck::parse(frame)?;
        let (AuthAck::Answer { attempt: id, .. } | AuthAck::Refusal { attempt: id, .. }) = parsed;
        let attempt =
            self.attempts.iter().find(|attempt| attempt.schedule.attempt() == *id).ok_or(Rejected::Unexpected)?;
        let verdict = match parsed {
            AuthAck::Refusal { clear, reason, mac, .. } => {
                verify_refusal(&attempt.schedule.refusal(), clear, mac)?;
                Verdict::Other(Move::Hint(Hint::Refused(Refusal::from_code(reason)), None))
            }
            AuthAck::Answer { clear, sealed, .. } => {
                let plaintext = open_once(&attempt.schedule.hs_s(&attempt.th2), clear, sealed)?;
                let (verdict, rest) = plaintext.split_first_chunk::<2>().ok_or(Rejected::Length)?;
                let credentials = Credentials::parse(rest)?;
                let Some(peer) = party.peer(credentials.key) else {
                    let fingerprint = Fingerprint::of(credentials.key);
                    return Ok((*id, Verdict::Other(Move::Hint(Hint::UnknownKey(fingerprint), None))));
                };
                let name = std::str::from_utf8(credentials.name).map_err(|_| Rejected::NotAuthentic)?;
                let signed = signed_by_slave(&attempt.th2, verdict, name, credentials.key);
                peer.key.verify(&signed, credentials.signature).map_err(|_| Rejected::NotAuthentic)?;
                match *verdict {
                    [VERDICT_AGREED, suite] if suite == party.suite.code() => {
                        let keys = attempt.schedule.session(&attempt.th2, frame, party.suite);
                        Verdict::Agreed(Established {
                            keys,
                            suite: party.suite,
                            peer: peer.clone(),
                            topics: topics.clone(),
                        })
                    }
                    [VERDICT_SUITE_DIFFERS, theirs] => {
                        Verdict::Other(Move::SuiteDiffers { peer: peer.name.clone(), theirs, frame: None })
                    }
                    _ => return Err(Rejected::NotAuthentic),
                }
            }
        };
        Ok((*id, verdict))
    }
}

impl Attempt {
    /// Step 3: the same bytes each time.
    fn auth_req(&self, party: &Party, init_req: &[u8]) -> Vec<u8> {
        let Leaf { batch, at } = &self.leaf;
        let (name, key) = (party.name.as_str().as_bytes(), party.identity.public().der());
        let mut signed = Vec::new();
        put_path(&mut signed, &batch.tree.path(*at));
        Credentials { name, key, signature: &batch.signature }.put(&mut signed);
        let mut auth_req = AuthReq::clear(&self.schedule.attempt(), init_req);
        let sealed = seal_once(self.schedule.hs_m(), &auth_req, &signed);
        auth_req.extend_from_slice(&sealed);
        auth_req
    }
}

/// Checks an RDYACK.
fn check(frame: &[u8], attempt: &AttemptId, step: Confirmation, session: &Established) -> Result<(), Rejected> {
    let ready = Ready::parse(frame, Type::RdyAck)?;
    if ready.attempt != attempt {
        return Err(Rejected::Unexpected);
    }
    step.verify(&session.keys, ready.mac)
}
