//! The slave: answers every INITREQ and keeps nothing for it, then sees authenticated attempts through.
//!
//! All randomness of an INITACK comes from a generator that is keyed by the epoch key and the INITREQ. So equal INITREQs get
//! equal answers, and AUTHREQ, which carries its INITREQ, is enough to make the attempt's keys again. A flood of INITREQs
//! costs one X25519 and one ML-KEM each, no memory and no RSA. An AUTHREQ costs nothing of that without the cookie of the
//! INITACK.
//!
//! One signature answers all AUTHREQs that were verified since the previous one: it is made when the caller polls, which it
//! does when no other frame waits.

mod attempt;
mod attempts;
mod epoch;
mod other_answers;

use std::collections::VecDeque;
use std::time::Instant;

use rand::CryptoRng;

use self::attempt::{AttemptState, ReceivedAuthReq, UnsignedAnswer, VerifiedAttempt};
use self::attempts::Attempts;
use self::epoch::Epochs;
use self::other_answers::OtherAnswers;
use super::merkle::{MAX_LEAVES, MerkleTree};
use super::verdict::Verdict;
use super::{
    AcceptedPeers, Action, AuthRefusal, Claim, EnrolmentConflict, Established, HandshakeFailure, KeyExchange, Party,
    Repeat, sign,
};
use crate::Rejected;
use crate::crypto::schedule::{Confirmation, Digest, Topics, digest, signed_by_slave};
use crate::message::{AuthReq, FrameType, InitReq, Ready, SessionTag};
use crate::role::Role;
use crate::session::SessionId;

/// The slave's side of all pairings on a link.
#[derive(Debug)]
pub(super) struct Slave {
    party: Party,
    epochs: Epochs,
    attempts: Attempts,
    /// Verified AUTHREQs that the next signature answers, at most [`MAX_LEAVES`].
    unsigned: Vec<UnsignedAnswer>,
    /// What was signed and is not sent.
    outbox: VecDeque<(Topics, Action)>,
    other_answers: OtherAnswers,
}

impl Slave {
    /// A slave that answers from now on.
    pub(super) fn new(party: Party, now: Instant, rng: &mut impl CryptoRng) -> Self {
        let (epochs, attempts) = (Epochs::new(now, rng), Attempts::new(party.enrolment().is_some()));
        let (unsigned, outbox, other_answers) = (Vec::new(), VecDeque::new(), OtherAnswers::default());
        Self { party, epochs, attempts, unsigned, outbox, other_answers }
    }

    /// This end of the link.
    #[cfg(test)]
    pub(super) fn party(&self) -> &Party {
        &self.party
    }

    /// Its epochs.
    #[cfg(test)]
    pub(super) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    #[cfg(test)]
    pub(super) fn epochs_mut(&mut self) -> &mut Epochs {
        &mut self.epochs
    }

    #[cfg(test)]
    pub(super) fn kept_attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Replaces this end of the link, and discards the attempts of peers that it does not accept. If it had a code, the new
    /// one has a code, too.
    pub(super) fn set_party(&mut self, party: Party) {
        self.party = party;
        self.discard_strangers();
    }

    /// Replaces the pinned peers, and discards the attempts of all others.
    pub(super) fn set_peers(&mut self, peers: AcceptedPeers) {
        self.party.set_peers(peers);
        self.discard_strangers();
    }

    fn discard_strangers(&mut self) {
        let Self { party, attempts, unsigned, .. } = self;
        attempts.retain(|attempt| party.accepts(&attempt.session.peer));
        unsigned.retain(|answer| party.accepts(&answer.peer));
    }

    /// When [`Slave::poll`] has something to do, if nothing arrives before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // Anyone who recorded an INITREQ and gets its epoch key knows what was agreed: the key must go in time even if
        // nothing arrives any more.
        self.attempts.next_repeat().into_iter().chain([self.epochs.end()]).min()
    }

    /// What is due at `now`, if anything is, and the topics of its handshake; call again until there is nothing. Signs what
    /// waits for that.
    pub(super) fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<(Topics, Action)> {
        self.rotate_epoch(now, rng);
        if self.outbox.is_empty() {
            // Signing only fails by a fault of the hardware; the next poll tries again.
            let _ = self.sign_answers(now, rng);
        }
        self.outbox.pop_front().or_else(|| self.other_slave_claim()).or_else(|| self.poll_repeats(now, rng))
    }

    /// Whether the next poll signs.
    pub(super) fn has_unsigned_answers(&self) -> bool {
        !self.unsigned.is_empty()
    }

    fn other_slave_claim(&mut self) -> Option<(Topics, Action)> {
        self.other_answers.take().map(|topics| (topics, Action::Claim(Claim::OtherSlave, None)))
    }

    fn poll_repeats(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<(Topics, Action)> {
        let attempt = self.attempts.poll_repeat(now, rng)?;
        Some((attempt.session.topics.clone(), Action::Send(attempt.slave_ready())))
    }

    /// Which key exchange it would cost to answer this frame, if that can be told without one.
    pub(super) fn key_exchange(&mut self, topics: &Topics, frame: &[u8]) -> Result<Option<KeyExchange>, Rejected> {
        match FrameType::of(frame)? {
            FrameType::InitReq => InitReq::parse(frame).map(|_| Some(KeyExchange::InitReq)),
            FrameType::AuthReq => {
                let parsed = AuthReq::parse(frame)?;
                if self.attempts.get(parsed.attempt).is_some() {
                    return Ok(None);
                }
                let (init_req, has_recent) = self.epochs.has_recent(topics, &parsed);
                self.other_answers.note(init_req, has_recent.is_ok(), topics);
                Ok((!has_recent?).then_some(KeyExchange::AuthReq))
            }
            _ => Ok(None),
        }
    }

    /// Notes that the master of this session proved to have it in another way than by step 7: by a message under its key.
    /// Returns the session if it was pending.
    pub(super) fn mark_proved(&mut self, session: SessionId) -> Option<Established> {
        let attempt = self.attempts.of_pending(session)?;
        let (id, session) = (attempt.id, attempt.session.clone());
        self.attempts.finish(&id);
        Some(session)
    }

    /// The sessions that are stored as pending and wait for their master's proof.
    pub(super) fn pending(&self) -> impl Iterator<Item = &Established> {
        self.attempts.pending()
    }

    /// Those of them to which a sealed message with this tag may belong.
    pub(super) fn pending_with(&self, tag: SessionTag) -> impl Iterator<Item = &Established> {
        self.attempts.pending_with(tag)
    }

    /// Takes one frame from a master's topic; `topics` are that one and the one to answer on. An attempt's frames all
    /// belong to the same two.
    ///
    /// # Errors
    /// The reason why the frame was rejected; the machine has not changed then.
    pub(super) fn accept(
        &mut self,
        topics: &Topics,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        self.rotate_epoch(now, rng);
        match FrameType::of(frame)? {
            FrameType::InitReq => self.answer_init_req(topics, frame),
            FrameType::AuthReq => self.authenticate(topics, frame, now, rng),
            FrameType::RdyReq => self.accept_request(topics, frame, now, rng),
            FrameType::RdyAck => self.accept_master_ready(topics, frame),
            FrameType::InitAck | FrameType::AuthAck | FrameType::Enc | FrameType::Kill | FrameType::Will => {
                Err(Rejected::Unexpected)
            }
        }
    }

    /// A slave that serves for months keeps what is under way, and nothing else.
    fn rotate_epoch(&mut self, now: Instant, rng: &mut impl CryptoRng) {
        if self.epochs.rotate(now, rng) {
            for id in self.attempts.discard_expired(now) {
                self.epochs.discard(id);
            }
        }
    }

    /// Steps 1 to 2. Nothing is kept.
    fn answer_init_req(&self, topics: &Topics, frame: &[u8]) -> Result<Action, Rejected> {
        let init_req = InitReq::parse(frame)?;
        match (self.party.enrolment(), init_req.share) {
            (None, Some(_)) => return Ok(Action::Claim(Claim::PeerHasCode, None)),
            (Some(enrolment), None) if enrolment.is_usable() => {
                return Ok(Action::Claim(Claim::PeerHasNoCode, None));
            }
            _ => {}
        }
        self.epochs.current().answer(&self.party, topics, &init_req).map(Action::Send)
    }

    /// Step 3. An authentic master gets its answer from a later poll.
    fn authenticate(
        &mut self,
        topics: &Topics,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        let parsed = AuthReq::parse(frame)?;
        if let Some(known) = self.attempts.get(parsed.attempt) {
            // The same AUTHREQ again: its answer was lost. Another one for the same attempt: no honest master sends it.
            let same = known.auth_req == digest(&[frame]) && known.session.topics == *topics;
            return if same { Ok(Action::Send(known.auth_ack.clone())) } else { Err(Rejected::Unexpected) };
        }
        if self.unsigned.iter().any(|answer| answer.id == *parsed.attempt) {
            return Err(Rejected::Duplicate);
        }
        let attempt = self.epochs.attempt(&self.party, topics, &parsed)?;
        let mut auth_req = ReceivedAuthReq::new(parsed, frame, attempt);
        let plaintext = match auth_req.open() {
            Ok(plaintext) => plaintext,
            Err(rejected) => return count_wrong_code(&mut self.party, &auth_req).ok_or(rejected),
        };
        match auth_req.verify(&self.party, topics, &plaintext)? {
            Ok(answer) => {
                self.unsigned.push(answer);
                if self.unsigned.len() == MAX_LEAVES {
                    self.sign_answers(now, rng)?;
                }
                Ok(Action::Wait)
            }
            Err(unknown) => {
                let refusal = auth_req.refuse(AuthRefusal::UnknownKey);
                Ok(Action::Claim(Claim::UnknownKey(unknown), Some(refusal)))
            }
        }
    }

    /// Step 4 for all authentic masters that wait for it: a verdict for each, under one signature.
    fn sign_answers(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<(), Rejected> {
        if self.unsigned.is_empty() {
            return Ok(());
        }
        let party = &self.party;
        let verdicts: Vec<_> = self.unsigned.iter().map(|answer| verdict(party, answer)).collect();
        let leaves = self.unsigned.iter().zip(&verdicts).map(|(answer, (verdict, _))| answer.leaf(party, *verdict));
        let tree = MerkleTree::new(leaves.collect());
        let signature = sign(&party.identity, &signed_by_slave(&tree.root()), rng)?;
        let unsigned = std::mem::take(&mut self.unsigned);
        for (index, (answer, (verdict, conflict))) in unsigned.into_iter().zip(verdicts).enumerate() {
            let (suite, peer) = (answer.suite, answer.peer.clone());
            let attempt = answer.answer(&self.party, verdict, &tree.path(index), &signature, now);
            let auth_ack = attempt.auth_ack.clone();
            let action = match verdict {
                Verdict::Agreed => Action::MasterAuthenticated(auth_ack),
                Verdict::SuiteDiffers => {
                    Action::Fail(HandshakeFailure::SuiteDiffers { peer: peer.name, theirs: suite }, Some(auth_ack))
                }
                Verdict::EnrolmentConflict => {
                    Action::Fail(HandshakeFailure::EnrolmentConflict { peer, conflict }, Some(auth_ack))
                }
            };
            self.outbox.push_back((attempt.session.topics.clone(), action));
            if let Some(oldest) = self.attempts.keep(attempt) {
                self.epochs.discard(oldest);
            }
        }
        Ok(())
    }

    /// Steps 5 to 6.
    fn accept_request(
        &mut self,
        topics: &Topics,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        let (attempt, mac) = self.find(topics, frame, FrameType::RdyReq)?;
        Confirmation::Request.verify(&attempt.session.keys, mac)?;
        if self.attempts.is_superseded(attempt) {
            return Err(Rejected::Unexpected);
        }
        let slave_ready = attempt.slave_ready();
        if !attempt.awaits_request() {
            return Ok(Action::Send(slave_ready));
        }
        let (id, session) = (attempt.id, Box::new(attempt.session.clone()));
        // The code is erased at its first success: another attempt that had it, too, comes too late.
        if self.party.enrolment_mut().is_some_and(|enrolment| !enrolment.erase()) {
            return Err(Rejected::Unexpected);
        }
        self.attempts.await_master_ready(&id, Repeat::after(now, rng));
        Ok(Action::StorePending(session, slave_ready))
    }

    /// Steps 7 to 8.
    fn accept_master_ready(&mut self, topics: &Topics, frame: &[u8]) -> Result<Action, Rejected> {
        let (attempt, mac) = self.find(topics, frame, FrameType::RdyAck)?;
        Confirmation::MasterReady.verify(&attempt.session.keys, mac)?;
        let slave_done = attempt.slave_done();
        match attempt.state {
            // Step 7 follows from step 6, which this slave has not sent: a master that runs ahead.
            AttemptState::Declined | AttemptState::AwaitingRequest => Err(Rejected::Unexpected),
            AttemptState::AwaitingMasterReady(_) => {
                let (id, session) = (attempt.id, Box::new(attempt.session.clone()));
                self.attempts.finish(&id);
                Ok(Action::Promote(session, slave_done))
            }
            AttemptState::Done => Ok(Action::Send(slave_done)),
        }
    }

    /// The attempt that step 5 or 7 is about, and the frame's MAC.
    fn find<'a>(
        &self,
        topics: &Topics,
        frame: &'a [u8],
        frame_type: FrameType,
    ) -> Result<(&VerifiedAttempt, &'a Digest), Rejected> {
        let ready = Ready::parse(frame, frame_type)?;
        let goes_on = |attempt: &&VerifiedAttempt| {
            !matches!(attempt.state, AttemptState::Declined) && attempt.session.topics == *topics
        };
        let attempt = self.attempts.get(ready.attempt).filter(goes_on);
        Ok((attempt.ok_or(Rejected::Unexpected)?, ready.mac))
    }
}

/// What an authentic master is told, and why it cannot be pinned, if it cannot.
fn verdict(party: &Party, answer: &UnsignedAnswer) -> (Verdict, Option<EnrolmentConflict>) {
    let conflict = party.conflict(&answer.peer);
    let verdict = match &conflict {
        Some(_) => Verdict::EnrolmentConflict,
        None if answer.suite == party.suite.code() => Verdict::Agreed,
        None => Verdict::SuiteDiffers,
    };
    (verdict, conflict)
}

/// An AUTHREQ did not open. With a code that is a guess. It is counted once per attempt, whatever is sent in it, since one
/// share is good for one guess. `None` without a code: such a frame is not answered.
fn count_wrong_code(party: &mut Party, auth_req: &ReceivedAuthReq<'_>) -> Option<Action> {
    let enrolment = party.enrolment_mut()?;
    let fresh = enrolment.count(auth_req.id());
    let left = enrolment.attempts_left();
    if left == 0 {
        enrolment.erase();
    }
    let frame = auth_req.refuse(if left == 0 { AuthRefusal::CodeErased } else { AuthRefusal::WrongCode });
    Some(match (fresh, left) {
        (false, _) => Action::Send(frame),
        (true, 0) => Action::Fail(HandshakeFailure::CodeErased(Role::Slave), Some(frame)),
        (true, left) => Action::WrongCode { left, frame },
    })
}
