//! Steps 1 to 4 at the master: one INITREQ, the AUTHREQs that answer what came for it, and the AUTHACK that ends it.
//!
//! Anybody can answer an INITREQ. Without a code every INITACK gets its AUTHREQ, so that no forged one costs the genuine one
//! anything ([`AwaitingAuthAck::answer_each`]). With a code an AUTHREQ tells whoever made the INITACK whether its guess was
//! right, so that of one INITREQ only one INITACK is answered ([`AwaitingAuthAck::answer_one`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rand::{CryptoRng, RngExt};

use super::budget::Budget;
use crate::Rejected;
use crate::crypto::exchange::Ephemeral;
use crate::crypto::pake::Half;
use crate::crypto::schedule::{
    AttemptId, Digest, Schedule, Topics, digest, open_once, seal_once, signed_by_master, signed_by_slave,
    verify_refusal,
};
use crate::handshake::batch::{self, Batch, Leaf, Tree};
use crate::handshake::enrolment::agree;
use crate::handshake::{
    Action, AuthRefusal, Claim, Established, Party, Repeat, VERDICT_AGREED, VERDICT_SUITE_DIFFERS, VERDICT_UNFIT,
    init_req_reference, sign,
};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, InitAck, InitReq, NONCE_LEN, put_path};
use crate::role::Role;

/// AUTHREQs that wait for their AUTHACK at the same time; the oldest makes room. At the pace of the signatures that is 4
/// seconds' worth, in less than 1 MiB.
const ATTEMPTS: usize = 4096;
/// Times that AUTHREQ is sent without an answer before an attempt with a code is over: half a minute.
const UNANSWERED_WITH_CODE: u32 = 6;

/// One INITREQ, and an AUTHREQ for each INITACK that came for it; with a code, for one.
pub(super) struct AwaitingAuthAck {
    ephemeral: Ephemeral,
    /// With a code: this end's half of SPAKE2.
    half: Option<Half>,
    init_req: Vec<u8>,
    answers: [u8; NONCE_LEN],
    repeat: Repeat,
    /// How often INITREQ was sent.
    init_reqs_sent: u32,
    /// With a code: how often the one AUTHREQ was sent.
    auth_reqs_sent: u32,
    /// INITACKs that wait for the next signature: at most [`batch::MOST`], of more any of them with the same chance.
    unsigned: Vec<Unsigned>,
    /// How many came since the last signature.
    came: usize,
    /// AUTHREQs that were made and not sent.
    outbox: VecDeque<AttemptId>,
    attempts: VecDeque<Attempt>,
}

/// An INITACK as it came.
struct Came<'a> {
    parsed: InitAck<'a>,
    frame: &'a [u8],
    id: Digest,
}

/// One INITACK that is not answered yet.
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
    init_reqs_sent: u32,
}

/// The verified content of an AUTHACK.
pub(super) enum Verdict {
    Agreed(Established),
    Other(Action),
}

impl std::fmt::Debug for AwaitingAuthAck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attempts: Vec<_> = self.attempts.iter().map(|attempt| (attempt.th2, attempt.init_reqs_sent)).collect();
        let unsigned: Vec<_> = self.unsigned.iter().map(|unsigned| unsigned.init_ack).collect();
        f.debug_struct("AwaitingAuthAck")
            .field("repeat", &self.repeat)
            .field("auth_reqs_sent", &self.auth_reqs_sent)
            .field("unsigned", &unsigned)
            .field("attempts", &attempts)
            .finish_non_exhaustive()
    }
}

impl AwaitingAuthAck {
    pub(super) fn new(party: &Party, now: Instant, rng: &mut impl CryptoRng) -> Self {
        let ephemeral = Ephemeral::generate(rng);
        let mut random = [0; NONCE_LEN];
        rng.fill_bytes(&mut random);
        let half = party.half(Role::Master, rng);
        let (x25519, encapsulation_key) = (ephemeral.x25519(), ephemeral.encapsulation_key());
        let share = half.as_ref().map(Half::share);
        let init_req = InitReq::frame(&random, party.suite.code(), &x25519, &encapsulation_key, share);
        let answers = init_req_reference(&init_req);
        Self {
            ephemeral,
            half,
            init_req,
            answers,
            repeat: Repeat::now(now),
            init_reqs_sent: 0,
            auth_reqs_sent: 0,
            unsigned: Vec::new(),
            came: 0,
            outbox: VecDeque::new(),
            attempts: VecDeque::new(),
        }
    }

    /// Whether this frame is its own INITREQ.
    pub(super) fn sends(&self, frame: &[u8]) -> bool {
        self.init_req == frame
    }

    /// When [`AwaitingAuthAck::poll`] has something to do, if nothing arrives before.
    pub(super) fn deadline(&self, signatures: &Budget) -> Instant {
        if !self.outbox.is_empty() {
            signatures.since()
        } else if !self.unsigned.is_empty() {
            self.repeat.due.min(signatures.next())
        } else {
            self.repeat.due
        }
    }

    /// With a code: whether whoever was answered has had its time to go on.
    pub(super) fn is_in_vain(&self, now: Instant) -> bool {
        self.repeat.due <= now && self.auth_reqs_sent >= UNANSWERED_WITH_CODE
    }

    /// A frame that is due at `now`, if one is.
    pub(super) fn poll(
        &mut self,
        party: &Party,
        signatures: &mut Budget,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Option<Vec<u8>> {
        if self.repeat.is_due(now, rng) {
            return Some(self.repeated(party));
        }
        self.sign_waiting(party, signatures, now, rng);
        let id = self.outbox.pop_front()?;
        self.auth_req(party, &id)
    }

    /// What is sent until an AUTHACK comes: INITREQ, since that draws an INITACK whoever forged another. With a code that
    /// would be no use once one was answered; then the AUTHREQ itself.
    fn repeated(&mut self, party: &Party) -> Vec<u8> {
        match self.attempts.front() {
            Some(attempt) if self.half.is_some() => {
                self.auth_reqs_sent += 1;
                attempt.auth_req(party, &self.init_req)
            }
            _ => {
                self.init_reqs_sent += 1;
                self.init_req.clone()
            }
        }
    }

    /// Step 2 to 3.
    pub(super) fn answer(
        &mut self,
        party: &mut Party,
        topics: &Topics,
        signatures: &mut Budget,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        let init_ack = InitAck::parse(frame)?;
        if *init_ack.answers != self.answers {
            return Err(Rejected::Unexpected);
        }
        party.check_share(init_ack.share)?;
        let came = Came { parsed: init_ack, frame, id: digest(&[frame]) };
        match self.half {
            Some(_) => self.answer_one(party, topics, signatures, &came, now, rng),
            None => self.answer_each(party, topics, signatures, &came, now, rng),
        }
    }

    /// Without a code. An INITACK that came before gets the same AUTHREQ again: it was lost, or its answer was. But the
    /// slave repeats itself only when INITREQ was repeated, so more often is no reason to send anything.
    fn answer_each(
        &mut self,
        party: &Party,
        topics: &Topics,
        signatures: &mut Budget,
        came: &Came<'_>,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.init_ack == came.id) {
            if attempt.init_reqs_sent >= self.init_reqs_sent {
                return Err(Rejected::Duplicate);
            }
            attempt.init_reqs_sent = self.init_reqs_sent;
            return Ok(Action::Send(attempt.auth_req(party, &self.init_req)));
        }
        if self.unsigned.iter().any(|unsigned| unsigned.init_ack == came.id) {
            return Err(Rejected::Duplicate);
        }
        // Where there are more than one signature covers, each has the same chance, the genuine one as well.
        let place = if self.unsigned.len() < batch::MOST { self.came } else { rng.random_range(0..=self.came) };
        if place >= batch::MOST {
            self.came += 1;
            return Err(Rejected::Unexpected);
        }
        let unsigned = self.unsigned(topics, came)?;
        self.came += 1;
        match self.unsigned.get_mut(place) {
            Some(other) => *other = unsigned,
            None => self.unsigned.push(unsigned),
        }
        self.sign_waiting(party, signatures, now, rng);
        let latest = self.attempts.back().filter(|attempt| attempt.init_ack == came.id);
        match latest.map(|it| it.schedule.attempt()) {
            Some(attempt) if self.outbox.back() == Some(&attempt) => {
                let attempt = self.outbox.pop_back().and_then(|id| self.auth_req(party, &id));
                attempt.map(Action::Send).ok_or(Rejected::Unexpected)
            }
            _ => Ok(Action::Later),
        }
    }

    /// With a code. From then on it is the AUTHREQ that is repeated, so that an INITACK that comes again draws nothing.
    fn answer_one(
        &mut self,
        party: &mut Party,
        topics: &Topics,
        signatures: &mut Budget,
        came: &Came<'_>,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        match self.attempts.front() {
            Some(attempt) if attempt.init_ack == came.id => return Err(Rejected::Duplicate),
            Some(_) => return Err(Rejected::Unexpected),
            None => {}
        }
        let left = signatures.spend(now).ok_or(Rejected::Unexpected)?;
        let unsigned = self.unsigned(topics, came)?;
        let attempt = self.signed(party, vec![unsigned], rng)?.pop().ok_or(Rejected::Unexpected)?;
        *signatures = left;
        if let Some(enrolment) = &mut party.enrolment {
            enrolment.count(attempt.schedule.attempt());
        }
        self.repeat = Repeat::after(now, rng);
        self.auth_reqs_sent = 1;
        let auth_req = attempt.auth_req(party, &self.init_req);
        self.attempts.push_back(attempt);
        Ok(Action::Send(auth_req))
    }

    fn unsigned(&self, topics: &Topics, Came { parsed, frame, id }: &Came<'_>) -> Result<Unsigned, Rejected> {
        let shared = self.ephemeral.agree(parsed.x25519, parsed.ciphertext)?;
        let pake = agree(self.half.as_ref(), parsed.share)?;
        let schedule = Schedule::new(topics, &self.init_req, frame, &shared, pake.as_ref());
        Ok(Unsigned { schedule, init_ack: *id })
    }

    /// Signs what waits, if there is a signature to spend: an AUTHREQ for each goes into the outbox.
    fn sign_waiting(&mut self, party: &Party, signatures: &mut Budget, now: Instant, rng: &mut impl CryptoRng) {
        if self.unsigned.is_empty() {
            return;
        }
        let Some(left) = signatures.spend(now) else { return };
        *signatures = left;
        self.came = 0;
        let unsigned = std::mem::take(&mut self.unsigned);
        // One that fails was a fault of the hardware: the INITACKs come again.
        let Ok(signed) = self.signed(party, unsigned, rng) else { return };
        for attempt in signed {
            if self.attempts.len() == ATTEMPTS {
                self.attempts.pop_front();
            }
            self.outbox.push_back(attempt.schedule.attempt());
            self.attempts.push_back(attempt);
        }
    }

    /// Signs all of these with one signature.
    fn signed(
        &self,
        party: &Party,
        unsigned: Vec<Unsigned>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Attempt>, Rejected> {
        let (name, key) = (party.name.as_str(), party.identity.public().der());
        let tree = Tree::new(unsigned.iter().map(|one| one.schedule.master_leaf(name, key)).collect());
        let signature = sign(&party.identity, &signed_by_master(&tree.root()), rng)?;
        let batch = Arc::new(Batch { tree, signature });
        let attempt = |(at, Unsigned { schedule, init_ack }): (usize, Unsigned)| {
            let leaf = Leaf { batch: batch.clone(), at };
            let init_reqs_sent = self.init_reqs_sent;
            let mut attempt = Attempt { schedule, init_ack, leaf, th2: Digest::default(), init_reqs_sent };
            attempt.th2 = attempt.schedule.th2(&attempt.auth_req(party, &self.init_req));
            attempt
        };
        Ok(unsigned.into_iter().enumerate().map(attempt).collect())
    }

    /// Step 3 of an attempt, by its id: of those that were made last, most likely.
    fn auth_req(&self, party: &Party, id: &AttemptId) -> Option<Vec<u8>> {
        let attempt = self.attempts.iter().rev().find(|attempt| attempt.schedule.attempt() == *id)?;
        Some(attempt.auth_req(party, &self.init_req))
    }

    /// Step 4: under whichever of the attempts it verifies.
    pub(super) fn verify(
        &self,
        party: &Party,
        topics: &Topics,
        frame: &[u8],
    ) -> Result<(AttemptId, Verdict), Rejected> {
        let parsed = AuthAck::parse(frame)?;
        let (AuthAck::Answer { attempt: id, .. } | AuthAck::Refusal { attempt: id, .. }) = parsed;
        let attempt =
            self.attempts.iter().find(|attempt| attempt.schedule.attempt() == *id).ok_or(Rejected::Unexpected)?;
        let verdict = match parsed {
            AuthAck::Refusal { clear, reason, mac, .. } => {
                verify_refusal(&attempt.schedule.refusal(&attempt.th2), clear, mac)?;
                Verdict::Other(match AuthRefusal::from_code(reason) {
                    why @ (AuthRefusal::WrongCode | AuthRefusal::CodeErased) if self.half.is_some() => {
                        Action::WrongCode { erased: why == AuthRefusal::CodeErased, frame: None }
                    }
                    why => Action::Claim(Claim::Refused(why), None),
                })
            }
            AuthAck::Answer { clear, sealed, .. } => {
                let plaintext = open_once(&attempt.schedule.hs_s(&attempt.th2), clear, sealed)?;
                let (verdict, rest) = plaintext.split_first_chunk::<2>().ok_or(Rejected::Length)?;
                let credentials = Credentials::parse(rest)?;
                let Some(peer) = party.sender(&credentials)? else {
                    let fingerprint = Fingerprint::of(credentials.key);
                    return Ok((*id, Verdict::Other(Action::Claim(Claim::UnknownKey(fingerprint), None))));
                };
                let name = std::str::from_utf8(credentials.name).map_err(|_| Rejected::NotAuthentic)?;
                let signed = signed_by_slave(&attempt.th2, verdict, name, credentials.key);
                peer.key.verify(&signed, credentials.signature).map_err(|_| Rejected::NotAuthentic)?;
                match *verdict {
                    [VERDICT_AGREED, suite] if suite == party.suite.code() => {
                        if let why @ Some(_) = party.unfit(&peer) {
                            return Ok((*id, Verdict::Other(Action::EnrolmentConflict { peer, why, frame: None })));
                        }
                        let keys = attempt.schedule.session(&attempt.th2, frame, party.suite);
                        Verdict::Agreed(Established { keys, suite: party.suite, peer, topics: topics.clone() })
                    }
                    [VERDICT_SUITE_DIFFERS, theirs] => {
                        Verdict::Other(Action::SuiteDiffers { peer: peer.name, theirs, frame: None })
                    }
                    [VERDICT_UNFIT, _] if party.enrolment.is_some() => {
                        Verdict::Other(Action::EnrolmentConflict { peer, why: None, frame: None })
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
