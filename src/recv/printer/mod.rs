//! From a delivery to the bytes on standard output, and back: which deliveries were written.
//!
//! ```text
//! Delivery -> OutputOrder -> LineWriter (-n, Format) -> stdio::Output -> Completion
//! ```
//!
//! [`OutputOrder`] keeps lines of different streams apart, which a format with metadata does not need, and
//! [`LineWriter`] writes them in the [`Format`] that the command line asks for, up to the last line that it wants. A
//! new format is a variant of [`Format`], with its option in `cli/recv.rs`.

mod format;
mod interleaver;
mod line_buffers;
mod line_writer;
mod order;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::PollFlags;

pub use self::format::Format;
use self::line_writer::LineWriter;
use self::order::OutputOrder;
use crate::Result;
use crate::event_loop::RunProgress;
use crate::mqtt::Receipt;
use crate::recv::delivery::{Completion, Delivery};
use crate::session::SessionId;
use crate::stdio::{Output, Written};
use crate::stream::StreamId;
use crate::units::short_size;

/// Bytes on their way to standard output above which nothing more is read from the broker.
const MAX_PENDING_BYTES: usize = 1 << 20;
/// Messages on their way above which nothing more is read either: junk has no bytes for standard output.
const MAX_PENDING_MESSAGES: usize = 1 << 13;

/// Standard output, and what is on its way there.
pub(super) struct Printer {
    order: OutputOrder,
    writer: LineWriter,
}

impl Printer {
    /// Prints on the standard output of this process, at most `lines` lines of it. Messages come from `many` peers, or from one;
    /// none is longer than `max_message`.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub(super) fn stdout(format: Format, lines: Option<u64>, many: bool, max_message: usize) -> Result<Self> {
        // What stands before a line must not come into the middle of another one.
        let whole_lines = many || format.needs_metadata();
        let order =
            if whole_lines { OutputOrder::buffered(max_message) } else { OutputOrder::interleaved(max_message) };
        Ok(Self { order, writer: LineWriter::new(Output::stdout()?, format, lines) })
    }

    /// Takes a message, and passes on what may be written now.
    pub(super) fn print(&mut self, delivery: Delivery, now: Instant) {
        self.order.push(delivery, now, &mut self.writer);
    }

    /// Has a message acknowledged in its turn, after all that was passed on before it.
    pub(super) fn acknowledge(&mut self, receipt: Receipt) {
        self.writer.output.push_completion(receipt.into());
    }

    /// Has a message without data completed in its turn, as [`Printer::acknowledge`].
    pub(super) fn complete(&mut self, completion: Completion) {
        self.writer.output.push_completion(completion);
    }

    /// Has a repeated message acknowledged. While bytes of its stream wait for the end of a line, its own may be among them:
    /// acknowledged before they are written, they would be lost with this process.
    pub(super) fn acknowledge_repeat(&mut self, stream: StreamId, receipt: Receipt, now: Instant) {
        if self.order.holds(stream) {
            self.print(Delivery::without_data(stream, receipt.into()), now);
        } else {
            self.acknowledge(receipt);
        }
    }

    /// Passes on what has waited long enough for the end of a line.
    pub(super) fn release(&mut self, now: Instant) {
        self.order.release(now, &mut self.writer);
    }

    /// Passes on everything: no more will come.
    pub(super) fn flush(&mut self) {
        self.order.flush(&mut self.writer);
    }

    /// Passes on everything of these sessions: no more will come of them.
    pub(super) fn flush_sessions(&mut self, sessions: &[SessionId]) {
        self.order.flush_streams(&|stream| sessions.contains(&stream.session), &mut self.writer);
    }

    /// What was printed as a stream is printed as another one from now on: what waits of it, and of that one before it,
    /// is passed on.
    pub(super) fn join(&mut self, from: StreamId, to: StreamId) {
        if self.order.holds(from) {
            self.order.flush_streams(&|stream| *stream == to, &mut self.writer);
        }
        self.order.flush_streams(&|stream| *stream == from, &mut self.writer);
    }

    /// Whether anything of a session waits for the end of a line.
    pub(super) fn holds_session(&self, session: SessionId) -> bool {
        self.order.holds_session(session)
    }

    /// When [`Printer::release`] has something to do, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.deadline()
    }

    /// Writes once, as far as that goes without waiting.
    ///
    /// # Errors
    /// As [`Output::write_ready`].
    pub(super) fn write_ready(&mut self) -> Result<Written> {
        self.writer.output.write_ready()
    }

    /// What is owed for the next message that was written.
    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        self.writer.output.next_completion()
    }

    /// What is owed for the part of a message that was written, where writing ended in the middle of it.
    pub(super) fn interrupted(&mut self) -> Option<Completion> {
        self.writer.interrupted()
    }

    /// What to poll. Without anything to write, poll(2) still tells when the reader of a pipe has gone.
    pub(super) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        let wanted = if self.unwritten() > 0 { PollFlags::OUT } else { PollFlags::empty() };
        (self.writer.output.as_fd(), wanted)
    }

    /// Bytes that were passed on and are not written.
    pub(super) fn unwritten(&self) -> usize {
        self.writer.output.pending_bytes()
    }

    /// From here on lines are counted.
    pub(super) fn count_lines(&mut self) {
        self.writer.output.count_lines();
    }

    /// How far the run has come: what was written.
    pub(super) fn progress(&self) -> RunProgress {
        let output = &self.writer.output;
        let under_way = match self.unwritten() + self.order.pending_bytes() {
            0 => String::new(),
            bytes => format!("{} unwritten", short_size(bytes as u64)),
        };
        RunProgress { bytes: output.written(), total: None, lines: output.lines(), under_way }
    }

    /// Whether so much waits that nothing more is to be read from the broker.
    pub(super) fn is_full(&self) -> bool {
        self.has_all_lines()
            || self.unwritten() + self.order.pending_bytes() > MAX_PENDING_BYTES
            || self.writer.output.pending_completions() > MAX_PENDING_MESSAGES
    }

    /// Whether the last line that is wanted (`-n`) was passed on.
    pub(super) fn has_all_lines(&self) -> bool {
        self.writer.has_all_lines()
    }

    /// How many lines were passed on, and how many are wanted (`-n`), where that is more.
    pub(super) fn short_count(&self) -> Option<(u64, u64)> {
        self.writer.short_count()
    }

    /// Whether all that was passed on is written.
    pub(super) fn is_flushed(&self) -> bool {
        self.writer.output.is_empty()
    }

    /// Whether nothing is on its way at all.
    pub(super) fn is_idle(&self) -> bool {
        self.is_flushed() && self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recv::delivery::for_tests::{delivery, stream};

    #[test]
    fn what_waits_of_a_stream_goes_before_all_that_comes_of_the_one_that_it_is_joined_to() {
        for many in [false, true] {
            let now = Instant::now();
            let mut printer = Printer::stdout(Format::Plain, None, many, 100).unwrap();
            // Alone, and after the unfinished line of another one.
            for before in [false, true] {
                if before {
                    printer.print(delivery(3, 0, "other", false), now);
                }
                printer.print(delivery(1, 0, "half a ", false), now);
                printer.join(stream(1), stream(2));
                assert!(!printer.order.holds(stream(1)));
                let unwritten = printer.unwritten();
                printer.print(delivery(2, 0, "line\n", false), now);
                assert_eq!(printer.unwritten(), unwritten + 5, "many: {many}, before: {before}");
            }
        }
    }
}
