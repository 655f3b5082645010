//! One piece of a record in a segment file: `sum 8 | record 8 | length 4 | [time 8 |] bytes`, numbers big-endian.
//!
//! The highest bit of the length says that the record ends with this chunk. The next one says that there is a time, at which
//! the record was read; the length counts it. The sum is over all that follows it.

use crate::crypto::schedule::digest;
use crate::stream::SentTime;

/// Length in bytes of a sum.
const SUM_LEN: usize = 8;
/// Length in bytes of what stands before a chunk's bytes, or its time.
pub(super) const CHUNK_HEADER_LEN: usize = 20;
/// Most bytes of one chunk.
pub(super) const MAX_CHUNK_LEN: usize = (1 << 30) - 1 - SentTime::LEN;
/// The flag of a chunk that ends its record.
const ENDS_RECORD: u32 = 1 << 31;
/// The flag of a chunk with a time. Versions that do not know it take such a chunk for a write that was cut short, so the
/// spool has another format number (`owner`).
const HAS_TIME: u32 = 1 << 30;

/// A record, or a part of one, as it is read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) bytes: &'a [u8],
    /// When the first of them was read, if that is kept.
    pub(crate) sent: Option<SentTime>,
}

impl<'a, B: AsRef<[u8]> + ?Sized> From<&'a B> for Record<'a> {
    fn from(bytes: &'a B) -> Self {
        Self { bytes: bytes.as_ref(), sent: None }
    }
}

impl Record<'_> {
    /// How many bytes a chunk with it has.
    pub(super) fn len_on_disk(&self) -> usize {
        CHUNK_HEADER_LEN + self.sent.map_or(0, |_| SentTime::LEN) + self.bytes.len()
    }
}

/// What a chunk says of what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    /// The record that it belongs to.
    pub(super) record: u64,
    /// How many bytes follow.
    pub(super) len: usize,
    /// The record is whole with them.
    pub(super) ends: bool,
    has_time: bool,
    sum: [u8; 8],
}

/// Appends a chunk of at most [`MAX_CHUNK_LEN`] bytes to `out`.
pub(super) fn put<'a>(out: &mut Vec<u8>, number: u64, record: impl Into<Record<'a>>, ends: bool) {
    let record = record.into();
    let len = u32::try_from(record.len_on_disk() - CHUNK_HEADER_LEN).expect("no chunk is longer than MAX_CHUNK_LEN");
    let start = out.len();
    out.extend_from_slice(&[0; SUM_LEN]);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&(len | flags(ends, record.sent.is_some())).to_be_bytes());
    if let Some(sent) = record.sent {
        out.extend_from_slice(&sent.to_bytes());
    }
    out.extend_from_slice(record.bytes);
    let (head, rest) = out[start + SUM_LEN..].split_at(CHUNK_HEADER_LEN - SUM_LEN);
    let sum = sum(&head[..8], &head[8..], rest);
    out[start..start + SUM_LEN].copy_from_slice(&sum);
}

fn flags(ends: bool, has_time: bool) -> u32 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(ends, ENDS_RECORD) | flag(has_time, HAS_TIME)
}

impl ChunkHeader {
    /// Reads a header; what it says is not checked before [`ChunkHeader::read`].
    pub(super) fn parse(bytes: &[u8; CHUNK_HEADER_LEN]) -> Self {
        let (sum, rest) = bytes.split_first_chunk::<8>().expect("a header is longer than its sum");
        let (record, rest) = rest.split_first_chunk::<8>().expect("a header is longer than sum and record");
        let len = u32::from_be_bytes(rest.try_into().expect("four bytes are left"));
        let bytes = usize::try_from(len & !flags(true, true)).unwrap_or(usize::MAX);
        let (ends, has_time) = (len & ENDS_RECORD != 0, len & HAS_TIME != 0);
        Self { record: u64::from_be_bytes(*record), len: bytes, ends, has_time, sum: *sum }
    }

    /// What these bytes say, if they are those that the header was made for, and the header is as it was made.
    pub(super) fn read<'a>(&self, bytes: &'a [u8]) -> Option<Record<'a>> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX) | flags(self.ends, self.has_time);
        let fits = bytes.len() == self.len && sum(&self.record.to_be_bytes(), &len.to_be_bytes(), bytes) == self.sum;
        let record = match bytes.split_first_chunk() {
            Some((sent, bytes)) if self.has_time => Record { bytes, sent: Some(SentTime::from_bytes(*sent)) },
            _ if self.has_time => return None,
            _ => bytes.into(),
        };
        fits.then_some(record)
    }
}

fn sum(record: &[u8], len: &[u8], rest: &[u8]) -> [u8; SUM_LEN] {
    *digest(&[record, len, rest]).first_chunk().expect("a digest is longer")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chunk_is_what_was_put_and_nothing_else_fits(
            record: u64, bytes in prop::collection::vec(any::<u8>(), 0..60), ends: bool, at: prop::sample::Index, bit in 0u8..8,
            time in prop::option::of(any::<[u8; SentTime::LEN]>()),
        ) {
            let sent = time.map(SentTime::from_bytes);
            let mut out = Vec::new();
            put(&mut out, record, Record { bytes: &bytes, sent }, ends);
            let header = ChunkHeader::parse(out.first_chunk().unwrap());
            let len = bytes.len() + if sent.is_some() { SentTime::LEN } else { 0 };
            prop_assert_eq!((header.record, header.len, header.ends), (record, len, ends));
            let read = header.read(&out[CHUNK_HEADER_LEN..]).map(|record| (record.bytes, record.sent));
            prop_assert_eq!(read, Some((&bytes[..], sent)));
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            prop_assert!(ChunkHeader::parse(out.first_chunk().unwrap()).read(&out[CHUNK_HEADER_LEN..]).is_none());
        }
    }

    /// Spools of earlier versions are read on.
    #[test]
    fn a_record_without_a_time_is_as_it_was_in_earlier_versions() {
        let mut out = Vec::new();
        put(&mut out, 7, b"line\n", true);
        let header = [&7u64.to_be_bytes()[..], &(5 | 1u32 << 31).to_be_bytes()].concat();
        let sum = digest(&[&header[..8], &header[8..], b"line\n"]);
        assert_eq!(out, [&sum[..8], &header, b"line\n"].concat());
        put(&mut out, 8, Record { bytes: b"", sent: Some(SentTime::from_bytes([9; 8])) }, true);
        assert_eq!(out[25 + 16..], [&(8 | 3u32 << 30).to_be_bytes()[..], &[9; 8]].concat());
    }

    /// Nobody makes such a chunk, but its sum may be right.
    #[test]
    fn a_time_that_is_cut_short_is_no_record() {
        let mut out = Vec::new();
        put(&mut out, 7, b"7 bytes", true);
        let len = 7 | flags(true, true);
        out[16..20].copy_from_slice(&len.to_be_bytes());
        let sum = sum(&7u64.to_be_bytes(), &len.to_be_bytes(), b"7 bytes");
        out[..8].copy_from_slice(&sum);
        assert!(ChunkHeader::parse(out.first_chunk().unwrap()).read(&out[CHUNK_HEADER_LEN..]).is_none());
    }
}
