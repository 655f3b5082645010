//! Steps 1 to 4 at the master: one INITREQ, the AUTHREQs that answer what came for it, and the AUTHACK that ends it.
//!
//! Anyone can answer an INITREQ. Without a code every INITACK gets its AUTHREQ, so that no forged one costs the genuine one
//! anything ([`AnswerEach`]). With a code an AUTHREQ tells the sender of the INITACK whether its guess was right, so that of
//! one INITREQ only one INITACK is answered ([`AnswerOne`]).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt};

use super::attempt::{AuthAckOutcome, ReceivedInitAck, SentInitReq, SignedAttempt};
use super::signature_budget::SignatureBudget;
use crate::Rejected;
use crate::crypto::schedule::{AttemptId, Digest, Topics};
use crate::handshake::merkle::MAX_LEAVES;
use crate::handshake::{Action, Party, Repeat};

/// AUTHREQs that wait for their AUTHACK at the same time; the oldest makes room. At the pace of the signatures that is 4
/// seconds' worth, in less than 1 MiB.
const MAX_UNANSWERED_AUTH_REQS: usize = 4096;
/// How soon INITREQ is sent again while more INITACKs arrive than a signature covers: each time the genuine one has another
/// chance.
const CROWDED_REPEAT_DELAY: Duration = Duration::from_millis(10);
/// Times that AUTHREQ is sent without an answer before an attempt with a code is over: half a minute.
const MAX_AUTH_REQS_WITH_CODE: u32 = 6;

/// One INITREQ, and what came of it.
#[derive(Debug)]
pub(super) struct AwaitingAuthAck {
    init_req: SentInitReq,
    repeat: Repeat,
    answers: Answers,
}

/// How INITACKs are answered.
#[derive(Debug)]
enum Answers {
    Each(AnswerEach),
    One(AnswerOne),
}

/// Without a code: an AUTHREQ for each INITACK.
#[derive(Default)]
struct AnswerEach {
    /// How often INITREQ was sent.
    init_reqs_sent: u32,
    /// INITACKs that wait for the next signature, with their digests: at most [`MAX_LEAVES`], chosen from more with the same
    /// chance for each.
    unsigned: Vec<(Digest, Vec<u8>)>,
    /// INITACKs that came in since the last signature.
    received: usize,
    /// When INITREQ is sent again because too many of them came in.
    crowded: Option<Instant>,
    /// AUTHREQs that are signed and not sent.
    outbox: VecDeque<AttemptId>,
    signed: SignedAttempts,
}

/// The attempts whose AUTHREQs were signed, oldest first.
#[derive(Default)]
struct SignedAttempts {
    attempts: VecDeque<AnsweredInitAck>,
    /// How many made room; the attempt with number n is the one at n minus that.
    removed: usize,
    /// The number of the attempt of each INITACK.
    by_init_ack: HashMap<Digest, usize>,
}

/// An attempt, and how often INITREQ had been sent when its AUTHREQ was sent last.
struct AnsweredInitAck {
    attempt: SignedAttempt,
    init_reqs_sent: u32,
}

/// With a code: one AUTHREQ, and how often it was sent.
#[derive(Default)]
struct AnswerOne(Option<(SignedAttempt, u32)>);

impl AwaitingAuthAck {
    /// Makes a fresh INITREQ, which is due at once.
    pub(super) fn new(party: &Party, topics: Topics, now: Instant, rng: &mut impl CryptoRng) -> Self {
        let init_req = SentInitReq::new(party, topics, rng);
        let answers = match party.enrolment() {
            None => Answers::Each(AnswerEach::default()),
            Some(_) => Answers::One(AnswerOne::default()),
        };
        Self { init_req, repeat: Repeat::now(now), answers }
    }

    /// Whether this frame is its own INITREQ.
    pub(super) fn sends(&self, frame: &[u8]) -> bool {
        self.init_req.frame() == frame
    }

    /// When [`AwaitingAuthAck::poll`] has something to do, if nothing arrives before.
    pub(super) fn deadline(&self, signatures: &SignatureBudget) -> Instant {
        match &self.answers {
            Answers::Each(each) if !each.outbox.is_empty() => signatures.since(),
            Answers::Each(each) if !each.unsigned.is_empty() => {
                each.crowded.into_iter().fold(self.repeat.due.min(signatures.next()), Instant::min)
            }
            Answers::Each(_) | Answers::One(_) => self.repeat.due,
        }
    }

    /// With a code: whether the device whose INITACK was answered has had its time to continue.
    pub(super) fn is_unanswered(&self, now: Instant) -> bool {
        let sent = if let Answers::One(AnswerOne(Some((_, sent)))) = &self.answers { *sent } else { 0 };
        self.repeat.due <= now && sent >= MAX_AUTH_REQS_WITH_CODE
    }

    /// A frame that is due at `now`, if one is.
    pub(super) fn poll(
        &mut self,
        party: &Party,
        signatures: &mut SignatureBudget,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Option<Vec<u8>> {
        let Self { init_req, repeat, answers } = self;
        let is_due = repeat.is_due(now, rng);
        match answers {
            // INITREQ is repeated, since that draws an INITACK from the slave whichever ones were forged.
            Answers::Each(each) if is_due => {
                each.init_reqs_sent += 1;
                each.crowded = None;
                Some(init_req.frame().to_vec())
            }
            Answers::Each(each) => {
                if each.crowded.take_if(|due| *due <= now).is_some() {
                    // Not counted: what came in before draws nothing more by that.
                    return Some(init_req.frame().to_vec());
                }
                each.sign_waiting(init_req, party, signatures, now, rng);
                let id = each.outbox.pop_front()?;
                each.auth_req(init_req, party, &id)
            }
            // Once an INITACK was answered, another one would be of no use.
            Answers::One(one) => is_due.then(|| one.repeat(init_req, party)),
        }
    }

    /// Steps 2 to 3.
    pub(super) fn answer(
        &mut self,
        party: &mut Party,
        signatures: &mut SignatureBudget,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        let init_ack = self.init_req.receive(party, frame)?;
        match &mut self.answers {
            Answers::Each(each) => each.answer(&self.init_req, party, signatures, &init_ack, now, rng),
            Answers::One(one) => {
                let auth_req = one.answer(&self.init_req, party, signatures, &init_ack, now, rng)?;
                self.repeat = Repeat::after(now, rng);
                Ok(Action::Send(auth_req))
            }
        }
    }

    /// Step 4, to whichever of the attempts it verifies.
    pub(super) fn verify(&mut self, party: &Party, frame: &[u8]) -> Result<(AttemptId, AuthAckOutcome), Rejected> {
        match &mut self.answers {
            Answers::Each(each) => {
                self.init_req.verify(party, each.signed.attempts.iter_mut().map(|it| &mut it.attempt), frame)
            }
            Answers::One(AnswerOne(one)) => {
                self.init_req.verify(party, one.iter_mut().map(|(attempt, _)| attempt), frame)
            }
        }
    }
}

impl AnswerEach {
    fn answer(
        &mut self,
        init_req: &SentInitReq,
        party: &Party,
        signatures: &mut SignatureBudget,
        init_ack: &ReceivedInitAck<'_>,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        if let Some(answered) = self.signed.of(&init_ack.digest) {
            return answered.answer_again(init_req, party, self.init_reqs_sent);
        }
        self.enqueue(init_ack, now, rng)?;
        self.sign_waiting(init_req, party, signatures, now, rng);
        let latest = self.signed.attempts.back().map(|it| &it.attempt).filter(|it| it.init_ack == init_ack.digest);
        let Some(id) = latest.map(SignedAttempt::id) else { return Ok(Action::Wait) };
        // Signed just now, as the last one: it is sent at once. The others wait in the outbox.
        self.outbox.pop_back();
        self.auth_req(init_req, party, &id).map(Action::Send).ok_or(Rejected::Unexpected)
    }

    /// Has an INITACK wait for the next signature. If more come in than one signature covers, each has the same chance, the
    /// genuine one as well (reservoir sampling).
    fn enqueue(
        &mut self,
        init_ack: &ReceivedInitAck<'_>,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Rejected> {
        if self.unsigned.iter().any(|(digest, _)| *digest == init_ack.digest) {
            return Err(Rejected::Duplicate);
        }
        let has_room = self.unsigned.len() < MAX_LEAVES;
        let index = if has_room { self.received } else { rng.random_range(0..=self.received) };
        self.received += 1;
        if !has_room {
            self.crowded.get_or_insert(now + CROWDED_REPEAT_DELAY);
        }
        let unsigned = (init_ack.digest, init_ack.frame.to_vec());
        match self.unsigned.get_mut(index) {
            Some(other) => *other = unsigned,
            None if has_room => self.unsigned.push(unsigned),
            None => return Err(Rejected::Unexpected),
        }
        Ok(())
    }

    /// Signs what waits, if a signature may be made: an AUTHREQ for each goes into the outbox.
    fn sign_waiting(
        &mut self,
        init_req: &SentInitReq,
        party: &Party,
        signatures: &mut SignatureBudget,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) {
        if self.unsigned.is_empty() {
            return;
        }
        let Some(left) = signatures.spend(now) else { return };
        *signatures = left;
        self.received = 0;
        self.crowded = None;
        let frames = std::mem::take(&mut self.unsigned);
        // Forged ones may have keys that cannot be used.
        let attempt = |frame: &[u8]| init_req.receive(party, frame).and_then(|init_ack| init_req.attempt(&init_ack));
        let attempts: Vec<_> = frames.iter().filter_map(|(_, frame)| attempt(frame).ok()).collect();
        if attempts.is_empty() {
            return;
        }
        // Signing only fails by a fault of the hardware; the INITACKs are then sent again.
        let Ok(signed) = init_req.sign(party, attempts, rng) else { return };
        for attempt in signed {
            self.outbox.push_back(attempt.id());
            self.signed.push(AnsweredInitAck { attempt, init_reqs_sent: self.init_reqs_sent });
        }
    }

    /// Step 3 of an attempt, most likely of one of the latest.
    fn auth_req(&self, init_req: &SentInitReq, party: &Party, id: &AttemptId) -> Option<Vec<u8>> {
        let answered = self.signed.attempts.iter().rev().find(|it| it.attempt.id() == *id)?;
        Some(answered.attempt.auth_req(party, init_req))
    }
}

impl SignedAttempts {
    /// The one whose INITACK has this digest.
    fn of(&mut self, init_ack: &Digest) -> Option<&mut AnsweredInitAck> {
        let number = self.by_init_ack.get(init_ack)?;
        self.attempts.get_mut(number - self.removed)
    }

    /// Adds one, if need be in place of the oldest.
    fn push(&mut self, answered: AnsweredInitAck) {
        if self.attempts.len() == MAX_UNANSWERED_AUTH_REQS
            && let Some(oldest) = self.attempts.pop_front()
        {
            self.by_init_ack.remove(&oldest.attempt.init_ack);
            self.removed += 1;
        }
        self.by_init_ack.insert(answered.attempt.init_ack, self.removed + self.attempts.len());
        self.attempts.push_back(answered);
    }
}

impl AnsweredInitAck {
    /// An INITACK that came before gets the same AUTHREQ again: that was lost, or its answer was. But the slave repeats
    /// itself only when INITREQ was repeated, so nothing is sent more often than that.
    fn answer_again(&mut self, init_req: &SentInitReq, party: &Party, init_reqs_sent: u32) -> Result<Action, Rejected> {
        if self.init_reqs_sent >= init_reqs_sent {
            return Err(Rejected::Duplicate);
        }
        self.init_reqs_sent = init_reqs_sent;
        Ok(Action::Send(self.attempt.auth_req(party, init_req)))
    }
}

impl AnswerOne {
    /// Answers the first INITACK, and counts the attempt against the code. From then on AUTHREQ is repeated, so that the same
    /// INITACK again draws nothing.
    fn answer(
        &mut self,
        init_req: &SentInitReq,
        party: &mut Party,
        signatures: &mut SignatureBudget,
        init_ack: &ReceivedInitAck<'_>,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Rejected> {
        match &self.0 {
            Some((attempt, _)) if attempt.init_ack == init_ack.digest => return Err(Rejected::Duplicate),
            Some(_) => return Err(Rejected::Unexpected),
            None => {}
        }
        let left = signatures.spend(now).ok_or(Rejected::Unexpected)?;
        let unsigned = init_req.attempt(init_ack)?;
        let attempt = init_req.sign(party, vec![unsigned], rng)?.pop().ok_or(Rejected::Unexpected)?;
        *signatures = left;
        if let Some(enrolment) = party.enrolment_mut() {
            enrolment.count(attempt.id());
        }
        let auth_req = attempt.auth_req(party, init_req);
        self.0 = Some((attempt, 1));
        Ok(auth_req)
    }

    /// What is sent until an AUTHACK comes: INITREQ before an INITACK was answered, AUTHREQ afterwards.
    fn repeat(&mut self, init_req: &SentInitReq, party: &Party) -> Vec<u8> {
        match &mut self.0 {
            Some((attempt, sent)) => {
                *sent += 1;
                attempt.auth_req(party, init_req)
            }
            None => init_req.frame().to_vec(),
        }
    }
}

impl fmt::Debug for AnswerEach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed: Vec<_> = self.signed.attempts.iter().map(|it| (it.attempt.th2, it.init_reqs_sent)).collect();
        let unsigned: Vec<_> = self.unsigned.iter().map(|(digest, _)| digest).collect();
        f.debug_struct("AnswerEach").field("unsigned", &unsigned).field("signed", &signed).finish_non_exhaustive()
    }
}

impl fmt::Debug for AnswerOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = self.0.as_ref().map(|(attempt, sent)| (attempt.th2, sent));
        f.debug_tuple("AnswerOne").field(&attempt).finish()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::crypto::exchange::{Ephemeral, encapsulate};
    use crate::crypto::schedule::{Schedule, digest};

    /// A flood must not fill the memory, and a repeated INITACK gets the AUTHREQ that answers it, and no other.
    #[test]
    fn the_latest_attempts_are_found_by_their_init_acks() {
        let ours = Ephemeral::generate(&mut StdRng::seed_from_u64(1));
        let theirs =
            encapsulate(&ours.x25519(), &ours.encapsulation_key(), &mut StdRng::seed_from_u64(2)).expect("good keys");
        let topics = Topics { master_to_slave: String::new(), slave_to_master: String::new() };
        let schedule = Schedule::new(&topics, &[], &[], &theirs.shared, None);
        let of = |number: usize| digest(&[&number.to_be_bytes()]);
        let mut signed = SignedAttempts::default();
        for number in 0..MAX_UNANSWERED_AUTH_REQS + 3 {
            let attempt = SignedAttempt::for_test(schedule.clone(), of(number));
            signed.push(AnsweredInitAck { attempt, init_reqs_sent: 1 });
        }
        assert_eq!(
            (signed.attempts.len(), signed.by_init_ack.len()),
            (MAX_UNANSWERED_AUTH_REQS, MAX_UNANSWERED_AUTH_REQS)
        );
        for number in 0..MAX_UNANSWERED_AUTH_REQS + 3 {
            let found = signed.of(&of(number)).map(|answered| answered.attempt.init_ack);
            assert_eq!(found, (number >= 3).then(|| of(number)), "{number}");
        }
    }
}
