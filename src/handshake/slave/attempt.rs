//! Steps 3 and 4 at the slave: an AUTHREQ verified, and answered. What is verified becomes an attempt that is kept.

use std::fmt;
use std::time::Instant;

use zeroize::Zeroizing;

use super::epoch::RecentAttempt;
use crate::Rejected;
use crate::crypto::schedule::{
    AttemptId, Confirmation, Digest, Schedule, Topics, digest, open_once, refusal_mac, seal_once, signed_by_master,
    slave_leaf,
};
use crate::handshake::merkle::root_over;
use crate::handshake::verdict::Verdict;
use crate::handshake::{AuthRefusal, Established, OWN_FEATURES, Party, Peer, Repeat, confirm};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, FrameType, Proof};

/// An attempt whose master is authentic, and has its answer.
#[derive(Debug)]
pub(super) struct VerifiedAttempt {
    pub(super) id: AttemptId,
    /// The digest of step 3.
    pub(super) auth_req: Digest,
    /// Step 4.
    pub(super) auth_ack: Vec<u8>,
    /// What it leads to, unless it is [`AttemptState::Declined`].
    pub(super) session: Established,
    pub(super) state: AttemptState,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) enum AttemptState {
    /// Step 4 was sent, with a verdict that ends the pairing. It is kept to repeat that answer.
    Declined,
    /// Step 4 was sent.
    AwaitingRequest,
    /// Step 6 was sent, and is repeated for as long as its master may be there.
    AwaitingMasterReady(Option<Repeat>),
    /// Step 7 came, or another proof that the master has the session.
    Done,
}

impl VerifiedAttempt {
    /// Step 6.
    pub(super) fn slave_ready(&self) -> Vec<u8> {
        confirm(FrameType::RdyAck, &self.id, Confirmation::SlaveReady, &self.session)
    }

    /// Step 8.
    pub(super) fn slave_done(&self) -> Vec<u8> {
        confirm(FrameType::RdyAck, &self.id, Confirmation::SlaveDone, &self.session)
    }

    /// Whether step 5 has not come yet.
    pub(super) fn awaits_request(&self) -> bool {
        matches!(self.state, AttemptState::AwaitingRequest)
    }

    /// Whether its session is stored.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.state, AttemptState::AwaitingMasterReady(_) | AttemptState::Done)
    }
}

/// Step 3 as it came in, with the keys of its attempt: nothing is verified yet.
pub(super) struct ReceivedAuthReq<'a> {
    parsed: AuthReq<'a>,
    digest: Digest,
    attempt: &'a mut RecentAttempt,
    th2: Digest,
}

/// An attempt whose master is authentic, and waits for the signature that answers it.
pub(super) struct UnsignedAnswer {
    pub(super) id: AttemptId,
    /// The digest of step 3.
    pub(super) auth_req: Digest,
    pub(super) peer: Peer,
    pub(super) topics: Topics,
    /// The number of the suite that the master asks for.
    pub(super) suite: u8,
    schedule: Schedule,
    th2: Digest,
}

/// Which one it is, and none of its secrets.
impl fmt::Debug for UnsignedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsignedAnswer").field("id", &self.id).field("th2", &self.th2).finish_non_exhaustive()
    }
}

impl<'a> ReceivedAuthReq<'a> {
    pub(super) fn new(parsed: AuthReq<'a>, frame: &'a [u8], attempt: &'a mut RecentAttempt) -> Self {
        let th2 = attempt.schedule.th2(frame);
        Self { parsed, digest: digest(&[frame]), attempt, th2 }
    }

    /// Opens its sealed part: with a code that is a guess at the code.
    pub(super) fn open(&self) -> Result<Zeroizing<Vec<u8>>, Rejected> {
        open_once(&self.attempt.schedule.hs_m(), self.parsed.clear, self.parsed.sealed)
    }

    /// Verifies what was sealed. Returns the fingerprint of the master's key if that is not pinned.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if its signature is wrong; [`Rejected::Unexpected`] if one of its attempt was before.
    pub(super) fn verify(
        &mut self,
        party: &Party,
        topics: &Topics,
        plaintext: &[u8],
    ) -> Result<Result<UnsignedAnswer, Fingerprint>, Rejected> {
        let Proof { features, path, credentials } = Proof::parse(plaintext)?;
        let name = std::str::from_utf8(credentials.name).map_err(|_| Rejected::NotAuthentic)?;
        let Some(peer) = party.sender(&credentials)? else { return Ok(Err(Fingerprint::of(credentials.key))) };
        if std::mem::replace(&mut self.attempt.has_checked_signature, true) {
            return Err(Rejected::Unexpected);
        }
        let schedule = &self.attempt.schedule;
        let root = root_over(&schedule.master_leaf(&features, name, credentials.key), path);
        peer.key.verify(&signed_by_master(&root), credentials.signature).map_err(|_| Rejected::NotAuthentic)?;
        Ok(Ok(UnsignedAnswer {
            id: *self.parsed.attempt,
            auth_req: self.digest,
            peer,
            topics: topics.clone(),
            suite: self.parsed.init_req.suite,
            schedule: schedule.clone(),
            th2: self.th2,
        }))
    }

    /// Step 4 without a signature, for a master that is not authentic.
    pub(super) fn refuse(&self, refusal: AuthRefusal) -> Vec<u8> {
        let mut auth_ack = AuthAck::clear(self.parsed.attempt);
        auth_ack.push(refusal.code());
        let mac = refusal_mac(&self.attempt.schedule.refusal(&self.th2), &auth_ack);
        auth_ack.extend_from_slice(&mac);
        auth_ack
    }

    pub(super) fn id(&self) -> AttemptId {
        *self.parsed.attempt
    }
}

impl UnsignedAnswer {
    /// What is signed of it.
    pub(super) fn leaf(&self, party: &Party, verdict: Verdict) -> Digest {
        let (name, key) = (party.name.as_str(), party.identity.public().der());
        slave_leaf(&self.th2, &[verdict.code(), party.suite.code()], &OWN_FEATURES, name, key)
    }

    /// The attempt with step 4, whose verdict is covered by this signature of the root over this path.
    pub(super) fn answer(
        self,
        party: &Party,
        verdict: Verdict,
        path: &[Digest],
        signature: &[u8],
        now: Instant,
    ) -> VerifiedAttempt {
        let (name, key) = (party.name.as_str().as_bytes(), party.identity.public().der());
        let mut plaintext = vec![verdict.code(), party.suite.code()];
        let credentials = Credentials { name, key, signature };
        Proof { features: OWN_FEATURES, path, credentials }.put(&mut plaintext);
        let mut auth_ack = AuthAck::clear(&self.id);
        let sealed = seal_once(self.schedule.hs_s(&self.th2), &auth_ack, &plaintext);
        auth_ack.extend_from_slice(&sealed);
        let Self { id, auth_req, peer, topics, schedule, th2, .. } = self;
        let keys = schedule.session(&th2, &auth_ack);
        let session = Established { keys, suite: party.suite, peer, topics };
        let state = match verdict {
            Verdict::Agreed => AttemptState::AwaitingRequest,
            Verdict::SuiteDiffers | Verdict::EnrolmentConflict => AttemptState::Declined,
        };
        VerifiedAttempt { id, auth_req, auth_ack, session, state, since: now }
    }
}
