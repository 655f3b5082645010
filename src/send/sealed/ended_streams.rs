//! How the streams of a run ended, which the next stream tells the receiver (`sts-protocol(7)`, "Lost ends").

use crate::Result;
use crate::cache::{EndOfStream, StreamEnd};
use crate::crypto::schedule::Digest;
use crate::send::sealed::switching::ActiveStream;
use crate::sessions::LinkSessions;

/// The streams of a run that are over, and not written down as such; each with its peer, as a device may move to another one.
#[derive(Default)]
pub(super) struct EndedStreams {
    ends: Vec<(Digest, EndOfStream)>,
}

impl EndedStreams {
    /// A stream is over, and carried so many positions of its sequence.
    pub(super) fn counted(&mut self, stream: &ActiveStream, count: u32) {
        self.put(stream, Some(StreamEnd { count, continues: stream.sender.continues() }));
    }

    /// A stream is over, and the receiver need not be told how: it has confirmed all of it, or has lost the session.
    pub(super) fn settled(&mut self, stream: &ActiveStream) {
        self.put(stream, None);
    }

    fn put(&mut self, ActiveStream { sender, session, .. }: &ActiveStream, end: Option<StreamEnd>) {
        self.ends.retain(|(_, end)| end.stream != sender.id());
        self.ends.push((session.peer, EndOfStream { stream: sender.id(), salt: sender.salt(), end }));
    }

    /// What is not written down of the streams with this peer.
    pub(super) fn with(&self, peer: &Digest) -> Vec<EndOfStream> {
        self.ends.iter().filter(|(of, _)| of == peer).map(|(_, end)| *end).collect()
    }

    /// All of that is written down.
    pub(super) fn written(&mut self, peer: &Digest) {
        self.ends.retain(|(of, _)| of != peer);
    }

    /// Writes down all of it, at the end of a run.
    pub(super) fn write(&mut self, sessions: &LinkSessions) -> Result<()> {
        while let Some((peer, _)) = self.ends.first().copied() {
            sessions.cache().end_streams(&peer, &self.with(&peer))?;
            self.written(&peer);
        }
        Ok(())
    }
}
