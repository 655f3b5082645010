//! In which order the bytes of several streams go out, so that no line of one is torn by another.

use std::time::Instant;

use super::lines::{Label, Lines, Part};
use super::sink::{Note, Sink};
use crate::stdio::Weave;
use crate::stream::StreamId;

/// One of two ways.
pub(super) enum Order {
    /// One peer: an unfinished line goes out at once, and other streams wait until it is finished.
    Weave(Weave<StreamId, Note>),
    /// Many peers, or lines with something in front: an unfinished line waits, and nobody waits for it.
    Lines(Lines),
}

/// What one message brought.
pub(super) struct Arrived<'a> {
    pub(super) stream: StreamId,
    pub(super) bytes: &'a [u8],
    /// The stream is over with it.
    pub(super) ends: bool,
    pub(super) note: Note,
    /// For what is written in front of each line.
    pub(super) label: Option<Label>,
}

impl Order {
    /// Takes one message, and passes on what may go out now.
    pub(super) fn push(&mut self, message: Arrived<'_>, now: Instant, sink: &mut Sink) {
        let Arrived { stream, bytes, ends, note, label } = message;
        match self {
            Self::Weave(weave) => weave.push(stream, bytes, ends, note, now, |bytes, note| sink.write(bytes, note)),
            Self::Lines(lines) => {
                let part = Part { bytes: bytes.to_vec(), note, label };
                lines.push(stream, part, ends, now, |parts| sink.write_lines(parts));
            }
        }
    }

    /// Lets go what has waited long enough.
    pub(super) fn release(&mut self, now: Instant, sink: &mut Sink) {
        match self {
            Self::Weave(weave) => weave.release(now, |bytes, note| sink.write(bytes, note)),
            Self::Lines(lines) => lines.release(now, |parts| sink.write_lines(parts)),
        }
    }

    /// Lets everything go: no more will come.
    pub(super) fn flush(&mut self, sink: &mut Sink) {
        match self {
            Self::Weave(weave) => weave.flush(|bytes, note| sink.write(bytes, note)),
            Self::Lines(lines) => lines.flush(|parts| sink.write_lines(parts)),
        }
    }

    /// When [`Order::release`] has something to do, if nothing arrives before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Weave(weave) => weave.deadline(),
            Self::Lines(lines) => lines.deadline(),
        }
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Weave(weave) => weave.waiting(),
            Self::Lines(lines) => lines.waiting(),
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Weave(weave) => weave.is_empty(),
            Self::Lines(lines) => lines.is_empty(),
        }
    }

    /// Whether anything of `stream` waits.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        match self {
            Self::Weave(weave) => weave.holds(stream),
            Self::Lines(lines) => lines.holds(stream),
        }
    }
}
