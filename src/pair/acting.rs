//! What the handshake asks for, done: stored first, then sent, so that a peer that hears of a session can rely on it.

use std::time::Instant;

use bytes::BytesMut;

use super::{Machine, Run, code};
use crate::cache::StoredSession;
use crate::crypto::schedule::Topics;
use crate::handshake::{Action, Established, Failure};
use crate::link::unix_time;
use crate::message::Header;
use crate::mqtt::Qos;
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::session::{self, Session, Standing};
use crate::suite::Suite;
use crate::{Error, Exit, Result};

impl Run<'_> {
    /// The master's first sealed message proves that it has the session, where its RDYACK was lost. It is opened for the
    /// proof only: sts-recv receives it.
    pub(super) fn take_proof(&mut self, payload: &[u8]) -> Result<()> {
        let Machine::Running(handshake) = &mut self.machine else { return Ok(()) };
        let Ok(header) = Header::parse(payload) else { return Ok(()) };
        let opens = |established: &&Established| {
            session::tag(&established.keys.id) == header.tag
                && stored(&self.ends, established).opener().open(payload, &mut BytesMut::new()).is_ok()
        };
        let Some(id) = handshake.pending().find(opens).map(|established| established.keys.id) else { return Ok(()) };
        if let Some(established) = handshake.mark_proved(&id) {
            self.promote(established)?;
        }
        Ok(())
    }

    /// Does what a frame led to on these topics.
    ///
    /// # Errors
    /// As [`super::run`].
    pub(super) fn act(&mut self, step: Action, topics: &Topics, now: Instant) -> Result<()> {
        match step {
            Action::Finished(established) => {
                let peer = established.peer.key.fingerprint();
                self.cache.prove(peer.as_bytes(), &established.keys.id).map(drop)
            }
            Action::Send(frame) => self.publish(topics, frame, Qos::AtMostOnce),
            // A master that this slave trusts is here to pair: no reply that is still on its way changes that.
            Action::MasterAuthenticated(frame) => {
                self.asking = None;
                self.publish(topics, frame, Qos::AtMostOnce)
            }
            Action::Wait => Ok(()),
            Action::StorePending(established, frame) => {
                self.pin(&established)?;
                let session = stored(&self.ends, &established);
                self.cache.store_pending(&session, session.created)?;
                self.publish(topics, frame, Qos::AtMostOnce)
            }
            Action::StoreCurrent(established, frame) => {
                self.pin(&established)?;
                let session = stored(&self.ends, &established);
                self.cache.store_current(&session, session.created)?;
                self.paired = Some(*established);
                // The broker keeps it for a slave that is off the line for a moment.
                self.publish(topics, frame, Qos::AtLeastOnce)
            }
            Action::Promote(established, frame) => {
                self.promote(*established)?;
                self.publish(topics, frame, Qos::AtMostOnce)
            }
            Action::WrongCode { left, frame } => {
                self.publish(topics, frame, Qos::AtMostOnce)?;
                self.report.warn(&code::wrong(left));
                Ok(())
            }
            Action::CodeRejected { left } => {
                self.wrong_code = Some(left);
                Ok(())
            }
            Action::Fail(failure, frame) => {
                frame.map_or(Ok(()), |frame| self.publish(topics, frame, Qos::AtMostOnce))?;
                Err(match failure {
                    Failure::SuiteDiffers { peer, theirs } => suite_differs(&peer, theirs, self.ends.suite),
                    Failure::EnrolmentConflict { peer, conflict } => code::unfit(&peer, conflict),
                    Failure::CodeErased(role) => code::erased(role),
                })
            }
            Action::Claim(hint, frame) => {
                self.tell(&hint, now);
                frame.map_or(Ok(()), |frame| self.publish(topics, frame, Qos::AtMostOnce))
            }
        }
    }

    fn pin(&mut self, established: &Established) -> Result<()> {
        if self.enrolling { code::pin(&mut self.ends, &established.peer, self.report) } else { Ok(()) }
    }

    fn promote(&mut self, established: Established) -> Result<()> {
        let session = stored(&self.ends, &established);
        let in_use = |stored: &StoredSession| stored.session.id == session.id && stored.standing != Standing::Pending;
        // Where it is not pending any more, sts-recv was faster; or somebody deleted it.
        if !self.cache.promote(&session.peer, &session.id, unix_time())?
            && !self.cache.load_peer(&session.peer)?.sessions.iter().any(in_use)
        {
            return Err(Error::new(Exit::TryAgain, "the new session is gone")
                .because("it was deleted while the pairing ran")
                .hint("run sts-pair on both devices again"));
        }
        if self.service.is_some() {
            self.tell_paired(&established);
        }
        self.paired = Some(established);
        Ok(())
    }

    pub(super) fn tell_paired(&self, Established { peer, .. }: &Established) {
        self.report.info(format_args!("paired with {} ({})", peer.name, peer.key.fingerprint()));
    }
}

/// The session as it is stored.
fn stored(ends: &LinkPeers, established: &Established) -> Session {
    let fingerprints = crate::session::Parties {
        role: ends.role,
        own: ends.own(),
        peer: *established.peer.key.fingerprint().as_bytes(),
    };
    Session::new(established.keys.clone(), fingerprints, established.topics.clone(), established.suite, unix_time())
}

fn suite_differs(peer: &PeerName, theirs: u8, ours: Suite) -> Error {
    let theirs =
        Suite::from_code(theirs).map_or_else(|| format!("suite number {theirs}"), |suite| format!("`aes = {suite}`"));
    Error::new(Exit::Protocol, "the suites differ")
        .because(format!("{peer} has {theirs}, this device has `aes = {ours}`"))
        .hint("give both devices the same line in their configuration")
}
