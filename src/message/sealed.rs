//! The clear header of a sealed frame; its body is the cipher's and the stream's.

use super::fields::FieldReader;
use super::frame_type::FrameType;
use crate::Rejected;
use crate::crypto::cipher::HEADER_LEN;
use crate::crypto::key_tree::Salt;

/// The first bytes of a session id, on each sealed message: a hint for the search, never a proof.
pub(crate) type SessionTag = [u8; 3];

/// The clear beginning of ENC, KILL and WILL, and their associated data:
/// `type 1 | session tag 3 | stream 4 | salt 8 | seq 4`, numbers big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SealedHeader {
    /// ENC, KILL or WILL.
    pub(crate) frame_type: FrameType,
    /// The beginning of the session's id.
    pub(crate) tag: SessionTag,
    /// The stream's number: one for each sending process of a session.
    pub(crate) stream: u32,
    /// Random, one for each stream.
    pub(crate) salt: Salt,
    /// Counts the stream's frames from 0; of a WILL, the connections of the process that sends the stream.
    pub(crate) seq: u32,
}

impl SealedHeader {
    /// The bytes on the wire.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.frame_type.byte();
        bytes[1..4].copy_from_slice(&self.tag);
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.salt);
        bytes[16..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// Reads the header in front of a sealed body.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for a type that is not [sealed](FrameType::is_sealed), [`Rejected::Length`] where it is cut.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Rejected> {
        let frame_type = FrameType::of(payload)?;
        if !frame_type.is_sealed() {
            return Err(Rejected::Foreign);
        }
        let mut fields = FieldReader::of(payload, frame_type)?;
        Ok(Self {
            frame_type,
            tag: *fields.array()?,
            stream: u32::from_be_bytes(*fields.array()?),
            salt: *fields.array()?,
            seq: u32::from_be_bytes(*fields.array()?),
        })
    }
}
