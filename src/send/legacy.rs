//! Messages for the old program (`sts_version = 1`): each line is a text, and a long one several.
//!
//! A line, which was checked as a whole ([`record_check`](super::record_check)), is encrypted message by message, at the pace
//! that the gate of the run has. What the other device sends is followed here, too: the next message continues from it, and a
//! KILL ends this run. From a spool, a line can go when the socket has taken the last of its messages.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::SendOptions;
use super::outgoing::{
    ConfirmedStream, Cut, OutgoingMessage, OutgoingStream, Reply, SpoolStream, WillMessage, WillOf, WillStream,
};
use super::record_check::max_line_record_len;
use crate::config::Legacy;
use crate::files::Lock;
use crate::legacy::{
    Decrypted, OTHER_AES, PAIR_AGAIN, Store, is_foreign, max_payload_len, max_text_len, pieces, refused,
};
use crate::link::Link;
use crate::mqtt::Message;
use crate::sessions::SessionChanges;
use crate::space_wait::SpaceWait;
use crate::spool::{Pending, Spool};
use crate::stdio::Split;
use crate::stream::{Content, SentTime};
use crate::{Error, Exit, Result};

/// Lines as messages of a session with the old program.
pub(super) struct LegacyStream {
    store: Store,
    /// No other sts-send runs on the link. A run with a spool takes this lock after the spool: runs that took the two
    /// in different orders would wait for each other.
    lock: Option<Lock>,
    topic: String,
    listen: String,
    /// The longest line, in bytes.
    max_line: usize,
    /// The longest text of a message, in bytes.
    max_text: usize,
    rest: LineRest,
    unfollowed: UnfollowedMessages,
}

/// What is not sent of a line.
#[derive(Default)]
struct LineRest {
    /// The texts of its messages.
    texts: VecDeque<Bytes>,
    /// The bytes of the line that are in none of them, its newline, while none was sent: they are counted with the first one.
    newline_len: usize,
}

/// What came from the other device while the session could not be written down: our next message continues from it.
#[derive(Default)]
struct UnfollowedMessages {
    /// Oldest first; at most [`MAX_UNFOLLOWED`].
    payloads: VecDeque<Bytes>,
    space: SpaceWait,
}

/// Most messages of the other device that wait for space on the disk: more than can be on their way at a time. It is
/// limited because anybody may send any number.
const MAX_UNFOLLOWED: usize = 1024;

/// Why there is no will.
const LATE_WILL: &str = "a message that is sent later would be out of step";

impl LegacyStream {
    /// The stream of a link.
    ///
    /// # Errors
    /// [`Exit::Usage`] for an option that the old program has nothing for; [`Exit::TryAgain`] without a session, or where
    /// another sts-send runs on the link.
    pub(super) fn open(link: &Link, legacy: Legacy, options: &SendOptions) -> Result<Self> {
        // The run acts on the others as on any link. A new option has to be looked at here: used, refused, or of no meaning for
        // what is sent.
        let SendOptions { split, confirm, spool, stamp, will, to, timeout: _, progress: _ } = options;
        if *confirm {
            return Err(refused("--confirm", "it confirms nothing"));
        }
        if to.is_some() {
            return Err(refused("--to", "the device at its other end has no name"));
        }
        if *stamp {
            return Err(refused("--stamp", "its messages are texts and nothing else"));
        }
        if will.is_some() {
            return Err(refused("--will", LATE_WILL));
        }
        match split {
            // Each line is a message in any case.
            Split::Lines | Split::Each => {}
            Split::Binary => return Err(refused("-b", "it takes texts, one per line")),
        }
        let store = Store::new(link.cache()?, legacy);
        let lock = if spool.is_none() { Some(store.lock_sending()?) } else { None };
        store.check_current()?;
        let (topic, max_message) = (link.config.publish.as_str().to_owned(), link.config.mqtt.max_message);
        let listen = link.config.subscribe.plain().to_owned();
        let max_text = max_text_len(topic.len(), max_message);
        let (rest, unfollowed) = (LineRest::default(), UnfollowedMessages::default());
        Ok(Self { store, lock, topic, listen, max_line: max_message, max_text, rest, unfollowed })
    }

    /// The next message of the line, with how many bytes of the input are counted with it; `None` if there is none, or
    /// while the disk is full.
    fn next_of_line(&mut self, now: Instant) -> Result<Option<(Bytes, usize)>> {
        if !self.follow(now)? {
            return Ok(None);
        }
        let Some(text) = self.rest.texts.front() else { return Ok(None) };
        let sealed = self.store.seal(text);
        let Some(payload) = self.unfollowed.space.unless_full(sealed, now)? else { return Ok(None) };
        let data_len = text.len() + std::mem::take(&mut self.rest.newline_len);
        self.rest.texts.pop_front();
        Ok(Some((payload.into(), data_len)))
    }

    /// Follows what came from the other device; false while the disk is full.
    fn follow(&mut self, now: Instant) -> Result<bool> {
        let UnfollowedMessages { payloads, space } = &mut self.unfollowed;
        if !space.may_write(now) {
            return Ok(false);
        }
        while let Some(payload) = payloads.front() {
            let Some(opened) = space.unless_full(self.store.follow(payload), now)? else { return Ok(false) };
            payloads.pop_front();
            self.store.check_followed(opened.as_ref())?;
        }
        Ok(true)
    }
}

impl Store {
    /// Checks that the session continues after this message.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where it is over; [`Exit::Config`] where the other device cannot read what is sent.
    fn check_followed(&self, opened: Option<&Decrypted>) -> Result<()> {
        let what = match opened {
            Some(Decrypted::Text(_) | Decrypted::Damaged(_) | Decrypted::Repeated | Decrypted::NotWhole) => {
                return Ok(());
            }
            // It displays as noise what is sent.
            Some(Decrypted::OtherMode) => {
                return Err(Error::new(Exit::Config, format!("cannot send to {}", self.cache().link()))
                    .because("the other device encrypts with another `aes`")
                    .hint(OTHER_AES));
            }
            Some(Decrypted::Kill) => "the other device ended the session",
            // sts-recv has taken a KILL before, or sts-pair --end ran here.
            None => "the session has ended",
        };
        Err(Error::new(Exit::TryAgain, what).hint(PAIR_AGAIN))
    }
}

impl SessionChanges for LegacyStream {}

impl OutgoingStream for LegacyStream {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn refresh(&mut self, _now: Instant) -> Result<()> {
        if self.lock.is_none() {
            self.lock = Some(self.store.lock_sending()?);
        }
        self.store.check_current()
    }

    fn begin(&mut self, _now: Instant) -> Result<Option<usize>> {
        Ok(Some(max_line_record_len(self.max_line)))
    }

    fn space(&self) -> Option<&SpaceWait> {
        Some(&self.unfollowed.space)
    }

    fn is_ordered(&self) -> bool {
        // The other device decrypts each message with what it has of the one before.
        true
    }

    fn limit_messages(&mut self, max_message: usize) -> usize {
        self.max_text = self.max_text.min(max_text_len(self.topic.len(), max_message));
        // A line may be several messages.
        max_line_record_len(self.max_line)
    }

    fn max_message(&self) -> usize {
        max_payload_len(self.max_text)
    }

    fn cut_again(&mut self, _waiting: Vec<Bytes>, _now: Instant, _rng: &mut ThreadRng) -> Result<Cut> {
        // What follows them continues from them: they cannot be made again.
        Ok(Cut::NotWhole)
    }

    fn buffer(&self) -> BytesMut {
        BytesMut::new()
    }

    fn has_room(&self, _size: usize) -> bool {
        self.rest.texts.is_empty()
    }

    fn seal(
        &mut self,
        _content: &Content,
        _sent: Option<SentTime>,
        line: BytesMut,
        now: Instant,
        _rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>> {
        if line.is_empty() {
            return Ok(None);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let texts = pieces(text, self.max_text).into_iter().map(Bytes::copy_from_slice).collect();
        self.rest = LineRest { texts, newline_len: line.len() - text.len() };
        Ok(self.next_of_line(now)?.map(|(payload, _)| payload))
    }

    fn next_due(&mut self, now: Instant, _rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        let message = self.next_of_line(now)?;
        let is_last = self.rest.texts.is_empty();
        Ok(message.map(|(payload, len)| OutgoingMessage::new(payload, len, is_last)))
    }

    fn unpublished(&self) -> Pending {
        let bytes = self.rest.texts.iter().map(Bytes::len).sum::<usize>() + self.rest.newline_len;
        Pending { messages: self.rest.texts.len() as u64, bytes: bytes as u64 }
    }
}

impl ConfirmedStream for LegacyStream {
    fn confirm_topic(&self) -> Option<&str> {
        Some(&self.listen)
    }

    fn receive(&mut self, message: &Message, now: Instant) -> Result<Reply> {
        if is_foreign(message) {
            return Ok(Reply::Nothing);
        }
        let payloads = &mut self.unfollowed.payloads;
        if payloads.len() == MAX_UNFOLLOWED {
            payloads.pop_front();
        }
        payloads.push_back(Bytes::copy_from_slice(&message.payload));
        self.follow(now).map(|_| Reply::Nothing)
    }
}

impl SpoolStream for LegacyStream {
    fn is_record_whole(&self) -> bool {
        self.rest.texts.is_empty()
    }

    fn reseal_records(&mut self, spool: &mut Spool, _now: Instant) -> Result<u64> {
        // The line to which they belong is read again.
        self.rest = LineRest::default();
        spool.rewind()?;
        Ok(spool.sealed_before())
    }
}

impl WillStream for LegacyStream {
    fn will_of(&mut self, _now: Instant) -> Result<Option<WillOf>> {
        Ok(None)
    }

    fn will(&mut self, _text: &str, _number: u32, _rng: &mut ThreadRng) -> Result<WillMessage> {
        Err(refused("--will", LATE_WILL))
    }
}
