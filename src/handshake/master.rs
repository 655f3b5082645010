//! The master: sends INITREQ until a slave that it trusts answers, then sees the session stored on both ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::CryptoRng;

use super::{
    Established, Hint, Move, Party, Refusal, Repeat, VERDICT_AGREED, VERDICT_SUITE_DIFFERS, confirm,
    init_req_reference, sign,
};
use crate::Rejected;
use crate::crypto::exchange::Ephemeral;
use crate::crypto::schedule::{
    AttemptId, Confirmation, Digest, Schedule, Topics, digest, open_once, seal_once, signed_by_slave, verify_refusal,
};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, InitAck, InitReq, NONCE_LEN, Ready, Type};

/// INITACKs that are answered at the same time; the oldest makes room. A forged one costs the genuine one nothing.
const ATTEMPTS: usize = 8;
/// Time between two signatures, so that forged INITACKs cannot keep the processor busy.
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
    attempts: VecDeque<Attempt>,
}

/// One INITACK, and the AUTHREQ that answers it.
struct Attempt {
    schedule: Schedule,
    init_ack: Digest,
    auth_req: Vec<u8>,
    th2: Digest,
    sent: Instant,
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
        f.debug_struct("AwaitingAuthAck")
            .field("repeat", &self.repeat)
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

    /// The frame that is due at `now`, if one is.
    pub fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<Vec<u8>> {
        match &mut self.state {
            State::AwaitingAuthAck(state) => state.repeat.is_due(now, rng).then(|| state.init_req.clone()),
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
        Self { ephemeral, init_req, answers, repeat: Repeat::now(now), attempts: VecDeque::new() }
    }

    /// Step 2 to 3. An INITACK that came before gets the same AUTHREQ again: it was lost, or its answer was.
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
            // An INITACK repeated faster than INITREQ is somebody else's: it is no reason to send anything.
            if now < attempt.sent + SIGNATURE_EVERY {
                return Err(Rejected::Duplicate);
            }
            attempt.sent = now;
            return Ok(Move::Send(attempt.auth_req.clone()));
        }
        let left = signatures.spend(now).ok_or(Rejected::Unexpected)?;
        let shared = self.ephemeral.agree(init_ack.x25519, init_ack.ciphertext)?;
        let schedule = Schedule::new(topics, &self.init_req, frame, &shared);
        let name = party.name.as_str();
        let key = party.identity.public().der();
        let signature = sign(&party.identity, &schedule.signed_by_master(name, key), rng)?;
        let mut credentials = Vec::new();
        Credentials { name: name.as_bytes(), key, signature: &signature }.put(&mut credentials);
        let mut auth_req = AuthReq::clear(&schedule.attempt(), &self.init_req);
        let sealed = seal_once(schedule.hs_m(), &auth_req, &credentials);
        auth_req.extend_from_slice(&sealed);
        let th2 = schedule.th2(&auth_req);

        *signatures = left;
        if self.attempts.len() == ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(Attempt { schedule, init_ack: id, auth_req: auth_req.clone(), th2, sent: now });
        Ok(Move::Send(auth_req))
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

/// Checks an RDYACK.
fn check(frame: &[u8], attempt: &AttemptId, step: Confirmation, session: &Established) -> Result<(), Rejected> {
    let ready = Ready::parse(frame, Type::RdyAck)?;
    if ready.attempt != attempt {
        return Err(Rejected::Unexpected);
    }
    step.verify(&session.keys, ready.mac)
}
