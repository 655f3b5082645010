//! The status as JSON, written as it is read: of a hundred thousand peers, the first is printed at once, and memory holds a few.

use std::collections::HashSet;
use std::io::{self, Write};

#[cfg(feature = "legacy")]
use super::legacy;
use super::survey::{Row, Survey};
use super::{json, tell_no_sessions};
use crate::cache::status::{LinkStatus, StatusReader};
use crate::cache::{Cache, PeerKey};
use crate::config::Environment;
use crate::crypto::schedule::Digest;
use crate::link::unix_time;
use crate::name::LinkName;
use crate::report::Reporter;
use crate::{Error, Exit, Result};

/// How many bytes are written at once.
const CHUNK_LEN: usize = 64 << 10;

/// Prints all links, or one of them.
///
/// # Errors
/// As [`super::run`].
pub(super) fn print(env: &Environment, only: Option<&LinkName>, report: &Reporter) -> Result<()> {
    let (mut survey, all) = Survey::begin(env, only)?;
    let mut output = Output::new(io::stdout().lock());
    let (mut links, mut has_sessions) = (Vec::new(), false);
    for (name, peers) in all {
        let link = print_link(env, name, peers, &survey, &mut output)?;
        has_sessions |= output.has_sessions || !link.broken.is_empty();
        links.push(link);
    }
    let shown = std::mem::take(&mut output.shown);
    for row in survey.unshown(&shown) {
        output.row(&row)?;
    }
    #[cfg(feature = "legacy")]
    {
        let legacy = legacy::sessions(&env.runtime_dir(), &mut links, unix_time());
        has_sessions |= !legacy.is_empty();
        output.text.push_str(&legacy::json_lines(&legacy));
    }
    output.flush()?;
    if !has_sessions {
        tell_no_sessions(env, only, report);
    }
    let has_unknown_key = output.has_unknown_key;
    survey.links = links;
    survey.report_unread_if(has_unknown_key, report)
}

/// Prints the peers of one link, those with sessions first.
fn print_link(
    env: &Environment,
    name: LinkName,
    peers: Vec<PeerKey>,
    survey: &Survey,
    output: &mut Output<impl Write>,
) -> Result<LinkStatus> {
    let mut paired = HashSet::new();
    let link = match Cache::look(&env.runtime_dir(), &name) {
        Ok(cache) => {
            let (mut link, reader) = StatusReader::open(&cache, peers, unix_time());
            reader.each(&mut link, |link, sessions| {
                let peer = sessions[0].peer;
                paired.insert(peer);
                output.has_sessions = true;
                output.row(&survey.row(Some(link), peer, &sessions))
            })?;
            link
        }
        Err(error) if error.exit() == Exit::TryAgain => LinkStatus::without_sessions(name),
        Err(error) => return Err(error),
    };
    for row in survey.unpaired(&link, &paired) {
        output.row(&row)?;
    }
    Ok(link)
}

/// Standard output, and what is remembered of what was written to it.
struct Output<W: Write> {
    writer: W,
    text: String,
    /// Nobody reads it any more, as in `sts-pair --status --json | head`.
    is_closed: bool,
    shown: HashSet<Digest>,
    has_sessions: bool,
    /// A key was shown that is not trusted, or not known.
    has_unknown_key: bool,
}

impl<W: Write> Output<W> {
    fn new(writer: W) -> Self {
        let text = String::with_capacity(2 * CHUNK_LEN);
        Self { writer, text, is_closed: false, shown: HashSet::new(), has_sessions: false, has_unknown_key: false }
    }

    /// Prints a row, as soon as there are enough of them; false if nobody reads it any more.
    fn row(&mut self, row: &Row<'_>) -> Result<bool> {
        self.shown.insert(*row.fingerprint.as_bytes());
        self.has_unknown_key |= row.name.is_none();
        json::put_line(&mut self.text, row);
        if self.text.len() >= CHUNK_LEN {
            self.flush()?;
        }
        Ok(!self.is_closed)
    }

    fn flush(&mut self) -> Result<()> {
        if !self.is_closed {
            match self.writer.write_all(self.text.as_bytes()).and_then(|()| self.writer.flush()) {
                Ok(()) => {}
                Err(err) if err.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
                Err(err) => return Err(Error::new(Exit::Failed, "cannot write to stdout").because(err)),
            }
        }
        self.text.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Fingerprint;

    /// Takes so many writes, and then is a pipe that nobody reads.
    struct Pipe(usize, Vec<u8>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn row(number: u32) -> Row<'static> {
        let mut peer = [0; 32];
        peer[..4].copy_from_slice(&number.to_be_bytes());
        Row { link: None, first: false, name: None, fingerprint: Fingerprint::from(peer), sessions: &[] }
    }

    #[test]
    fn rows_are_written_while_more_are_to_come_until_nobody_reads_them() {
        let mut output = Output::new(Pipe(2, Vec::new()));
        let rows = (0..10_000).take_while(|number| output.row(&row(*number)).unwrap()).count();
        let written = String::from_utf8(output.writer.1.clone()).unwrap();
        assert!(written.len() >= 2 * CHUNK_LEN && written.len() < 3 * CHUNK_LEN, "{}", written.len());
        assert!(written.ends_with("}\n") && (written.lines().count() + 1..10_000).contains(&rows));
        assert_eq!(written.lines().next(), json::lines(&[row(0)]).lines().next());
        assert!(output.text.is_empty() && output.flush().is_ok());
    }
}
