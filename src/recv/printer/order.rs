//! In which order the lines of several streams are written.

use std::time::Instant;

use super::interleaver::Interleaver;
use super::line_buffers::LineBuffers;
use super::line_writer::LineWriter;
use crate::recv::delivery::Delivery;
use crate::session::SessionId;
use crate::stream::StreamId;

/// One of two ways to keep a line of one stream out of the middle of another's.
pub(super) enum OutputOrder {
    /// One peer: an unfinished line is written at once, and other streams wait until it is finished.
    Interleaved(Interleaver),
    /// Many peers, or lines with something in front: an unfinished line waits, and no other stream waits for it.
    Buffered(LineBuffers),
}

impl OutputOrder {
    /// Keeps at most `limit` bytes of each stream.
    pub(super) fn interleaved(limit: usize) -> Self {
        Self::Interleaved(Interleaver::new(limit))
    }

    /// Keeps at most `limit` bytes of each stream.
    pub(super) fn buffered(limit: usize) -> Self {
        Self::Buffered(LineBuffers::new(limit))
    }

    /// Takes one message, and passes on what may be written now.
    pub(super) fn push(&mut self, delivery: Delivery, now: Instant, writer: &mut LineWriter) {
        match self {
            Self::Interleaved(streams) => streams.push(delivery, now, |delivery| writer.write(delivery)),
            Self::Buffered(lines) => lines.push(delivery, now, |line| writer.write_lines(line)),
        }
    }

    /// Passes on what has waited long enough.
    pub(super) fn release(&mut self, now: Instant, writer: &mut LineWriter) {
        match self {
            Self::Interleaved(streams) => streams.release(now, |delivery| writer.write(delivery)),
            Self::Buffered(lines) => lines.release(now, |line| writer.write_lines(line)),
        }
    }

    /// Passes on everything: no more will come.
    pub(super) fn flush(&mut self, writer: &mut LineWriter) {
        match self {
            Self::Interleaved(streams) => streams.flush(|delivery| writer.write(delivery)),
            Self::Buffered(lines) => lines.flush(|line| writer.write_lines(line)),
        }
    }

    /// Passes on everything of some streams: no more will come of them.
    pub(super) fn flush_streams(&mut self, is_over: &dyn Fn(&StreamId) -> bool, writer: &mut LineWriter) {
        match self {
            Self::Interleaved(streams) => streams.flush_streams(is_over, |delivery| writer.write(delivery)),
            Self::Buffered(lines) => lines.flush_streams(is_over, |line| writer.write_lines(line)),
        }
    }

    /// When [`OutputOrder::release`] has something to do, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Interleaved(streams) => streams.deadline(),
            Self::Buffered(lines) => lines.deadline(),
        }
    }

    /// Bytes that wait.
    pub(super) fn pending_bytes(&self) -> usize {
        match self {
            Self::Interleaved(streams) => streams.pending_bytes(),
            Self::Buffered(lines) => lines.pending_bytes(),
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Interleaved(streams) => streams.is_empty(),
            Self::Buffered(lines) => lines.is_empty(),
        }
    }

    /// Whether anything of `stream` waits.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        match self {
            Self::Interleaved(streams) => streams.holds(stream),
            Self::Buffered(lines) => lines.holds(stream),
        }
    }

    /// Whether anything of `session` waits.
    pub(super) fn holds_session(&self, session: SessionId) -> bool {
        match self {
            Self::Interleaved(streams) => streams.holds_session(session),
            Self::Buffered(lines) => lines.holds_session(session),
        }
    }
}
