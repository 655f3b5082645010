//! What a spool knows of its records: which are acknowledged, which may have been sealed, and in which stream.
//!
//! `state` has two slots, and is never longer or shorter. A change is written over the slot that does not hold the last
//! one that was synchronized, so that neither a full disk nor a power cut takes away what was there.
//!
//! The fields are fixed: a spool with other ones needs another format number (`FORMAT` in `owner.rs`), and older versions leave
//! it as it is. So they do with a slot that is whole and has a value that this version never writes: the other slot is older.

use super::damaged::{damaged, of_later_version};
use crate::Result;
use crate::crypto::key_tree::Salt;
use crate::crypto::schedule::digest;
use crate::files::{self, Dir, Lock, RandomAccessFile};
use crate::stream::{Predecessor, StreamId};

const FILE_NAME: &str = "state";
/// Where the second slot begins, in bytes: in another block of any disk.
const SECOND_SLOT: u64 = 4096;
/// Length of an encoded state in bytes: what is after its last field is zeros.
const STATE_LEN: usize = 128;
const SUM_LEN: usize = 8;

/// A stream, as it is named to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamHeader {
    /// Which one.
    pub(crate) stream: StreamId,
    /// Its salt.
    pub(crate) salt: Salt,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// By an end.
    End,
    /// By a continued: its records continue there.
    Continued(StreamHeader),
}

/// The stream that records are sealed in: record `first_record + n` is the message with seq n, or n + 1 if the stream begins
/// by saying what it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpooledStream {
    /// Which one.
    pub(crate) header: StreamHeader,
    /// Its first record.
    pub(crate) first_record: u64,
    /// Its messages ask for confirms.
    pub(crate) wants_confirms: bool,
    /// What it continues, if its first message says so.
    pub(crate) predecessor: Option<Predecessor>,
    /// The first record after it and how it ends, once that is decided.
    pub(crate) close: Option<(u64, Close)>,
}

impl SpooledStream {
    /// The stream in which it is continued, with its first record and none before it, if its close names one; and the first
    /// record after this one's last.
    pub(super) fn continued_in(&self, first_record: u64) -> Option<(u64, Self)> {
        let Some((until, Close::Continued(header))) = self.close else { return None };
        // Each field is named, so that a new one is decided for the next stream, too.
        let Self { header: _, first_record: _, wants_confirms, predecessor: _, close: _ } = *self;
        Some((until, Self { header, first_record, wants_confirms, predecessor: None, close: None }))
    }

    /// The seq of a record, or of what closes the stream, for the one after its last.
    #[must_use]
    pub(crate) fn seq(&self, record: u64) -> u32 {
        let first = u64::from(self.predecessor.is_some());
        u32::try_from(first + record.saturating_sub(self.first_record)).unwrap_or(u32::MAX)
    }
}

/// All that is written down besides the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SpoolState {
    /// Records below are acknowledged.
    pub(super) acknowledged: u64,
    /// Records below may have been sealed and published.
    pub(super) sealed: u64,
    pub(super) stream: Option<SpooledStream>,
}

impl SpoolState {
    fn encode(&self) -> [u8; STATE_LEN] {
        let mut out = Vec::with_capacity(STATE_LEN);
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        out.extend_from_slice(&self.sealed.to_be_bytes());
        if let Some(SpooledStream { header, first_record, wants_confirms, predecessor, close }) = &self.stream {
            out.extend_from_slice(&[1, u8::from(*wants_confirms)]);
            out.extend_from_slice(&first_record.to_be_bytes());
            put(&mut out, header);
            out.push(u8::from(predecessor.is_some()));
            if let Some(Predecessor { stream, end }) = predecessor {
                put_id(&mut out, stream);
                out.extend_from_slice(&end.to_be_bytes());
            }
            if let Some((until, close)) = close {
                out.push(if matches!(close, Close::End) { 1 } else { 2 });
                out.extend_from_slice(&until.to_be_bytes());
                if let Close::Continued(next) = close {
                    put(&mut out, next);
                }
            }
        }
        out.resize(STATE_LEN, 0);
        out.try_into().expect("all of it fits")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let (acknowledged, sealed) = (u64::from_be_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?));
        let stream = if flag(&mut rest)? { Some(spooled_stream(&mut rest)?) } else { None };
        let has_more = rest.iter().any(|&byte| byte != 0);
        (acknowledged <= sealed && !has_more).then_some(Self { acknowledged, sealed, stream })
    }
}

/// Reads what is there of a stream.
fn spooled_stream(rest: &mut &[u8]) -> Option<SpooledStream> {
    let wants_confirms = flag(rest)?;
    let first_record = u64::from_be_bytes(take(rest)?);
    let header = header(rest)?;
    let predecessor = if flag(rest)? {
        Some(Predecessor { stream: stream_id(rest)?, end: u32::from_be_bytes(take(rest)?) })
    } else {
        None
    };
    let [close] = take(rest)?;
    let until = u64::from_be_bytes(take(rest)?);
    let close = match close {
        0 => None,
        1 => Some((until, Close::End)),
        2 => Some((until, Close::Continued(self::header(rest)?))),
        _ => return None,
    };
    Some(SpooledStream { header, first_record, wants_confirms, predecessor, close })
}

/// Reads a byte that is 0 or 1; any other is of a format that this version does not know.
fn flag(rest: &mut &[u8]) -> Option<bool> {
    match take(rest)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn put_id(out: &mut Vec<u8>, stream: &StreamId) {
    out.extend_from_slice(&stream.session);
    out.extend_from_slice(&stream.number.to_be_bytes());
}

fn put(out: &mut Vec<u8>, header: &StreamHeader) {
    put_id(out, &header.stream);
    out.extend_from_slice(&header.salt);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

fn stream_id(rest: &mut &[u8]) -> Option<StreamId> {
    Some(StreamId { session: take(rest)?, number: u32::from_be_bytes(take(rest)?) })
}

fn header(rest: &mut &[u8]) -> Option<StreamHeader> {
    Some(StreamHeader { stream: stream_id(rest)?, salt: take(rest)? })
}

/// The file.
#[derive(Debug)]
pub(super) struct StateFile {
    file: RandomAccessFile,
    /// Of the last one written; odd ones are in the second slot.
    generation: u64,
    /// Of the last one synchronized.
    durable: u64,
    /// Records below are said to be sealed, whatever the state says. A run that is killed leaves it so.
    announced: u64,
}

impl StateFile {
    /// Opens it, made where it is absent.
    ///
    /// # Errors
    /// [`crate::Exit::DataLost`] where it is damaged; otherwise as [`files::create`] and [`files::open_in_place`].
    pub(super) fn open(dir: &Dir, lock: &Lock) -> Result<(Self, SpoolState)> {
        if files::stamp(dir, FILE_NAME)?.is_none() {
            let mut fresh = encode(0, &SpoolState::default());
            fresh.resize(usize::try_from(SECOND_SLOT).expect("a block fits") + fresh.len(), 0);
            files::create(dir, lock, FILE_NAME, &fresh)?;
        }
        let file = files::open_in_place(dir, lock, FILE_NAME)?;
        let (generation, state) = newest(dir, &file)?.ok_or_else(|| damaged(dir, "its state is incomplete"))?;
        // The last one may be from a process that was killed: it is the one to keep.
        file.sync()?;
        Ok((Self { file, generation, durable: generation, announced: state.sealed }, state))
    }

    /// Writes the state down: it survives the end of this process.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the file cannot be written.
    pub(super) fn write(&mut self, state: &SpoolState) -> Result<()> {
        let step = if self.generation == self.durable { 1 } else { 2 };
        self.generation += step;
        let state = SpoolState { sealed: state.sealed.max(self.announced), ..*state };
        self.file.write(self.generation % 2 * SECOND_SLOT, &encode(self.generation, &state))
    }

    /// Has [`StateFile::write`] say that records below may have been sealed, before they are.
    pub(super) fn announce(&mut self, below: u64) {
        self.announced = below;
    }

    /// Whether it was written that records below may have been sealed.
    pub(super) fn says_sealed(&self, below: u64) -> bool {
        below <= self.announced
    }

    /// Returns once what was written survives a power cut.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the disk says so.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.durable != self.generation {
            self.file.sync()?;
            self.durable = self.generation;
        }
        Ok(())
    }
}

/// The state as another process wrote it last, or shortly before; `None` where there is none yet.
pub(super) fn peek(dir: &Dir) -> Result<Option<SpoolState>> {
    if files::stamp(dir, FILE_NAME)?.is_none() {
        return Ok(None);
    }
    Ok(newest(dir, &files::open_to_read(dir, FILE_NAME)?)?.map(|(_, state)| state))
}

/// The newer one of the slots that are whole, and its generation.
fn newest(dir: &Dir, file: &RandomAccessFile) -> Result<Option<(u64, SpoolState)>> {
    let mut newest: Option<(u64, Option<SpoolState>)> = None;
    for slot in 0..2 {
        let mut bytes = [0; SUM_LEN + 8 + STATE_LEN];
        let whole = file.read(slot * SECOND_SLOT, &mut bytes)?;
        if let Some((generation, state)) = parse(&bytes).filter(|_| whole)
            && newest.is_none_or(|(newer, _)| generation > newer)
        {
            newest = Some((generation, state));
        }
    }
    let Some((generation, state)) = newest else { return Ok(None) };
    let state = state.ok_or_else(|| of_later_version(dir))?;
    Ok(Some((generation, state)))
}

fn encode(generation: u64, state: &SpoolState) -> Vec<u8> {
    let body = [&generation.to_be_bytes()[..], &state.encode()].concat();
    [&digest(&[&body])[..SUM_LEN], &body].concat()
}

/// The generation of a slot that is whole, and what it says; `None` within where this version does not write that.
fn parse(bytes: &[u8]) -> Option<(u64, Option<SpoolState>)> {
    let (sum, body) = bytes.split_at_checked(SUM_LEN)?;
    if digest(&[body])[..SUM_LEN] != *sum {
        return None;
    }
    let (generation, state) = body.split_first_chunk()?;
    Some((u64::from_be_bytes(*generation), SpoolState::parse(state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;
    use crate::files::Guard;

    fn states() -> Vec<SpoolState> {
        let header = |seed| StreamHeader {
            stream: StreamId { session: [seed; 8], number: 7 + u32::from(seed) },
            salt: [seed; 8],
        };
        let stream =
            SpooledStream { header: header(1), first_record: 40, wants_confirms: true, predecessor: None, close: None };
        let predecessor = Some(Predecessor { stream: StreamId { session: [3; 8], number: 9 }, end: 77 });
        let continued = SpooledStream { wants_confirms: false, predecessor, ..stream };
        let ends = SpooledStream { close: Some((99, Close::End)), wants_confirms: false, ..stream };
        let continued = SpooledStream { close: Some((99, Close::Continued(header(2)))), ..continued };
        let state = |stream| SpoolState { acknowledged: 50, sealed: 90, stream };
        vec![state(None), state(Some(stream)), state(Some(ends)), state(Some(continued))]
    }

    fn home() -> (tempfile::TempDir, Dir, Lock) {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("spool"), Guard::Private).unwrap();
        let lock = files::lock(&dir, "lock").unwrap();
        (home, dir, lock)
    }

    #[test]
    fn what_was_written_last_is_read() {
        let (_home, dir, lock) = home();
        assert_eq!(StateFile::open(&dir, &lock).unwrap().1, SpoolState::default());
        for state in states() {
            let (mut file, _) = StateFile::open(&dir, &lock).unwrap();
            for other in states() {
                file.write(&other).unwrap();
            }
            file.write(&state).unwrap();
            assert_eq!(StateFile::open(&dir, &lock).unwrap().1, state);
        }
    }

    #[test]
    fn what_was_synchronized_outlives_every_torn_write_after_it() {
        let (_home, dir, lock) = home();
        let path = dir.join(FILE_NAME);
        let [kept, later, last, _] = states()[..] else { unreachable!() };
        for writes in 1..5 {
            let (mut file, _) = StateFile::open(&dir, &lock).unwrap();
            file.write(&kept).unwrap();
            file.sync().unwrap();
            let before = std::fs::read(&path).unwrap();
            for write in 0..writes {
                file.write(if write % 2 == 0 { &later } else { &last }).unwrap();
            }
            let after = std::fs::read(&path).unwrap();
            // Any of the bytes that changed may have reached the disk, and any not.
            for cut in (0..160).chain(4090..before.len()) {
                let torn = [&after[..cut], &before[cut..]].concat();
                std::fs::write(&path, &torn).unwrap();
                let (_, state) = StateFile::open(&dir, &lock).unwrap();
                assert!([kept, later, last].contains(&state), "{state:?}");
                std::fs::write(&path, [&before[..cut], &after[cut..]].concat()).unwrap();
                assert!([kept, later, last].contains(&StateFile::open(&dir, &lock).unwrap().1));
            }
            std::fs::write(&path, &after).unwrap();
        }
    }

    #[test]
    fn a_state_with_an_unknown_tag_is_an_error_and_no_older_one_is_used() {
        // Where the tags are in a slot: whether there is a stream, whether it wants confirms, has a predecessor, is closed.
        for at in [16, 17, 46, 63] {
            let (_home, dir, lock) = home();
            let (mut file, _) = StateFile::open(&dir, &lock).unwrap();
            for state in states() {
                file.write(&state).unwrap();
                file.sync().unwrap();
            }
            let slot = usize::try_from(file.generation % 2 * SECOND_SLOT).unwrap();
            let path = dir.join(FILE_NAME);
            let mut bytes = std::fs::read(&path).unwrap();
            let body = slot + SUM_LEN..slot + SUM_LEN + 8 + STATE_LEN;
            assert!(bytes[body.start + 8 + at] <= 2, "no tag");
            bytes[body.start + 8 + at] = 3;
            let sum = digest(&[&bytes[body.clone()]]);
            bytes[slot..body.start].copy_from_slice(&sum[..SUM_LEN]);
            std::fs::write(&path, &bytes).unwrap();
            let error = StateFile::open(&dir, &lock).unwrap_err();
            assert_eq!(error.exit(), Exit::Protocol);
            assert!(error.to_string().contains("later version"), "{error}");
        }
    }

    #[test]
    fn a_state_that_is_not_whole_is_an_error() {
        let (_home, dir, lock) = home();
        StateFile::open(&dir, &lock).unwrap();
        std::fs::write(dir.join(FILE_NAME), vec![7; 5000]).unwrap();
        assert_eq!(StateFile::open(&dir, &lock).unwrap_err().exit(), Exit::DataLost);
    }
}
