//! The frames of the handshake, steps 1 to 8, and of the question whether a session is still there.

use super::fields::{FieldReader, put_prefixed};
use super::frame_type::FrameType;
use crate::Rejected;
use crate::crypto::exchange::{CIPHERTEXT_LEN, ENCAPSULATION_KEY_LEN, X25519_LEN};
use crate::crypto::pake::SHARE_LEN;
use crate::crypto::schedule::{
    ATTEMPT_ID_LEN, AttemptId, COOKIE_LEN, Cookie, DIGEST_LEN, Digest, Features, SESSION_ID_LEN,
};

/// Length in bytes of INITREQ's random part and of INITACK's reference to its INITREQ.
pub(crate) const NONCE_LEN: usize = 16;

/// Longest AUTHREQ and AUTHACK, in bytes: more than twice the longest that this version makes, with keys of 8192 bits.
pub const MAX_AUTH_LEN: usize = 8192;

/// Step 1: `type 1 | random 16 | suite 1 | X25519 public key 32 | ML-KEM-768 encapsulation key 1184 [| SPAKE2 share 32]`.
#[derive(Clone, Copy, Debug)]
pub struct InitReq<'a> {
    /// The whole frame.
    pub(crate) frame: &'a [u8],
    /// The suite's number, which may be one that this version does not know.
    pub(crate) suite: u8,
    /// The master's X25519 public key.
    pub x25519: &'a [u8; X25519_LEN],
    /// The master's ML-KEM-768 encapsulation key.
    pub encapsulation_key: &'a [u8; ENCAPSULATION_KEY_LEN],
    /// The master's SPAKE2 share, if it was given a code.
    pub(crate) share: Option<&'a [u8; SHARE_LEN]>,
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
        [&[FrameType::InitReq.byte()][..], random, &[suite], x25519, encapsulation_key, share].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] for any other length.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = FieldReader::of(frame, FrameType::InitReq)?;
        fields.array::<NONCE_LEN>()?;
        let (suite, x25519, encapsulation_key) = (fields.byte()?, fields.array()?, fields.array()?);
        Ok(Self { frame, suite, x25519, encapsulation_key, share: fields.share()? })
    }
}

/// Step 2: `type 1 | H(INITREQ)[..16] | cookie 16 | X25519 public key 32 | ML-KEM-768 ciphertext 1088 [| SPAKE2 share 32]`.
#[derive(Clone, Copy, Debug)]
pub struct InitAck<'a> {
    /// Which INITREQ it answers: the beginning of that frame's [`digest`](crate::crypto::schedule::digest).
    pub(crate) answers: &'a [u8; NONCE_LEN],
    /// What AUTHREQ repeats: it shows that its sender has read this frame.
    pub(crate) cookie: &'a Cookie,
    /// The slave's X25519 public key.
    pub(crate) x25519: &'a [u8; X25519_LEN],
    /// The ML-KEM-768 ciphertext.
    pub(crate) ciphertext: &'a [u8; CIPHERTEXT_LEN],
    /// The slave's SPAKE2 share, if it was given a code.
    pub(crate) share: Option<&'a [u8; SHARE_LEN]>,
}

impl<'a> InitAck<'a> {
    /// Length in bytes of the frame without a share.
    pub const LEN: usize = 1 + NONCE_LEN + COOKIE_LEN + X25519_LEN + CIPHERTEXT_LEN;
    /// Length in bytes of the frame with one.
    pub const CODED_LEN: usize = Self::LEN + SHARE_LEN;

    /// Makes the frame.
    #[must_use]
    pub fn frame(
        answers: &[u8; NONCE_LEN],
        cookie: &Cookie,
        x25519: &[u8; X25519_LEN],
        ciphertext: &[u8; CIPHERTEXT_LEN],
        share: Option<&[u8; SHARE_LEN]>,
    ) -> Vec<u8> {
        let share = share.map_or(&[][..], |share| share);
        [&[FrameType::InitAck.byte()][..], answers, cookie, x25519, ciphertext, share].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] for any other length.
    pub(crate) fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = FieldReader::of(frame, FrameType::InitAck)?;
        let (answers, cookie) = (fields.array()?, fields.array()?);
        let (x25519, ciphertext) = (fields.array()?, fields.array()?);
        Ok(Self { answers, cookie, x25519, ciphertext, share: fields.share()? })
    }
}

/// Step 3: `type 1 | th1[..16] | cookie 16 | length 2, INITREQ | sealed(proof)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthReq<'a> {
    /// Which attempt.
    pub(crate) attempt: &'a AttemptId,
    /// The cookie of the INITACK of that attempt.
    pub(crate) cookie: &'a Cookie,
    /// The INITREQ of that attempt, from which the slave makes its state anew.
    pub(crate) init_req: InitReq<'a>,
    /// Everything before the sealed part: its associated data.
    pub(crate) clear: &'a [u8],
    /// [`Proof`], sealed under `hs_m`.
    pub(crate) sealed: &'a [u8],
}

impl<'a> AuthReq<'a> {
    /// The part before the sealed one.
    #[must_use]
    pub(crate) fn clear(attempt: &AttemptId, cookie: &Cookie, init_req: &[u8]) -> Vec<u8> {
        let mut frame = [&[FrameType::AuthReq.byte()][..], attempt, cookie].concat();
        put_prefixed(&mut frame, init_req);
        frame
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] if a part of it is too short, or all of it too long.
    pub(crate) fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = FieldReader::of(frame, FrameType::AuthReq)?;
        check_auth_len(frame)?;
        let (attempt, cookie) = (fields.array()?, fields.array()?);
        let init_req = InitReq::parse(fields.prefixed()?)?;
        let sealed = fields.rest();
        Ok(Self { attempt, cookie, init_req, clear: &frame[..frame.len() - sealed.len()], sealed })
    }
}

/// Step 4: the slave's answer, or its refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AuthAck<'a> {
    /// `type 1 | th1[..16] | sealed(verdict 1 | suite 1 | proof)`.
    Answer {
        /// Which attempt.
        attempt: &'a AttemptId,
        /// Everything before the sealed part: its associated data.
        clear: &'a [u8],
        /// Verdict, suite and [`Proof`], sealed under `hs_s`.
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
    pub(crate) fn clear(attempt: &AttemptId) -> Vec<u8> {
        [&[FrameType::AuthAck.byte()][..], attempt].concat()
    }

    /// Reads the frame; a proof is always longer than a refusal.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for another type, [`Rejected::Length`] if it is shorter than a refusal, or too long.
    pub(crate) fn parse(frame: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = FieldReader::of(frame, FrameType::AuthAck)?;
        check_auth_len(frame)?;
        let attempt = fields.array()?;
        let rest = fields.rest();
        if frame.len() > Self::REFUSAL_LEN {
            return Ok(Self::Answer { attempt, clear: &frame[..frame.len() - rest.len()], sealed: rest });
        }
        let reason = fields.byte()?;
        let mac = fields.array()?;
        Ok(Self::Refusal { attempt, clear: &frame[..frame.len() - DIGEST_LEN], reason, mac })
    }
}

/// Frames of a type whose length varies: anyone can make long ones, and some of them wait in a queue.
fn check_auth_len(frame: &[u8]) -> Result<(), Rejected> {
    if frame.len() <= MAX_AUTH_LEN { Ok(()) } else { Err(Rejected::Length) }
}

/// Who someone is and the proof of it: `length 2, name | length 2, SPKI DER | length 2, signature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials<'a> {
    /// The name it gives itself, which counts only while enrolling by code.
    pub(crate) name: &'a [u8],
    /// Its identity key.
    pub(crate) key: &'a [u8],
    /// Its signature over its role's transcript.
    pub(crate) signature: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Appends the three fields to `out`.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for field in [self.name, self.key, self.signature] {
            put_prefixed(out, field);
        }
    }

    /// Reads the three fields.
    ///
    /// # Errors
    /// [`Rejected::Length`] if they are not all there, or not all.
    pub(crate) fn parse(plaintext: &'a [u8]) -> Result<Self, Rejected> {
        let mut fields = FieldReader::of_plaintext(plaintext);
        let parsed = Self { name: fields.prefixed()?, key: fields.prefixed()?, signature: fields.prefixed()? };
        fields.end()?;
        Ok(parsed)
    }
}

/// What both ends prove in steps 3 and 4: `features 4 | count 1 | hash 32, count times | credentials`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof<'a> {
    /// What the sender can do beyond this version.
    pub(crate) features: Features,
    /// What its leaf is hashed with on the way to the root that it signed.
    pub(crate) path: &'a [Digest],
    /// Who it is, and its signature of the root.
    pub(crate) credentials: Credentials<'a>,
}

impl<'a> Proof<'a> {
    /// Longest path that is accepted, in hashes.
    const MAX_PATH_LEN: usize = 16;

    /// Appends the proof to `out`.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.features);
        out.push(u8::try_from(self.path.len()).expect("a tree is not that high"));
        out.extend_from_slice(self.path.as_flattened());
        self.credentials.put(out);
    }

    /// Reads the proof.
    ///
    /// # Errors
    /// [`Rejected::Length`] if it is not all there, if something follows it, or if its path is too long.
    pub(crate) fn parse(plaintext: &'a [u8]) -> Result<Self, Rejected> {
        let (features, rest) = plaintext.split_first_chunk().ok_or(Rejected::Length)?;
        let (&count, rest) = rest.split_first().ok_or(Rejected::Length)?;
        let count = usize::from(count);
        let (path, rest) = rest.split_at_checked(count * DIGEST_LEN).ok_or(Rejected::Length)?;
        if count > Self::MAX_PATH_LEN {
            return Err(Rejected::Length);
        }
        Ok(Self { features: *features, path: path.as_chunks().0, credentials: Credentials::parse(rest)? })
    }
}

/// Steps 5 to 8: `type 1 | th1[..16] | MAC 32`, as RDYREQ or RDYACK.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    /// Which attempt.
    pub(crate) attempt: &'a AttemptId,
    /// The confirmation's MAC.
    pub(crate) mac: &'a Digest,
}

impl<'a> Ready<'a> {
    /// Length in bytes of the frame.
    pub const LEN: usize = 1 + ATTEMPT_ID_LEN + DIGEST_LEN;

    /// Makes the frame.
    #[must_use]
    pub(crate) fn frame(frame_type: FrameType, attempt: &AttemptId, mac: &Digest) -> Vec<u8> {
        [&[frame_type.byte()][..], attempt, mac].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for a type other than `frame_type`, [`Rejected::Length`] for any other length.
    pub(crate) fn parse(frame: &'a [u8], frame_type: FrameType) -> Result<Self, Rejected> {
        let mut fields = FieldReader::of(frame, frame_type)?;
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
    pub(crate) session: &'a [u8; SESSION_ID_LEN],
    /// The random bytes of the query, which its reply repeats.
    pub(crate) nonce: &'a [u8; NONCE_LEN],
    /// The session that is checked: the same one, or another.
    pub(crate) about: &'a [u8; SESSION_ID_LEN],
    /// The MAC; its label is what a reply says.
    pub(crate) mac: &'a Digest,
}

impl<'a> SessionCheckFrame<'a> {
    /// Length in bytes of the frame.
    pub const LEN: usize = 1 + SESSION_ID_LEN + NONCE_LEN + SESSION_ID_LEN + DIGEST_LEN;

    /// Makes the frame.
    #[must_use]
    pub(crate) fn frame(&self, frame_type: FrameType) -> Vec<u8> {
        [&[frame_type.byte()][..], self.session, self.nonce, self.about, self.mac].concat()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] for a type other than `frame_type`, [`Rejected::Length`] for any other length.
    pub(crate) fn parse(frame: &'a [u8], frame_type: FrameType) -> Result<Self, Rejected> {
        let mut fields = FieldReader::of(frame, frame_type)?;
        let (session, nonce, about, mac) = (fields.array()?, fields.array()?, fields.array()?, fields.array()?);
        fields.end()?;
        Ok(Self { session, nonce, about, mac })
    }
}
