//! One message that we published and the broker has not acknowledged.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::mqtt::{Qos, Token};

/// The position of a packet that this connection has not carried: after each byte sent, so no answer can be for it.
pub(super) const UNSENT: Range<u64> = u64::MAX..u64::MAX;

/// One published message.
#[derive(Debug)]
pub(super) struct OutgoingPublish {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) state: PublishState,
    /// A socket took all of it on some connection, so the broker may have it.
    pub(super) dup: bool,
    /// The tool knows that the broker bears no message as long as this one.
    pub(super) is_told: bool,
    /// Where its latest packet lies among the bytes of this connection.
    pub(super) position: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishState {
    /// PUBLISH is to be sent, or answered.
    Publishing,
    /// PUBREC came: PUBREL is to be sent, or answered.
    Releasing,
    /// Done, and kept until all older ones are.
    Acknowledged,
}

impl OutgoingPublish {
    pub(super) fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }

    pub(super) fn attempted(&self, token: Token, longer_was_accepted: bool) -> AttemptedPublish<'_> {
        AttemptedPublish { token, topic: &self.topic, len: self.payload.len(), qos: self.qos, longer_was_accepted }
    }
}

/// A message that went out and was not answered: did the broker refuse it?
#[derive(Debug)]
pub(super) struct AttemptedPublish<'a> {
    pub(super) token: Token,
    pub(super) topic: &'a str,
    pub(super) len: usize,
    pub(super) qos: Qos,
    /// The broker accepted one at least as long on this topic in this run, so it has no reason to.
    pub(super) longer_was_accepted: bool,
}

/// What a message asks for and the broker bears less of.
#[derive(Debug)]
pub(super) enum Excess<'a> {
    /// Its payload is longer than this many bytes: it is not sent.
    Length(AttemptedPublish<'a>, usize),
    /// Its quality of service is higher: it is sent with this one.
    Qos { asked: Qos, max: Qos },
    /// The broker keeps no messages: it is sent without that.
    Retain,
}
