//! The master: sends INITREQ until a slave that it trusts answers, then waits until the session is stored on both ends.

mod attempt;
mod awaiting_auth_ack;
mod signature_budget;

use std::time::{Duration, Instant};

use rand::CryptoRng;

use self::attempt::AuthAckOutcome;
use self::awaiting_auth_ack::AwaitingAuthAck;
use self::signature_budget::SignatureBudget;
use super::{Action, Claim, Enrolment, Established, Party, Repeat, confirm};
use crate::Rejected;
use crate::crypto::schedule::{AttemptId, Confirmation, Topics};
use crate::message::{FrameType, InitReq, Ready};

/// RDYREQs without an answer after which the slave is assumed to have started anew.
const MAX_UNANSWERED_RDY_REQS: u32 = 3;
/// How long the master waits for step 8 after the last step 6, to answer another one: longer than the slave's first wait.
const SLAVE_DONE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The master's side of one pairing.
#[derive(Debug)]
pub(super) struct Master {
    party: Party,
    topics: Topics,
    state: MasterState,
    signatures: SignatureBudget,
}

#[derive(Debug)]
enum MasterState {
    /// Before [`Master::begin`].
    Idle,
    AwaitingAuthAck(Box<AwaitingAuthAck>),
    AwaitingSlaveReady(AwaitingSlaveReady),
    AwaitingSlaveDone(AwaitingSlaveDone),
    Finished,
    /// With a code: every attempt that it was good for has failed.
    CodeUsedUp,
}

/// Step 5 was sent.
#[derive(Debug)]
struct AwaitingSlaveReady {
    session: Established,
    attempt: AttemptId,
    repeat: Repeat,
    /// How often RDYREQ was sent.
    sent: u32,
}

/// Step 7 was sent.
#[derive(Debug)]
struct AwaitingSlaveDone {
    session: Established,
    attempt: AttemptId,
    until: Instant,
}

impl Master {
    /// A master that is idle until [`Master::begin`].
    pub(super) fn new(party: Party, topics: Topics, now: Instant) -> Self {
        Self { party, topics, state: MasterState::Idle, signatures: SignatureBudget::new(now) }
    }

    /// Begins, or begins again: step 1 is due at once.
    pub(super) fn begin(&mut self, now: Instant, rng: &mut impl CryptoRng) {
        self.state =
            MasterState::AwaitingAuthAck(Box::new(AwaitingAuthAck::new(&self.party, self.topics.clone(), now, rng)));
    }

    /// Gives up what is under way, and is idle.
    pub(super) fn cease(&mut self) {
        self.state = MasterState::Idle;
    }

    /// The topics of its handshake.
    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// This end of the link.
    pub(super) fn party_mut(&mut self) -> &mut Party {
        &mut self.party
    }

    /// When [`Master::poll`] has something to do, if nothing arrives before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            MasterState::AwaitingAuthAck(state) => Some(state.deadline(&self.signatures)),
            MasterState::AwaitingSlaveReady(state) => Some(state.repeat.due),
            MasterState::AwaitingSlaveDone(state) => Some(state.until),
            MasterState::Idle | MasterState::Finished | MasterState::CodeUsedUp => None,
        }
    }

    /// Whether the session is stored on both ends, as far as this end can know, and nothing is left to do.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.state, MasterState::Finished)
    }

    /// Whether the code was of no use in any of the attempts that it is good for.
    pub(super) fn is_code_used_up(&self) -> bool {
        matches!(self.state, MasterState::CodeUsedUp)
    }

    /// A frame that is due at `now`, if one is; call again until there is none.
    pub(super) fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<Vec<u8>> {
        match &mut self.state {
            MasterState::AwaitingAuthAck(state) if state.is_unanswered(now) => {
                let is_last = |enrolment: &mut Enrolment| enrolment.attempts_left() == 0 && enrolment.erase();
                if self.party.enrolment_mut().is_some_and(is_last) {
                    self.state = MasterState::CodeUsedUp;
                    return None;
                }
                self.begin(now, rng);
                self.poll(now, rng)
            }
            MasterState::AwaitingAuthAck(state) => state.poll(&self.party, &mut self.signatures, now, rng),
            // With a code the slave may have used it up already: a new attempt would fail.
            MasterState::AwaitingSlaveReady(state) if state.is_unanswered(now) && self.party.enrolment().is_none() => {
                self.begin(now, rng);
                self.poll(now, rng)
            }
            MasterState::AwaitingSlaveReady(state) => state.poll(now, rng),
            MasterState::AwaitingSlaveDone(state) => {
                if now >= state.until {
                    self.state = MasterState::Finished;
                }
                None
            }
            MasterState::Idle | MasterState::Finished | MasterState::CodeUsedUp => None,
        }
    }

    /// Takes one frame from the slave's topic.
    ///
    /// # Errors
    /// The reason why the frame was rejected; the machine has not changed then.
    pub(super) fn accept(&mut self, frame: &[u8], now: Instant, rng: &mut impl CryptoRng) -> Result<Action, Rejected> {
        match (FrameType::of(frame)?, &mut self.state) {
            (_, MasterState::Idle) => Err(Rejected::Unexpected),
            (FrameType::InitReq, _) => self.reject_init_req(frame),
            (FrameType::InitAck, MasterState::AwaitingAuthAck(state)) => {
                state.answer(&mut self.party, &mut self.signatures, frame, now, rng)
            }
            (FrameType::AuthAck, MasterState::AwaitingAuthAck(state)) => {
                let (attempt, outcome) = state.verify(&self.party, frame)?;
                Ok(match outcome {
                    AuthAckOutcome::Agreed(session) => {
                        let state = AwaitingSlaveReady::new(session, attempt, now, rng);
                        let rdy_req = state.rdy_req();
                        self.state = MasterState::AwaitingSlaveReady(state);
                        Action::Send(rdy_req)
                    }
                    AuthAckOutcome::Declined(action) => action,
                })
            }
            (FrameType::RdyAck, MasterState::AwaitingSlaveReady(state)) => {
                let next = state.accept(frame, now)?;
                let (session, rdy_ack) = (Box::new(next.session.clone()), next.rdy_ack());
                self.state = MasterState::AwaitingSlaveDone(next);
                Ok(Action::StoreCurrent(session, rdy_ack))
            }
            (FrameType::RdyAck, MasterState::AwaitingSlaveDone(state)) => {
                let action = state.accept(frame, now)?;
                if matches!(action, Action::Finished(_)) {
                    self.state = MasterState::Finished;
                }
                Ok(action)
            }
            _ => Err(Rejected::Unexpected),
        }
    }

    /// An INITREQ is this master's own, as the broker returns it, or comes from another master.
    fn reject_init_req(&self, frame: &[u8]) -> Result<Action, Rejected> {
        let is_own = matches!(&self.state, MasterState::AwaitingAuthAck(state) if state.sends(frame));
        InitReq::parse(frame)?;
        if is_own { Err(Rejected::Unexpected) } else { Ok(Action::Claim(Claim::OtherMaster, None)) }
    }
}

impl AwaitingSlaveReady {
    fn new(session: Established, attempt: AttemptId, now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self { session, attempt, repeat: Repeat::after(now, rng), sent: 1 }
    }

    /// Step 5.
    fn rdy_req(&self) -> Vec<u8> {
        confirm(FrameType::RdyReq, &self.attempt, Confirmation::Request, &self.session)
    }

    /// Whether the slave has had its time to answer.
    fn is_unanswered(&self, now: Instant) -> bool {
        self.repeat.due <= now && self.sent >= MAX_UNANSWERED_RDY_REQS
    }

    /// Step 5 again, if it is due.
    fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<Vec<u8>> {
        self.repeat.is_due(now, rng).then(|| {
            self.sent += 1;
            self.rdy_req()
        })
    }

    /// Step 6.
    fn accept(&self, frame: &[u8], now: Instant) -> Result<AwaitingSlaveDone, Rejected> {
        verify(frame, &self.attempt, Confirmation::SlaveReady, &self.session)?;
        Ok(AwaitingSlaveDone { session: self.session.clone(), attempt: self.attempt, until: now + SLAVE_DONE_TIMEOUT })
    }
}

impl AwaitingSlaveDone {
    /// Step 7.
    fn rdy_ack(&self) -> Vec<u8> {
        confirm(FrameType::RdyAck, &self.attempt, Confirmation::MasterReady, &self.session)
    }

    /// Step 8, or step 6 again: then step 7 was lost.
    fn accept(&mut self, frame: &[u8], now: Instant) -> Result<Action, Rejected> {
        if verify(frame, &self.attempt, Confirmation::SlaveDone, &self.session).is_ok() {
            return Ok(Action::Finished(Box::new(self.session.clone())));
        }
        verify(frame, &self.attempt, Confirmation::SlaveReady, &self.session)?;
        self.until = now + SLAVE_DONE_TIMEOUT;
        Ok(Action::Send(self.rdy_ack()))
    }
}

/// Verifies an RDYACK.
fn verify(frame: &[u8], attempt: &AttemptId, step: Confirmation, session: &Established) -> Result<(), Rejected> {
    let ready = Ready::parse(frame, FrameType::RdyAck)?;
    if ready.attempt != attempt {
        return Err(Rejected::Unexpected);
    }
    step.verify(&session.keys, ready.mac)
}
