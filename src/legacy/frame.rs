//! The six messages of a pairing. Each is `HEADER:` and data, in ASCII, under a mask that has no key: the bits of every byte
//! are reversed, then the lowest bit of the first byte is flipped.

use base16ct::HexDisplay;

use crate::crypto::legacy::{CurvePoint, KEY_LEN};

/// Length in bytes of what a device is called during one pairing: the old program cuts there.
pub(super) const ID_LEN: usize = 31;

/// The names of both devices, which the master makes for one pairing; no byte of them is 0.
pub(super) type Id = [u8; ID_LEN];

const INITREQ: &[u8] = b"INITREQ:";
const INITACK: &[u8] = b"INITACK:";
const AUTHREQ: &[u8] = b"AUTHREQ:";
const AUTHACK: &[u8] = b"AUTHACK:";
const RDYREQ: &[u8] = b"RDYREQ:";
const RDYACK: &[u8] = b"RDYACK:";

/// One message of a pairing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// 1: the ids of master and slave.
    InitReq {
        /// What the master calls itself.
        master: [u8; 31],
        /// What it calls the slave.
        slave: [u8; 31],
    },
    /// 2.
    InitAck,
    /// 3 and 5: the id of the receiver.
    AuthReq([u8; 31]),
    /// 4 and 6.
    AuthAck,
    /// 7 and 9: the sender's public key.
    RdyReq(CurvePoint),
    /// 8 and 10.
    RdyAck,
}

impl Frame {
    /// The length of the longest, which is RDYREQ.
    pub(crate) const MAX_LEN: usize = RDYREQ.len() + 2 * (1 + 2 * KEY_LEN);

    /// Reads the payload of a message from any sender; `None` for anything that the old program would ignore.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let clear = unmask(payload);
        let at = clear.iter().position(|byte| *byte == b':')?;
        let (header, data) = clear.split_at(at + 1);
        match header {
            INITREQ => {
                let (master, slave) = data.split_first_chunk()?;
                let ids = (*master, slave.try_into().ok()?);
                (!data.contains(&0)).then_some(Self::InitReq { master: ids.0, slave: ids.1 })
            }
            AUTHREQ => data.try_into().ok().map(Self::AuthReq),
            RDYREQ => public_key(data).map(Self::RdyReq),
            // The old program ignores an acknowledgement with data.
            _ if !data.is_empty() => None,
            INITACK => Some(Self::InitAck),
            AUTHACK => Some(Self::AuthAck),
            RDYACK => Some(Self::RdyAck),
            _ => None,
        }
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut clear = match self {
            Self::InitReq { master, slave } => [INITREQ, master, slave].concat(),
            Self::InitAck => INITACK.to_vec(),
            Self::AuthReq(id) => [AUTHREQ, id].concat(),
            Self::AuthAck => AUTHACK.to_vec(),
            Self::RdyReq(CurvePoint { x, y }) => {
                [RDYREQ, b"X", digits(x).as_bytes(), b"Y", digits(y).as_bytes()].concat()
            }
            Self::RdyAck => RDYACK.to_vec(),
        };
        mask(&mut clear);
        clear
    }

    /// The name, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::InitReq { .. } => "INITREQ",
            Self::InitAck => "INITACK",
            Self::AuthReq(_) => "AUTHREQ",
            Self::AuthAck => "AUTHACK",
            Self::RdyReq(_) => "RDYREQ",
            Self::RdyAck => "RDYACK",
        }
    }
}

fn mask(clear: &mut [u8]) {
    for byte in &mut *clear {
        *byte = byte.reverse_bits();
    }
    if let Some(first) = clear.first_mut() {
        *first ^= 1;
    }
}

fn unmask(payload: &[u8]) -> Vec<u8> {
    let mut clear = payload.to_vec();
    if let Some(first) = clear.first_mut() {
        *first ^= 1;
    }
    for byte in &mut clear {
        *byte = byte.reverse_bits();
    }
    clear
}

/// A number as the old program writes it: whole bytes, upper case, without leading zero bytes.
fn digits(number: &[u8; KEY_LEN]) -> String {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(KEY_LEN - 1);
    format!("{:X}", HexDisplay(&number[first..]))
}

/// `X` and `Y`, each with 1 to 64 digits after it. Whether it is a point of the curve is found out when it is used.
fn public_key(data: &[u8]) -> Option<CurvePoint> {
    let numbers = data.strip_prefix(b"X")?;
    let at = numbers.iter().position(|byte| *byte == b'Y')?;
    Some(CurvePoint { x: number(&numbers[..at])?, y: number(&numbers[at + 1..])? })
}

fn number(digits: &[u8]) -> Option<[u8; KEY_LEN]> {
    if digits.is_empty() || digits.len() > 2 * KEY_LEN {
        return None;
    }
    let mut number = [0; KEY_LEN];
    // From the last digit on, since what is missing is at the front.
    for (at, digit) in digits.iter().rev().enumerate() {
        let value = u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        number[KEY_LEN - 1 - at / 2] |= value << (4 * (at % 2));
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(clear: &[u8]) -> Vec<u8> {
        let mut payload = clear.to_vec();
        mask(&mut payload);
        payload
    }

    #[test]
    fn headers_look_as_they_do_on_the_wire() {
        for (frame, wire) in [
            (Frame::InitAck, [0x93, 0x72, 0x92, 0x2a, 0x82, 0xc2, 0xd2, 0x5c].as_slice()),
            (Frame::AuthAck, &[0x83, 0xaa, 0x2a, 0x12, 0x82, 0xc2, 0xd2, 0x5c]),
            (Frame::RdyAck, &[0x4b, 0x22, 0x9a, 0x82, 0xc2, 0xd2, 0x5c]),
        ] {
            assert_eq!(frame.encode(), wire);
            assert_eq!(Frame::parse(wire), Some(frame));
        }
        let ids = Frame::InitReq { master: [b'm'; ID_LEN], slave: [b's'; ID_LEN] };
        assert_eq!((ids.encode().len(), Frame::parse(&ids.encode())), (70, Some(ids)));
        let id = Frame::AuthReq([b':'; ID_LEN]);
        assert_eq!((id.encode().len(), Frame::parse(&id.encode())), (39, Some(id)));
    }

    #[test]
    fn what_the_old_program_ignores_is_no_frame() {
        let long = [b"RDYREQ:X".as_slice(), &[b'1'; 65], b"Y1"].concat();
        let with_zero = [b"INITREQ:".as_slice(), &[b'a'; 61], b"\0"].concat();
        for clear in [
            b"".as_slice(),
            b":",
            b"INITREQ",
            b"INITREQ:",
            b"INITACK:x",
            b"AUTHACK:x",
            b"RDYACK:x",
            b"AUTHREQ:short",
            b"initack:",
            b"KILL:",
            b"RDYREQ:",
            b"RDYREQ:X1",
            b"RDYREQ:X1Y",
            b"RDYREQ:XY1",
            b"RDYREQ:X1y1",
            b"RDYREQ:X1Yg",
            b"RDYREQ:X1Y1\n",
            b"RDYREQ:X1Y1Y1",
            &long,
            &with_zero,
        ] {
            assert_eq!(Frame::parse(&masked(clear)), None, "{}", clear.escape_ascii());
        }
    }

    #[test]
    fn numbers_are_read_short_or_long_and_written_as_the_old_program_does() {
        let parsed = |text: &str| match Frame::parse(&masked(format!("RDYREQ:{text}").as_bytes())) {
            Some(Frame::RdyReq(key)) => key,
            other => panic!("{text}: {other:?}"),
        };
        let key = parsed("XaBcYF");
        assert_eq!((&key.x[29..], &key.y[30..]), (&[0, 0x0a, 0xbc][..], &[0, 0x0f][..]));
        assert_eq!(Frame::RdyReq(key).encode(), masked(b"RDYREQ:X0ABCY0F"));
        assert_eq!(parsed(&format!("X{:0>64}Y{:0>64}", "abc", "f")), key);
        assert_eq!(digits(&[0; KEY_LEN]), "00");
    }

    proptest! {
        #[test]
        fn any_payload_is_read_and_what_is_a_frame_means_the_same_written_again(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            header in prop::sample::select(vec!["", "INITREQ:", "INITACK:", "AUTHREQ:", "RDYREQ:X", "RDYACK:"]),
            data in "[0-9A-Fa-fXY:]{0,80}",
        ) {
            for payload in [payload, masked(format!("{header}{data}").as_bytes())] {
                if let Some(frame) = Frame::parse(&payload) {
                    prop_assert_eq!(Frame::parse(&frame.encode()), Some(frame));
                }
            }
        }
    }
}
