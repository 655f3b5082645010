//! The records, in segment files that are appended to at one end and removed at the other.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use super::chunk::{self, CHUNK_HEADER_LEN, ChunkHeader, Record};
use super::damaged::damaged;
use super::store::RecordLimit;
use crate::Result;
use crate::files::{self, Appender, Dir, Lock, RandomAccessFile, Stamp};
use crate::stream::SentTime;
use crate::text::{quote, show};

/// A segment of this length in bytes is not appended to any more.
const SEGMENT_LEN: u64 = 1 << 20;
/// No spool had so many records: what names a higher one is damaged, and those after it could not be counted.
pub(super) const MAX_RECORD: u64 = u64::MAX / 2;
/// Most bytes that are read ahead.
const MAX_READ_LEN: u64 = 64 << 10;

/// One file: the records from `first` on, up to those of the next file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    first: u64,
    len: u64,
}

impl Segment {
    fn name(&self) -> String {
        format!("{:016x}", self.first)
    }
}

/// All segments, oldest first.
#[derive(Debug)]
pub(super) struct Segments {
    list: VecDeque<Segment>,
    /// Appends to the last one.
    last: Option<Appender>,
    /// The record that is being written.
    record: u64,
    /// How much of it is written, in bytes.
    unfinished: usize,
    /// What was appended survives a power cut.
    synced: bool,
}

/// Reads records, from a place between two chunks on.
#[derive(Debug, Default)]
pub(super) struct RecordReader {
    at: Option<(Segment, RandomAccessFile)>,
    offset: u64,
    /// What was read from `offset` on: never beyond the last whole record, as what is there may be cut off.
    ahead: BytesMut,
}

/// The segments in a directory, oldest first.
///
/// # Errors
/// [`crate::Exit::DataLost`] for the name of a segment that no run has made.
fn find(dir: &Dir) -> Result<VecDeque<Segment>> {
    let mut list = VecDeque::new();
    for name in dir.names()? {
        let plain = name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if let Some(first) = u64::from_str_radix(&name, 16).ok().filter(|_| plain) {
            if first > MAX_RECORD {
                let path = dir.join(&name);
                return Err(damaged(dir, &format!("{name} is not the name of a segment"))
                    .hint(format!("no run has made this file: mv {0} {0}.damaged", quote(&path))));
            }
            let len = files::stamp(dir, &name)?.map_or(0, |stamp| stamp.len());
            list.push_back(Segment { first, len });
        }
    }
    Ok(list)
}

/// The length of all segments in a directory, in bytes.
pub(super) fn len_on_disk(dir: &Dir) -> Result<u64> {
    Ok(find(dir)?.iter().map(|segment| segment.len).sum())
}

impl Segments {
    /// Finds the segments, and where the last one ends: what is not whole there is cut off. Returns how much that was,
    /// in bytes. A spool without any continues with record `acknowledged`.
    ///
    /// # Errors
    /// [`crate::Exit::DataLost`] where a record below `sealed` is not whole: that is not a write that was cut short, and
    /// its number must not be given to another record; or where a name is none of a segment. [`crate::Exit::Failed`] where
    /// they cannot be read.
    pub(super) fn open(dir: &Dir, lock: &Lock, acknowledged: u64, sealed: u64) -> Result<(Self, u64)> {
        let list = find(dir)?;
        let mut segments = Self { list, last: None, record: acknowledged, unfinished: 0, synced: false };
        let Some(newest) = segments.list.back().copied() else {
            return if acknowledged == sealed { Ok((segments, 0)) } else { Err(missing(dir, acknowledged, sealed)) };
        };
        let mut file = files::open_to_append(dir, lock, &newest.name())?;
        segments.record = newest.first;
        let (whole, _) = segments.read_last(dir, newest, 0, newest.len)?;
        if segments.record < sealed {
            return Err(missing(dir, segments.record, sealed));
        }
        let cut_off = newest.len - whole;
        if cut_off > 0 {
            file.truncate(whole)?;
        }
        segments.list.back_mut().expect("there is a last one").len = whole;
        segments.last = Some(file);
        Ok((segments, cut_off))
    }

    /// Reads the last segment, of `len` bytes, from a place between two chunks on; returns where what is whole ends, and how
    /// many bytes the records have there.
    fn read_last(&mut self, dir: &Dir, last: Segment, from: u64, len: u64) -> Result<(u64, u64)> {
        let (mut reader, mut bytes) = (RecordReader::at(dir, last, from)?, BytesMut::new());
        let (mut whole, mut data) = (from, 0);
        while let Some((header, _)) = reader.chunk(&mut bytes, len)?.filter(|(header, _)| header.record == self.record)
        {
            self.wrote(header.len, header.ends);
            (whole, data) = (reader.offset, data + header.len as u64);
            bytes.clear();
        }
        Ok((whole, data))
    }

    /// Takes notice of what other runs appended after the end that is known here, when the last segment was `left` so: returns
    /// how many bytes that is on the disk, and how many the records have. `None` where they did anything else, and
    /// [`Segments::open`] is due.
    pub(super) fn follow(&mut self, dir: &Dir, lock: &Lock, left: &Stamp) -> Result<Option<(u64, u64)>> {
        let Some(last) = self.list.back().copied() else { return Ok(None) };
        let Some(stamp) = files::stamp(dir, &last.name())?.filter(|stamp| stamp.is_same_file(left)) else {
            return Ok(None);
        };
        if stamp.len() < last.len {
            return Ok(None);
        }
        let mut data = 0;
        if stamp.len() > last.len {
            let whole;
            (whole, data) = self.read_last(dir, last, last.len, stamp.len())?;
            if whole != stamp.len() {
                return Ok(None);
            }
            self.list.back_mut().expect("there is a last one").len = whole;
            self.last = Some(files::open_to_append(dir, lock, &last.name())?);
            self.synced = false;
        }
        // The next one has the name of the next record.
        let next = Segment { first: self.record, len: 0 };
        let is_last = next.first == last.first || files::stamp(dir, &next.name())?.is_none();
        Ok(is_last.then_some((stamp.len() - last.len, data)))
    }

    /// Before anything is known of them.
    pub(super) fn unknown() -> Self {
        Self { list: VecDeque::new(), last: None, record: 0, unfinished: 0, synced: true }
    }

    /// What tells the last one as it is now from any other; `None` where there is none.
    pub(super) fn last_stamp(&self, dir: &Dir) -> Result<Option<Stamp>> {
        self.list.back().map_or(Ok(None), |last| files::stamp(dir, &last.name()))
    }

    /// The record after the last whole one.
    pub(super) fn whole(&self) -> u64 {
        self.record
    }

    /// Bytes of the record that is being written.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    fn wrote(&mut self, len: usize, ends: bool) {
        self.unfinished += len;
        if ends {
            self.record += 1;
            self.unfinished = 0;
        }
    }

    /// Whether nothing is in them: removing a segment that was just made frees nothing, and it is needed again.
    pub(super) fn is_empty(&self) -> bool {
        self.list.iter().all(|segment| segment.len == 0)
    }

    /// Appends whole records in one write, and returns how many bytes that is on the disk, and how many the records
    /// have; `None` where the disk is full. A record that an earlier version left unfinished ends here. Only at the end
    /// of a record can another segment begin.
    pub(super) fn append(&mut self, dir: &Dir, lock: &Lock, records: &[Record<'_>]) -> Result<Option<(u64, u64)>> {
        let mut bytes = Vec::new();
        let (mut record, mut data) = (self.record, 0);
        let end = (self.unfinished > 0).then_some(Record::from(b""));
        for one in end.iter().chain(records) {
            chunk::put(&mut bytes, record, *one, true);
            record += 1;
            data += (one.len_on_disk() - CHUNK_HEADER_LEN) as u64;
        }
        if self.last.as_ref().is_none_or(|last| last.size() >= SEGMENT_LEN && self.unfinished == 0) {
            self.sync()?;
            let segment = Segment { first: self.record, len: 0 };
            let Some(file) = files::create_to_append(dir, lock, &segment.name())? else { return Ok(None) };
            self.last = Some(file);
            self.list.push_back(segment);
        }
        let (Some(file), Some(segment)) = (&mut self.last, self.list.back_mut()) else { return Ok(None) };
        self.synced = false;
        if !file.append_if_room(&bytes)? {
            return Ok(None);
        }
        segment.len = file.size();
        (self.record, self.unfinished) = (record, 0);
        Ok(Some((bytes.len() as u64, data)))
    }

    /// Returns once what was appended survives a power cut.
    pub(super) fn sync(&mut self) -> Result<()> {
        if let Some(file) = self.last.as_ref().filter(|_| !self.synced) {
            file.sync()?;
            self.synced = true;
        }
        Ok(())
    }

    /// The place where a record begins, and how many bytes there are from there on.
    pub(super) fn seek(&self, dir: &Dir, record: u64) -> Result<(RecordReader, u64)> {
        let after = self.list.partition_point(|segment| segment.first <= record);
        let Some(at) = after.checked_sub(1) else {
            return match self.list.front() {
                Some(first) => Err(missing(dir, record, first.first)),
                None => Ok((RecordReader::default(), 0)),
            };
        };
        let mut reader = RecordReader::at(dir, self.list[at], 0)?;
        let mut next = self.list[at].first;
        let mut bytes = BytesMut::new();
        while next < record {
            let Some((header, _)) = reader.chunk(&mut bytes, self.list[at].len)? else { break };
            next += u64::from(header.ends);
            bytes.clear();
        }
        let bytes: u64 = self.list.range(at..).map(|segment| segment.len).sum();
        let waiting = bytes - reader.offset;
        Ok((reader, waiting))
    }

    /// Appends the bytes of a whole record, the next one at `reader`, to `buffer`; returns how many bytes it takes on
    /// the disk, and when it was read. `None` where the record is longer than `max`: then it is still the next one, and
    /// `buffer` is as it was.
    pub(super) fn read(
        &self,
        dir: &Dir,
        reader: &mut RecordReader,
        record: u64,
        buffer: &mut BytesMut,
        max: RecordLimit,
    ) -> Result<Option<(u64, Option<SentTime>)>> {
        let end = self.to_next(dir, reader, record)?;
        let (start, empty) = (reader.offset, buffer.len());
        let mut first = None;
        loop {
            let chunk = reader.chunk(buffer, end)?.filter(|(header, _)| header.record == record);
            let (header, sent) = chunk.ok_or_else(|| reader.damaged(dir))?;
            first = first.or(sent);
            if !header.ends {
                continue;
            }
            if buffer.len() - empty > max.of(first) {
                reader.rewind(start);
                buffer.truncate(empty);
                return Ok(None);
            }
            return Ok(Some((reader.offset - start, first)));
        }
    }

    /// Moves from the end of one segment to the beginning of the next, which begins with `record`. Returns where the
    /// reader's segment ends.
    fn to_next(&self, dir: &Dir, reader: &mut RecordReader, record: u64) -> Result<u64> {
        if let Some((segment, _)) = &reader.at
            && let Some(here) = self.find(segment.first).filter(|here| here.len > reader.offset)
        {
            return Ok(here.len);
        }
        let next = *self.find(record).ok_or_else(|| missing(dir, record, record + 1))?;
        *reader = RecordReader::at(dir, next, 0)?;
        Ok(next.len)
    }

    /// The segment that begins with this record.
    fn find(&self, first: u64) -> Option<&Segment> {
        self.list.binary_search_by_key(&first, |segment| segment.first).ok().map(|at| &self.list[at])
    }

    /// Whether the first segment has acknowledged records only; the last one counts from a length of `least` on.
    pub(super) fn can_remove(&self, acknowledged: u64, least: u64) -> bool {
        match (self.list.front(), self.list.get(1)) {
            (_, Some(next)) => next.first <= acknowledged,
            (Some(only), None) => acknowledged == self.record && self.unfinished == 0 && only.len >= least,
            (None, None) => false,
        }
    }

    /// Removes the first segment. A reader at its end closes it, or the disk would not be free of it.
    pub(super) fn remove_first(&mut self, dir: &Dir, reader: &mut RecordReader) -> Result<()> {
        if let Some(segment) = self.list.pop_front() {
            files::remove(dir, &segment.name())?;
            if reader.at.as_ref().is_some_and(|(at, _)| at.first == segment.first) {
                *reader = RecordReader::default();
            }
        }
        if self.list.is_empty() {
            self.last = None;
        }
        Ok(())
    }
}

impl RecordReader {
    fn at(dir: &Dir, segment: Segment, offset: u64) -> Result<Self> {
        let file = files::open_to_read(dir, &segment.name())?;
        Ok(Self { at: Some((segment, file)), offset, ahead: BytesMut::new() })
    }

    fn rewind(&mut self, offset: u64) {
        self.offset = offset;
        self.ahead.clear();
    }

    /// Appends the next chunk's bytes to `buffer`; `None`, and nothing, if there is no whole one before `end`. Returns when
    /// they were read, too.
    fn chunk(&mut self, buffer: &mut BytesMut, end: u64) -> Result<Option<(ChunkHeader, Option<SentTime>)>> {
        if !self.read_ahead(CHUNK_HEADER_LEN as u64, end)? {
            return Ok(None);
        }
        let Some(header) = self.ahead.first_chunk().map(ChunkHeader::parse) else { return Ok(None) };
        let len = CHUNK_HEADER_LEN as u64 + header.len as u64;
        if !self.read_ahead(len, end)? {
            return Ok(None);
        }
        let rest = &self.ahead[CHUNK_HEADER_LEN..CHUNK_HEADER_LEN + header.len];
        let Some(Record { bytes, sent }) = header.read(rest) else { return Ok(None) };
        buffer.extend_from_slice(bytes);
        self.ahead.advance(CHUNK_HEADER_LEN + header.len);
        self.offset += len;
        Ok(Some((header, sent)))
    }

    /// Has so many bytes read ahead, at least; false where there are not that many before `end`. So a length that is not
    /// there takes no memory.
    fn read_ahead(&mut self, len: u64, end: u64) -> Result<bool> {
        let read = self.ahead.len() as u64;
        if read >= len {
            return Ok(true);
        }
        let Some((_, file)) = &self.at else { return Ok(false) };
        let rest = end.saturating_sub(self.offset);
        if rest < len {
            return Ok(false);
        }
        let wanted = rest.min(len.max(MAX_READ_LEN));
        self.ahead.resize(usize::try_from(wanted).unwrap_or(usize::MAX), 0);
        let start = usize::try_from(read).unwrap_or(usize::MAX);
        let is_there = file.read(self.offset + read, &mut self.ahead[start..])?;
        if !is_there {
            self.ahead.truncate(start);
        }
        Ok(is_there)
    }

    fn damaged(&self, dir: &Dir) -> crate::Error {
        let file = self.at.as_ref().map(|(_, file)| show(file.path())).unwrap_or_default();
        damaged(dir, &format!("{file} at byte {}", self.offset))
    }
}

fn missing(dir: &Dir, first: u64, end: u64) -> crate::Error {
    damaged(dir, &format!("{} messages from number {first} on are incomplete", end - first))
}
