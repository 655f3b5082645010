//! What goes to standard output, how much of it is still wanted, and what is owed once it was taken.

use crate::cache::Entry;
use crate::mqtt::Receipt;
use crate::pipe::Output;
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
    /// What to write down, in the order in which it happened.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let written = |accepted: &Accepted| Entry::Written {
            session: accepted.mark.session,
            // A message that was written in part is counted when the rest is.
            messages: u64::from(accepted.mark.skip == 0),
            bytes: self.bytes as u64,
        };
        self.accepted.iter().flat_map(move |accepted| {
            let Accepted { mark, gap, closed, .. } = *accepted;
            closed
                .map(Entry::Mark)
                .into_iter()
                .chain(gap.map(Entry::Lost))
                .chain([written(accepted), Entry::Mark(mark)])
        })
    }
}

/// Standard output, and how many lines of it are still wanted.
pub(super) struct Sink {
    pub(super) output: Output<Note>,
    pub(super) lines: Option<u64>,
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
                accepted.mark = accepted.mark.partly(written);
            }
        }
        self.output.note(note);
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
