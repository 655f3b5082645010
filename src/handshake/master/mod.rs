//! The master: sends INITREQ until a slave that it trusts answers, then sees the session stored on both ends.

mod authenticating;
mod budget;

use std::time::{Duration, Instant};

use rand::CryptoRng;

use self::authenticating::{AwaitingAuthAck, Verdict};
use self::budget::Budget;
use super::{Action, Claim, Established, Party, Repeat, confirm};
use crate::Rejected;
use crate::crypto::schedule::{AttemptId, Confirmation, Topics};
use crate::message::{FrameType, InitReq, Ready};

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
    /// With a code: every attempt that it was good for has failed.
    CodeErased,
}

/// Step 5.
#[derive(Debug)]
struct AwaitingSlaveReady {
    session: Established,
    attempt: AttemptId,
    repeat: Repeat,
    /// How often RDYREQ was sent.
    sent: u32,
}

/// Step 7.
#[derive(Debug)]
struct AwaitingSlaveDone {
    session: Established,
    attempt: AttemptId,
    leave: Instant,
}

impl Master {
    /// Begins, on these topics as both ends name them: INITREQ is due at once.
    pub fn new(party: Party, topics: Topics, now: Instant, rng: &mut impl CryptoRng) -> Self {
        let state = State::AwaitingAuthAck(AwaitingAuthAck::new(&party, now, rng));
        Self { party, topics, state, signatures: Budget::new(now) }
    }

    /// The topics of its handshake.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// This end of the link.
    #[must_use]
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// This end of the link.
    pub fn party_mut(&mut self) -> &mut Party {
        &mut self.party
    }

    /// When [`Master::poll`] has something to do, if nothing arrives before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::AwaitingAuthAck(state) => Some(state.deadline(&self.signatures)),
            State::AwaitingSlaveReady(state) => Some(state.repeat.due),
            State::AwaitingSlaveDone(state) => Some(state.leave),
            State::Finished | State::CodeErased => None,
        }
    }

    /// Whether the session is stored on both ends, as far as this end can know, and nothing is left to do.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Whether it was given a code that was of no use in any of the attempts that it is good for.
    #[must_use]
    pub fn is_code_erased(&self) -> bool {
        matches!(self.state, State::CodeErased)
    }

    /// A frame that is due at `now`, if one is; ask again until there is none.
    pub fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<Vec<u8>> {
        match &mut self.state {
            State::AwaitingAuthAck(state) if state.is_in_vain(now) => {
                let enrolment = self.party.enrolment.as_mut();
                if enrolment.is_some_and(|enrolment| enrolment.attempts_left() == 0 && enrolment.erase()) {
                    self.state = State::CodeErased;
                    return None;
                }
                self.state = State::AwaitingAuthAck(AwaitingAuthAck::new(&self.party, now, rng));
                self.poll(now, rng)
            }
            State::AwaitingAuthAck(state) => state.poll(&self.party, &mut self.signatures, now, rng),
            // With a code the slave may have used it up already: there is nothing to begin again with.
            State::AwaitingSlaveReady(state)
                if state.repeat.due <= now && state.sent >= UNANSWERED && self.party.enrolment.is_none() =>
            {
                self.state = State::AwaitingAuthAck(AwaitingAuthAck::new(&self.party, now, rng));
                self.poll(now, rng)
            }
            State::AwaitingSlaveReady(state) => state.repeat.is_due(now, rng).then(|| {
                state.sent += 1;
                confirm(FrameType::RdyReq, &state.attempt, Confirmation::Request, &state.session)
            }),
            State::AwaitingSlaveDone(state) => {
                if now >= state.leave {
                    self.state = State::Finished;
                }
                None
            }
            State::Finished | State::CodeErased => None,
        }
    }

    /// Takes one frame from the slave's topic.
    ///
    /// # Errors
    /// Whatever is wrong with the frame; the machine is then as it was.
    pub fn accept(&mut self, frame: &[u8], now: Instant, rng: &mut impl CryptoRng) -> Result<Action, Rejected> {
        match (FrameType::of(frame)?, &mut self.state) {
            (FrameType::InitReq, state) => {
                let ours = matches!(state, State::AwaitingAuthAck(state) if state.sends(frame));
                InitReq::parse(frame)?;
                if ours { Err(Rejected::Unexpected) } else { Ok(Action::Claim(Claim::OtherMaster, None)) }
            }
            (FrameType::InitAck, State::AwaitingAuthAck(state)) => {
                state.answer(&mut self.party, &self.topics, &mut self.signatures, frame, now, rng)
            }
            (FrameType::AuthAck, State::AwaitingAuthAck(state)) => {
                let (attempt, verdict) = state.verify(&self.party, &self.topics, frame)?;
                Ok(match verdict {
                    Verdict::Agreed(session) => {
                        let frame = confirm(FrameType::RdyReq, &attempt, Confirmation::Request, &session);
                        let repeat = Repeat::after(now, rng);
                        self.state =
                            State::AwaitingSlaveReady(AwaitingSlaveReady { session, attempt, repeat, sent: 1 });
                        Action::Send(frame)
                    }
                    Verdict::Other(other) => other,
                })
            }
            (FrameType::RdyAck, State::AwaitingSlaveReady(state)) => {
                check(frame, &state.attempt, Confirmation::SlaveReady, &state.session)?;
                let session = state.session.clone();
                let attempt = state.attempt;
                let frame = confirm(FrameType::RdyAck, &attempt, Confirmation::MasterReady, &session);
                self.state = State::AwaitingSlaveDone(AwaitingSlaveDone {
                    session: session.clone(),
                    attempt,
                    leave: now + LINGER,
                });
                Ok(Action::Store(Box::new(session), frame))
            }
            (FrameType::RdyAck, State::AwaitingSlaveDone(state)) => {
                if check(frame, &state.attempt, Confirmation::SlaveDone, &state.session).is_ok() {
                    self.state = State::Finished;
                    return Ok(Action::Finished);
                }
                check(frame, &state.attempt, Confirmation::SlaveReady, &state.session)?;
                state.leave = now + LINGER;
                Ok(Action::Send(confirm(FrameType::RdyAck, &state.attempt, Confirmation::MasterReady, &state.session)))
            }
            _ => Err(Rejected::Unexpected),
        }
    }
}

/// Checks an RDYACK.
fn check(frame: &[u8], attempt: &AttemptId, step: Confirmation, session: &Established) -> Result<(), Rejected> {
    let ready = Ready::parse(frame, FrameType::RdyAck)?;
    if ready.attempt != attempt {
        return Err(Rejected::Unexpected);
    }
    step.verify(&session.keys, ready.mac)
}
