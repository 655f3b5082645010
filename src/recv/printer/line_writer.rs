//! Lines to standard output, up to the last one that is wanted.

use std::borrow::Cow;

use super::format::Format;
use crate::recv::delivery::{Completion, Delivery, Joint};
use crate::stdio::Output;

/// Standard output, and how many lines of it are still wanted.
pub(super) struct LineWriter {
    pub(super) output: Output<Completion>,
    format: Format,
    /// `None`: all lines that come.
    limit: Option<LineLimit>,
    /// Bytes are written as they are, and the last of them was not the end of a line.
    is_mid_line: bool,
}

/// The lines that are wanted (`-n`).
struct LineLimit {
    wanted: u64,
    /// Of these, the ones that were not written yet.
    left: u64,
}

impl LineWriter {
    pub(super) fn new(output: Output<Completion>, format: Format, lines: Option<u64>) -> Self {
        Self { output, format, limit: lines.map(|wanted| LineLimit { wanted, left: wanted }), is_mid_line: false }
    }

    /// Whether the last line that is wanted was written.
    pub(super) fn has_all_lines(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.left == 0)
    }

    /// How many lines were passed on, and how many are wanted, where that is more.
    pub(super) fn short_count(&self) -> Option<(u64, u64)> {
        let LineLimit { wanted, left } = *self.limit.as_ref()?;
        (left > 0).then_some((wanted - left, wanted))
    }

    /// What is owed for the part of a message that was written, where writing ended in the middle of it. The next run writes the
    /// message as a whole where something stands in front of its lines, and where nothing is written down (`nosec`), so that
    /// the part is taken back then.
    pub(super) fn interrupted(&mut self) -> Option<Completion> {
        let (written, mut completion) = self.output.interrupted()?;
        if self.format.needs_metadata() || completion.progress.is_none() {
            self.output.retract();
            return None;
        }
        Some(completion.split_to(written))
    }

    /// Writes a message's bytes as they are, up to the last line that is wanted.
    pub(super) fn write(&mut self, delivery: Delivery) {
        let Delivery { data, mut completion, joint, .. } = delivery;
        if joint == Joint::Alone && self.is_mid_line {
            self.end_line();
        }
        let wanted = match &mut self.limit {
            None => data.len(),
            // What comes after the last line that is wanted is not even acknowledged: the next run gets it.
            Some(LineLimit { left: 0, .. }) => return,
            Some(LineLimit { left, .. }) => lines_end(&data, left),
        };
        self.output.push(&data[..wanted]);
        if let Some(last) = data[..wanted].last() {
            self.is_mid_line = *last != b'\n';
        }
        let owed = if wanted < data.len() { completion.split_to(wanted) } else { completion };
        self.output.push_completion(owed);
    }

    /// Ends a line of which the rest is still to come.
    fn end_line(&mut self) {
        self.is_mid_line = false;
        self.output.push(b"\n");
        if let Some(LineLimit { left, .. }) = &mut self.limit {
            *left = left.saturating_sub(1);
        }
    }

    /// Writes whole lines, of one or more messages of a stream, up to the last one that is wanted. What is owed for a
    /// message follows its last byte.
    pub(super) fn write_lines(&mut self, deliveries: Vec<Delivery>) {
        if self.format == Format::Plain {
            return deliveries.into_iter().for_each(|delivery| self.write(delivery));
        }
        if self.has_all_lines() {
            return;
        }
        let ends = ends_of(&deliveries);
        let all = joined(&deliveries);
        let mut out = Vec::with_capacity(all.len());
        let mut written = 0;
        for line in all.split_inclusive(|&byte| byte == b'\n') {
            written += line.len();
            // A line has the metadata of the message in which it ends.
            let last = ends.partition_point(|&end| end < written);
            self.format.write_line(&mut out, deliveries[last].metadata.as_ref(), line);
            if let Some(LineLimit { left, .. }) = &mut self.limit
                && (line.ends_with(b"\n") || self.format.needs_metadata())
            {
                *left -= 1;
                if *left == 0 {
                    break;
                }
            }
        }
        self.output.push(&out);
        for (mut delivery, end) in deliveries.into_iter().zip(ends) {
            let begin = end - delivery.data.len();
            if end <= written {
                self.output.push_completion(delivery.completion);
            } else if begin < written {
                // The rest of the message is for the next run.
                self.output.push_completion(delivery.completion.split_to(written - begin));
            }
        }
    }
}

/// Where the bytes of each message end in what they are together.
fn ends_of(deliveries: &[Delivery]) -> Vec<usize> {
    let add = |end: &mut usize, delivery: &Delivery| {
        *end += delivery.data.len();
        Some(*end)
    };
    deliveries.iter().scan(0, add).collect()
}

/// The bytes of messages together: copied only where there are several.
fn joined(deliveries: &[Delivery]) -> Cow<'_, [u8]> {
    if let [one] = deliveries {
        return Cow::Borrowed(&one.data);
    }
    let mut all = Vec::with_capacity(deliveries.iter().map(|delivery| delivery.data.len()).sum());
    for delivery in deliveries {
        all.extend_from_slice(&delivery.data);
    }
    Cow::Owned(all)
}

/// Where the last line that is wanted ends in `bytes`; takes the lines before it off `left`.
fn lines_end(bytes: &[u8], left: &mut u64) -> usize {
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        *left -= 1;
        if *left == 0 {
            return at + 1;
        }
    }
    bytes.len()
}
