//! Of which stream the broker keeps messages (`retain = 1`), and which of them is its newest value.

use super::Streams;
use crate::stream::content::Content;

/// A stream of which the broker keeps the newest message with bytes of data: the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptStream {
    /// Its number.
    pub(crate) number: u32,
    /// The seq after the value, if messages without data were received since; `None` if the last message that was
    /// received is the value, apart from the one that closes the stream, which carries no data.
    pub(crate) value_end: Option<u32>,
}

impl KeptStream {
    /// The same after one more message of it; `lost` says that messages right before that one were lost, which may have
    /// been the value.
    pub(in crate::stream) fn with(self, seq: u32, content: &Content, lost: bool) -> Self {
        let before = self.value_end.filter(|_| !lost);
        let value_end = if content.closes_stream() {
            before
        } else if content.may_carry_data() {
            None
        } else {
            Some(before.unwrap_or(seq))
        };
        Self { value_end, ..self }
    }
}

impl Streams {
    /// The newest stream of which the broker keeps messages, if any was received.
    #[must_use]
    pub(crate) fn kept(&self) -> Option<KeptStream> {
        self.kept
    }

    /// Whether it is this one.
    pub(in crate::stream) fn is_kept(&self, number: u32) -> bool {
        self.kept.is_some_and(|kept| kept.number == number)
    }

    /// Notes that the broker keeps messages of a stream, or where the value is in it.
    pub(crate) fn keep(&mut self, stream: KeptStream) {
        if self.kept.is_none_or(|kept| kept.number <= stream.number) {
            self.kept = Some(stream);
        }
    }
}
