//! Steps 3 and 4 at the slave: an AUTHREQ verified, and answered. What is verified becomes an attempt that is kept.

use std::time::Instant;

use rand::rngs::StdRng;
use zeroize::Zeroizing;

use super::epoch::EpochState;
use crate::Rejected;
use crate::crypto::schedule::{
    AttemptId, Confirmation, Digest, Schedule, Topics, answer_rng, digest, open_once, refusal_mac, seal_once,
    signed_by_master, signed_by_slave,
};
use crate::handshake::merkle::{MAX_PATH_LEN, root_over};
use crate::handshake::verdict::Verdict;
use crate::handshake::{AuthRefusal, Established, Party, Peer, Repeat, confirm, sign};
use crate::identity::Fingerprint;
use crate::message::{AuthAck, AuthReq, Credentials, FrameType, split_path};

/// An attempt whose master is authentic.
#[derive(Debug)]
pub(super) struct VerifiedAttempt {
    pub(super) id: AttemptId,
    /// The digest of step 3.
    pub(super) auth_req: Digest,
    /// Step 4.
    pub(super) auth_ack: Vec<u8>,
    pub(super) session: Established,
    pub(super) state: AttemptState,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) enum AttemptState {
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

    /// Whether its session is stored as pending.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, AttemptState::AwaitingMasterReady(_))
    }
}

/// Step 3 as it came in, with the keys of its attempt: nothing is verified yet.
pub(super) struct ReceivedAuthReq<'a> {
    parsed: AuthReq<'a>,
    digest: Digest,
    schedule: Schedule,
    th2: Digest,
    /// All randomness of the answer.
    rng: StdRng,
}

impl<'a> ReceivedAuthReq<'a> {
    pub(super) fn new(parsed: AuthReq<'a>, frame: &'a [u8], schedule: Schedule, epoch: &EpochState) -> Self {
        let (th2, rng) = (schedule.th2(frame), answer_rng(&epoch.key, frame));
        Self { parsed, digest: digest(&[frame]), schedule, th2, rng }
    }

    /// Opens its sealed part: with a code that is a guess at the code.
    pub(super) fn open(&self) -> Result<Zeroizing<Vec<u8>>, Rejected> {
        open_once(&self.schedule.hs_m(), self.parsed.clear, self.parsed.sealed)
    }

    /// Which master signed what was sealed; the fingerprint of its key if that is not pinned.
    pub(super) fn verify(&self, party: &Party, plaintext: &[u8]) -> Result<Result<Peer, Fingerprint>, Rejected> {
        let (path, credentials) = split_path(plaintext)?;
        let credentials = Credentials::parse(credentials)?;
        if path.len() > MAX_PATH_LEN {
            return Err(Rejected::Length);
        }
        let name = std::str::from_utf8(credentials.name).map_err(|_| Rejected::NotAuthentic)?;
        let Some(peer) = party.sender(&credentials)? else { return Ok(Err(Fingerprint::of(credentials.key))) };
        let root = root_over(&self.schedule.master_leaf(name, credentials.key), path);
        peer.key.verify(&signed_by_master(&root), credentials.signature).map_err(|_| Rejected::NotAuthentic)?;
        Ok(Ok(peer))
    }

    /// Step 4 with a signed verdict, for a master that is authentic.
    pub(super) fn answer(&mut self, party: &Party, verdict: Verdict) -> Result<Vec<u8>, Rejected> {
        let verdict = [verdict.code(), party.suite.code()];
        let (name, key) = (party.name.as_str(), party.identity.public().der());
        let signature = sign(&party.identity, &signed_by_slave(&self.th2, &verdict, name, key), &mut self.rng)?;
        let mut plaintext = verdict.to_vec();
        Credentials { name: name.as_bytes(), key, signature: &signature }.put(&mut plaintext);
        let mut auth_ack = AuthAck::clear(self.parsed.attempt);
        let sealed = seal_once(self.schedule.hs_s(&self.th2), &auth_ack, &plaintext);
        auth_ack.extend_from_slice(&sealed);
        Ok(auth_ack)
    }

    /// Step 4 without a signature, for a master that is not authentic.
    pub(super) fn refuse(&self, refusal: AuthRefusal) -> Vec<u8> {
        let mut auth_ack = AuthAck::clear(self.parsed.attempt);
        auth_ack.push(refusal.code());
        let mac = refusal_mac(&self.schedule.refusal(&self.th2), &auth_ack);
        auth_ack.extend_from_slice(&mac);
        auth_ack
    }

    /// The number of the suite that the master asks for.
    pub(super) fn suite(&self) -> u8 {
        self.parsed.init_req.suite
    }

    pub(super) fn id(&self) -> AttemptId {
        *self.parsed.attempt
    }

    /// The attempt after step 4 was made, and its session.
    pub(super) fn attempt(
        &self,
        party: &Party,
        topics: &Topics,
        peer: Peer,
        auth_ack: &[u8],
        now: Instant,
    ) -> VerifiedAttempt {
        let keys = self.schedule.session(&self.th2, auth_ack);
        VerifiedAttempt {
            id: self.id(),
            auth_req: self.digest,
            auth_ack: auth_ack.to_vec(),
            session: Established { keys, suite: party.suite, peer, topics: topics.clone() },
            state: AttemptState::AwaitingRequest,
            since: now,
        }
    }
}
