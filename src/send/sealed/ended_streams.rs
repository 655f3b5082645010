//! How the streams of a run ended, which the next stream tells the receiver (`sts-protocol(7)`, "Lost ends").

use crate::Result;
use crate::cache::{EndOfStream, StreamEnd};
use crate::crypto::schedule::Digest;
use crate::sessions::LinkSessions;
use crate::stream::Sender;

/// The streams of a run that are over, and not written down as such.
pub(super) struct EndedStreams {
    peer: Digest,
    ends: Vec<EndOfStream>,
}

impl EndedStreams {
    pub(super) fn new(peer: Digest) -> Self {
        Self { peer, ends: Vec::new() }
    }

    /// The peer of all these streams.
    pub(super) fn peer(&self) -> Digest {
        self.peer
    }

    /// A stream is over, and carried so many positions of its sequence.
    pub(super) fn counted(&mut self, stream: &Sender, count: u32) {
        self.put(stream, Some(StreamEnd { count, continues: stream.continues() }));
    }

    /// A stream is over, and the receiver need not be told how: it has confirmed all of it, or has lost the session.
    pub(super) fn settled(&mut self, stream: &Sender) {
        self.put(stream, None);
    }

    fn put(&mut self, stream: &Sender, end: Option<StreamEnd>) {
        self.ends.retain(|end| end.stream != stream.id());
        self.ends.push(EndOfStream { stream: stream.id(), salt: stream.salt(), end });
    }

    /// What is not written down.
    pub(super) fn ends(&self) -> &[EndOfStream] {
        &self.ends
    }

    /// All of it is written down.
    pub(super) fn written(&mut self) {
        self.ends.clear();
    }

    /// Writes it down, at the end of a run.
    pub(super) fn write(&mut self, sessions: &LinkSessions) -> Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        sessions.cache().end_streams(&self.peer, &self.ends)?;
        self.written();
        Ok(())
    }
}
