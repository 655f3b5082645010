//! Fields of a frame, read from its front and appended to its end.

use super::frame_type::FrameType;
use crate::Rejected;
use crate::crypto::pake::SHARE_LEN;

/// Takes fixed and length-prefixed fields off the front of a frame.
pub(super) struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    /// The fields of a plaintext, which has no type.
    pub(super) fn of_plaintext(plaintext: &'a [u8]) -> Self {
        Self(plaintext)
    }

    /// The fields after the first byte of a frame of type `frame_type`.
    pub(super) fn of(payload: &'a [u8], frame_type: FrameType) -> Result<Self, Rejected> {
        match payload.split_first() {
            Some((&first, rest)) if first == frame_type.byte() => Ok(Self(rest)),
            _ => Err(Rejected::Foreign),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Rejected> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Rejected::Length)?;
        self.0 = rest;
        Ok(field)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Rejected> {
        self.array::<1>().map(|[byte]| *byte)
    }

    /// A field after its length in two bytes, big-endian.
    pub(super) fn prefixed(&mut self) -> Result<&'a [u8], Rejected> {
        let len = usize::from(u16::from_be_bytes(*self.array()?));
        let (field, rest) = self.0.split_at_checked(len).ok_or(Rejected::Length)?;
        self.0 = rest;
        Ok(field)
    }

    /// The SPAKE2 share, if its sender was given a code; nothing follows it.
    pub(super) fn share(self) -> Result<Option<&'a [u8; SHARE_LEN]>, Rejected> {
        if self.0.is_empty() { Ok(None) } else { self.0.try_into().map(Some).map_err(|_| Rejected::Length) }
    }

    /// All that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn end(self) -> Result<(), Rejected> {
        if self.0.is_empty() { Ok(()) } else { Err(Rejected::Length) }
    }
}

pub(super) fn put_prefixed(out: &mut Vec<u8>, field: &[u8]) {
    let len = u16::try_from(field.len()).expect("names, keys, signatures and INITREQ are far below 64 KiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(field);
}
