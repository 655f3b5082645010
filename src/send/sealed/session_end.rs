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
        let retired = self.sessions.retire(&ended);
        // Another run may then send under them once more, and is told the same if it asks.
        if disk_full(&retired).is_none() {
            retired?;
        }
        let is_own = self.state.stream().is_some_and(|stream| ended.contains(&stream.session.id));
        Ok(Some(if is_own { self.session_ended() } else { Reply::Nothing }))
    }

    /// The receiver confirms nothing more of the stream.
    pub(super) fn session_ended(&mut self) -> Reply {
        self.confirms.session.is_ended = true;
        Reply::SessionEnded
    }
}
