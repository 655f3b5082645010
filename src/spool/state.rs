//! What a spool knows of its records: which are acknowledged, which may have been sealed, and in which sequence.
//!
//! `state` has two slots, and is never longer or shorter. A change is written over the slot that does not hold the last
//! one that was synchronized, so that neither a full disk nor a power cut takes away what was there.
//!
//! The fields are fixed: a spool with other ones needs another format number (`FORMAT` in `owner.rs`), and older versions leave
//! it as it is. So they do with a slot that is whole and has a value that this version never writes: the other slot is older.
//! The peer of a sequence came later, in bytes that were zeros, so earlier versions leave such a slot as it is, too.

use super::damaged::{damaged, of_later_version};
use super::segments::MAX_RECORD;
use crate::Result;
use crate::crypto::schedule::{Digest, digest};
use crate::files::{self, Dir, Lock, RandomAccessFile};
use crate::stream::{Continues, Origin, StreamId};

const FILE_NAME: &str = "state";
/// Where the second slot begins, in bytes: in another block of any disk.
const SECOND_SLOT: u64 = 4096;
/// Length of an encoded state in bytes: what is after its last field is zeros.
const STATE_LEN: usize = 64;
const SUM_LEN: usize = 8;

/// The sequence that records are sealed in, by one stream or by several of them: record `first_record + n` is the message at
/// position n, whichever stream carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpooledSequence {
    /// The stream in which it began.
    pub(crate) origin: Origin,
    /// The peer of its streams; `None` in a file of an earlier version.
    pub(super) peer: Option<SequencePeer>,
    /// Its first record.
    pub(crate) first_record: u64,
    /// Its messages ask for confirms.
    pub(crate) wants_confirms: bool,
    /// The first record after it, once it is decided that it ends: the position of that record is the one of the end.
    pub(crate) until: Option<u64>,
}

/// The beginning of a peer's fingerprint: as much as there is room for, and enough to tell the few peers of one link apart.
pub(super) type SequencePeer = [u8; 8];

pub(super) fn sequence_peer(peer: &Digest) -> SequencePeer {
    *peer.first_chunk().expect("a fingerprint is longer")
}

impl SpooledSequence {
    /// Whether it is known to be with another peer, which no stream with this one may continue. The sessions do not tell: the
    /// spool outlives them.
    #[must_use]
    pub(crate) fn is_with_other(&self, peer: &Digest) -> bool {
        self.peer.is_some_and(|known| known != sequence_peer(peer))
    }

    /// What a stream continues that begins with this record.
    #[must_use]
    pub(crate) fn position_of(&self, record: u64) -> Continues {
        Continues { origin: self.origin, position: record.saturating_sub(self.first_record) }
    }
}

/// All that is written down besides the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SpoolState {
    /// Records below are acknowledged.
    pub(super) acknowledged: u64,
    /// Records below may have been sealed and published.
    pub(super) sealed: u64,
    pub(super) sequence: Option<SpooledSequence>,
}

impl SpoolState {
    fn encode(&self) -> [u8; STATE_LEN] {
        let mut out = Vec::with_capacity(STATE_LEN);
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        out.extend_from_slice(&self.sealed.to_be_bytes());
        if let Some(SpooledSequence { origin, peer, first_record, wants_confirms, until }) = &self.sequence {
            out.extend_from_slice(&[1, u8::from(*wants_confirms), u8::from(until.is_some())]);
            out.extend_from_slice(&first_record.to_be_bytes());
            out.extend_from_slice(&until.unwrap_or(0).to_be_bytes());
            out.extend_from_slice(&origin.stream.session);
            out.extend_from_slice(&origin.stream.number.to_be_bytes());
            out.extend_from_slice(&origin.salt);
            if let Some(peer) = peer {
                out.push(1);
                out.extend_from_slice(peer);
            }
        }
        out.resize(STATE_LEN, 0);
        out.try_into().expect("all of it fits")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let (acknowledged, sealed) = (u64::from_be_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?));
        let sequence = if flag(&mut rest)? { Some(spooled_sequence(&mut rest)?) } else { None };
        let has_more = rest.iter().any(|&byte| byte != 0);
        let is_in_order = acknowledged <= sealed && sealed <= MAX_RECORD;
        (is_in_order && !has_more).then_some(Self { acknowledged, sealed, sequence })
    }
}

/// Reads what is there of a sequence.
fn spooled_sequence(rest: &mut &[u8]) -> Option<SpooledSequence> {
    let (wants_confirms, has_end) = (flag(rest)?, flag(rest)?);
    let (first_record, until) = (u64::from_be_bytes(take(rest)?), u64::from_be_bytes(take(rest)?));
    let stream = StreamId { session: take(rest)?, number: u32::from_be_bytes(take(rest)?) };
    let origin = Origin { stream, salt: take(rest)? };
    let peer = if flag(rest)? { Some(take(rest)?) } else { None };
    if first_record.max(until) > MAX_RECORD {
        return None;
    }
    Some(SpooledSequence { origin, peer, first_record, wants_confirms, until: has_end.then_some(until) })
}

/// Reads a byte that is 0 or 1; any other is of a format that this version does not know.
fn flag(rest: &mut &[u8]) -> Option<bool> {
    match take(rest)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
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
    /// What [`StateFile::write`] was given last, and whether the disk took it. After a failed fsync(2) it did not: what
    /// the system could not write, it takes for written, and the next fsync(2) says nothing of it (fsync(2), ERRORS).
    latest: SpoolState,
    is_written: bool,
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
        let announced = state.sealed;
        Ok((Self { file, generation, durable: generation, announced, latest: state, is_written: true }, state))
    }

    /// Writes the state down: it survives the end of this process.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the file cannot be written.
    pub(super) fn write(&mut self, state: &SpoolState) -> Result<()> {
        (self.latest, self.is_written) = (*state, false);
        let generation = self.generation + if self.generation == self.durable { 1 } else { 2 };
        let state = SpoolState { sealed: state.sealed.max(self.announced), ..*state };
        self.file.write(generation % 2 * SECOND_SLOT, &encode(generation, &state))?;
        (self.generation, self.is_written) = (generation, true);
        Ok(())
    }

    /// Has [`StateFile::write`] say that records below may have been sealed, before they are.
    pub(super) fn announce(&mut self, below: u64) {
        self.announced = below;
    }

    /// Whether it was written that records below may have been sealed.
    pub(super) fn says_sealed(&self, below: u64) -> bool {
        below <= self.announced
    }

    /// Returns once what was to be written survives a power cut; what could not be written before is written now.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the disk says so.
    pub(super) fn sync(&mut self) -> Result<()> {
        if !self.is_written {
            let latest = self.latest;
            self.write(&latest)?;
        }
        if self.durable != self.generation {
            self.is_written = false;
            self.file.sync()?;
            (self.durable, self.is_written) = (self.generation, true);
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

/// No spool was written so often: a slot that says more is damaged, and what follows it could not be counted.
const MAX_GENERATION: u64 = u64::MAX / 2;

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
    let generation = Some(u64::from_be_bytes(*generation)).filter(|generation| *generation <= MAX_GENERATION)?;
    Some((generation, SpoolState::parse(state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;
    use crate::files::Guard;

    fn states() -> Vec<SpoolState> {
        let origin = Origin { stream: StreamId { session: [3; 8], number: 9 }, salt: [4; 8] };
        let peer = Some(sequence_peer(&[5; 32]));
        let sequence = SpooledSequence { origin, peer, first_record: 40, wants_confirms: true, until: None };
        let ends = SpooledSequence { until: Some(99), ..sequence };
        let unconfirmed = SpooledSequence { peer: None, wants_confirms: false, ..ends };
        let state = |sequence| SpoolState { acknowledged: 50, sealed: 90, sequence };
        vec![state(None), state(Some(sequence)), state(Some(ends)), state(Some(unconfirmed))]
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

    /// Otherwise records are removed that the file still says are waiting, and the next run finds the spool damaged.
    #[test]
    fn nothing_is_synchronized_that_the_disk_did_not_take() {
        let (_home, dir, lock) = home();
        let state = states()[3];
        let (mut file, _) = StateFile::open(&dir, &lock).unwrap();
        let writable = std::mem::replace(&mut file.file, files::open_to_read(&dir, FILE_NAME).unwrap());
        file.write(&state).unwrap_err();
        file.sync().unwrap_err();
        assert_eq!(StateFile::open(&dir, &lock).unwrap().1, SpoolState::default());
        file.file = writable;
        file.sync().unwrap();
        assert_eq!(StateFile::open(&dir, &lock).unwrap().1, state);
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
            for cut in (0..100).chain(4090..before.len()) {
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
        // Where the tags are in a slot: whether there is a sequence, whether it wants confirms, whether it ends, and whether its
        // peer is known.
        for at in [16, 17, 18, 55] {
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
    fn a_state_with_a_record_that_cannot_be_counted_is_an_error() {
        let all = states()[3];
        let high = MAX_RECORD + 1;
        let in_sequence = |first_record, until| {
            let sequence = all.sequence.map(|known| SpooledSequence { first_record, until: Some(until), ..known });
            SpoolState { sequence, ..all }
        };
        for (state, is_refused) in [
            (SpoolState { sealed: MAX_RECORD, ..all }, false),
            (SpoolState { sealed: high, ..all }, true),
            (SpoolState { acknowledged: high, sealed: high, ..all }, true),
            (in_sequence(MAX_RECORD, MAX_RECORD), false),
            (in_sequence(high, 0), true),
            (in_sequence(0, high), true),
        ] {
            let (_home, dir, lock) = home();
            StateFile::open(&dir, &lock).unwrap().0.write(&state).unwrap();
            let opened = StateFile::open(&dir, &lock).map(|(_, state)| state);
            assert_eq!(opened.as_ref().ok(), (!is_refused).then_some(&state));
            assert!(opened.err().is_none_or(|error| error.exit() == Exit::Protocol));
        }
    }

    #[test]
    fn a_sequence_is_with_its_peer_and_one_that_does_not_say_with_any() {
        let [_, known, _, of_earlier_version] = states()[..] else { unreachable!() };
        let is_with_other = |state: SpoolState, peer| state.sequence.unwrap().is_with_other(&[peer; 32]);
        assert_eq!([5, 6].map(|peer| is_with_other(known, peer)), [false, true]);
        assert_eq!([5, 6].map(|peer| is_with_other(of_earlier_version, peer)), [false, false]);
    }

    #[test]
    fn a_state_that_is_not_whole_is_an_error() {
        let (_home, dir, lock) = home();
        StateFile::open(&dir, &lock).unwrap();
        std::fs::write(dir.join(FILE_NAME), vec![7; 5000]).unwrap();
        assert_eq!(StateFile::open(&dir, &lock).unwrap_err().exit(), Exit::DataLost);
    }
}
