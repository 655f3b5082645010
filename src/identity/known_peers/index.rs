//! Where in `known_peers` each name, key and link is, so that one of a hundred thousand peers is found without reading the others.
//!
//! The index of a large file is kept in the runtime directory: a power failure removes it, and nothing is written to flash for it.
//! It belongs to one version of the file, which it names by its stamp, and was made after all of that version was read and
//! checked. It only says where to look: what is used of a peer is read from `known_peers`. Of lines that were appended since, a
//! short file beside it has the entries, so that one peer more does not write those of a hundred thousand again.

use sha2::Digest as _;

use super::line::PeersLine;
use crate::crypto::schedule::Digest;
use crate::files::{self, Dir, Lock, RandomAccessFile, Stamp};
use crate::name::{LinkName, PeerName};
use crate::{Error, Exit, Result};

/// No link has an `@` in its name.
const INDEX_FILE: &str = "@known_peers";
const INDEX_LOCK: &str = "@known_peers.lock";
/// How the file begins; a later layout begins with another number.
const MAGIC: [u8; 8] = *b"stsidx 1";
const HEADER_LEN: usize = MAGIC.len() + Stamp::LEN;
/// Beside it, the entries of what was appended: the stamps of `known_peers` now and in the index that it adds to.
const ADDED_FILE: &str = "@known_peers.added";
const ADDED_HEADER_LEN: usize = MAGIC.len() + 2 * Stamp::LEN;
/// Most entries that are beside the index.
const MAX_ADDED: usize = if cfg!(test) { 8 } else { 2000 };
/// Look-ups from which on it is faster to read all of a stored index: each of them reads some twenty entries.
const MANY_LOOKUPS: usize = 64;
/// A shorter `known_peers`, in bytes, is read as fast as its index, and replaced as fast as a line is appended to it.
pub(super) const MIN_INDEXED_LEN: u64 = 64 << 10;

/// What lines are found by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// The name of the peer.
    Name(&'a PeerName),
    /// The fingerprint of its key, or the first 8 bytes of it or more.
    Key(&'a [u8]),
    /// A link that the key is trusted for by name, or that has paired with it.
    Link(&'a LinkName),
}

impl Subject<'_> {
    fn hash(self) -> u64 {
        let of_text = |kind: u8, text: &str| {
            let hash: Digest = sha2::Sha256::new().chain_update([kind]).chain_update(text).finalize().into();
            first_word(&hash)
        };
        match self {
            Self::Name(name) => of_text(b'n', name.as_str()),
            Self::Key(fingerprint) => first_word(fingerprint),
            Self::Link(link) => of_text(b'l', link.as_str()),
        }
    }
}

fn first_word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// One name, key or link of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    hash: u64,
    /// Where the line begins.
    at: u64,
}

impl Entry {
    const LEN: usize = 16;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (hash, at) = bytes.split_at(8);
        Self { hash: first_word(hash), at: first_word(at) }
    }
}

/// The entries of one version of the file, in order of their hashes.
#[derive(Debug)]
pub(super) enum PeersIndex {
    /// Made from what was read.
    Memory(Vec<Entry>),
    /// In the runtime directory.
    Stored(StoredIndex),
}

/// An index of a version of the file, and the entries of what was appended to that.
#[derive(Debug)]
pub(super) struct StoredIndex {
    file: RandomAccessFile,
    count: u64,
    /// The stamp of that version.
    of: [u8; Stamp::LEN],
    /// In order of their hashes.
    added: Vec<Entry>,
}

impl PeersIndex {
    /// The index of these lines.
    pub(super) fn of(lines: &[PeersLine]) -> Self {
        let mut entries: Vec<_> = lines.iter().flat_map(entries_of).collect();
        entries.sort_unstable();
        Self::Memory(entries)
    }

    /// The index that is stored for this version of the file. One that cannot be used is as good as none.
    pub(super) fn open(dir: &Dir, stamp: &Stamp) -> Option<Self> {
        if stamp.len() < MIN_INDEXED_LEN {
            return None;
        }
        let mut stored = StoredIndex::open(dir)?;
        if stored.of != stamp.to_bytes() {
            stored.added = stored.read_added(dir, stamp)?;
        }
        Some(Self::Stored(stored))
    }

    /// Stores it for the next run, if it is of a large file. Not storing it costs that run some time, and nothing else.
    pub(super) fn store(&self, dir: &Dir, stamp: &Stamp) {
        if stamp.len() >= MIN_INDEXED_LEN
            && Self::open(dir, stamp).is_none()
            && let Ok(Some(lock)) = files::try_lock(dir, INDEX_LOCK)
        {
            let _ = match self {
                Self::Memory(entries) => write(dir, &lock, INDEX_FILE, &[stamp.to_bytes()], entries),
                Self::Stored(stored) => write(dir, &lock, ADDED_FILE, &[stamp.to_bytes(), stored.of], &stored.added),
            };
        }
    }

    /// Reads all of it into memory if that is worth it for this many look-ups.
    ///
    /// # Errors
    /// As [`PeersIndex::find`].
    pub(super) fn prepare(&mut self, lookups: usize) -> Result<()> {
        if let Self::Stored(stored) = self
            && lookups >= MANY_LOOKUPS
        {
            *self = Self::Memory(stored.entries()?);
        }
        Ok(())
    }

    /// Where lines begin that may be of this subject: another one can have its hash, so that only the lines tell which are.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be read, now or at a later one of these.
    pub(super) fn find(&self, subject: Subject<'_>) -> Result<impl Iterator<Item = Result<u64>>> {
        let hash = subject.hash();
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle)?.hash < hash { low = middle + 1 } else { high = middle }
        }
        let of_hash = move |entry: &Result<Entry>| entry.as_ref().map_or(true, |entry| entry.hash == hash);
        let entries = (low..self.count()).map(|number| self.entry(number)).take_while(of_hash);
        let added = self.added().iter().filter(move |entry| entry.hash == hash);
        Ok(entries.map(|entry| Ok(entry?.at)).chain(added.map(|entry| Ok(entry.at))))
    }

    /// The index of the file after lines were replaced: `moved` tells where what was at a place is now, or that it is gone.
    ///
    /// # Errors
    /// As [`PeersIndex::find`].
    pub(super) fn after(self, moved: impl Fn(u64) -> Option<u64>, new: &[PeersLine]) -> Result<Self> {
        let kept = |entry: Entry| Some(Entry { hash: entry.hash, at: moved(entry.at)? });
        let entries = match self {
            Self::Memory(entries) => entries,
            Self::Stored(stored) => stored.entries()?,
        };
        Ok(Self::Memory(merged(entries.into_iter().filter_map(kept), new)))
    }

    /// As [`PeersIndex::after`], after lines were appended.
    ///
    /// # Errors
    /// As [`PeersIndex::find`].
    pub(super) fn after_appending(mut self, new: &[PeersLine]) -> Result<Self> {
        if let Self::Stored(stored) = &mut self {
            let added = merged(stored.added.iter().copied(), new);
            if added.len() <= MAX_ADDED {
                stored.added = added;
                return Ok(self);
            }
        }
        self.after(Some, new)
    }

    fn count(&self) -> u64 {
        match self {
            Self::Memory(entries) => entries.len() as u64,
            Self::Stored(stored) => stored.count,
        }
    }

    fn entry(&self, number: u64) -> Result<Entry> {
        match self {
            Self::Memory(entries) => Ok(entries[usize::try_from(number).expect("it is below their count")]),
            Self::Stored(stored) => stored.entry(number),
        }
    }

    fn added(&self) -> &[Entry] {
        match self {
            Self::Memory(_) => &[],
            Self::Stored(stored) => &stored.added,
        }
    }
}

impl StoredIndex {
    /// The index, of whatever version it is.
    fn open(dir: &Dir) -> Option<Self> {
        let file = files::open_to_read(dir, INDEX_FILE).ok()?;
        let mut header = [0; HEADER_LEN];
        let is_read = file.read(0, &mut header).ok()?;
        let len = usize::try_from(file.stamp().ok()?.len()).ok()?;
        let entries = len.checked_sub(HEADER_LEN).filter(|entries| entries % Entry::LEN == 0)?;
        let of = *header.last_chunk()?;
        let is_index = is_read && header.starts_with(&MAGIC);
        is_index.then(|| Self { file, count: (entries / Entry::LEN) as u64, of, added: Vec::new() })
    }

    /// The entries of what was appended to its version of the file until this one; `None` where they are not there.
    fn read_added(&self, dir: &Dir, stamp: &Stamp) -> Option<Vec<Entry>> {
        let bytes = files::read_private(dir, ADDED_FILE).ok()??;
        let (header, entries) = bytes.split_at_checked(ADDED_HEADER_LEN)?;
        let is_of_both = *header == [&MAGIC[..], &stamp.to_bytes(), &self.of].concat();
        let entries = entries.chunks_exact(Entry::LEN);
        (is_of_both && entries.remainder().is_empty()).then(|| entries.map(Entry::from_bytes).collect())
    }

    /// All of them, in order.
    fn entries(&self) -> Result<Vec<Entry>> {
        let len = usize::try_from(self.count).ok().and_then(|count| count.checked_mul(Entry::LEN));
        let mut bytes = vec![0; len.ok_or_else(|| cut_short(&self.file))?];
        if !self.file.read(HEADER_LEN as u64, &mut bytes)? {
            return Err(cut_short(&self.file));
        }
        let mut entries: Vec<_> = bytes.chunks_exact(Entry::LEN).map(Entry::from_bytes).collect();
        if !self.added.is_empty() {
            entries.extend(&self.added);
            entries.sort_unstable();
        }
        Ok(entries)
    }

    fn entry(&self, number: u64) -> Result<Entry> {
        let mut bytes = [0; Entry::LEN];
        if self.file.read(HEADER_LEN as u64 + number * Entry::LEN as u64, &mut bytes)? {
            return Ok(Entry::from_bytes(&bytes));
        }
        Err(cut_short(&self.file))
    }
}

/// Writes a file of entries, after the stamps of what it is of.
fn write(dir: &Dir, lock: &Lock, name: &str, stamps: &[[u8; Stamp::LEN]], entries: &[Entry]) -> Result<()> {
    let mut bytes = Vec::with_capacity(ADDED_HEADER_LEN + entries.len() * Entry::LEN);
    bytes.extend(MAGIC);
    bytes.extend_from_slice(stamps.as_flattened());
    // Entry by entry, not byte by byte: there are two hundred thousand.
    for entry in entries {
        bytes.extend_from_slice(&entry.to_bytes());
    }
    files::replace(dir, lock, name, &bytes)
}

/// The error of a stored index that is shorter than it was.
fn cut_short(file: &RandomAccessFile) -> Error {
    Error::new(Exit::Failed, crate::text::show(file.path())).because("it was cut short")
}

/// The entries of lines in order, with the `kept` ones, which are in order: an edit moves what follows it by the same distance.
fn merged(kept: impl Iterator<Item = Entry>, new: &[PeersLine]) -> Vec<Entry> {
    let mut new: Vec<_> = new.iter().flat_map(entries_of).collect();
    new.sort_unstable();
    // All at once: of a hundred thousand peers, a list that grew would be copied ten times.
    let mut entries = Vec::with_capacity(new.len() + kept.size_hint().1.unwrap_or_default());
    let mut new = new.into_iter().peekable();
    for entry in kept {
        while let Some(before) = new.next_if(|new| *new < entry) {
            entries.push(before);
        }
        entries.push(entry);
    }
    entries.extend(new);
    entries
}

/// The first line of these that cannot be in one file with a line before it, by where both begin, and what `conflict` says of
/// that. Only lines of which the name or the key has the same hash are compared. Another name can have that hash, too, so that
/// all of these are, and not only neighbours.
pub(super) fn first_conflict(
    lines: &[PeersLine],
    conflict: impl Fn(&PeersLine, &PeersLine) -> Option<String>,
) -> Option<(u64, String)> {
    let mut hashes: Vec<(u64, usize)> =
        lines.iter().enumerate().flat_map(|(number, line)| own_hashes(line).map(move |hash| (hash, number))).collect();
    hashes.sort_unstable();
    let of_run = |run: &[(u64, usize)]| {
        let with_earlier = |at: usize| {
            let line = &lines[run[at].1];
            let mut earlier =
                run[..at].iter().map(|&(_, number)| &lines[number]).filter(|other| other.place != line.place);
            earlier.find_map(|other| conflict(line, other)).map(|why| (line.place.start, why))
        };
        (1..run.len()).find_map(with_earlier)
    };
    hashes.chunk_by(|one, other| one.0 == other.0).filter_map(of_run).min()
}

fn entries_of(line: &PeersLine) -> impl Iterator<Item = Entry> {
    let at = line.place.start;
    let links = line.binding.all_links().map(Subject::Link);
    own_hashes(line).chain(links.map(Subject::hash)).map(move |hash| Entry { hash, at })
}

/// Of the name and of the key, which no other line may have.
fn own_hashes(line: &PeersLine) -> impl Iterator<Item = u64> {
    let key = line.key.fingerprint();
    [Subject::Name(&line.name).hash(), Subject::Key(key.as_bytes()).hash()].into_iter()
}
