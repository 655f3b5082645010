//! The data types that packets are made of (MQTT 5, 1.5), read and written. Reading checks every length, so that no bytes panic.

use bytes::{BufMut, BytesMut};

use crate::mqtt::ConnectionLost;

/// The rest of a packet, or of its properties.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

/// What is wrong with a packet; the caller says with which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Malformed {
    /// The error of the connection that carried the packet of this name.
    pub(super) fn in_packet(self, name: &str) -> ConnectionLost {
        ConnectionLost::malformed(format!("{name}: {}", self.0))
    }
}

/// A packet or a property that ends too early.
const TRUNCATED: Malformed = Malformed("shorter than its fields");

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn len(self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// There must be nothing more.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed("longer than its fields")) }
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer (1.5.5).
    pub(super) fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a length of more than four bytes"))
    }

    /// Binary data, after its length (1.5.6).
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// A string, after its length (1.5.4).
    pub(super) fn string(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.binary()?).map_err(|_| Malformed("a string that is not UTF-8"))
    }

    /// What the next length covers: the properties of a packet (2.2.2).
    pub(super) fn properties(&mut self) -> Result<Fields<'a>, Malformed> {
        let len = self.varint()?;
        self.take(len.try_into().unwrap_or(usize::MAX)).map(Fields)
    }
}

/// Bytes that a variable byte integer takes.
pub(super) fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer, of at most [`MAX_REMAINING_LEN`](super::MAX_REMAINING_LEN).
pub(super) fn put_varint(mut value: usize, out: &mut BytesMut) {
    loop {
        let [byte, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.put_u8(byte);
        }
        out.put_u8(byte | 0x80);
    }
}

/// Appends a string or binary data of at most 65,535 bytes, after its length.
pub(super) fn put_binary(bytes: &[u8], out: &mut BytesMut) {
    out.put_u16(u16::try_from(bytes.len()).expect("the client keeps strings within what MQTT allows"));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_are_those_of_the_standard() {
        // MQTT 5, table 1-1.
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
        ] {
            let mut out = BytesMut::new();
            put_varint(value, &mut out);
            assert_eq!((&out[..], varint_len(value)), (bytes, bytes.len()));
            assert_eq!(Fields::new(bytes).varint().map(|value| value as usize), Ok(value));
        }
        assert!(Fields::new(&[0xff, 0xff, 0xff, 0xff]).varint().is_err() && Fields::new(&[0x80]).varint().is_err());
    }

    #[test]
    fn nothing_is_read_past_a_length() {
        let mut fields = Fields::new(&[0, 3, b'a', b'b']);
        assert_eq!(fields.binary(), Err(TRUNCATED));
        let mut fields = Fields::new(&[2, 1, 2, 3]);
        assert_eq!(fields.properties().unwrap().rest(), &[1, 2]);
        assert_eq!((fields.u8(), fields.u8()), (Ok(3), Err(TRUNCATED)));
        assert!(Fields::new(&[9, 1]).properties().is_err());
    }

    #[test]
    fn the_string_of_the_standard_is_read() {
        // MQTT 5, figure 1-1: "A" and U+2A6D4.
        let bytes = [0, 5, 0x41, 0xf0, 0xaa, 0x9b, 0x94];
        assert_eq!(Fields::new(&bytes).string(), Ok("A\u{2a6d4}"));
        assert!(Fields::new(&[0, 1, 0xff]).string().is_err());
    }
}
