//! What a spool knows of its records: which are acknowledged, which may have been sealed, and in which stream.
//!
//! `state` has two slots, and is never longer or shorter. A change is written over the slot that does not hold the last
//! one that was synchronized, so that neither a full disk nor a power cut takes away what was there.

use super::damaged;
use crate::crypto::schedule::digest;
use crate::files::{self, Dir, Fixed, Lock};
use crate::stream::{Predecessor, StreamId};
use crate::{Exit, Result};

const NAME: &str = "state";
/// Where the second slot begins: in another block of any disk.
const SLOT: u64 = 4096;
const LEN: usize = 128;
const SUM: usize = 8;

/// A stream as it must be known to seal its messages once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// Which one.
    pub stream: StreamId,
    /// Its salt.
    pub salt: [u8; 4],
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// By an end.
    End,
    /// By a continued: it goes on there.
    Continued(StreamHeader),
}

/// The stream that records are sealed in: record `base + n` is the message with seq n, or n + 1 where the stream begins by
/// saying what it goes on from.
///
/// With the record's bytes this is all that makes the plaintext and the nonce of a message: it must never be sealed with
/// one of them changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpooledStream {
    /// Which one.
    pub place: StreamHeader,
    /// Its first record.
    pub base: u64,
    /// It asks for confirms.
    pub asks: bool,
    /// What it goes on from, where its first message says so.
    pub before: Option<Predecessor>,
    /// The first record behind it and how it ends, once that is decided.
    pub close: Option<(u64, Close)>,
}

impl SpooledStream {
    /// The seq of a record, or of what closes the stream, for the one behind its last.
    #[must_use]
    pub fn seq(&self, record: u64) -> u32 {
        let first = u64::from(self.before.is_some());
        u32::try_from(first + record.saturating_sub(self.base)).unwrap_or(u32::MAX)
    }

    /// The seq of the first message to seal, where this is the first record that is not acknowledged. Whether the message
    /// before all records was acknowledged is not written down: it is sealed again for as long as no record was.
    #[must_use]
    pub fn seq_to_go_on_at(&self, record: u64) -> u32 {
        if record <= self.base { 0 } else { self.seq(record) }
    }
}

/// All that is written down beside the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Records below are acknowledged.
    pub(super) acknowledged: u64,
    /// Records below may have been sealed and published.
    pub(super) sealed: u64,
    pub(super) stream: Option<SpooledStream>,
}

impl State {
    fn encode(&self) -> [u8; LEN] {
        let mut out = Vec::with_capacity(LEN);
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        out.extend_from_slice(&self.sealed.to_be_bytes());
        if let Some(SpooledStream { place, base, asks, before, close }) = &self.stream {
            out.extend_from_slice(&[1, u8::from(*asks)]);
            out.extend_from_slice(&base.to_be_bytes());
            put(&mut out, place);
            out.push(u8::from(before.is_some()));
            if let Some(Predecessor { stream, end }) = before {
                put_id(&mut out, stream);
                out.extend_from_slice(&end.to_be_bytes());
            }
            if let Some((until, close)) = close {
                out.push(if matches!(close, Close::End) { 1 } else { 2 });
                out.extend_from_slice(&until.to_be_bytes());
                if let Close::Continued(place) = close {
                    put(&mut out, place);
                }
            }
        }
        out.resize(LEN, 0);
        out.try_into().expect("all of it fits")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let (acknowledged, sealed) = (u64::from_be_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?));
        let [there, asks] = take(&mut rest)?;
        let mut state = Self { acknowledged, sealed, stream: None };
        if there == 1 {
            let base = u64::from_be_bytes(take(&mut rest)?);
            let place = place(&mut rest)?;
            let before = match take(&mut rest)? {
                [0] => None,
                _ => Some(Predecessor { stream: stream_id(&mut rest)?, end: u32::from_be_bytes(take(&mut rest)?) }),
            };
            let [kind] = take(&mut rest)?;
            let until = u64::from_be_bytes(take(&mut rest)?);
            let close = match kind {
                0 => None,
                1 => Some((until, Close::End)),
                2 => Some((until, Close::Continued(self::place(&mut rest)?))),
                _ => return None,
            };
            state.stream = Some(SpooledStream { place, base, asks: asks == 1, before, close });
        }
        (acknowledged <= sealed).then_some(state)
    }
}

fn put_id(out: &mut Vec<u8>, stream: &StreamId) {
    out.extend_from_slice(&stream.session);
    out.extend_from_slice(&stream.number.to_be_bytes());
}

fn put(out: &mut Vec<u8>, place: &StreamHeader) {
    put_id(out, &place.stream);
    out.extend_from_slice(&place.salt);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

fn stream_id(rest: &mut &[u8]) -> Option<StreamId> {
    Some(StreamId { session: take(rest)?, number: u32::from_be_bytes(take(rest)?) })
}

fn place(rest: &mut &[u8]) -> Option<StreamHeader> {
    Some(StreamHeader { stream: stream_id(rest)?, salt: take(rest)? })
}

/// The file.
#[derive(Debug)]
pub(super) struct Slots {
    file: Fixed,
    /// Of the last one written; odd ones are in the second slot.
    generation: u64,
    /// Of the last one synchronized.
    durable: u64,
}

impl Slots {
    /// Opens it, made where it is absent.
    ///
    /// # Errors
    /// [`Exit::DataLost`] where it is damaged; otherwise as [`files::create`] and [`files::fixed`].
    pub(super) fn open(dir: &Dir, lock: &Lock) -> Result<(Self, State)> {
        if files::stamp(dir, NAME)?.is_none() {
            let mut fresh = encode(0, &State::default());
            fresh.resize(usize::try_from(SLOT).expect("a block fits") + fresh.len(), 0);
            files::create(dir, lock, NAME, &fresh)?;
        }
        let file = files::fixed(dir, lock, NAME)?;
        let mut newest: Option<(u64, State)> = None;
        for slot in 0..2 {
            let mut bytes = [0; SUM + 8 + LEN];
            let whole = file.read(slot * SLOT, &mut bytes)?;
            if let Some((generation, state)) = parse(&bytes).filter(|_| whole)
                && newest.is_none_or(|(newer, _)| generation > newer)
            {
                newest = Some((generation, state));
            }
        }
        let (generation, state) = newest.ok_or_else(|| damaged(dir, Exit::DataLost, "its state is not whole"))?;
        // The last one may be from a process that was killed: it is the one to keep.
        file.sync()?;
        Ok((Self { file, generation, durable: generation }, state))
    }

    /// Writes the state down: it survives the end of this process.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the file cannot be written.
    pub(super) fn write(&mut self, state: &State) -> Result<()> {
        let step = if self.generation == self.durable { 1 } else { 2 };
        self.generation += step;
        self.file.write(self.generation % 2 * SLOT, &encode(self.generation, state))
    }

    /// Returns once what was written survives a power cut.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the disk says so.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.durable != self.generation {
            self.file.sync()?;
            self.durable = self.generation;
        }
        Ok(())
    }
}

fn encode(generation: u64, state: &State) -> Vec<u8> {
    let body = [&generation.to_be_bytes()[..], &state.encode()].concat();
    [&digest(&[&body])[..SUM], &body].concat()
}

fn parse(bytes: &[u8]) -> Option<(u64, State)> {
    let (sum, body) = bytes.split_at_checked(SUM)?;
    if digest(&[body])[..SUM] != *sum {
        return None;
    }
    let (generation, state) = body.split_first_chunk()?;
    Some((u64::from_be_bytes(*generation), State::parse(state)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Guard;

    fn states() -> Vec<State> {
        let place = |seed| StreamHeader {
            stream: StreamId { session: [seed; 8], number: 7 + u32::from(seed) },
            salt: [seed; 4],
        };
        let stream = SpooledStream { place: place(1), base: 40, asks: true, before: None, close: None };
        let before = Some(Predecessor { stream: StreamId { session: [3; 8], number: 9 }, end: 77 });
        let goes_on = SpooledStream { asks: false, before, ..stream };
        let ends = SpooledStream { close: Some((99, Close::End)), asks: false, ..stream };
        let goes_on = SpooledStream { close: Some((99, Close::Continued(place(2)))), ..goes_on };
        let state = |stream| State { acknowledged: 50, sealed: 90, stream };
        vec![state(None), state(Some(stream)), state(Some(ends)), state(Some(goes_on))]
    }

    fn place() -> (tempfile::TempDir, Dir, Lock) {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("spool"), Guard::Private).unwrap();
        let lock = files::lock(&dir, "lock").unwrap();
        (home, dir, lock)
    }

    #[test]
    fn what_was_written_last_is_read() {
        let (_home, dir, lock) = place();
        assert_eq!(Slots::open(&dir, &lock).unwrap().1, State::default());
        for state in states() {
            let (mut slots, _) = Slots::open(&dir, &lock).unwrap();
            for other in states() {
                slots.write(&other).unwrap();
            }
            slots.write(&state).unwrap();
            assert_eq!(Slots::open(&dir, &lock).unwrap().1, state);
        }
    }

    #[test]
    fn what_was_synchronized_outlives_every_torn_write_after_it() {
        let (_home, dir, lock) = place();
        let path = dir.join(NAME);
        let [kept, later, last, _] = states()[..] else { unreachable!() };
        for writes in 1..5 {
            let (mut slots, _) = Slots::open(&dir, &lock).unwrap();
            slots.write(&kept).unwrap();
            slots.sync().unwrap();
            let before = std::fs::read(&path).unwrap();
            for write in 0..writes {
                slots.write(if write % 2 == 0 { &later } else { &last }).unwrap();
            }
            let after = std::fs::read(&path).unwrap();
            // Any of the bytes that changed may have reached the disk, and any not.
            for cut in (0..160).chain(4090..before.len()) {
                let torn = [&after[..cut], &before[cut..]].concat();
                std::fs::write(&path, &torn).unwrap();
                let (_, state) = Slots::open(&dir, &lock).unwrap();
                assert!([kept, later, last].contains(&state), "{state:?}");
                std::fs::write(&path, [&before[..cut], &after[cut..]].concat()).unwrap();
                assert!([kept, later, last].contains(&Slots::open(&dir, &lock).unwrap().1));
            }
            std::fs::write(&path, &after).unwrap();
        }
    }

    #[test]
    fn a_state_that_is_not_whole_is_an_error() {
        let (_home, dir, lock) = place();
        Slots::open(&dir, &lock).unwrap();
        std::fs::write(dir.join(NAME), vec![7; 5000]).unwrap();
        assert_eq!(Slots::open(&dir, &lock).unwrap_err().exit(), Exit::DataLost);
    }
}
