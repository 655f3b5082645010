//! One piece of a record in a segment file: `sum 8 | record 8 | length 4 | bytes`, numbers big-endian.
//!
//! The highest bit of the length says that the record ends with this chunk. The sum is over all that follows it.

use crate::crypto::schedule::digest;

/// Length in bytes of what stands before a chunk's bytes.
pub(super) const CHUNK_HEADER_LEN: usize = 20;
/// Most bytes of one chunk.
pub(super) const MAX_CHUNK_LEN: usize = (1 << 31) - 1;
/// The flag of a chunk that ends its record.
const ENDS_RECORD: u32 = 1 << 31;

/// What a chunk says of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    /// The record that they belong to.
    pub(super) record: u64,
    /// How many they are.
    pub(super) len: usize,
    /// The record is whole with them.
    pub(super) ends: bool,
    sum: [u8; 8],
}

/// Appends a chunk of at most [`MAX_CHUNK_LEN`] bytes to `out`.
pub(super) fn put(out: &mut Vec<u8>, record: u64, bytes: &[u8], ends: bool) {
    let len =
        u32::try_from(bytes.len()).expect("no chunk is longer than MAX_CHUNK_LEN") | if ends { ENDS_RECORD } else { 0 };
    out.extend_from_slice(&sum(record, len, bytes));
    out.extend_from_slice(&record.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

impl ChunkHeader {
    /// Reads a header; what it says is not checked before [`ChunkHeader::fits`].
    pub(super) fn parse(bytes: &[u8; CHUNK_HEADER_LEN]) -> Self {
        let (sum, rest) = bytes.split_first_chunk::<8>().expect("a header is longer than its sum");
        let (record, rest) = rest.split_first_chunk::<8>().expect("a header is longer than sum and record");
        let len = u32::from_be_bytes(rest.try_into().expect("four bytes are left"));
        let bytes = usize::try_from(len & !ENDS_RECORD).unwrap_or(usize::MAX);
        Self { record: u64::from_be_bytes(*record), len: bytes, ends: len & ENDS_RECORD != 0, sum: *sum }
    }

    /// Whether these are the bytes that the header was made for, and the header is as it was made.
    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX) | if self.ends { ENDS_RECORD } else { 0 };
        bytes.len() == self.len && sum(self.record, len, bytes) == self.sum
    }
}

fn sum(record: u64, len: u32, bytes: &[u8]) -> [u8; 8] {
    let digest = digest(&[&record.to_be_bytes(), &len.to_be_bytes(), bytes]);
    *digest.first_chunk().expect("a digest is longer")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chunk_is_what_was_put_and_nothing_else_fits(
            record: u64, bytes in prop::collection::vec(any::<u8>(), 0..60), ends: bool, at: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut out = Vec::new();
            put(&mut out, record, &bytes, ends);
            let header = ChunkHeader::parse(out.first_chunk().unwrap());
            prop_assert_eq!((header.record, header.len, header.ends), (record, bytes.len(), ends));
            prop_assert!(header.fits(&out[CHUNK_HEADER_LEN..]));
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            prop_assert!(!ChunkHeader::parse(out.first_chunk().unwrap()).fits(&out[CHUNK_HEADER_LEN..]));
        }
    }
}
