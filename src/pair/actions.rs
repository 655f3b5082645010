//! What the handshake asks for, done: stored first, then sent, so that a peer that hears of a session can rely on it.

use std::time::Instant;

use bytes::BytesMut;

use super::enrolment_outcome;
use super::run::{PairOutcome, PairRun, Phase, Purpose, tell_paired};
use crate::cache::{Cache, StoredSession};
use crate::crypto::schedule::Topics;
use crate::handshake::{Action, Established, HandshakeFailure, Peer};
use crate::link::unix_time;
use crate::message::SealedHeader;
use crate::mqtt::Qos;
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::session::{Parties, Session, Standing};
use crate::suite::Suite;
use crate::{Error, Exit, Result};

impl PairRun<'_> {
    /// Does what a frame on these topics led to.
    ///
    /// # Errors
    /// As [`super::once::run`].
    pub(super) fn perform(&mut self, action: Action, topics: &Topics, now: Instant) -> Result<()> {
        match action {
            Action::Send(frame) => self.publish(topics, frame),
            Action::Wait => Ok(()),
            Action::MasterAuthenticated(frame) => {
                self.abandon_check(now);
                self.publish(topics, frame)
            }
            Action::StorePending(established, frame) => {
                self.store_pending(&established)?;
                self.publish(topics, frame)
            }
            Action::StoreCurrent(established, frame) => {
                self.store_current(*established)?;
                // The broker keeps it for a slave that is offline for a moment.
                self.publish_at(topics, frame, Qos::AtLeastOnce)
            }
            Action::Promote(established, frame) => {
                self.promote(*established)?;
                self.publish(topics, frame)
            }
            Action::Finished(established) => self.prove(&established),
            Action::WrongCode { left, frame } => {
                let published = self.publish(topics, frame);
                published.map(|()| self.report.warn(&enrolment_outcome::wrong_code(left)))
            }
            Action::CodeRejected { left } => {
                self.phase = Phase::Done(PairOutcome::WrongCode { left });
                Ok(())
            }
            Action::Fail(failure, frame) => {
                self.publish_if_any(topics, frame)?;
                Err(self.error_of(failure))
            }
            Action::Claim(claim, frame) => {
                self.tell_claim(&claim, now);
                self.publish_if_any(topics, frame)
            }
        }
    }

    fn store_pending(&mut self, established: &Established) -> Result<()> {
        let session = self.new_session(established)?;
        self.sessions.store(&session, Cache::store_pending)
    }

    fn store_current(&mut self, established: Established) -> Result<()> {
        let session = self.new_session(&established)?;
        self.sessions.store(&session, Cache::store_current)?;
        self.phase = Phase::Confirming(established.peer);
        Ok(())
    }

    /// The peer has the session.
    fn prove(&mut self, established: &Established) -> Result<()> {
        let peer = established.peer.key.fingerprint();
        self.sessions.cache().prove(peer.as_bytes(), &established.keys.id).map(drop)
    }

    fn publish_if_any(&mut self, topics: &Topics, frame: Option<Vec<u8>>) -> Result<()> {
        frame.map_or(Ok(()), |frame| self.publish(topics, frame))
    }

    /// The session to store. While enrolling, its peer is pinned first.
    fn new_session(&mut self, established: &Established) -> Result<Session> {
        if matches!(self.purpose, Purpose::Enrol { .. }) {
            self.pin(&established.peer)?;
        }
        Ok(session_to_store(&self.sessions.peers, established))
    }

    fn pin(&mut self, peer: &Peer) -> Result<()> {
        enrolment_outcome::pin(&mut self.sessions.peers, peer, self.report)
    }

    /// The first sealed message of a master proves that it has the session, if its RDYACK was lost. The message is opened for
    /// the proof only: sts-recv receives it.
    pub(super) fn take_proof(&mut self, payload: &[u8]) -> Result<()> {
        let Ok(header) = SealedHeader::parse(payload) else { return Ok(()) };
        let opens = |established: &&Established| {
            session_to_store(&self.sessions.peers, established)
                .first_cipher(&header)
                .is_some_and(|cipher| cipher.open(payload, &mut BytesMut::new()).is_ok())
        };
        let id = self.handshake.pending_with(header.tag).find(opens).map(|established| established.keys.id);
        match id.and_then(|id| self.handshake.mark_proved(id)) {
            Some(established) => self.promote(established),
            None => Ok(()),
        }
    }

    /// Writes down with whom the link is. A directory that cannot be written does not undo the pairing: until a reboot, the
    /// session says it, too.
    pub(super) fn note_paired(&mut self, peer: &Peer) {
        if let Err(error) = self.sessions.peers.note_paired(peer) {
            self.report.verbose(format_args!("cannot record the peer of this link: {error}"));
        }
        self.note_in_use();
    }

    /// The link has a session that stays in use, new or not: it is no longer with the old program. What is left of that may be
    /// of an earlier run that could not delete it.
    pub(super) fn note_in_use(&self) {
        #[cfg(feature = "legacy")]
        if let Err(error) = super::legacy::delete_replaced(self.sessions.cache(), self.report) {
            self.report.warn(&error);
        }
        #[cfg(not(feature = "legacy"))]
        let _ = self;
    }

    /// Makes a pending session the current one. That is all that a slave waits for, unless it serves.
    fn promote(&mut self, established: Established) -> Result<()> {
        let session = session_to_store(&self.sessions.peers, &established);
        let cache = self.sessions.cache();
        let in_use = |stored: &StoredSession| stored.session.id == session.id && stored.standing != Standing::Pending;
        // If it is not pending any more, sts-recv was faster, or it was deleted.
        if !cache.promote(&session.peer, &session.id, unix_time())?
            && !cache.load_peer(&session.peer)?.sessions.iter().any(in_use)
        {
            return Err(Error::new(Exit::TryAgain, "the new session is gone")
                .because("it was deleted during the pairing")
                .hint("run sts-pair on both devices again"));
        }
        match self.purpose {
            Purpose::Once { .. } | Purpose::Enrol { .. } => {
                self.phase = Phase::Done(PairOutcome::Paired(established.peer));
            }
            Purpose::Serve(_) | Purpose::Keep(_) => {
                self.note_paired(&established.peer);
                tell_paired(&established.peer, self.report);
            }
        }
        Ok(())
    }

    fn error_of(&self, failure: HandshakeFailure) -> Error {
        match failure {
            HandshakeFailure::SuiteDiffers { peer, theirs } => suite_differs(&peer, theirs, self.sessions.peers.suite),
            HandshakeFailure::EnrolmentConflict { peer, conflict } => enrolment_outcome::conflict(&peer, conflict),
            HandshakeFailure::CodeErased(role) => enrolment_outcome::code_erased(role),
        }
    }
}

/// The session as it is stored.
fn session_to_store(peers: &LinkPeers, established: &Established) -> Session {
    let Established { keys, suite, peer, topics, .. } = established.clone();
    let parties = Parties { role: peers.role, own: peers.own(), peer: *peer.key.fingerprint().as_bytes() };
    Session::new(keys, parties, topics, suite, unix_time())
}

fn suite_differs(peer: &PeerName, theirs: u8, ours: Suite) -> Error {
    let theirs =
        Suite::from_code(theirs).map_or_else(|| format!("suite number {theirs}"), |suite| format!("`aes = {suite}`"));
    Error::new(Exit::Protocol, "the suites differ")
        .because(format!("{peer} has {theirs}, this device has `aes = {ours}`"))
        .hint("set the same `aes` in the configuration of both devices")
}
