//! Sealing one stream: every message gets the next seq, and none gets one twice.

use bytes::{BufMut, Bytes, BytesMut};
use rand::CryptoRng;

use super::content::{self, CONTINUES, Content, PADDED, PADDING, PREAMBLE, PlaintextHead, WANTS_CONFIRMS};
use super::id::{Origin, StreamId};
use super::kind::Kind;
use super::message_len::{Lengths, MIN_CARRIED_LEN, carried_len};
use super::preamble::{Continues, Preamble, preamble_room};
use super::reserved::{PartKeys, ReservedStream};
use super::sent_time::SentTime;
use super::side_content::{Confirmed, SACK_LEN, SACK_RANGE_LEN};
use crate::crypto::cipher::{Cipher, HEADER_LEN};
use crate::crypto::key_tree::{Salt, will_cipher};
use crate::message::{FrameType, SealedHeader, SessionTag};
use crate::session::Session;
use crate::{Error, Exit, Result};

/// Seals the messages of one stream, in order.
pub struct Sender {
    keys: PartKeys,
    tag: SessionTag,
    /// Which stream, and its salt.
    origin: Origin,
    lengths: Lengths,
    /// The flags of each message.
    flags: u8,
    /// What the first message begins with.
    preamble: Preamble,
    /// The next message's number; the last two of all are kept for what closes the stream and what may come after that.
    seq: u32,
    closed: bool,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("id", &self.id()).field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Sender {
    /// The last seq that a message which closes a stream can have: that of the `settled` after it, and the number after
    /// that, are still 32 bits.
    pub(crate) const MAX_SEQ: u32 = u32::MAX - 2;

    /// The sender of a stream, with a random salt and messages of at most `max_message` bytes.
    ///
    /// # Errors
    /// [`Exit::Config`] if a message is too short for what every stream must carry; [`Exit::Failed`] if the number is
    /// another session's.
    #[expect(clippy::needless_pass_by_value, reason = "giving the number away is what makes it one sender's")]
    pub fn new(session: &Session, reserved: ReservedStream, salt: Salt, max_message: usize) -> Result<Self> {
        if reserved.id.session != session.id {
            return Err(Error::new(Exit::Failed, "cannot seal").because("the stream number is another session's"));
        }
        let sender = Self {
            keys: PartKeys::new(session.suite, &reserved, salt),
            tag: session.tag(),
            origin: Origin { stream: reserved.id, salt },
            lengths: Lengths { max_message, pad: None },
            flags: 0,
            preamble: Preamble::default(),
            seq: 0,
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
        self.flags |= WANTS_CONFIRMS;
        self
    }

    /// Pads every plaintext to a multiple of this many bytes.
    #[must_use]
    pub(crate) fn pad_to(mut self, pad: Option<usize>) -> Self {
        self.lengths.pad = pad;
        self
    }

    /// Limits messages to this many bytes, if they may be longer. The first one then tells less about earlier streams,
    /// so that any record has room in it.
    pub(crate) fn limit_messages(&mut self, max_message: usize) {
        self.lengths.max_message = self.lengths.max_message.min(max_message);
        self.preamble.limit_to(self.id(), self.lengths.max_message);
    }

    /// Says this with the first message, which has that much less room ([`Sender::max_record_len`]).
    pub(crate) fn begin_with(&mut self, preamble: Preamble) {
        self.flags = self.flags & !CONTINUES | if preamble.continues.is_some() { CONTINUES } else { 0 };
        self.preamble = preamble;
    }

    /// Makes the stream continue a sequence. What else it says of itself stays.
    pub(crate) fn continue_sequence(&mut self, continues: Continues) {
        let preamble = std::mem::take(&mut self.preamble);
        self.begin_with(Preamble { continues: Some(continues), ..preamble });
    }

    /// The position in its sequence of the message with this seq: what another stream says that carries that message,
    /// too.
    #[must_use]
    pub(crate) fn position_of(&self, seq: u32) -> Continues {
        let origin = self.origin();
        let Continues { origin, position } = self.preamble.continues.unwrap_or(Continues { origin, position: 0 });
        Continues { origin, position: position.saturating_add(seq.into()) }
    }

    /// What the stream continues.
    #[must_use]
    pub(crate) fn continues(&self) -> Option<Continues> {
        self.preamble.continues
    }

    /// Which stream.
    #[must_use]
    pub(crate) fn id(&self) -> StreamId {
        self.origin.stream
    }

    /// The stream as the origin of a sequence.
    #[must_use]
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// The stream's salt.
    #[must_use]
    pub(crate) fn salt(&self) -> Salt {
        self.origin.salt
    }

    /// The seq of the next message: how many were sealed.
    #[must_use]
    pub(crate) fn next_seq(&self) -> u32 {
        self.seq
    }

    /// Most bytes of data that one message can carry.
    #[must_use]
    pub(crate) fn max_data_len(&self) -> usize {
        carried_len(self.cipher().plaintext_len(self.lengths.max_message).unwrap_or(0), self.lengths.pad)
    }

    /// Most bytes of data that any message can carry, the first one with its preamble, too.
    #[must_use]
    pub(crate) fn max_record_len(&self) -> usize {
        self.max_data_len().saturating_sub(preamble_room(self.lengths.max_message))
    }

    /// The beginning of a message, with capacity for `len` bytes of data: whatever is appended to it is the data.
    #[must_use]
    pub fn buffer(&self, len: usize) -> BytesMut {
        let kind_at = self.kind_at();
        let mut buffer = BytesMut::with_capacity(self.cipher().sealed_len(len + 1) + kind_at);
        // Seq and kind are known when it is sealed.
        buffer.put_bytes(0, kind_at + 1);
        buffer
    }

    /// How many bytes of data were appended to such a beginning.
    #[must_use]
    pub(crate) fn data_len(&self, message: &[u8]) -> usize {
        message.len().saturating_sub(self.kind_at() + 1)
    }

    fn cipher(&self) -> &Cipher {
        &self.keys.cipher
    }

    /// Where the plaintext begins, with its kind.
    fn kind_at(&self) -> usize {
        HEADER_LEN + self.cipher().head_room()
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

    /// Seals the next message of the stream, of any kind that has a place in it. `buffer` is one of [`Sender::buffer`],
    /// and after it the data if the kind carries any, which was `sent` at that time; what else it carries is appended
    /// here.
    ///
    /// # Errors
    /// [`Exit::DataLost`] if the kind may not be the next one, as the stream is closed or full, or if the message is
    /// too long.
    pub(crate) fn seal(
        &mut self,
        content: &Content,
        sent: Option<SentTime>,
        mut buffer: BytesMut,
        rng: &mut impl CryptoRng,
    ) -> Result<Bytes> {
        let Some(kind) = content.kind() else { return Err(self.refuse("the kind of the message is not known")) };
        content.put(&mut buffer);
        let preamble = self.preamble.before(self.id(), self.seq, sent);
        self.check(kind, self.carried_len(&buffer)? + preamble.len())?;
        let (kind_at, mut flags) = (self.kind_at(), self.flags);
        if !preamble.is_empty() {
            flags |= PREAMBLE;
            buffer = self.with_preamble(&preamble, &buffer);
        }
        flags |= self.pad(&mut buffer, kind_at);
        self.keys.advance_to(self.seq);
        buffer[..HEADER_LEN].copy_from_slice(&self.header(kind.frame_type(), self.seq).to_bytes());
        buffer[kind_at] = kind.code() | flags;
        self.keys.cipher.seal(&mut buffer, rng);
        self.seq += 1;
        self.closed |= kind.closes_stream();
        Ok(buffer.freeze())
    }

    /// Seals data.
    ///
    /// # Errors
    /// As [`Sender::seal`].
    pub fn data(&mut self, buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        self.seal(&Content::Data, None, buffer, rng)
    }

    /// As [`Sender::data`], the last data, or none; closes the stream.
    ///
    /// # Errors
    /// As [`Sender::data`].
    pub fn end(&mut self, buffer: BytesMut, rng: &mut impl CryptoRng) -> Result<Bytes> {
        self.seal(&Content::End, None, buffer, rng)
    }

    /// Most streams that one confirm can name.
    #[must_use]
    pub(crate) fn max_confirmed_streams(&self) -> usize {
        self.max_data_len() / Confirmed::LEN
    }

    /// Most ranges of messages that one message can name.
    #[must_use]
    pub(crate) fn max_sack_ranges(&self) -> usize {
        self.max_data_len().saturating_sub(SACK_LEN) / SACK_RANGE_LEN
    }

    /// Says, after the message that closed the stream, that its confirm has come: the receiver need not repeat it any
    /// more.
    ///
    /// # Errors
    /// [`Exit::DataLost`] if the stream is not closed.
    pub(crate) fn settled(mut self, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let buffer = self.buffer(0);
        self.seal(&Content::Settled, None, buffer, rng)
    }

    /// A will of the stream, for the broker to publish; `number` is that of the connection that it is given with.
    ///
    /// # Errors
    /// [`Exit::DataLost`] if it is longer than a message can carry.
    pub(crate) fn will(&self, number: u32, data: &[u8], rng: &mut impl CryptoRng) -> Result<Bytes> {
        if data.len() > self.max_data_len() {
            return Err(self.refuse("the will is longer than a message can carry"));
        }
        let mut buffer = self.buffer(data.len());
        buffer.put_slice(data);
        buffer[..HEADER_LEN].copy_from_slice(&self.header(FrameType::Will, number).to_bytes());
        let kind_at = self.kind_at();
        buffer[kind_at] = Kind::Will.code() | self.pad(&mut buffer, kind_at);
        let key = self.keys.will.as_ref().ok_or_else(|| self.refuse("a side stream has no wills"))?;
        will_cipher(key, self.salt(), self.keys.suite).seal(&mut buffer, rng);
        Ok(buffer.freeze())
    }

    /// Ends this session and every older one with the peer, once the receiver has every stream below this one. It is
    /// the only message of its stream.
    ///
    /// # Errors
    /// [`Exit::DataLost`] if the stream is closed.
    pub(crate) fn kill(mut self, rng: &mut impl CryptoRng) -> Result<Bytes> {
        // Numbers are reserved in order: what is above ours was reserved after the session had ended.
        let next_stream = self.id().number + 1;
        let buffer = self.buffer(0);
        self.seal(&Content::Kill { next_stream }, None, buffer, rng)
    }

    /// What a message of this stream says, when its data was read, and the data.
    ///
    /// # Errors
    /// [`Exit::Failed`] if it is not one.
    pub(crate) fn read_back(&self, sealed: &[u8]) -> Result<(Content, Option<SentTime>, BytesMut)> {
        let mut plaintext = BytesMut::new();
        let header = SealedHeader::parse(sealed).ok().filter(|header| header.stream == self.id().number);
        let opened = header.filter(|header| {
            self.keys.of(header.seq).is_some_and(|cipher| cipher.open(sealed, &mut plaintext).is_ok())
        });
        let header = opened.ok_or_else(|| Error::new(Exit::Failed, "a message that was sealed here does not open"))?;
        let PlaintextHead { content, sent, .. } = content::read(self.id().session, &header, &mut plaintext);
        Ok((content, sent, plaintext))
    }

    /// The seq of the first of these messages, if they are all of this stream from it on.
    ///
    /// One that is missing was acknowledged before an earlier one. Sealed again without it, what follows would come in its
    /// place: the receiver would miss nothing, or drop it as what it has.
    pub(crate) fn tail_from(&self, sealed: &[Bytes]) -> Option<u32> {
        let is_own = sealed.iter().all(|sealed| self.read_back(sealed).is_ok());
        let headers = sealed.iter().filter(|_| is_own).map(|sealed| SealedHeader::parse(sealed));
        let seqs: Vec<u32> = headers.map(|header| header.ok().map(|header| header.seq)).collect::<Option<_>>()?;
        let first = *seqs.first()?;
        seqs.into_iter().eq(first..self.next_seq()).then_some(first)
    }

    /// The header of a message of the stream.
    fn header(&self, frame_type: FrameType, seq: u32) -> SealedHeader {
        let Origin { stream, salt } = self.origin;
        SealedHeader { frame_type, tag: self.tag, stream: stream.number, salt, seq }
    }

    /// How many bytes were appended to a [`Sender::buffer`].
    fn carried_len(&self, buffer: &BytesMut) -> Result<usize> {
        let head_len = self.kind_at() + 1;
        buffer.len().checked_sub(head_len).ok_or_else(|| self.refuse("the message was not begun by this sender"))
    }

    /// Pads the plaintext that begins at `kind_at`, if that is wanted; returns the flag for that.
    fn pad(&self, buffer: &mut BytesMut, kind_at: usize) -> u8 {
        let Some(pad) = self.lengths.pad else { return 0 };
        let len = buffer.len() + 1 - kind_at;
        buffer.put_u8(PADDING);
        buffer.put_bytes(0, len.next_multiple_of(pad) - len);
        PADDED
    }

    /// The same message, with the preamble before what it carries.
    fn with_preamble(&self, preamble: &[u8], buffer: &[u8]) -> BytesMut {
        let carried = &buffer[self.kind_at() + 1..];
        let mut message = self.buffer(preamble.len() + carried.len());
        message.put_slice(preamble);
        message.put_slice(carried);
        message
    }

    /// Whether the next message of the stream may be of this kind, and carry `len` bytes, with its preamble.
    fn check(&self, kind: Kind, len: usize) -> Result<()> {
        let refusal = if self.closed && kind.is_in_sequence() {
            "it is closed"
        } else if !self.closed && !kind.is_in_sequence() {
            "it is not closed"
        } else if self.is_full() && kind.is_in_sequence() && !kind.closes_stream() {
            "all its message numbers are used"
        } else if kind.is_of_side_stream() != self.id().is_side_stream() {
            "confirms have streams of their own"
        } else if len > self.max_data_len() {
            "the payload is longer than a message can carry"
        } else {
            return Ok(());
        };
        Err(self.refuse(refusal))
    }

    fn refuse(&self, why: &str) -> Error {
        Error::new(Exit::DataLost, format!("cannot seal more in stream {}", self.id().number))
            .because(why)
            .hint("agree on a new session: run sts-pair")
    }
}

#[cfg(test)]
impl Sender {
    /// As after that many messages, which no test can wait for.
    pub(crate) fn jump(&mut self, seq: u32) {
        self.seq = seq;
    }

    /// What a copy of the memory of this process has.
    pub(super) fn snapshot(&self) -> Self {
        let PartKeys { suite, key, will, .. } = &self.keys;
        let keys = PartKeys {
            suite: *suite,
            key: key.clone(),
            cipher: key.cipher(*suite),
            previous: None,
            will: will.clone(),
        };
        let Self { tag, origin, lengths, flags, seq, closed, .. } = *self;
        Self { keys, tag, origin, lengths, flags, preamble: self.preamble.clone(), seq, closed }
    }
}
