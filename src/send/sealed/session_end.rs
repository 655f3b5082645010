//! The receiver ends the session (`sts-protocol(7)`, "The end of a session"), so that it confirms nothing more under it: its
//! KILL says so, or its answer to a query if that was lost.
//!
//! The sessions stay on this device until sts-recv deletes them: what the receiver sent itself may still be on its way. But
//! nothing more is sent under them, by any run.

use std::time::Instant;

use bytes::BytesMut;

use super::SealedStream;
use super::confirms::Confirms;
use crate::message::FrameType;
use crate::send::outgoing::Reply;
use crate::session::SessionId;
use crate::space_wait::disk_full;
use crate::stream::Content;
use crate::{Rejected, Result};

impl Confirms {
    /// The sessions that a KILL ends, newest first.
    fn ended_by(&self, payload: &[u8]) -> std::result::Result<&[SessionId], Rejected> {
        let opened = self.receiver.open(payload, &mut BytesMut::new())?;
        let is_kill = matches!(opened.head.content, Content::Kill { .. });
        Ok(if is_kill { self.receiver.ended_by(opened.stream.session) } else { &[] })
    }
}

impl SealedStream {
    /// Takes a payload from the receiver's topic, if it is a KILL. One that is repeated says what it said before.
    pub(super) fn receive_kill(&mut self, payload: &[u8], now: Instant) -> Result<Option<Reply>> {
        if FrameType::of(payload) != Ok(FrameType::Kill) {
            return Ok(None);
        }
        self.refresh_sessions(now)?;
        let ended = match self.confirms.ended_by(payload) {
            Ok(ended) => ended.to_vec(),
            Err(rejected) => return Ok(Some(Reply::Rejected(rejected))),
        };
        let retired = self.sessions.retire(&ended, now);
        // Another run may then send under them once more, and is told the same if it asks.
        if disk_full(&retired).is_none() && retired? {
            self.confirms.use_sessions(&self.sessions);
        }
        Ok(Some(self.sessions_ended(&ended)))
    }

    /// The receiver confirms nothing more under these sessions.
    pub(super) fn sessions_ended(&mut self, ids: &[SessionId]) -> Reply {
        let in_use = self.session_in_use();
        let may_be_used = |id| Some(id) == in_use || self.sessions.is_stored(id);
        self.confirms.session.note_deleted(ids, may_be_used);
        if in_use.is_some_and(|id| ids.contains(&id)) { Reply::SessionEnded } else { Reply::Nothing }
    }

    /// Whether the receiver has ended the session of the stream.
    pub(super) fn is_ended(&self) -> bool {
        self.session_in_use().is_some_and(|id| self.confirms.session.has_deleted(id))
    }

    /// The session of the stream that was begun, or is entered next. A stream that is merely reserved is replaced if
    /// its session ends.
    fn session_in_use(&self) -> Option<SessionId> {
        self.state.will_stream().filter(|_| !self.state.is_unused()).map(|stream| stream.session.id)
    }
}
