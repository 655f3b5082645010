//! When sessions are loaded and unloaded: for a message, and for what an earlier run was to delete of them.

use std::time::Instant;

use bytes::BytesMut;

use super::received_streams::ReceivedStreams;
use crate::cache::PeerKey;
use crate::link::Link;
use crate::sessions::{Answer, LinkSessions};
use crate::stream::Opened;
use crate::{Error, Rejected, Result};

impl ReceivedStreams<'_> {
    /// Checks some of the sessions that no message has loaded for what an earlier run was to delete of them.
    pub(super) fn check_keys(&mut self, now: Instant) -> Result<()> {
        for peer in self.checks.take_due(now) {
            self.sessions.load(peer, &mut self.log)?;
            self.delete_finished(peer)?;
            self.unload_excess();
        }
        Ok(())
    }

    /// Opens a payload under the session that it is of, which is loaded if it was not.
    pub(super) fn open_sealed(
        &mut self,
        payload: &[u8],
        plaintext: &mut BytesMut,
    ) -> Result<std::result::Result<Opened, Rejected>> {
        let mut opened = self.sessions.receiver.open(payload, plaintext);
        if opened.is_err() {
            // Before the sessions of this message are loaded: those must stay until it is accepted, or known as a repeat.
            self.unload_excess();
            if self.sessions.load_for(payload, &mut self.log)? {
                opened = self.sessions.receiver.open(payload, plaintext);
            }
        }
        if let Ok(opened) = &opened {
            self.sessions.touch(&opened.peer);
        }
        Ok(opened)
    }

    /// The answer to a payload that asks whether a session is still here, which is loaded if it was not.
    pub(super) fn answer(&mut self, payload: &[u8]) -> Result<Option<Answer>> {
        let answer = self.sessions.answer(payload, &mut self.log)?;
        // A question that was overheard is as authentic as ever.
        self.unload_excess();
        Ok(answer)
    }

    /// Unloads what was not used for a while, if too much is loaded.
    pub(super) fn unload_excess(&mut self) {
        let (admissions, lost_ends, ended) = (&self.admissions, &self.lost_ends, &self.ended);
        let is_needed = |id| admissions.involves(id) || lost_ends.involves(id) || ended.involves(id);
        self.sessions.unload_excess(&mut self.log, is_needed);
    }

    pub(super) fn delete_finished(&self, peer: PeerKey) -> Result<()> {
        self.sessions.delete_finished(peer, |id| self.admissions.involves(id) || self.lost_ends.involves(id))
    }
}

/// The error of a link without a usable session.
pub(super) fn none_usable(link: &Link, now: Instant) -> Result<Error> {
    let peers = link.peers()?.expect("the link is encrypted");
    Ok(LinkSessions::open(link, peers, now)?.none_usable())
}
