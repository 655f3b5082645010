//! What becomes of other streams when a message is accepted.

use super::progress::{Gap, Progress};

/// Why a stream is closed before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Too many streams are open.
    NoRoom,
    /// A later stream may continue it: the message that would tell is given up.
    OrderUnknown,
}

/// What becomes of other streams when one begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OtherStreams {
    /// Streams of which it is known now what they continued.
    pub(crate) moved: Vec<ToldStream>,
    /// Streams whose sequence this one carries now; to be written down.
    pub(crate) superseded: Vec<Progress>,
    /// Streams that are closed before their end; to be written down, and reported.
    pub(crate) closed: Vec<(Progress, Closing)>,
    /// What is lost of the sequence before this stream; to be written down, and reported.
    pub(crate) gap: Option<Gap>,
    /// The sequence is not known, and begins at this position; to be reported.
    pub(crate) unknown: Option<u64>,
}

/// A stream that is put where a later one told that it was in its sequence; to be written down, and reported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it must be written down, and what is lost reported"]
pub(crate) struct ToldStream {
    /// Its progress, where its sequence goes on.
    pub(crate) progress: Progress,
    /// What becomes of other streams of its sequence with it.
    pub(crate) others: OtherStreams,
    /// What is lost of it.
    pub(crate) gap: Option<Gap>,
}

impl From<Progress> for ToldStream {
    /// A stream that is closed or moved, and nothing else with it.
    fn from(progress: Progress) -> Self {
        Self { progress, others: OtherStreams::default(), gap: None }
    }
}

impl ToldStream {
    /// All streams that are over with it.
    pub(crate) fn closed(&self) -> impl Iterator<Item = &Progress> {
        self.others.superseded.iter().chain([&self.progress])
    }
}
