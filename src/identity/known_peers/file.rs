//! `known_peers` on disk, read as a whole or by its index.

use std::time::SystemTime;

use super::index::{PeersIndex, Subject, first_conflict};
use super::line::PeersLine;
use crate::files::{self, Dir, RandomAccessFile, Stamp};
use crate::identity::PublicKey;
use crate::name::LinkName;
use crate::text::{line_number, show, split_line, utf8};
use crate::{Error, Exit, Result};

/// The keys that this device trusts, in the configuration directory.
pub(crate) const KNOWN_PEERS_FILE: &str = "known_peers";
/// Longest file that is read, in bytes: a hundred thousand peers have one of 60 MB.
pub(crate) const MAX_KNOWN_PEERS_LEN: u64 = 256 << 20;
/// Length of most lines, in bytes: what is read at once where a line begins.
const LINE_LEN: u64 = 1 << 10;
/// What of a large file tells whether its keys are for all links, in bytes: several lines.
const BEGINNING_LEN: usize = 8 << 10;

/// Where the file is, and where its index is kept.
#[derive(Debug)]
pub(crate) struct PeersStore {
    dir: Dir,
    /// The runtime directory, if there is one.
    index_dir: Option<Dir>,
}

/// One version of the file, which was read and found good as a whole, by this run or by an earlier one.
#[derive(Debug)]
pub(crate) struct PeersFile {
    /// `None` where it is absent.
    opened: Option<RandomAccessFile>,
    stamp: Option<Stamp>,
    index: PeersIndex,
    /// All peers in order, if this run read them.
    lines: Option<Vec<PeersLine>>,
}

impl PeersStore {
    /// The file in this directory, and its index in that one.
    pub(crate) fn new(dir: Dir, index_dir: Option<Dir>) -> Self {
        Self { dir, index_dir }
    }

    /// The directory of the file, and of this device's own key.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The directory of the index.
    pub(super) fn index_dir(&self) -> Option<&Dir> {
        self.index_dir.as_ref()
    }

    /// The stamp of the file as it is now, one stat.
    ///
    /// # Errors
    /// [`Exit::Failed`] where its directory cannot be searched.
    pub(super) fn stamp(&self) -> Result<Option<Stamp>> {
        files::target_stamp(&self.dir, KNOWN_PEERS_FILE)
    }

    /// Opens the file, and reads all of it only where there is no index of it; without a file no peer is known.
    ///
    /// # Errors
    /// As [`super::KnownPeers::load`].
    pub(crate) fn open(&self) -> Result<PeersFile> {
        let Some(opened) = files::open_public(&self.dir, KNOWN_PEERS_FILE)? else { return Ok(PeersFile::absent()) };
        let stamp = opened.stamp()?;
        match self.index_dir.as_ref().and_then(|dir| PeersIndex::open(dir, &stamp)) {
            Some(index) => Ok(PeersFile { opened: Some(opened), stamp: Some(stamp), index, lines: None }),
            None => self.read_opened(opened, stamp),
        }
    }

    /// Opens the file and reads all of it.
    ///
    /// # Errors
    /// As [`super::KnownPeers::load`].
    pub(super) fn read(&self) -> Result<PeersFile> {
        let Some(opened) = files::open_public(&self.dir, KNOWN_PEERS_FILE)? else { return Ok(PeersFile::absent()) };
        // Taken before reading: a change in between is then seen as one by the next look.
        let stamp = opened.stamp()?;
        self.read_opened(opened, stamp)
    }

    fn read_opened(&self, opened: RandomAccessFile, stamp: Stamp) -> Result<PeersFile> {
        let location = show(opened.path());
        let bytes = opened.read_all(MAX_KNOWN_PEERS_LEN)?;
        let text = utf8(&bytes).map_err(|line| bad_line(&location, line, "it contains bytes that are not UTF-8"))?;
        let (lines, index) = parse(text, &location)?;
        // One that was written in place meanwhile, or in the tick of the clock in which it is stamped, may be another one.
        if let Some(dir) = &self.index_dir
            && stamp.is_stable(SystemTime::now())
            && opened.stamp()? == stamp
        {
            index.store(dir, &stamp);
        }
        Ok(PeersFile { opened: Some(opened), stamp: Some(stamp), index, lines: Some(lines) })
    }
}

impl PeersFile {
    fn absent() -> Self {
        let index = PeersIndex::of(&[]);
        Self { opened: None, stamp: None, index, lines: Some(Vec::new()) }
    }

    /// Its stamp when it was opened; `None` where it was absent.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.stamp.map_or(0, |stamp| stamp.len())
    }

    /// Whether this run read all of it.
    pub(super) fn is_read(&self) -> bool {
        self.lines.is_some()
    }

    /// All peers in order, if this run read them.
    pub(super) fn into_lines(self) -> Option<Vec<PeersLine>> {
        self.lines
    }

    /// The file, to copy parts of it, and the index; no file where it is absent.
    pub(super) fn into_parts(self) -> (Option<RandomAccessFile>, PeersIndex) {
        (self.opened, self.index)
    }

    /// Reads the index into memory if that is worth it for this many look-ups.
    ///
    /// # Errors
    /// As [`PeersFile::find`].
    pub(crate) fn prepare(&mut self, lookups: usize) -> Result<()> {
        self.index.prepare(lookups)
    }

    /// Whether a large file begins with keys for all links.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be read.
    pub(crate) fn begins_with_keys_for_all_links(&self) -> Result<bool> {
        let (Some(file), None) = (&self.opened, &self.lines) else { return Ok(false) };
        let mut bytes = [0; BEGINNING_LEN];
        if !file.read(0, &mut bytes)? {
            return Ok(false);
        }
        let text = String::from_utf8_lossy(&bytes);
        // The last line is cut, perhaps before its links.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let peers = whole.lines().filter_map(|line| PeersLine::parse(line, 0).ok().flatten());
        // One of them could be our own, written into the file by hand.
        Ok(peers.filter(|line| line.binding.is_for_all_links()).nth(2).is_some())
    }

    /// The lines of a subject, at most `max` of them.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the file or its index cannot be read.
    pub(super) fn find(&self, subject: Subject<'_>, max: usize) -> Result<Vec<PeersLine>> {
        let (mut found, mut last) = (Vec::new(), None);
        let mut places = self.index.find(subject)?;
        while found.len() < max
            && let Some(at) = places.next().transpose()?
        {
            // A link that was named for a key and has paired with it leads to the same line twice.
            if last.replace(at) != Some(at) {
                found.extend(self.line_at(at)?.filter(|line| line.is_of(subject)));
            }
        }
        Ok(found)
    }

    /// Whether a key is trusted for a link by name, or has paired with it.
    ///
    /// # Errors
    /// As [`PeersFile::find`].
    pub(crate) fn has_peer_of(&self, link: &LinkName) -> Result<bool> {
        Ok(!self.find(Subject::Link(link), 1)?.is_empty())
    }

    /// Whether it is written down that a link has paired with a peer.
    ///
    /// # Errors
    /// As [`PeersFile::find`].
    pub(crate) fn has_paired(&self, link: &LinkName) -> Result<bool> {
        let lines = self.find(Subject::Link(link), usize::MAX)?;
        Ok(lines.iter().any(|line| line.binding.has_paired(link)))
    }

    /// The known key whose fingerprint begins with these bytes, at least 8.
    ///
    /// # Errors
    /// As [`PeersFile::find`].
    pub(crate) fn key(&self, fingerprint: &[u8]) -> Result<Option<PublicKey>> {
        Ok(self.find(Subject::Key(fingerprint), 1)?.pop().map(|line| line.key))
    }

    /// The line that begins there; `None` where none of a peer does.
    fn line_at(&self, at: u64) -> Result<Option<PeersLine>> {
        if let Some(lines) = &self.lines {
            return Ok(lines
                .binary_search_by_key(&at, |line| line.place.start)
                .ok()
                .map(|number| lines[number].clone()));
        }
        let Some(file) = &self.opened else { return Ok(None) };
        // With the newline before it.
        let from = at.saturating_sub(1);
        let mut len = LINE_LEN;
        loop {
            let to = self.len().min(from + len);
            let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or_default()];
            if !file.read(from, &mut bytes)? {
                return Ok(None);
            }
            let line = if at == 0 { Some(&*bytes) } else { bytes.strip_prefix(b"\n") };
            let Some(line) = line else { return Ok(None) };
            let end = line.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1);
            if let Some(end) = end.or_else(|| (to == self.len()).then_some(line.len())) {
                let text = std::str::from_utf8(&line[..end]).ok();
                return Ok(text.and_then(|text| PeersLine::parse(text, at).ok().flatten()));
            }
            len *= 4;
        }
    }

    /// Whether it ends in the middle of a line.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be read.
    pub(super) fn ends_open(&self) -> Result<bool> {
        let (Some(file), Some(last)) = (&self.opened, self.len().checked_sub(1)) else { return Ok(false) };
        let mut byte = [0];
        Ok(file.read(last, &mut byte)? && byte != *b"\n")
    }
}

fn bad_line(location: &str, number: usize, why: impl std::fmt::Display) -> Error {
    Error::new(Exit::Config, format!("{location}, line {number}")).because(why)
}

/// Reads the text of the file, which an error calls `location`.
///
/// # Errors
/// [`Exit::Config`] with the number of a line that is malformed, or whose name or key is on another one, too.
fn parse(text: &str, location: &str) -> Result<(Vec<PeersLine>, PeersIndex)> {
    let (mut lines, mut at, mut number, mut rest) = (Vec::new(), 0, 0, text);
    while !rest.is_empty() {
        let line;
        (line, rest) = split_line(rest);
        number += 1;
        lines.extend(PeersLine::parse(line, at).map_err(|why| bad_line(location, number, why))?);
        at += line.len() as u64;
    }
    let index = PeersIndex::of(&lines);
    if let Some((at, why)) = first_conflict(&lines, PeersLine::conflict) {
        let at = usize::try_from(at).expect("it is in the text");
        return Err(bad_line(location, line_number(text.as_bytes(), at), why));
    }
    Ok((lines, index))
}

/// The peers in a text of the file, without their index.
///
/// # Errors
/// As [`parse`].
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::identity) fn parse_lines(text: &str) -> Result<Vec<PeersLine>> {
    parse(text, KNOWN_PEERS_FILE).map(|(lines, _)| lines)
}
