//! Steps 1 to 4 at the master, for one attempt: the INITREQ, an INITACK that answers it, the signed AUTHREQ, and the AUTHACK
//! that ends it.

use std::fmt;
use std::sync::Arc;

use rand::CryptoRng;

use crate::Rejected;
use crate::crypto::exchange::Ephemeral;
use crate::crypto::pake::Spake2Half;
use crate::crypto::schedule::{
    AttemptId, Cookie, Digest, Schedule, Topics, digest, open_once, seal_once, signed_by_master, signed_by_slave,
    slave_leaf, verify_refusal,
};
use crate::handshake::merkle::{MerkleTree, SignedLeaf, SignedTree, root_over};
use crate::handshake::party::agree;
use crate::handshake::verdict::Verdict;
use crate::handshake::{
    Action, AuthRefusal, Claim, Established, HandshakeFailure, OWN_FEATURES, Party, Peer, init_req_reference, sign,
};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, InitAck, InitReq, NONCE_LEN, Proof};
use crate::role::Role;

/// Step 1: an INITREQ, and the secrets that belong to it.
pub(super) struct SentInitReq {
    topics: Topics,
    ephemeral: Ephemeral,
    /// With a code: this end's half of SPAKE2.
    half: Option<Spake2Half>,
    frame: Vec<u8>,
    /// How an INITACK refers to it.
    reference: [u8; NONCE_LEN],
}

/// Step 2, as it came in: anyone can have made it.
pub(super) struct ReceivedInitAck<'a> {
    parsed: InitAck<'a>,
    pub(super) frame: &'a [u8],
    pub(super) digest: Digest,
}

/// An attempt whose keys are known and whose AUTHREQ is not signed yet.
pub(super) struct UnsignedAttempt {
    schedule: Schedule,
    cookie: Cookie,
    init_ack: Digest,
}

/// An attempt, and what its AUTHREQ is made of: the same bytes each time.
pub(super) struct SignedAttempt {
    schedule: Schedule,
    cookie: Cookie,
    pub(super) init_ack: Digest,
    leaf: SignedLeaf,
    pub(super) th2: Digest,
    /// Whether a signature of an AUTHACK to it was verified, or found wrong: the slave makes only one.
    has_checked_signature: bool,
}

/// The verified content of an AUTHACK.
pub(super) enum AuthAckOutcome {
    /// Step 5 follows.
    Agreed(Established),
    /// There is no session to agree.
    Declined(Action),
}

/// Which one it is, and none of its secrets.
impl fmt::Debug for SentInitReq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentInitReq").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl SentInitReq {
    pub(super) fn new(party: &Party, topics: Topics, rng: &mut impl CryptoRng) -> Self {
        let ephemeral = Ephemeral::generate(rng);
        let mut random = [0; NONCE_LEN];
        rng.fill_bytes(&mut random);
        let half = party.half(Role::Master, rng);
        let (x25519, encapsulation_key) = (ephemeral.x25519(), ephemeral.encapsulation_key());
        let share = half.as_ref().map(Spake2Half::share);
        let frame = InitReq::frame(&random, party.suite.code(), &x25519, &encapsulation_key, share);
        let reference = init_req_reference(&frame);
        Self { topics, ephemeral, half, frame, reference }
    }

    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Step 2: reads an INITACK.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] if it answers another INITREQ, or one of another kind of pairing.
    pub(super) fn receive<'a>(&self, party: &Party, frame: &'a [u8]) -> Result<ReceivedInitAck<'a>, Rejected> {
        let parsed = InitAck::parse(frame)?;
        if *parsed.answers != self.reference {
            return Err(Rejected::Unexpected);
        }
        party.check_share(parsed.share)?;
        Ok(ReceivedInitAck { parsed, frame, digest: digest(&[frame]) })
    }

    /// The attempt that an INITACK leads to.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if its keys cannot be used.
    pub(super) fn attempt(&self, init_ack: &ReceivedInitAck<'_>) -> Result<UnsignedAttempt, Rejected> {
        let ReceivedInitAck { parsed, frame, digest } = init_ack;
        let shared = self.ephemeral.agree(parsed.x25519, parsed.ciphertext)?;
        let pake = agree(self.half.as_ref(), parsed.share)?;
        let schedule = Schedule::new(&self.topics, &self.frame, frame, &shared, pake.as_ref());
        Ok(UnsignedAttempt { schedule, cookie: *parsed.cookie, init_ack: *digest })
    }

    /// Signs all of these attempts with one signature.
    pub(super) fn sign(
        &self,
        party: &Party,
        unsigned: Vec<UnsignedAttempt>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<SignedAttempt>, Rejected> {
        let (name, key) = (party.name.as_str(), party.identity.public().der());
        let tree =
            MerkleTree::new(unsigned.iter().map(|it| it.schedule.master_leaf(&OWN_FEATURES, name, key)).collect());
        let signature = sign(&party.identity, &signed_by_master(&tree.root()), rng)?;
        let signed = Arc::new(SignedTree { tree, signature });
        let attempt = |(index, UnsignedAttempt { schedule, cookie, init_ack }): (usize, UnsignedAttempt)| {
            let leaf = SignedLeaf { signed: signed.clone(), index };
            let (th2, has_checked_signature) = (Digest::default(), false);
            let mut attempt = SignedAttempt { schedule, cookie, init_ack, leaf, th2, has_checked_signature };
            attempt.th2 = attempt.schedule.th2(&attempt.auth_req(party, self));
            attempt
        };
        Ok(unsigned.into_iter().enumerate().map(attempt).collect())
    }

    /// Step 4: verifies an AUTHACK to one of these attempts, and says to which.
    pub(super) fn verify<'a>(
        &self,
        party: &Party,
        mut attempts: impl Iterator<Item = &'a mut SignedAttempt>,
        frame: &[u8],
    ) -> Result<(AttemptId, AuthAckOutcome), Rejected> {
        let parsed = AuthAck::parse(frame)?;
        let (AuthAck::Answer { attempt: id, .. } | AuthAck::Refusal { attempt: id, .. }) = parsed;
        let attempt = attempts.find(|attempt| attempt.id() == *id).ok_or(Rejected::Unexpected)?;
        let outcome = match parsed {
            AuthAck::Refusal { clear, reason, mac, .. } => {
                AuthAckOutcome::Declined(attempt.verify_refusal(party, clear, reason, mac)?)
            }
            AuthAck::Answer { clear, sealed, .. } => {
                let plaintext = open_once(&attempt.schedule.hs_s(&attempt.th2), clear, sealed)?;
                let (&verdict, proof) = plaintext.split_first_chunk().ok_or(Rejected::Length)?;
                let proof = Proof::parse(proof)?;
                match attempt.verify_proof(party, verdict, &proof)? {
                    Ok(peer) => attempt.conclude(party, verdict, peer, &self.topics, frame)?,
                    Err(unknown) => AuthAckOutcome::Declined(Action::Claim(Claim::UnknownKey(unknown), None)),
                }
            }
        };
        Ok((*id, outcome))
    }
}

impl SignedAttempt {
    /// One whose signature nobody looks at.
    #[cfg(test)]
    pub(super) fn for_test(schedule: Schedule, init_ack: Digest) -> Self {
        let signed = SignedTree { tree: MerkleTree::new(vec![init_ack]), signature: Vec::new() };
        let leaf = SignedLeaf { signed: Arc::new(signed), index: 0 };
        Self { schedule, cookie: Cookie::default(), init_ack, leaf, th2: init_ack, has_checked_signature: false }
    }

    pub(super) fn id(&self) -> AttemptId {
        self.schedule.attempt()
    }

    /// Step 3: the same bytes each time.
    pub(super) fn auth_req(&self, party: &Party, init_req: &SentInitReq) -> Vec<u8> {
        let SignedLeaf { signed, index } = &self.leaf;
        let (name, key) = (party.name.as_str().as_bytes(), party.identity.public().der());
        let credentials = Credentials { name, key, signature: &signed.signature };
        let mut plaintext = Vec::new();
        Proof { features: OWN_FEATURES, path: &signed.tree.path(*index), credentials }.put(&mut plaintext);
        let mut auth_req = AuthReq::clear(&self.id(), &self.cookie, init_req.frame());
        let sealed = seal_once(self.schedule.hs_m(), &auth_req, &plaintext);
        auth_req.extend_from_slice(&sealed);
        auth_req
    }

    /// Step 4 from a slave that refuses this device. It proves that it answered INITREQ, and not who it is.
    fn verify_refusal(&self, party: &Party, clear: &[u8], reason: u8, mac: &Digest) -> Result<Action, Rejected> {
        verify_refusal(&self.schedule.refusal(&self.th2), clear, mac)?;
        Ok(match (AuthRefusal::from_code(reason), party.enrolment()) {
            (AuthRefusal::WrongCode, Some(enrolment)) => Action::CodeRejected { left: enrolment.attempts_left() },
            (AuthRefusal::CodeErased, Some(_)) => Action::Fail(HandshakeFailure::CodeErased(Role::Master), None),
            (refusal, _) => Action::Claim(Claim::Refused(refusal), None),
        })
    }

    /// Who signed an AUTHACK; the fingerprint of its key if that is not pinned. The forger of an INITACK can show the key
    /// of the genuine slave in any number of AUTHACKs, so one signature of each attempt is looked at.
    fn verify_proof(
        &mut self,
        party: &Party,
        verdict: [u8; 2],
        Proof { features, path, credentials }: &Proof<'_>,
    ) -> Result<Result<Peer, Fingerprint>, Rejected> {
        let Some(peer) = party.sender(credentials)? else { return Ok(Err(Fingerprint::of(credentials.key))) };
        let name = std::str::from_utf8(credentials.name).map_err(|_| Rejected::NotAuthentic)?;
        if std::mem::replace(&mut self.has_checked_signature, true) {
            return Err(Rejected::Duplicate);
        }
        let leaf = slave_leaf(&self.th2, &verdict, features, name, credentials.key);
        let signed = signed_by_slave(&root_over(&leaf, path));
        peer.key.verify(&signed, credentials.signature).map_err(|_| Rejected::NotAuthentic)?;
        Ok(Ok(peer))
    }

    /// What the verdict of an authentic slave leads to.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if it is not one, or does not fit the suite that the slave asks for.
    fn conclude(
        &self,
        party: &Party,
        [verdict, suite]: [u8; 2],
        peer: Peer,
        topics: &Topics,
        auth_ack: &[u8],
    ) -> Result<AuthAckOutcome, Rejected> {
        let failure = match (Verdict::from_code(verdict), party.conflict(&peer)) {
            (Some(Verdict::Agreed), None) if suite == party.suite.code() => {
                let keys = self.schedule.session(&self.th2, auth_ack);
                let (suite, topics) = (party.suite, topics.clone());
                return Ok(AuthAckOutcome::Agreed(Established { keys, suite, peer, topics }));
            }
            (Some(Verdict::Agreed), conflict @ Some(_)) if suite == party.suite.code() => {
                HandshakeFailure::EnrolmentConflict { peer, conflict }
            }
            (Some(Verdict::SuiteDiffers), _) if suite != party.suite.code() => {
                HandshakeFailure::SuiteDiffers { peer: peer.name, theirs: suite }
            }
            (Some(Verdict::EnrolmentConflict), _) if party.enrolment().is_some() => {
                HandshakeFailure::EnrolmentConflict { peer, conflict: None }
            }
            _ => return Err(Rejected::NotAuthentic),
        };
        Ok(AuthAckOutcome::Declined(Action::Fail(failure, None)))
    }
}
