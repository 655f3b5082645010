//! The read buffer: large reads, no copy of what was read, and no byte zeroed twice.

use bytes::BytesMut;

/// Size of one buffer, bytes.
const BUFFER_LEN: usize = 256 * 1024;

/// Smallest space worth a read, bytes.
const MIN_SPACE: usize = 64 * 1024;

/// Bytes that came in, and the space after them for more.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    filled: BytesMut,
    /// Follows `filled` in memory, so that joining the two copies nothing.
    spare: BytesMut,
}

impl ReadBuffer {
    /// Where to read to; at least 64 KiB.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.spare.len() < MIN_SPACE {
            // What came in, part of one packet, is copied along: twice its length keeps that cost in proportion.
            let tail = self.filled.len();
            let mut fresh = BytesMut::zeroed(tail + tail.max(BUFFER_LEN));
            fresh[..tail].copy_from_slice(&self.filled);
            self.filled = fresh.split_to(tail);
            self.spare = fresh;
        }
        &mut self.spare
    }

    /// The first `count` bytes of the space were filled.
    pub(super) fn filled(&mut self, count: usize) {
        let count = count.min(self.spare.len());
        self.filled.unsplit(self.spare.split_to(count));
    }

    /// All that came in and was not taken out.
    pub(super) fn data(&mut self) -> &mut BytesMut {
        &mut self.filled
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn bytes_come_out_as_they_came_in_across_buffers() {
        let mut buffer = ReadBuffer::default();
        let (mut put, mut got): (usize, usize) = (0, 0);
        let mut kept: Vec<Bytes> = Vec::new();
        for round in 1..400_usize {
            let space = buffer.space();
            assert!(space.len() >= MIN_SPACE);
            let count = (round * 7919) % space.len() + 1;
            for byte in &mut space[..count] {
                *byte = u8::try_from(put % 251).unwrap();
                put += 1;
            }
            buffer.filled(count);
            let take = buffer.data().len().saturating_sub(round % 5000);
            let taken = buffer.data().split_to(take).freeze();
            for byte in &taken {
                assert_eq!(usize::from(*byte), got % 251);
                got += 1;
            }
            kept.push(taken);
            kept.truncate(3);
        }
        assert_eq!(put - got, buffer.data().len());
    }

    #[test]
    fn what_follows_what_came_in_is_joined_in_place() {
        let mut buffer = ReadBuffer::default();
        buffer.space()[..2].copy_from_slice(b"ab");
        buffer.filled(2);
        let place = buffer.data().as_ptr();
        buffer.space()[..2].copy_from_slice(b"cd");
        buffer.filled(2);
        assert_eq!(&buffer.data()[..], b"abcd");
        assert_eq!(buffer.data().as_ptr(), place);
    }
}
