//! What goes to standard output, how much of it is still wanted, and what is owed once it was taken.

use super::format::Format;
use super::lines::Part;
use crate::cache::JournalEntry;
use crate::mqtt::Receipt;
use crate::stdio::Output;
use crate::stream::Accepted;

/// What is done once standard output took a message's bytes.
#[derive(Debug, Default)]
pub(super) struct Note {
    /// What it did to its stream.
    pub(super) accepted: Option<Accepted>,
    /// Its sender wants to know.
    pub(super) asks: bool,
    pub(super) bytes: usize,
    pub(super) receipt: Option<Receipt>,
}

impl Note {
    /// The note of the first `at` bytes; this one is of the rest then, and settles the message.
    pub(super) fn split_to(&mut self, at: usize) -> Self {
        let mut first = Self { accepted: None, asks: self.asks, bytes: 0, receipt: None };
        if let Some(accepted) = &mut self.accepted {
            let written = accepted.skip + at;
            let progress = accepted.progress.partly(u32::try_from(written).expect("a message is shorter than 4 GiB"));
            first.accepted = Some(Accepted { progress, ..*accepted });
            *accepted = Accepted { skip: written, gap: None, closed: None, predecessor: None, ..*accepted };
        }
        first
    }

    /// Whether something was lost right before it.
    pub(super) fn follows_gap(&self) -> bool {
        self.accepted.is_some_and(|accepted| {
            accepted.gap.is_some() || accepted.predecessor.is_some_and(|(_, gap)| gap.is_some())
        })
    }

    /// What to write down, in the order in which it happened.
    pub(super) fn entries(&self) -> impl Iterator<Item = JournalEntry> {
        let written = |accepted: &Accepted| JournalEntry::Written {
            session: accepted.progress.stream.session,
            // A message that was written in part is counted when the rest is.
            messages: u64::from(accepted.progress.skip == 0),
            bytes: self.bytes as u64,
        };
        self.accepted.iter().flat_map(move |accepted| {
            let Accepted { progress, gap, closed, predecessor, .. } = *accepted;
            let (predecessor, rest) = predecessor.unzip();
            let others = closed.into_iter().chain(predecessor).map(JournalEntry::Progress);
            let gaps = rest.flatten().into_iter().chain(gap).map(JournalEntry::Lost);
            others.chain(gaps).chain([written(accepted), JournalEntry::Progress(progress)])
        })
    }
}

/// Standard output, and how many lines of it are still wanted.
pub(super) struct Sink {
    pub(super) output: Output<Note>,
    pub(super) lines: Option<u64>,
    pub(super) format: Format,
}

impl Sink {
    /// Passes on a message's bytes, up to the last line that is wanted.
    pub(super) fn write(&mut self, bytes: &[u8], mut note: Note) {
        let wanted = match &mut self.lines {
            None => bytes.len(),
            // What comes after the last wanted line is not even acknowledged: the next run gets it.
            Some(0) => return,
            Some(left) => lines_end(bytes, left),
        };
        self.output.push(&bytes[..wanted]);
        note.bytes = wanted;
        if wanted < bytes.len() {
            note.receipt = None;
            if let Some(accepted) = &mut note.accepted {
                let written = u32::try_from(accepted.skip + wanted).expect("a message is shorter than 4 GiB");
                accepted.progress = accepted.progress.partly(written);
            }
        }
        self.output.note(note);
    }

    /// Passes on whole lines, of one or more messages of a stream, up to the last one that is wanted. What is owed for a
    /// message follows its last byte.
    pub(super) fn write_lines(&mut self, parts: Vec<Part>) {
        if self.is_satisfied() {
            return;
        }
        // Where each part ends in what they are together.
        let ends: Vec<usize> = parts
            .iter()
            .scan(0, |end, part| {
                *end += part.bytes.len();
                Some(*end)
            })
            .collect();
        let all: Vec<u8> = parts.iter().flat_map(|part| &part.bytes).copied().collect();
        let mut out = Vec::with_capacity(all.len());
        let mut written = 0;
        for line in all.split_inclusive(|&byte| byte == b'\n') {
            written += line.len();
            let of = ends.partition_point(|&end| end < written);
            self.format.put(&mut out, parts[of].label.as_ref(), line);
            if let Some(left) = &mut self.lines
                && (line.ends_with(b"\n") || self.format != Format::Plain)
            {
                *left -= 1;
                if *left == 0 {
                    break;
                }
            }
        }
        self.output.push(&out);
        for (mut part, end) in parts.into_iter().zip(ends) {
            let begin = end - part.bytes.len();
            if end <= written {
                part.note.bytes = part.bytes.len();
                self.output.note(part.note);
            } else if begin < written {
                // The rest of the message is for the next run.
                let mut first = part.note.split_to(written - begin);
                first.bytes = written - begin;
                self.output.note(first);
            }
        }
    }

    pub(super) fn is_satisfied(&self) -> bool {
        self.lines == Some(0)
    }
}

/// Where the last wanted line ends in `bytes`; takes the lines before it off `left`.
fn lines_end(bytes: &[u8], left: &mut u64) -> usize {
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        *left -= 1;
        if *left == 0 {
            return at + 1;
        }
    }
    bytes.len()
}
