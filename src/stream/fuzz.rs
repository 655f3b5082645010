//! Whatever a peer seals and in whatever order it comes: nothing is accepted twice, and what is refused changes nothing.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::content;
use super::{Accepted, Continues, EndedStream, FIRST_SIDE_STREAM, Kind, Opened, Origin, Preamble, Receiver, StreamId};
use crate::Rejected;
use crate::crypto::key_tree::{MAX_NUMBER, StreamKey, will_cipher};
use crate::crypto::schedule::digest;
use crate::fuzz::input::{FuzzInput, forge};
use crate::message::{FrameType, SealedHeader};
use crate::session::{Session, Standing, pair, pair_with};
use crate::suite::Suite;

const SEALED_TYPES: [FrameType; 3] = [FrameType::Enc, FrameType::Kill, FrameType::Will];

/// The plaintext of an authentic message.
pub(crate) fn contents(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let header = header(&mut input, [0; 3]);
    let session = [0; 8];
    let mut plaintext = BytesMut::from(input.rest());
    let kind_byte = plaintext.first().copied().unwrap_or(0);
    let message = content::read(session, &header, &mut plaintext);
    assert!(message.content.carries_data() || plaintext.is_empty());
    let Some(kind) = message.content.kind() else { return };
    assert_eq!((kind.code(), kind.frame_type()), (kind_byte & content::KIND_MASK, header.frame_type));
    // Made again of what was read, it is read as the same.
    let mut again = BytesMut::from(&[kind_byte & !content::PADDED][..]);
    if kind_byte & content::PREAMBLE != 0 {
        let of = StreamId { session, number: header.stream };
        message.preamble.as_deref().unwrap_or(&Preamble::default()).put(of, message.sent, &mut again);
    }
    message.content.put(&mut again);
    again.put_slice(&plaintext);
    let expected = plaintext.clone();
    let second = content::read(session, &header, &mut again);
    assert_eq!((&second.content, &second.preamble, second.sent), (&message.content, &message.preamble, message.sent));
    assert_eq!((second.wants_confirms, second.continues), (message.wants_confirms, message.continues));
    assert_eq!(again, expected);
}

fn header(input: &mut FuzzInput<'_>, tag: [u8; 3]) -> SealedHeader {
    let frame_type = SEALED_TYPES[input.below(16).saturating_sub(13)];
    let stream = input.small_number();
    let stream = if input.flag() { stream.wrapping_add(FIRST_SIDE_STREAM) } else { stream };
    SealedHeader { frame_type, tag, stream, salt: [input.byte() & 1; 8], seq: input.small_number() }
}

/// What is sent under one session, and what came of it.
struct FuzzedSession {
    master: Session,
    receiver: Receiver,
    sent: Vec<Vec<u8>>,
    /// Stream, salt and seq of each message whose data was written as a whole.
    written: BTreeSet<(u32, [u8; 8], u32)>,
}

/// A receiver, and a peer that has the keys of the session; between them a network that forges.
pub(crate) fn receiver(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let suite = Suite::ALL[input.below(Suite::ALL.len())];
    // With the same keys for each input, the fuzzer would see one frame compared, and send it in another run.
    let (master, slave) = pair_with(1, &digest(&[data]), suite);
    let mut receiver = Receiver::new();
    let standing = [Standing::Current, Standing::Pending, Standing::Retired][input.below(3)];
    receiver.update([(slave.clone(), standing), (pair(2, suite).1, Standing::Retired)]);
    let mut link = FuzzedSession { master, receiver, sent: Vec::new(), written: BTreeSet::new() };
    while !input.is_empty() {
        match input.below(8) {
            0 => {
                let at = input.byte();
                link.genuine(usize::from(at));
            }
            1 => {
                let at = input.byte();
                link.forged(usize::from(at), &mut input);
            }
            2 => {
                let mut plaintext = BytesMut::new();
                let chunk = input.chunk();
                link.claim(chunk);
                assert!(link.receiver.open(chunk, &mut plaintext).is_err(), "nobody can guess a key");
            }
            3 => link.receiver.update([(slave.clone(), Standing::Current)]),
            7 => link.tell(&mut input),
            _ => {
                let header = header(&mut input, link.master.tag());
                if let Some(message) = seal(&link.master, &header, input.chunk()) {
                    link.sent.push(message);
                    link.genuine(link.sent.len() - 1);
                }
            }
        }
    }
}

impl FuzzedSession {
    /// A message that was sent comes, perhaps once more.
    fn genuine(&mut self, at: usize) {
        let Some(message) = self.sent.get(at % self.sent.len().max(1)).cloned() else { return };
        self.claim(&message);
        let mut plaintext = BytesMut::new();
        // The keys of a stream that is over may be erased.
        let Ok(opened) = self.receiver.open(&message, &mut plaintext) else { return };
        let before = format!("{:?}", self.receiver);
        let is_will = message[0] == FrameType::Will.byte();
        let accepted = if is_will {
            self.receiver.accept_will(&opened).map(|will| will.accepted)
        } else {
            self.receiver.accept(&opened)
        };
        let Ok(accepted) = accepted else {
            assert_eq!(before, format!("{:?}", self.receiver), "what is refused changes nothing");
            return;
        };
        if !is_will && opened.head.content.carries_data() {
            self.note(&opened, &accepted, plaintext.len());
        }
    }

    /// A message comes that tells of other streams. What it names is made of what there is: no input would guess it.
    fn tell(&mut self, input: &mut FuzzInput<'_>) {
        let header = SealedHeader {
            frame_type: FrameType::Enc,
            tag: self.master.tag(),
            stream: input.byte().into(),
            salt: [input.byte() & 1; 8],
            seq: 0,
        };
        let preamble = preamble(input);
        let flags = content::PREAMBLE | if preamble.continues.is_some() { content::CONTINUES } else { 0 };
        let asks = if input.flag() { content::WANTS_CONFIRMS } else { 0 };
        let mut plaintext = BytesMut::from(&[Kind::Data.code() | flags | asks][..]);
        preamble.put(StreamId { session: self.master.id, number: header.stream }, None, &mut plaintext);
        if let Some(message) = seal(&self.master, &header, &plaintext) {
            self.sent.push(message);
            self.genuine(self.sent.len() - 1);
        }
    }

    /// No data is written twice.
    fn note(&mut self, opened: &Opened, accepted: &Accepted, len: usize) {
        if accepted.skip < len {
            let id = (opened.stream.number, opened.salt(), opened.seq);
            assert!(self.written.insert(id), "{id:?} is written twice: {accepted:?}");
        }
    }

    fn forged(&mut self, at: usize, input: &mut FuzzInput<'_>) {
        let Some(genuine) = self.sent.get(at % self.sent.len().max(1)) else { return };
        let forged = forge(genuine, input);
        self.claim(&forged);
        let mut plaintext = BytesMut::new();
        if let Ok(opened) = self.receiver.open(&forged, &mut plaintext) {
            assert!(self.sent.contains(&forged), "a forged message opened: {opened:?}");
        } else {
            assert!(plaintext.is_empty());
        }
    }

    fn claim(&self, message: &[u8]) {
        let _ = self.receiver.claim(message);
        assert_ne!(self.receiver.open(message, &mut BytesMut::new()).err(), Some(Rejected::Duplicate));
    }
}

/// A preamble of streams of the two sessions.
fn preamble(input: &mut FuzzInput<'_>) -> Preamble {
    let stream = |input: &mut FuzzInput<'_>| {
        let (number, which) = (input.byte().into(), input.byte());
        let session = pair(1 + (which >> 1 & 1), Suite::Gcm).0.id;
        Origin { stream: StreamId { session, number }, salt: [which & 1; 8] }
    };
    let continues =
        |input: &mut FuzzInput<'_>| Continues { origin: stream(input), position: input.small_number().into() };
    let mut preamble = Preamble { continues: input.flag().then(|| continues(input)), ..Preamble::default() };
    for _ in 0..input.below(4) {
        let Origin { stream, salt } = stream(input);
        let count = input.flag().then(|| input.byte().into());
        let continues = (count.is_some() && input.flag()).then(|| continues(input));
        preamble.ended.push(EndedStream { stream, salt, count, continues });
    }
    preamble
}

/// Seals any plaintext as the session's peer can; `None` where there is no key of that number.
fn seal(session: &Session, header: &SealedHeader, plaintext: &[u8]) -> Option<Vec<u8>> {
    let SealedHeader { stream, salt, seq, .. } = *header;
    let cipher = if header.frame_type == FrameType::Will {
        will_cipher(&session.send.tree.leaf(stream)?.will_key(), salt, session.suite)
    } else {
        let mut key = if stream > MAX_NUMBER {
            StreamKey::of_side_stream(&session.send.side, stream, salt)
        } else {
            session.send.tree.leaf(stream)?.first_key(salt)
        };
        key.advance_to(StreamKey::part_of(seq));
        key.cipher(session.suite)
    };
    let mut message = BytesMut::from(&header.to_bytes()[..]);
    message.put_bytes(0, cipher.head_room());
    message.put_slice(plaintext);
    cipher.seal(&mut message, &mut StdRng::seed_from_u64(1));
    Some(message.to_vec())
}
