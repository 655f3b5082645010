//! Sealing one stream: every message gets the next seq, and none gets one twice.

use bytes::{BufMut, Bytes, BytesMut};
use rand::CryptoRng;

use super::content::{self, Content, WANTS_CONFIRMS};
use super::id::{Predecessor, StreamId};
use super::kind::Kind;
use crate::crypto::cipher::{Cipher, HEADER_LEN};
use crate::message::{SealedHeader, SessionTag};
use crate::session::Session;
use crate::{Error, Exit, Result};

/// What a message of any stream must be able to carry, in bytes: a `continues`, or a short limit would show only when one
/// is due.
const MIN_CARRIED_LEN: usize = 16;

/// The block that limits are counted in, bytes (FIPS 197).
const COUNTED_BLOCK_LEN: u64 = 16;

/// A stream number that was reserved in a session, durably, and that no other sender has or will get.
///
/// Only reserving one makes it, and a [`Sender`] consumes it: that is why no two senders share a nonce.
#[derive(Debug, PartialEq, Eq)]
pub struct ReservedStream {
    id: StreamId,
    blocks: u64,
}

impl ReservedStream {
    /// Blocks that come with each number: with 2^32 numbers that is all 2^48 blocks of a direction of a session.
    pub(crate) const BLOCKS: u64 = 1 << 16;

    /// For a caller that wrote down, durably, that the number is reserved and that [`ReservedStream::BLOCKS`] are spent.
    pub(crate) fn new(id: StreamId) -> Self {
        Self { id, blocks: Self::BLOCKS }
    }

    /// For a caller that wrote down every message of this number before it was sealed, and reserved
    /// [`ReservedStream::BLOCKS`] anew.
    pub(crate) fn again(id: StreamId) -> Self {
        Self::new(id)
    }

    /// Which stream.
    #[cfg(test)]
    pub(crate) fn id(&self) -> StreamId {
        self.id
    }
}

/// Seals the messages of one stream, in order.
///
/// The limit of 2^48 blocks per direction and session is kept in the session file, in advance: a number brings
/// [`ReservedStream::BLOCKS`] with it, and a sender that needs more reserves them under the session's lock before it spends
/// them ([`Sender::seal`]), each time as many as it has had, so that a stream of any length writes the file a few dozen
/// times and a crash wastes at most half.
pub struct Sender {
    cipher: Cipher,
    tag: SessionTag,
    id: StreamId,
    salt: [u8; 4],
    max_message: usize,
    wants_confirms: bool,
    /// The next message's number; the last two of all are kept for what closes the stream and what may come after that.
    seq: u32,
    granted: u64,
    spent: u64,
    closed: bool,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("id", &self.id).field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Sender {
    /// The last seq that a message which closes a stream can have: that of the `settled` after it, and the number after
    /// that, are still 32 bits.
    pub(crate) const MAX_SEQ: u32 = u32::MAX - 2;
    /// Most blocks that are reserved at once: 16 GiB.
    pub(crate) const MAX_GRANT: u64 = 1 << 30;

    /// The sender of a stream, with a random salt and messages of at most `max_message` bytes.
    ///
    /// # Errors
    /// [`Exit::Config`] if a message is too short for what every stream must carry; [`Exit::Failed`] if the number is
    /// another session's.
    #[expect(clippy::needless_pass_by_value, reason = "giving the number away is what makes it one sender's")]
    pub fn new(session: &Session, reserved: ReservedStream, salt: [u8; 4], max_message: usize) -> Result<Self> {
        let ReservedStream { id, blocks: granted } = reserved;
        if id.session != session.id {
            return Err(Error::new(Exit::Failed, "cannot seal").because("the stream number is another session's"));
        }
        let sender = Self {
            cipher: session.sealer(),
            tag: session.tag(),
            id,
            salt,
            max_message,
            wants_confirms: false,
            seq: 0,
            granted,
            spent: 0,
            closed: false,
        };
        if sender.max_data_len() < MIN_CARRIED_LEN {
            return Err(Error::new(Exit::Config, "max_message")
                .because(format!("{max_message} bytes are too few for one sealed message"))
                .hint("set max_message to 256 or more"));
        }
        Ok(sender)
    }

    /// Asks the receiver for confirms, in every message from now on.
    #[must_use]
    pub(crate) fn ask_for_confirms(mut self) -> Self {
        self.wants_confirms = true;
        self
    }

    /// Continues at a later message. Those before it were sealed by an earlier process; whatever that one sealed from there
    /// on must be sealed again as the same plaintext, or it would be a second message under one nonce.
    pub(crate) fn skip_to(&mut self, seq: u32) {
        self.seq = self.seq.max(seq);
    }

    /// Which stream.
    #[must_use]
    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    /// The stream's salt.
    #[must_use]
    pub(crate) fn salt(&self) -> [u8; 4] {
        self.salt
    }

    /// The seq of the next message: how many were sealed.
    #[must_use]
    pub(crate) fn next_seq(&self) -> u32 {
        self.seq
    }

    /// Most bytes of data that one message can carry.
    #[must_use]
    pub(crate) fn max_data_len(&self) -> usize {
        self.cipher.plaintext_len(self.max_message).unwrap_or(0).saturating_sub(1)
    }

    /// The beginning of a message, with capacity for `len` bytes of data: whatever is appended to it is the data.
    #[must_use]
    pub fn buffer(&self, len: usize) -> BytesMut {
        let kind_at = self.kind_at();
        let mut buffer = BytesMut::with_capacity(self.cipher.sealed_len(len + 1) + kind_at);
        // Seq and kind are known when it is sealed.
        buffer.put_bytes(0, kind_at + 1);
        buffer
    }

    /// How many bytes of data were appended to such a beginning.
    #[must_use]
    pub(crate) fn data_len(&self, message: &[u8]) -> usize {
        message.len().saturating_sub(self.kind_at() + 1)
    }

    /// Where the plaintext begins, with its kind.
    fn kind_at(&self) -> usize {
        HEADER_LEN + self.cipher.head_room()
    }

    /// How many more blocks to reserve before a message of this kind, which carries `len` bytes, can be sealed; 0 if it can be
    /// now. What closes the stream without data, and what may come after that, is always within what was granted.
    pub(super) fn blocks_to_reserve(&self, kind: Kind, len: usize) -> u64 {
        let after = if !kind.is_in_sequence() {
            0
        } else if kind.closes_stream() {
            self.cost(0)
        } else {
            self.cost(MIN_CARRIED_LEN) + self.cost(0)
        };
        let short = (self.spent + self.cost(len) + after).saturating_sub(self.granted);
        if short == 0 { 0 } else { short.max(self.granted.min(Self::MAX_GRANT)) }
    }

    /// True if the message that closes the stream was sealed.
    #[must_use]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// True if only the message that closes the stream can still be sealed: time to reserve another number.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.seq >= Self::MAX_SEQ
    }

    /// Seals the next message of the stream: the way of every kind. `buffer` is one of [`Sender::buffer`], and after it the data
    /// if the kind carries any; what else it carries is appended here.
    ///
    /// If the message needs more blocks than were granted, `reserve` is called with how many: it takes them from what is left
    /// of the session, durably.
    ///
    /// # Errors
    /// [`Exit::DataLost`] if the kind may not be the next one, as the stream has begun, is closed, or is full, or if the
    /// message is too long; that of `reserve`.
    pub(crate) fn seal(
        &mut self,
        content: &Content,
        mut buffer: BytesMut,
        reserve: impl FnOnce(u64) -> Result<()>,
        rng: &mut impl CryptoRng,
    ) -> Result<Bytes> {
        let Some(kind) = content.kind() else { return Err(self.refuse("the kind of the message is not known")) };
        content.put(&mut buffer);
        let blocks = self.blocks_to_reserve(kind, self.carried_len(&buffer)?);
        if blocks > 0 {
            reserve(blocks)?;
            self.granted = self.granted.saturating_add(blocks);
        }
        self.seal_granted(kind, buffer, rng)
    }

    /// Seals data, in a stream that is so short that its blocks came with its number.
    ///
    /// # Errors
    /// As [`Sender::seal`]; [`Exit::DataLost`] if its blocks are spent.
    pub fn data(&mut self, buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        self.seal_granted(Kind::Data, buffer, rng)
    }

    /// As [`Sender::data`], the last data, or none; closes the stream.
    ///
    /// # Errors
    /// As [`Sender::data`].
    pub fn end(&mut self, buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        self.seal_granted(Kind::End, buffer, rng)
    }

    /// What the stream after this one begins with ([`Content::Continues`]): this one is closed, by a [`Content::Continued`] that
    /// names that one.
    #[must_use]
    pub(crate) fn as_predecessor(&self) -> Predecessor {
        Predecessor { stream: self.id, end: self.seq }
    }

    /// Most streams that one confirm can name.
    #[must_use]
    pub(crate) fn max_confirmed_streams(&self) -> usize {
        self.max_data_len() / 8
    }

    /// Says, after the message that closed the stream, that its confirm has come: the receiver need not repeat it any more. Its
    /// blocks were granted with those of the message before it.
    ///
    /// # Errors
    /// [`Exit::DataLost`] if the stream is not closed.
    pub(crate) fn settled(mut self, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let buffer = self.buffer(0);
        self.seal_granted(Kind::Settled, buffer, rng)
    }

    /// Ends this session and every older one with the peer, once the receiver has every stream below this one. It is the only
    /// message of its stream, so its blocks came with the number.
    ///
    /// # Errors
    /// [`Exit::DataLost`] if the stream is closed.
    pub(crate) fn kill(mut self, rng: &mut impl CryptoRng) -> Result<Bytes> {
        // Numbers are reserved in order: what is above ours was reserved after the session had ended.
        let next_stream = self.id.number + 1;
        let mut buffer = self.buffer(0);
        Content::Kill { next_stream }.put(&mut buffer);
        self.seal_granted(Kind::Kill, buffer, rng)
    }

    /// What a message of this stream says, and its data.
    ///
    /// # Errors
    /// [`Exit::Failed`] if it is not one.
    pub(crate) fn read_back(&self, sealed: &[u8]) -> Result<(Content, BytesMut)> {
        let mut plaintext = BytesMut::new();
        let header = SealedHeader::parse(sealed).ok().filter(|header| header.stream == self.id.number);
        let opened = header.filter(|_| self.cipher.open(sealed, &mut plaintext).is_ok());
        let header = opened.ok_or_else(|| Error::new(Exit::Failed, "a message that was sealed here does not open"))?;
        let (content, _) = content::read(&header, &mut plaintext);
        Ok((content, plaintext))
    }

    /// How many bytes were appended to a [`Sender::buffer`].
    fn carried_len(&self, buffer: &BytesMut) -> Result<usize> {
        let head_len = self.kind_at() + 1;
        buffer.len().checked_sub(head_len).ok_or_else(|| self.refuse("the message was not begun by this sender"))
    }

    /// Seals within the blocks that were granted.
    fn seal_granted(&mut self, kind: Kind, mut buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let (kind_at, len) = (self.kind_at(), self.carried_len(&buffer)?);
        self.check(kind, len)?;
        let Self { tag, id, salt, seq, .. } = *self;
        let header = SealedHeader { frame_type: kind.frame_type(), tag, stream: id.number, salt, seq };
        buffer[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        buffer[kind_at] = kind.code() | if self.wants_confirms { WANTS_CONFIRMS } else { 0 };
        self.cipher.seal(&mut buffer, rng);
        self.spent += self.cost(len);
        self.seq += 1;
        self.closed |= kind.closes_stream();
        Ok(buffer.freeze())
    }

    /// Whether the next message of the stream may be of this kind, and carry `len` bytes.
    fn check(&self, kind: Kind, len: usize) -> Result<()> {
        let refusal = if kind.begins_stream() && self.seq > 0 {
            "it has begun"
        } else if self.closed && kind.is_in_sequence() {
            "it is closed"
        } else if !self.closed && !kind.is_in_sequence() {
            "it is not closed"
        } else if self.is_full() && kind.is_in_sequence() && !kind.closes_stream() {
            "all its message numbers are used"
        } else if kind.is_of_confirms() != self.id.is_of_confirms() {
            "confirms have streams of their own"
        } else if len > self.max_data_len() {
            "the payload is longer than a message can carry"
        } else if self.spent + self.cost(len) > self.granted {
            "all its blocks are spent"
        } else {
            return Ok(());
        };
        Err(self.refuse(refusal))
    }

    /// What the cipher spends on a message of `len` bytes of data, in blocks: never less than what any suite does, as each
    /// message also costs GCM a block for its tag and CBC one for its IV.
    fn cost(&self, len: usize) -> u64 {
        self.cipher.sealed_len(len + 1) as u64 / COUNTED_BLOCK_LEN + 2
    }

    fn refuse(&self, why: &str) -> Error {
        Error::new(Exit::DataLost, format!("cannot seal more in stream {}", self.id.number))
            .because(why)
            .hint("agree on a new session: run sts-pair")
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
