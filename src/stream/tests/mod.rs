//! Claim: what is written of a stream is what was sent, in order and once, and what is missing is reported exactly.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::content::{PADDED, PADDING, PlaintextHead};
use super::*;
use crate::Rejected;
use crate::crypto::cipher::Cipher;
use crate::crypto::key_tree::{Salt, StreamKey, will_cipher};
use crate::message::{FrameType, SealedHeader};
use crate::session::{Session, SessionId, Standing, pair};
use crate::suite::Suite;

mod confirmed;
mod congestion;
mod copies;
mod first_lost;
mod keys;
mod kinds;
mod limits;
mod look;
mod lost_ends;
mod order;
mod path;
mod refused;
mod retransmit;
mod scoreboard;
mod sent;
mod sessions;
mod streams;
mod vectors;

const LIMIT: usize = 256;

fn rng() -> StdRng {
    StdRng::seed_from_u64(3)
}

fn reserved(session: &Session, number: u32) -> ReservedStream {
    if number >= FIRST_SIDE_STREAM {
        return ReservedStream::of_side(session.id, number, session.send.side.clone());
    }
    ReservedStream::of_data(session.id, number, session.send.tree.leaf(number).unwrap())
}

fn sender(session: &Session, stream: u32) -> Sender {
    Sender::new(session, reserved(session, stream), salt(stream), LIMIT).unwrap()
}

/// Seals any plaintext as the next message of a stream.
fn raw(session: &Session, frame_type: FrameType, seq: u32, plaintext: &[u8]) -> BytesMut {
    raw_in(0, session, frame_type, seq, plaintext)
}

fn raw_in(stream: u32, session: &Session, frame_type: FrameType, seq: u32, plaintext: &[u8]) -> BytesMut {
    let header = SealedHeader { frame_type, tag: session.tag(), stream, salt: [1; 8], seq };
    seal(session, &header, plaintext)
}

/// The salt that [`sender`] gives a stream.
fn salt(stream: u32) -> Salt {
    let [a, b, c, d] = stream.to_be_bytes();
    [d, c, b, a ^ 0x77, 1, 2, 3, 4]
}

/// The stream of [`sender`], as the origin of a sequence.
fn origin(stream: StreamId) -> Origin {
    Origin { stream, salt: salt(stream.number) }
}

fn data(sender: &mut Sender, bytes: &[u8]) -> Bytes {
    let mut buffer = sender.buffer(bytes.len());
    buffer.put_slice(bytes);
    sender.data(buffer, &mut rng()).unwrap()
}

fn end(sender: &mut Sender, bytes: &[u8]) -> Bytes {
    let mut buffer = sender.buffer(bytes.len());
    buffer.put_slice(bytes);
    sender.end(buffer, &mut rng()).unwrap()
}

/// Seals what carries no data.
fn seal_control(sender: &mut Sender, content: &Content) -> crate::Result<Bytes> {
    let buffer = sender.buffer(0);
    sender.seal(content, None, buffer, &mut rng())
}

/// Has a stream say that it continues another one from a position on.
fn go_on(sender: &mut Sender, stream: StreamId, position: u64) {
    let continues = Some(Continues { origin: origin(stream), position });
    sender.begin_with(Preamble { continues, ..Preamble::default() });
}

/// How a stream ended, with as many positions, as its sender tells.
fn ended_stream(of: &Sender, count: Option<u32>) -> EndedStream {
    let continues = count.and(of.continues());
    EndedStream { stream: of.id(), salt: of.salt(), count, continues }
}

/// Has a stream say how others ended.
fn tell(sender: &mut Sender, ended: &[(&Sender, Option<u32>)]) {
    let ended = ended.iter().map(|&(of, count)| ended_stream(of, count)).collect();
    sender.begin_with(Preamble { ended, ..Preamble::default() });
}

/// The next run, with what this one wrote down.
fn restarted(before: &Receiver, sessions: &[&Session]) -> Receiver {
    let mut next = receiver(sessions);
    for session in sessions {
        next.restore(session.id, before.streams(session.id).unwrap().clone());
    }
    next
}

fn receiver(sessions: &[&Session]) -> Receiver {
    let mut receiver = Receiver::new();
    receiver.update(sessions.iter().map(|&session| (session.clone(), Standing::Current)));
    receiver
}

fn receive(receiver: &mut Receiver, message: &[u8]) -> (Opened, Result<Accepted, AcceptError>, BytesMut) {
    let mut plaintext = BytesMut::new();
    let opened = receiver.open(message, &mut plaintext).unwrap();
    let accepted = receiver.accept(&opened);
    (opened, accepted, plaintext)
}

/// What a message says it is that does not open.
fn claim(receiver: &Receiver, message: &[u8]) -> Option<HeaderClaim> {
    assert_eq!(receiver.open(message, &mut BytesMut::new()), Err(Rejected::NotAuthentic));
    receiver.claim(message).map(|(.., claim)| claim)
}

/// A message as a sender seals it that pads plaintexts to a multiple of `len` bytes, as no version does yet; 1 pads
/// nothing.
fn padded(session: &Session, message: &[u8], len: usize) -> Bytes {
    let mut plaintext = BytesMut::new();
    let header = SealedHeader::parse(message).unwrap();
    cipher(session, &header).open(message, &mut plaintext).unwrap();
    if len > 1 {
        plaintext[0] |= PADDED;
        plaintext.put_u8(PADDING);
        plaintext.resize(plaintext.len().next_multiple_of(len), 0);
    }
    seal(session, &header, &plaintext).freeze()
}

/// The cipher of a message that a session sends.
fn cipher(session: &Session, header: &SealedHeader) -> Cipher {
    let SealedHeader { stream, salt, seq, .. } = *header;
    if header.frame_type == FrameType::Will {
        return will_cipher(&session.send.tree.leaf(stream).unwrap().will_key(), salt, session.suite);
    }
    let mut key = if stream >= FIRST_SIDE_STREAM {
        StreamKey::of_side_stream(&session.send.side, stream, salt)
    } else {
        session.send.tree.leaf(stream).unwrap().first_key(salt)
    };
    key.advance_to(StreamKey::part_of(seq));
    key.cipher(session.suite)
}

/// Seals any plaintext.
fn seal(session: &Session, header: &SealedHeader, plaintext: &[u8]) -> BytesMut {
    let cipher = cipher(session, header);
    let mut message = BytesMut::from(&header.to_bytes()[..]);
    message.put_bytes(0, cipher.head_room());
    message.put_slice(plaintext);
    cipher.seal(&mut message, &mut rng());
    message
}

/// One stream as it was sent: messages in order, the last one its end.
fn stream(session: &Session, number: u32, wants_confirms: bool, padding: usize, parts: &[Vec<u8>]) -> Vec<Bytes> {
    let mut sender = sender(session, number);
    if wants_confirms {
        sender = sender.ask_for_confirms();
    }
    let (last, parts) = parts.split_last().unwrap();
    let mut messages: Vec<_> = parts.iter().map(|part| data(&mut sender, part)).collect();
    messages.push(end(&mut sender, last));
    messages.iter().map(|message| padded(session, message, padding)).collect()
}

type Parts = Vec<Vec<u8>>;

fn parts() -> impl Strategy<Value = Parts> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)
}

/// Three sessions with two peers, two streams each.
fn streams() -> impl Strategy<Value = (Vec<Parts>, usize, Vec<prop::sample::Index>)> {
    (prop::collection::vec(parts(), 6), 1usize..40, prop::collection::vec(any::<prop::sample::Index>(), 0..80))
}

proptest! {
    #[test]
    fn whatever_arrives_is_written_in_order_with_exact_gaps((all, padding, arrivals) in streams()) {
        let ends = Suite::ALL.map(|suite| pair(suite.code(), suite));
        let mut receiver = receiver(&ends.each_ref().map(|(_, slave)| slave));
        let mut sent = Vec::new();
        for (i, parts) in all.iter().enumerate() {
            let (master, _) = &ends[i / 2];
            let number = u32::try_from(i).unwrap();
            for (part, message) in parts.iter().zip(stream(master, number, false, padding, parts)) {
                sent.push((part, message));
            }
        }
        // What was written or reported lost, a stream: from which seq to which, and the bytes.
        let mut seen = BTreeMap::<StreamId, Vec<(u32, u32, Option<Vec<u8>>)>>::new();
        let mut marked = BTreeMap::<SessionId, Streams>::new();
        for arrival in arrivals {
            let (part, message) = arrival.get(&sent);
            let (opened, accepted, plaintext) = receive(&mut receiver, message);
            prop_assert_eq!(&plaintext[..], &part[..]);
            let Ok(accepted) = accepted else {
                let duplicate = matches!(accepted, Err(AcceptError::Duplicate { .. }));
                prop_assert!(duplicate, "refused as {:?}", accepted);
                continue;
            };
            let seen = seen.entry(opened.stream).or_default();
            if let Some(gap) = accepted.gap {
                prop_assert_eq!(gap.stream, opened.stream);
                seen.push((gap.first, gap.last, None));
            }
            seen.push((opened.seq, opened.seq, Some(plaintext.to_vec())));
            marked.entry(opened.stream.session).or_default().apply(&accepted.progress);
        }
        for (StreamId { session, number }, seen) in seen {
            let mut next = 0;
            for (first, last, bytes) in seen {
                prop_assert_eq!(first, next, "no seq twice, none out of order, none unaccounted for");
                next = last + 1;
                if let Some(bytes) = bytes {
                    prop_assert_eq!(&bytes, &all[number as usize][first as usize]);
                }
            }
            // What was marked is what is known: a run that begins with it goes on where this one stopped.
            prop_assert_eq!(receiver.streams(session), marked.get(&session));
        }
    }

    #[test]
    fn a_stream_that_asks_for_confirms_has_no_gaps(parts in parts(), arrivals: Vec<prop::sample::Index>) {
        let (master, slave) = pair(1, Suite::Gcm);
        let mut receiver = receiver(&[&slave]);
        let sent = stream(&master, 0, true, 1, &parts);
        let mut written = Vec::new();
        let mut confirmed = 0;
        let late: Vec<_> = arrivals.iter().map(|at| at.get(&sent)).chain(&sent).collect();
        for message in late {
            let (opened, accepted, plaintext) = receive(&mut receiver, message);
            prop_assert!(opened.head.wants_confirms);
            let next = match accepted {
                Ok(accepted) => {
                    prop_assert_eq!(accepted.gap, None);
                    written.push(plaintext.to_vec());
                    accepted.progress.next
                }
                Err(refused) => refused.confirm().unwrap(),
            };
            prop_assert!(next >= confirmed, "confirms never go back");
            prop_assert_eq!(next as usize, written.len(), "a confirm covers what was written, no more and no less");
            confirmed = next;
        }
        prop_assert_eq!(written, parts);
    }

    #[test]
    fn a_forgery_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index, cut: prop::sample::Index) {
        for suite in Suite::ALL {
            let (master, slave) = pair(9, suite);
            let mut receiver = receiver(&[&slave]);
            let mut sender = sender(&master, 4);
            let _ = receive(&mut receiver, &data(&mut sender, b"first"));
            let before = format!("{receiver:?}");
            let message = data(&mut sender, &bytes);
            let mut flipped = message.to_vec();
            let bit = at.index(flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let ours = data(&mut self::sender(&slave, 4), &bytes);
            for forged in [&flipped[..], &message[..cut.index(message.len())], &ours] {
                let mut plaintext = BytesMut::from(&b"old"[..]);
                prop_assert!(receiver.open(forged, &mut plaintext).is_err());
                prop_assert!(plaintext.is_empty());
            }
            prop_assert_eq!(&before, &format!("{receiver:?}"));
            prop_assert!(receive(&mut receiver, &message).1.is_ok());
            prop_assert_ne!(&before, &format!("{receiver:?}"), "else that shows nothing");
        }
    }

    #[test]
    fn ranges_are_sets(inserts in prop::collection::vec((0u32..60, 0u32..5), 0..40), end in 0u32..80) {
        let mut ranges = Ranges::default();
        let mut set = std::collections::BTreeSet::new();
        for (first, more) in inserts {
            ranges.insert(first, first + more);
            set.extend(first..=first + more);
            let removed = first + 3;
            ranges.remove(removed);
            set.remove(&removed);
        }
        let missing = ranges.missing_below(end);
        for number in 0..80 {
            prop_assert_eq!(ranges.contains(number), set.contains(&number));
            prop_assert_eq!(missing.contains(number), number < end && !set.contains(&number));
        }
        prop_assert_eq!(ranges.count(), set.len() as u64);
        prop_assert_eq!(ranges.last(), set.last().copied());
        let pairs: Vec<_> = ranges.iter().collect();
        prop_assert!(pairs.windows(2).all(|two| two[0].1 + 1 < two[1].0), "disjoint, in order, not adjacent");
    }

    #[test]
    fn a_message_is_as_long_as_it_may_be(limit in 128usize..600) {
        for suite in Suite::ALL {
            let (master, slave) = pair(2, suite);
            let mut sender = Sender::new(&master, reserved(&master, 0), [0; 8], limit).unwrap();
            let longest = sender.max_data_len();
            prop_assert!(longest >= limit - Suite::MAX_OVERHEAD_LEN);
            let message = data(&mut sender, &vec![7; longest]);
            prop_assert!(message.len() <= limit);
            prop_assert!(message.len() + 16 > limit - 16, "{} of {limit}", message.len());
            let (.., plaintext) = receive(&mut receiver(&[&slave]), &message);
            prop_assert_eq!(plaintext.len(), longest);
            let mut buffer = sender.buffer(longest + 1);
            buffer.put_bytes(0, longest + 1);
            prop_assert!(sender.data(buffer, &mut rng()).is_err());
        }
    }
}
