//! The keys of the streams that a receiver has: found before a message is opened, and gone once a stream is over
//! (`sts-protocol(7)`, "Stream keys").

use std::collections::HashMap;
use std::ops::Deref;

use super::id::FIRST_SIDE_STREAM;
use super::streams::{KeptStream, Streams};
use crate::crypto::cipher::Cipher;
use crate::crypto::key_tree::{KeyTree, MAX_NUMBER, Salt, StreamKey, TreePath, will_cipher};
use crate::message::{FrameType, SealedHeader};
use crate::secret::{Key, Will};
use crate::session::{OpenStreamKeys, ReceiveKeys, Session};
use crate::suite::Suite;

/// Most nodes that are kept for a session; past that, those of the lowest numbers are given up.
pub(super) const MAX_NODES: usize = 1024;
/// For how many frames after the last one of a part its key is kept: as many as a sender may have unconfirmed, or a
/// broker unacknowledged.
const PART_OVERLAP: u32 = 1 << 16;
/// Most parts that a message may be ahead of the key that is kept, so that a forged one costs little.
const MAX_PARTS_AHEAD: u32 = 64;
/// Most steps to the key of the first message of a stream: bits of the path to its number plus parts, for the same
/// reason.
const MAX_STEPS: u32 = 80;

/// The earliest part of a stream that must still open, where `next` is the next seq that is wanted.
fn earliest_part(next: u32) -> u32 {
    StreamKey::part_of(next.saturating_sub(PART_OVERLAP))
}

/// How many steps lead from the root of a tree to the leaf of a stream.
fn steps_to(stream: u32) -> u32 {
    if stream >= FIRST_SIDE_STREAM { 0 } else { TreePath::len_to(stream) }
}

/// Whether the key that is kept of a stream changes when it was received up to `next`, after it had been up to
/// `before`.
#[must_use]
pub(crate) fn erases_part(before: u32, next: u32) -> bool {
    earliest_part(before) != earliest_part(next)
}

impl ReceiveKeys {
    /// Takes away the keys of all that `streams` says is over; returns whether there were any.
    pub(crate) fn reduce(&mut self, streams: &Streams) -> bool {
        let mut has_changed = false;
        for (number, salt, next) in streams.open_streams() {
            let made = || OpenStreamKeys::of_tree(&self.tree, number, salt);
            let known = self.open.remove(&number).filter(|known| known.salt == salt).or_else(made);
            if let Some(mut keys) = known {
                has_changed |= keys.key.part() < earliest_part(next);
                keys.key.advance_to(earliest_part(next));
                self.open.insert(number, keys);
            }
            has_changed |= self.tree.remove(number, number);
        }
        self.keep_retained(streams);
        for (first, last) in streams.ended().iter().chain(streams.closed().iter()) {
            has_changed |= self.tree.remove(first, last);
        }
        let before = self.open.len();
        self.open.retain(|&number, _| streams.is_open(number) || streams.is_kept(number));
        has_changed || self.open.len() < before
    }

    /// The newest stream of which the broker keeps messages may be over before its keys were written.
    fn keep_retained(&mut self, streams: &Streams) {
        if let Some(KeptStream { number, .. }) = streams.kept()
            && let Some((salt, _)) = streams.end_of(number)
            && !self.open.contains_key(&number)
            && let Some(keys) = OpenStreamKeys::of_tree(&self.tree, number, salt)
        {
            self.open.insert(number, keys);
        }
    }

    /// The first key of a stream of which nothing was received; `None` if nothing leads to it.
    fn first_key(&self, stream: u32, salt: Salt) -> Option<StreamKey> {
        if stream >= FIRST_SIDE_STREAM {
            return Some(StreamKey::of_side_stream(&self.side, stream, salt));
        }
        self.tree.leaf(stream).map(|leaf| leaf.first_key(salt))
    }

    /// The key of a stream's wills, as long as the stream is not over.
    fn will_key(&self, stream: u32, salt: Salt) -> Option<Key<Will>> {
        match self.open.get(&stream) {
            Some(open) => (open.salt == salt).then(|| open.will.clone()),
            None => Some(self.tree.leaf(stream)?.will_key()),
        }
    }

    /// Called for the first message of a stream: returns its first key, and keeps the key of a stream of data.
    fn begin(&mut self, stream: u32, salt: Salt) -> Option<StreamKey> {
        if stream >= FIRST_SIDE_STREAM {
            return self.first_key(stream, salt);
        }
        let keys = OpenStreamKeys::of_tree(&self.tree, stream, salt)?;
        let first = keys.key.clone();
        self.open.insert(stream, keys);
        Some(first)
    }

    /// Takes a number away. Returns the numbers that were given up for it.
    fn take(&mut self, number: u32) -> Vec<(u32, u32)> {
        self.tree.remove(number, number);
        let mut given_up = Vec::new();
        while self.tree.len() > MAX_NODES {
            given_up.extend(self.tree.give_up_lowest());
        }
        given_up
    }
}

impl OpenStreamKeys {
    /// The keys of a stream of which nothing was received; `None` if no node leads to its number.
    fn of_tree(tree: &KeyTree, number: u32, salt: Salt) -> Option<Self> {
        let leaf = tree.leaf(number)?;
        Some(Self { salt, key: leaf.first_key(salt), will: leaf.will_key() })
    }
}

/// A cipher, kept or made for one message.
pub(super) enum StreamCipher<'a> {
    Kept(&'a Cipher),
    Made(Box<Cipher>),
}

impl Deref for StreamCipher<'_> {
    type Target = Cipher;

    fn deref(&self) -> &Cipher {
        match self {
            Self::Kept(cipher) => cipher,
            Self::Made(cipher) => cipher,
        }
    }
}

/// How many of the latest messages of a stream are remembered by the end of their tags.
pub(super) const MAX_REMEMBERED: usize = 64;

/// The last bytes of a message: of its tag.
pub(super) type TagEnd = [u8; 4];

/// The last bytes of a message.
pub(super) fn tag_end(payload: &[u8]) -> TagEnd {
    payload.last_chunk().copied().unwrap_or_default()
}

/// A stream of which something was received, and its ciphers: one for each part that still opens.
struct KnownStream {
    salt: Salt,
    key: StreamKey,
    ciphers: Vec<(u32, Cipher)>,
    /// Of the latest messages, the seq and the end of the tag, each at its seq modulo the length.
    latest: Vec<(u32, TagEnd)>,
}

impl KnownStream {
    fn new(salt: Salt, key: StreamKey) -> Self {
        Self { salt, key, ciphers: Vec::new(), latest: Vec::new() }
    }

    fn cipher(&self, seq: u32, suite: Suite) -> Option<StreamCipher<'_>> {
        let part = StreamKey::part_of(seq);
        let kept = self.ciphers.iter().find(|(of, _)| *of == part);
        kept.map(|(_, cipher)| StreamCipher::Kept(cipher)).or_else(|| part_cipher(&self.key, part, suite))
    }

    /// A message was accepted: its part, and those that may come again, are kept. Returns the key that leads to them.
    fn advance(&mut self, seq: u32, suite: Suite) -> &StreamKey {
        let part = StreamKey::part_of(seq);
        if self.ciphers.iter().all(|(of, _)| *of != part)
            && let Some(StreamCipher::Made(cipher)) = part_cipher(&self.key, part, suite)
        {
            self.ciphers.push((part, *cipher));
        }
        let earliest = earliest_part(seq);
        self.key.advance_to(earliest);
        self.ciphers.retain(|(of, _)| *of >= earliest);
        &self.key
    }
}

/// The cipher of a part, from the key of an earlier one.
fn part_cipher(key: &StreamKey, part: u32, suite: Suite) -> Option<StreamCipher<'static>> {
    let ahead = part.checked_sub(key.part())?;
    if ahead > MAX_PARTS_AHEAD {
        return None;
    }
    let mut key = key.clone();
    key.advance_to(part);
    Some(StreamCipher::Made(Box::new(key.cipher(suite))))
}

/// The streams of which one session received something: they also open what comes again of those that ended last. All
/// other keys are where the session has them, and go from there, so that none is in memory twice, or longer than on disk.
pub(super) struct StreamKeys {
    known: HashMap<u32, KnownStream>,
}

impl StreamKeys {
    /// Removes the keys of streams that are over from the session. If nothing is known of its streams, none is removed.
    pub(super) fn new(session: &mut Session, streams: &Streams) -> Self {
        if !streams.is_empty() {
            session.receive.reduce(streams);
        }
        let open = session.receive.open.iter();
        let known = open.map(|(&number, open)| (number, KnownStream::new(open.salt, open.key.clone())));
        Self { known: known.collect() }
    }

    /// The cipher of a message, if a key leads to its number.
    pub(super) fn cipher(&self, session: &Session, header: &SealedHeader) -> Option<StreamCipher<'_>> {
        let SealedHeader { frame_type, stream, salt, seq, .. } = *header;
        if frame_type == FrameType::Will {
            let cipher = will_cipher(&session.receive.will_key(stream, salt)?, salt, session.suite);
            return Some(StreamCipher::Made(Box::new(cipher)));
        }
        match self.known.get(&stream) {
            Some(known) if known.salt == salt => known.cipher(seq, session.suite),
            // No node leads to a known stream of data. A side stream with another salt is to be noticed.
            _ => {
                let part = StreamKey::part_of(seq);
                let is_near = part <= MAX_PARTS_AHEAD && part + steps_to(stream) <= MAX_STEPS;
                part_cipher(&is_near.then(|| session.receive.first_key(stream, salt))??, part, session.suite)
            }
        }
    }

    /// A message of a stream was accepted: its number is taken, and its keys are kept. Returns the numbers that were
    /// given up for it.
    pub(super) fn accept(&mut self, session: &mut Session, stream: u32, salt: Salt, seq: u32) -> Vec<(u32, u32)> {
        let mut given_up = Vec::new();
        if self.known.get(&stream).is_none_or(|known| known.salt != salt) {
            let Some(key) = session.receive.begin(stream, salt) else { return given_up };
            self.known.insert(stream, KnownStream::new(salt, key));
            given_up = session.receive.take(stream);
        }
        if let Some(known) = self.known.get_mut(&stream) {
            let key = known.advance(seq, session.suite);
            if let Some(open) = session.receive.open.get_mut(&stream).filter(|open| open.key.part() < key.part()) {
                open.key = key.clone();
            }
        }
        given_up
    }

    /// A message was received: another one with its number is of a copy of its sender.
    pub(super) fn remember(&mut self, stream: u32, seq: u32, tag: TagEnd) {
        if let Some(known) = self.known.get_mut(&stream).filter(|_| stream < FIRST_SIDE_STREAM) {
            known.latest.resize(MAX_REMEMBERED, (u32::MAX, TagEnd::default()));
            known.latest[seq as usize % MAX_REMEMBERED] = (seq, tag);
        }
    }

    /// Whether another message with this number is remembered.
    pub(super) fn remembers_other(&self, stream: u32, seq: u32, tag: TagEnd) -> bool {
        let latest = self.known.get(&stream).and_then(|known| known.latest.get(seq as usize % MAX_REMEMBERED));
        latest.is_some_and(|&(of, other)| of == seq && other != tag)
    }

    /// A stream is over: no will of it is accepted any more, and the keys of those that ended before the `recent` ones
    /// go.
    pub(super) fn end(&mut self, session: &mut Session, stream: u32, is_recent: impl Fn(u32) -> bool) {
        if stream >= FIRST_SIDE_STREAM {
            self.known.remove(&stream);
            return;
        }
        let ReceiveKeys { tree, open, .. } = &mut session.receive;
        tree.remove(stream, stream);
        open.remove(&stream);
        let is_needed = |number| number >= FIRST_SIDE_STREAM || open.contains_key(&number) || is_recent(number);
        self.known.retain(|&number, _| is_needed(number));
    }

    /// The parts of a known stream whose ciphers are kept.
    #[cfg(test)]
    pub(super) fn kept_parts(&self, stream: u32) -> Vec<u32> {
        self.known[&stream].ciphers.iter().map(|(part, _)| *part).collect()
    }

    /// Nothing is opened any more of streams with these numbers.
    pub(super) fn refuse_from(&mut self, session: &mut Session, number: u32) {
        session.receive.tree.remove(number, MAX_NUMBER);
        session.receive.open.retain(|other, _| *other < number);
        self.known.retain(|other, _| *other < number || *other >= FIRST_SIDE_STREAM);
    }
}
