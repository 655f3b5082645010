//! Every STS/2 frame as bytes: one MQTT payload each, parsed before it is believed (`sts-protocol(7)`, "Messages").
//!
//! Parsing checks lengths and nothing else; what comes out borrows from the payload. Whether a frame is authentic is
//! decided by the handshake and by the session, with the keys that they hold.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use crate::Rejected;
use crate::crypto::cipher::HEADER_LEN;
use crate::crypto::exchange::{CIPHERTEXT_LEN, ENCAPSULATION_KEY_LEN, X25519_LEN};
use crate::crypto::pake::SHARE_LEN;
use crate::crypto::schedule::{ATTEMPT_ID_LEN, AttemptId, DIGEST_LEN, Digest, SESSION_ID_LEN};

/// The protocol version: the high nibble of every frame's first byte.
pub const VERSION: u8 = 2;

/// Length in bytes of INITREQ's random part and of INITACK's reference to its INITREQ.
pub const NONCE_LEN: usize = 16;

/// The type of a frame: the low nibble of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Step 1, master to slave: initialization request.
    InitReq = 1,
    /// Step 2, slave to master: initialization acknowledgement.
    InitAck = 2,
    /// Step 3, master to slave: authentication request.
    AuthReq = 3,
    /// Step 4, slave to master: authentication acknowledgement.
    AuthAck = 4,
    /// Step 5, master to slave: is the peer ready for encrypted communication?
    RdyReq = 5,
    /// Steps 6 to 8, both ways: ready.
    RdyAck = 6,
    /// Encrypted message.
    Enc = 7,
    /// Ends the session.
    Kill = 8,
}

impl Type {
    /// All types, in the order of their numbers.
    pub const ALL: [Self; 8] =
        [Self::InitReq, Self::InitAck, Self::AuthReq, Self::AuthAck, Self::RdyReq, Self::RdyAck, Self::Enc, Self::Kill];

    /// The type of a payload, by its first byte.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] if it is empty, or begins with no known type of this version.
    pub fn of(payload: &[u8]) -> Result<Self, Rejected> {
        let first = *payload.first().ok_or(Rejected::Foreign)?;
        Self::ALL.into_iter().find(|kind| kind.byte() == first).ok_or(Rejected::Foreign)
    }

    /// The first byte of a frame of this type.
    #[must_use]
    pub fn byte(self) -> u8 {
        // The discriminants are the numbers; the version sits above them.
        VERSION << 4 | self as u8
    }

    /// The name in `sts-protocol(7)`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InitReq => "INITREQ",
            Self::InitAck => "INITACK",
            Self::AuthReq => "AUTHREQ",
            Self::AuthAck => "AUTHACK",
            Self::RdyReq => "RDYREQ",
            Self::RdyAck => "RDYACK",
            Self::Enc => "ENC",
            Self::Kill => "KILL",
        }
    }
}

/// Takes fixed and length-prefixed fields off the front of a frame.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields behind the first byte of a frame of type `kind`.
    fn of(payload: &'a [u8], kind: Type) -> Result<Self, Rejected> {
        match payload.split_first() {
            Some((&first, rest)) if first == kind.byte() => Ok(Self(rest)),
            _ => Err(Rejected::Foreign),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Rejected> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Rejected::Length)?;
        self.0 = rest;
        Ok(field)
    }

    fn byte(&mut self) -> Result<u8, Rejected> {
        self.array::<1>().map(|[byte]| *byte)
    }

    /// A field behind its length in two bytes, big-endian.
    fn prefixed(&mut self) -> Result<&'a [u8], Rejected> {
        let len = usize::from(u16::from_be_bytes(*self.array()?));
        let (field, rest) = self.0.split_at_checked(len).ok_or(Rejected::Length)?;
        self.0 = rest;
        Ok(field)
    }

    /// The SPAKE2 share, where its sender was given a code; there is nothing behind it.
    fn share(self) -> Result<Option<&'a [u8; SHARE_LEN]>, Rejected> {
        if self.0.is_empty() { Ok(None) } else { self.0.try_into().map(Some).map_err(|_| Rejected::Length) }
    }

    fn end(self) -> Result<(), Rejected> {
        if self.0.is_empty() { Ok(()) } else { Err(Rejected::Length) }
    }
}

fn put_prefixed(out: &mut Vec<u8>, field: &[u8]) {
    let len = u16::try_from(field.len()).expect("names, keys, signatures and INITREQ are far below 64 KiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(field);
}

/// Step 1: `type 1 | random 16 | suite 1 | X25519 public key 32 | ML-KEM-768 encapsulation key 1184 [| SPAKE2 share 32]`.
#[derive(Clone, Copy, Debug)]
pub struct InitReq<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// The suite's number, which may be one that this version does not know.
    pub suite: u8,
    /// The master's X25519 public key.
    pub x25519: &'a [u8; X25519_LEN],
    /// The master's ML-KEM-768 encapsulation key.
    pub encapsulation_key: &'a [u8; ENCAPSULATION_KEY_LEN],
    /// The master's SPAKE2 share, if it was given a code.
    pub share: Option<&'a [u8; SHARE_LEN]>,
}

impl<'a> InitReq<'a> {
    /// Length in bytes of the frame without a share.
    pub const LEN: usize = 1 + NONCE_LEN + 1 + X25519_LEN + ENCAPSULATION_KEY_LEN;
    /// Length in bytes of the frame with one.
    pub const CODED_LEN: usize = Self::LEN + SHARE_LEN;

    /// Makes the frame.
    #[must_use]
    pub fn frame(
        random: &[u8; NONCE_LEN],
        suite: u8,
        x25519: &[u8; X25519_LEN],
        encapsulation_key: &[u8; ENCAPSULATION_KEY_LEN],
        share: Option<&[u8; SHARE_LEN]>,
    ) -> Vec<u8> {
        let share = share.map_or(&[][..], |share| share);
        [&[Type::InitReq.byte()][..], random, &[suite], x25519, encapsulation_key, share].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] for any other length.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = Fields::of(frame, Type::InitReq)?;
        fields.array::<NONCE_LEN>()?;
        let (suite, x25519, encapsulation_key) = (fields.byte()?, fields.array()?, fields.array()?);
        Ok(Self { frame, suite, x25519, encapsulation_key, share: fields.share()? })
    }
}

/// Step 2: `type 1 | H(INITREQ)[..16] | X25519 public key 32 | ML-KEM-768 ciphertext 1088 [| SPAKE2 share 32]`.
#[derive(Clone, Copy, Debug)]
pub struct InitAck<'a> {
    /// Which INITREQ it answers: the beginning of that frame's [`digest`](crate::crypto::schedule::digest).
    pub answers: &'a [u8; NONCE_LEN],
    /// The slave's X25519 public key.
    pub x25519: &'a [u8; X25519_LEN],
    /// The ML-KEM-768 ciphertext.
    pub ciphertext: &'a [u8; CIPHERTEXT_LEN],
    /// The slave's SPAKE2 share, if it was given a code.
    pub share: Option<&'a [u8; SHARE_LEN]>,
}

impl<'a> InitAck<'a> {
    /// Length in bytes of the frame without a share.
    pub const LEN: usize = 1 + NONCE_LEN + X25519_LEN + CIPHERTEXT_LEN;
    /// Length in bytes of the frame with one.
    pub const CODED_LEN: usize = Self::LEN + SHARE_LEN;

    /// Makes the frame.
    #[must_use]
    pub fn frame(
        answers: &[u8; NONCE_LEN],
        x25519: &[u8; X25519_LEN],
        ciphertext: &[u8; CIPHERTEXT_LEN],
        share: Option<&[u8; SHARE_LEN]>,
    ) -> Vec<u8> {
        let share = share.map_or(&[][..], |share| share);
        [&[Type::InitAck.byte()][..], answers, x25519, ciphertext, share].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] for any other length.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = Fields::of(frame, Type::InitAck)?;
        let (answers, x25519, ciphertext) = (fields.array()?, fields.array()?, fields.array()?);
        Ok(Self { answers, x25519, ciphertext, share: fields.share()? })
    }
}

/// Step 3: `type 1 | th1[..16] | length 2, INITREQ | sealed(credentials)`.
#[derive(Clone, Copy, Debug)]
pub struct AuthReq<'a> {
    /// Which attempt.
    pub attempt: &'a AttemptId,
    /// The INITREQ of that attempt, from which the slave makes its state anew.
    pub init_req: InitReq<'a>,
    /// Everything before the sealed part: its associated data.
    pub clear: &'a [u8],
    /// The way to the root that was signed, [`put_path`], and [`Credentials`], sealed under `hs_m`.
    pub sealed: &'a [u8],
}

impl<'a> AuthReq<'a> {
    /// The part before the sealed one.
    #[must_use]
    pub fn clear(attempt: &AttemptId, init_req: &[u8]) -> Vec<u8> {
        let mut frame = [&[Type::AuthReq.byte()][..], attempt].concat();
        put_prefixed(&mut frame, init_req);
        frame
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] where a part of it is too short.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = Fields::of(frame, Type::AuthReq)?;
        let attempt = fields.array()?;
        let init_req = InitReq::parse(fields.prefixed()?)?;
        let sealed = fields.0;
        Ok(Self { attempt, init_req, clear: &frame[..frame.len() - sealed.len()], sealed })
    }
}

/// Step 4: the slave's answer, or its refusal.
#[derive(Clone, Copy, Debug)]
pub enum AuthAck<'a> {
    /// `type 1 | th1[..16] | sealed(verdict 1 | suite 1 | credentials)`.
    Answer {
        /// Which attempt.
        attempt: &'a AttemptId,
        /// Everything before the sealed part: its associated data.
        clear: &'a [u8],
        /// Verdict and [`Credentials`], sealed under `hs_s`.
        sealed: &'a [u8],
    },
    /// `type 1 | th1[..16] | number 1 | MAC 32`: proves who answered INITREQ, and nothing about who that is.
    Refusal {
        /// Which attempt.
        attempt: &'a AttemptId,
        /// Everything before the MAC.
        clear: &'a [u8],
        /// Why, as a number.
        reason: u8,
        /// The MAC.
        mac: &'a Digest,
    },
}

impl<'a> AuthAck<'a> {
    const REFUSAL_LEN: usize = 1 + ATTEMPT_ID_LEN + 1 + DIGEST_LEN;

    /// The part of an answer before the sealed one; a refusal's begins with the same.
    #[must_use]
    pub fn clear(attempt: &AttemptId) -> Vec<u8> {
        [&[Type::AuthAck.byte()][..], attempt].concat()
    }

    /// Reads the frame; credentials are always longer than a refusal.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] where it is shorter than a refusal.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = Fields::of(frame, Type::AuthAck)?;
        let attempt = fields.array()?;
        let rest = fields.0;
        if frame.len() > Self::REFUSAL_LEN {
            return Ok(Self::Answer { attempt, clear: &frame[..frame.len() - rest.len()], sealed: rest });
        }
        let reason = fields.byte()?;
        let mac = fields.array()?;
        Ok(Self::Refusal { attempt, clear: &frame[..frame.len() - DIGEST_LEN], reason, mac })
    }
}

/// Who someone is and the proof of it: `length 2, name | length 2, SPKI DER | length 2, signature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The name it gives itself, which counts only while enrolling by code.
    pub name: &'a [u8],
    /// Its identity key.
    pub key: &'a [u8],
    /// Its signature over its role's transcript.
    pub signature: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Appends the three fields to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        for field in [self.name, self.key, self.signature] {
            put_prefixed(out, field);
        }
    }

    /// Reads the three fields.
    ///
    /// # Errors
    /// [`Rejected::Length`] if they are not all there, or not all.
    pub fn parse(plaintext: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = Fields(plaintext);
        let parsed = Self { name: fields.prefixed()?, key: fields.prefixed()?, signature: fields.prefixed()? };
        fields.end()?;
        Ok(parsed)
    }
}

/// Appends what a leaf is hashed with on its way to the root: `number 1 | hash 32`, as many.
pub fn put_path(out: &mut Vec<u8>, path: &[Digest]) {
    out.push(u8::try_from(path.len()).expect("a tree is not that high"));
    out.extend_from_slice(path.as_flattened());
}

/// Reads what [`put_path`] made; also returns what follows it.
///
/// # Errors
/// [`Rejected::Length`] where it is not all there.
pub fn split_path(plaintext: &[u8]) -> Result<(&[Digest], &[u8]), Rejected> {
    let (&count, rest) = plaintext.split_first().ok_or(Rejected::Length)?;
    let (path, rest) = rest.split_at_checked(usize::from(count) * DIGEST_LEN).ok_or(Rejected::Length)?;
    Ok((path.as_chunks().0, rest))
}

/// Steps 5 to 8: `type 1 | th1[..16] | MAC 32`, as RDYREQ or RDYACK.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    /// Which attempt.
    pub attempt: &'a AttemptId,
    /// The confirmation's MAC.
    pub mac: &'a Digest,
}

impl<'a> Ready<'a> {
    /// Length in bytes of the frame.
    pub const LEN: usize = 1 + ATTEMPT_ID_LEN + DIGEST_LEN;

    /// Makes the frame.
    #[must_use]
    pub fn frame(kind: Type, attempt: &AttemptId, mac: &Digest) -> Vec<u8> {
        [&[kind.byte()][..], attempt, mac].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for a type other than `kind`, [`Rejected::Length`] for any other length.
    pub fn parse(frame: &'a [u8], kind: Type) -> Result<Self, Rejected> {
        let mut fields = Fields::of(frame, kind)?;
        let parsed = Self { attempt: fields.array()?, mac: fields.array()? };
        fields.end()?;
        Ok(parsed)
    }
}

/// A session check, query or reply: `type 1 | session id 8 | random 16 | session id 8 | MAC 32`, as RDYREQ or RDYACK; its
/// length tells it from steps 5 to 8.
#[derive(Clone, Copy, Debug)]
pub struct SessionCheckFrame<'a> {
    /// The session that authenticates the frame.
    pub session: &'a [u8; SESSION_ID_LEN],
    /// The random bytes of the query, which its reply repeats.
    pub nonce: &'a [u8; NONCE_LEN],
    /// The session that is checked: the same one, or another.
    pub about: &'a [u8; SESSION_ID_LEN],
    /// The MAC; its label is what a reply says.
    pub mac: &'a Digest,
}

impl<'a> SessionCheckFrame<'a> {
    /// Length in bytes of the frame.
    pub const LEN: usize = 1 + SESSION_ID_LEN + NONCE_LEN + SESSION_ID_LEN + DIGEST_LEN;

    /// Makes the frame.
    #[must_use]
    pub fn frame(&self, kind: Type) -> Vec<u8> {
        [&[kind.byte()][..], self.session, self.nonce, self.about, self.mac].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for a type other than `kind`, [`Rejected::Length`] for any other length.
    pub fn parse(frame: &'a [u8], kind: Type) -> Result<Self, Rejected> {
        let mut fields = Fields::of(frame, kind)?;
        let (session, nonce, about, mac) = (fields.array()?, fields.array()?, fields.array()?, fields.array()?);
        fields.end()?;
        Ok(Self { session, nonce, about, mac })
    }
}

/// The first bytes of a session id, on each sealed message: a hint for the search, never a proof.
pub type SessionTag = [u8; 3];

/// The clear beginning of ENC and KILL, and their associated data:
/// `type 1 | session tag 3 | stream 4 | salt 4 | seq 4`, numbers big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// ENC or KILL.
    pub kind: Type,
    /// The beginning of the session's id.
    pub tag: SessionTag,
    /// The stream's number: one for each sending process of a session.
    pub stream: u32,
    /// Random, one for each stream.
    pub salt: [u8; 4],
    /// Counts the stream's messages from 0.
    pub seq: u32,
}

impl Header {
    /// Length in bytes.
    pub const LEN: usize = HEADER_LEN;

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.kind.byte();
        bytes[1..4].copy_from_slice(&self.tag);
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.salt);
        bytes[12..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// Reads the header in front of a sealed body.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for any type but ENC and KILL, [`Rejected::Length`] where it is cut.
    pub fn parse(payload: &[u8]) -> Result<Self, Rejected> {
        let kind = Type::of(payload)?;
        if !matches!(kind, Type::Enc | Type::Kill) {
            return Err(Rejected::Foreign);
        }
        let mut fields = Fields::of(payload, kind)?;
        Ok(Self {
            kind,
            tag: *fields.array()?,
            stream: u32::from_be_bytes(*fields.array()?),
            salt: *fields.array()?,
            seq: u32::from_be_bytes(*fields.array()?),
        })
    }
}

#[cfg(test)]
mod tests;
