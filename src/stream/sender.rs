//! Sealing one stream: every message gets the next seq, and none gets one twice.

use bytes::{BufMut, Bytes, BytesMut};
use rand::CryptoRng;

use super::content::{self, Content};
use super::{FIRST_CONFIRM_STREAM, Predecessor, StreamId, blocks, kind};
use crate::crypto::cipher::{Cipher, HEADER_LEN};
use crate::message::{FrameType, SealedHeader, SessionTag};
use crate::session::{Session, SessionId};
use crate::{Error, Exit, Result};

/// What any stream must be able to carry: a `continues`, or a short limit would show only when one is due.
const MIN_DATA: usize = 16;

/// A stream number that was taken from a session, durably, and that nobody else has or will get.
///
/// Only taking one makes it, and a [`Sender`] consumes it: that is why no two senders share a nonce.
#[derive(Debug, PartialEq, Eq)]
pub struct ReservedStream {
    session: SessionId,
    stream: u32,
    blocks: u64,
}

impl ReservedStream {
    /// Blocks that come with each number: with 2^32 numbers that is all 2^48 blocks of a direction of a session.
    pub const BLOCKS: u64 = 1 << 16;

    /// For whoever wrote down, durably, that the number is taken and that [`ReservedStream::BLOCKS`] are spent.
    pub(crate) fn new(session: SessionId, stream: u32) -> Self {
        Self { session, stream, blocks: Self::BLOCKS }
    }

    /// For whoever wrote down every message of this number before it was sealed, and reserved [`ReservedStream::BLOCKS`] anew.
    pub(crate) fn again(session: SessionId, stream: u32) -> Self {
        Self::new(session, stream)
    }

    /// The number.
    #[must_use]
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// The session that it was taken from.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }
}

/// Seals the messages of one stream, in order.
///
/// The limit of 2^48 blocks a direction a session is kept in the session file, in advance: a number brings
/// [`ReservedStream::BLOCKS`] with it, and a sender that needs more reserves them under the session's lock before it spends them
/// ([`Sender::wanted`], [`Sender::grant`]), each time as many as it has had, so that a stream of any length writes the
/// file a few dozen times and a crash wastes at most half.
pub struct Sender {
    cipher: Cipher,
    id: SessionId,
    tag: SessionTag,
    stream: u32,
    salt: [u8; 4],
    max_message: usize,
    padding: usize,
    asks: bool,
    /// The next message's number; the last two of all are kept for what closes the stream and what may come behind that.
    seq: u32,
    granted: u64,
    spent: u64,
    closed: bool,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("session", &self.id)
            .field("stream", &self.stream)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// The last seq that a message which closes a stream can have: that of the `settled` behind it, and the number after
    /// that, are still 32 bits.
    pub const MAX_SEQ: u32 = u32::MAX - 2;
    /// Most blocks that are reserved at once: 16 GiB.
    pub const MAX_GRANT: u64 = 1 << 30;

    /// The sender of a stream, with a random salt and messages of at most `max_message` bytes.
    ///
    /// # Errors
    /// [`Exit::Config`] where not one byte of payload fits; [`Exit::Failed`] where the number is another session's.
    #[expect(clippy::needless_pass_by_value, reason = "giving the number away is what makes it one sender's")]
    pub fn new(session: &Session, taken: ReservedStream, salt: [u8; 4], max_message: usize) -> Result<Self> {
        let ReservedStream { session: id, stream, blocks: granted } = taken;
        if id != session.id {
            return Err(Error::new(Exit::Failed, "cannot seal").because("the stream number is another session's"));
        }
        let sender = Self {
            cipher: session.sealer(),
            id,
            tag: session.tag(),
            stream,
            salt,
            max_message,
            padding: 1,
            asks: false,
            seq: 0,
            granted,
            spent: 0,
            closed: false,
        };
        sender.fits()
    }

    /// Pads the plaintext of every message to a multiple of `bytes`; 1 pads nothing.
    ///
    /// # Errors
    /// [`Exit::Config`] where no such message fits into the longest one.
    pub fn pad(mut self, bytes: usize) -> Result<Self> {
        self.padding = bytes.max(1);
        self.fits()
    }

    /// Asks the receiver for confirms, in every message from now on.
    #[must_use]
    pub fn ask_for_confirms(mut self) -> Self {
        self.asks = true;
        self
    }

    /// Goes on at a later message. Those before it were sealed by an earlier process; whatever that one sealed from there
    /// on must be sealed again as the same plaintext, or it would be a second message under one nonce.
    pub fn skip_to(&mut self, seq: u32) {
        self.seq = self.seq.max(seq);
    }

    /// The stream's number.
    #[must_use]
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// The stream's salt.
    #[must_use]
    pub fn salt(&self) -> [u8; 4] {
        self.salt
    }

    /// The session that it seals under.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.id
    }

    /// The seq of the next message: how many were sealed.
    #[must_use]
    pub fn next_seq(&self) -> u32 {
        self.seq
    }

    /// Most payload bytes that one message can carry.
    #[must_use]
    pub fn payload_room(&self) -> usize {
        let plaintext = self.cipher.plaintext_len(self.max_message).unwrap_or(0);
        let (plaintext, marker) =
            if self.padding > 1 { (plaintext / self.padding * self.padding, 1) } else { (plaintext, 0) };
        plaintext.saturating_sub(1 + marker)
    }

    /// The beginning of a message, with room for `payload` bytes: whatever is appended to it is the payload.
    #[must_use]
    pub fn buffer(&self, payload: usize) -> BytesMut {
        let head = HEADER_LEN + self.cipher.head_room();
        let mut buffer = BytesMut::with_capacity(self.cipher.sealed_len(self.padded(payload)) + head);
        // Seq and kind are known when it is sealed.
        buffer.put_bytes(0, head + 1);
        buffer
    }

    /// How many more blocks to reserve before a message of `payload` bytes can be sealed; 0 where it can be now.
    #[must_use]
    pub fn wanted(&self, payload: usize) -> u64 {
        // What closes the stream, and what may come behind that, is always within what was granted.
        let next = self.cost(payload) + self.cost(MIN_DATA) + self.cost(0);
        let short = (self.spent + next).saturating_sub(self.granted);
        if short == 0 { 0 } else { short.max(self.granted.min(Self::MAX_GRANT)) }
    }

    /// Takes note of blocks that were reserved in the session file.
    pub fn grant(&mut self, blocks: u64) {
        self.granted = self.granted.saturating_add(blocks);
    }

    /// True where the message that closes the stream was sealed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// True where only the message that closes the stream can still be sealed: time to take another number.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.seq >= Self::MAX_SEQ
    }

    /// Seals data.
    ///
    /// # Errors
    /// [`Exit::DataLost`] where the stream is full or closed, its blocks are spent, or the payload is too long.
    pub fn data(&mut self, buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        if self.is_full() {
            return Err(self.refuse("all its message numbers are used"));
        }
        self.seal(FrameType::Enc, kind::DATA, buffer, rng)
    }

    /// Seals the last data, or none, and closes the stream.
    ///
    /// # Errors
    /// As [`Sender::data`], except that a full stream can be closed.
    pub fn end(&mut self, buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        self.close(FrameType::Enc, kind::END, buffer, rng)
    }

    /// Closes the stream, saying where it goes on.
    ///
    /// # Errors
    /// As [`Sender::end`].
    pub fn continued(&mut self, at: &Self, rng: &mut impl CryptoRng) -> Result<Bytes> {
        self.continued_at(&at.id, at.stream, rng)
    }

    /// As [`Sender::continued`], where the next stream has no sender yet.
    ///
    /// # Errors
    /// As [`Sender::end`].
    pub fn continued_at(&mut self, session: &SessionId, stream: u32, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let mut buffer = self.buffer(12);
        buffer.put_slice(session);
        buffer.put_u32(stream);
        self.close(FrameType::Enc, kind::CONTINUED, buffer, rng)
    }

    /// What the stream after this one begins with: this one is closed, and was [`Sender::continued`] there.
    #[must_use]
    pub fn before(&self) -> Predecessor {
        Predecessor { stream: StreamId { session: self.id, number: self.stream }, end: self.seq }
    }

    /// Says, as the first message of the stream, which one it goes on from: whoever gets it before the end of that one
    /// waits. A stream that asks for confirms has no need of it: it begins when the one before it is confirmed.
    ///
    /// # Errors
    /// [`Exit::DataLost`] where something was sealed before.
    pub fn continues(&mut self, before: &Predecessor, rng: &mut impl CryptoRng) -> Result<Bytes> {
        if self.seq > 0 {
            return Err(self.refuse("it has begun"));
        }
        let mut buffer = self.buffer(16);
        buffer.put_slice(&before.stream.session);
        buffer.put_u32(before.stream.number);
        buffer.put_u32(before.end);
        self.seal(FrameType::Enc, kind::CONTINUES, buffer, rng)
    }

    /// Most streams that one confirm can name.
    #[must_use]
    pub fn confirm_room(&self) -> usize {
        self.payload_room() / 8
    }

    /// Confirms streams of this session that the peer sends: all below each next seq was written. Only a stream of confirms
    /// carries them, and it is never closed: nobody waits for its end.
    ///
    /// # Errors
    /// As [`Sender::data`].
    pub fn confirm(&mut self, streams: &[(u32, u32)], rng: &mut impl CryptoRng) -> Result<Bytes> {
        if self.is_full() {
            return Err(self.refuse("all its message numbers are used"));
        }
        let mut buffer = self.buffer(streams.len() * 8);
        for &(stream, next) in streams {
            buffer.put_u32(stream);
            buffer.put_u32(next);
        }
        self.seal(FrameType::Enc, kind::CONFIRM, buffer, rng)
    }

    /// Says, behind the message that closed the stream, that its confirm has come: nobody needs to answer for it any more.
    ///
    /// # Errors
    /// [`Exit::DataLost`] where the stream is not closed.
    pub fn settled(mut self, rng: &mut impl CryptoRng) -> Result<Bytes> {
        if !std::mem::take(&mut self.closed) {
            return Err(self.refuse("it is not closed"));
        }
        self.seal(FrameType::Enc, kind::SETTLED, self.buffer(0), rng)
    }

    /// Ends this session and every older one with the peer, once the receiver has every stream below this one.
    ///
    /// # Errors
    /// As [`Sender::end`].
    pub fn kill(&mut self, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let mut buffer = self.buffer(4);
        // Numbers are taken in order: what is above ours was taken after the session had ended.
        buffer.put_u32(self.stream + 1);
        self.close(FrameType::Kill, kind::KILL, buffer, rng)
    }

    /// What a message of this stream says, and its payload.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it is not one.
    pub fn read_back(&self, sealed: &[u8]) -> Result<(Content, BytesMut)> {
        let mut plaintext = BytesMut::new();
        let header = SealedHeader::parse(sealed).ok().filter(|header| header.stream == self.stream);
        let opened = header.filter(|_| self.cipher.open(sealed, &mut plaintext).is_ok());
        let header = opened.ok_or_else(|| Error::new(Exit::Failed, "a message that was sealed here does not open"))?;
        let (payload, _) = content::read(&header, &mut plaintext);
        Ok((payload, plaintext))
    }

    fn close(&mut self, frame: FrameType, kind: u8, buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let sealed = self.seal(frame, kind, buffer, rng)?;
        self.closed = true;
        Ok(sealed)
    }

    fn seal(&mut self, frame: FrameType, kind: u8, mut buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let head = HEADER_LEN + self.cipher.head_room();
        let Some(payload) = buffer.len().checked_sub(head + 1) else {
            return Err(self.refuse("the message was not begun by this sender"));
        };
        let cost = self.cost(payload);
        if self.closed {
            return Err(self.refuse("it is closed"));
        }
        if (kind == kind::CONFIRM) != (self.stream >= FIRST_CONFIRM_STREAM) {
            return Err(self.refuse("confirms have streams of their own"));
        }
        if payload > self.payload_room() {
            return Err(self.refuse("the payload is longer than a message can carry"));
        }
        if self.spent + cost > self.granted {
            return Err(self.refuse("all its blocks are spent"));
        }
        let header =
            SealedHeader { frame_type: frame, tag: self.tag, stream: self.stream, salt: self.salt, seq: self.seq }
                .to_bytes();
        buffer[..HEADER_LEN].copy_from_slice(&header);
        buffer[head] = kind | if self.asks { kind::ASKS } else { 0 };
        if self.padding > 1 {
            buffer[head] |= kind::PADDED;
            buffer.put_u8(kind::PADDING);
            buffer.resize(head + self.padded(payload), 0);
        }
        self.cipher.seal(&mut buffer, rng);
        self.spent += cost;
        self.seq += 1;
        Ok(buffer.freeze())
    }

    /// Length of the plaintext that carries this payload.
    fn padded(&self, payload: usize) -> usize {
        if self.padding > 1 { (payload + 2).next_multiple_of(self.padding) } else { payload + 1 }
    }

    fn cost(&self, payload: usize) -> u64 {
        blocks(self.cipher.sealed_len(self.padded(payload)))
    }

    fn fits(self) -> Result<Self> {
        if self.payload_room() >= MIN_DATA {
            return Ok(self);
        }
        Err(Error::new(Exit::Config, "max_message")
            .because(format!("{} bytes are too few for one sealed message", self.max_message))
            .hint("set max_message to 128 or more"))
    }

    fn refuse(&self, why: &str) -> Error {
        Error::new(Exit::DataLost, format!("cannot seal more in stream {}", self.stream))
            .because(why)
            .hint("agree a new session: run sts-pair")
    }
}

#[cfg(test)]
impl Sender {
    /// As after that many messages and blocks, which no test can wait for.
    pub(super) fn jump(&mut self, seq: u32, spent: u64) {
        self.seq = seq;
        self.spent = spent;
    }
}
