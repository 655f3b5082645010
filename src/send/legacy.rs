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
    ConfirmedStream, OutgoingMessage, OutgoingStream, Reply, SpoolStream, WillMessage, WillOf, WillStream,
};
use super::record_check::max_line_record_len;
use crate::config::Legacy;
use crate::files::Lock;
use crate::legacy::{Decrypted, OTHER_AES, PAIR_AGAIN, Store, max_payload_len, max_text_len, pieces, refused};
use crate::link::Link;
use crate::spool::{Pending, Spool};
use crate::stdio::Split;
use crate::stream::Content;
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
    /// The texts of a line that is more than one message, as far as they are not sent.
    rest: VecDeque<Bytes>,
}

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
        let SendOptions { split, confirm, spool, will, to, timeout: _, progress: _ } = options;
        if *confirm {
            return Err(refused("--confirm", "it confirms nothing"));
        }
        if to.is_some() {
            return Err(refused("--to", "the device at its other end has no name"));
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
        let rest = VecDeque::new();
        Ok(Self { store, lock, topic, listen, max_line: max_message, max_text, rest })
    }

    /// The next message of the line.
    fn next_of_line(&mut self) -> Result<Option<Bytes>> {
        let Some(text) = self.rest.pop_front() else { return Ok(None) };
        self.store.seal(&text).map(|payload| Some(Bytes::from(payload)))
    }
}

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

    fn begin(&mut self, _now: Instant) -> Result<usize> {
        Ok(max_line_record_len(self.max_line))
    }

    fn limit_messages(&mut self, max_message: usize) -> usize {
        self.max_text = self.max_text.min(max_text_len(self.topic.len(), max_message));
        // A line may be several messages.
        max_line_record_len(self.max_line)
    }

    fn max_message(&self) -> usize {
        max_payload_len(self.max_text)
    }

    fn cut_again(&mut self, _withdrawn: Vec<Bytes>, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<u64>> {
        // What follows them continues from them: they cannot be made again.
        Ok(None)
    }

    fn buffer(&self) -> BytesMut {
        BytesMut::new()
    }

    fn has_room(&self, _size: usize) -> bool {
        self.rest.is_empty()
    }

    fn seal(
        &mut self,
        _content: &Content,
        line: BytesMut,
        _now: Instant,
        _rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>> {
        if line.is_empty() {
            return Ok(None);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        self.rest.extend(pieces(text, self.max_text).into_iter().map(Bytes::copy_from_slice));
        self.next_of_line()
    }

    fn next_due(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        let payload = self.next_of_line()?;
        let is_last = self.rest.is_empty();
        // The bytes of the line were counted with its first message.
        Ok(payload.map(|payload| OutgoingMessage::new(payload, 0, is_last)))
    }

    fn unpublished(&self) -> Pending {
        let bytes = self.rest.iter().map(|text| text.len() as u64).sum();
        Pending { messages: self.rest.len() as u64, bytes }
    }
}

impl ConfirmedStream for LegacyStream {
    fn confirm_topic(&self) -> Option<&str> {
        Some(&self.listen)
    }

    fn receive(&mut self, payload: &[u8], _now: Instant) -> Result<Reply> {
        let what = match self.store.follow(payload)? {
            Some(Decrypted::Text(_) | Decrypted::Damaged(_) | Decrypted::Repeated | Decrypted::NotWhole) => {
                return Ok(Reply::Nothing);
            }
            // It displays as noise what is sent.
            Some(Decrypted::OtherMode) => {
                return Err(Error::new(Exit::Config, format!("cannot send to {}", self.store.cache().link()))
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

impl SpoolStream for LegacyStream {
    fn is_record_whole(&self) -> bool {
        self.rest.is_empty()
    }

    fn reseal_records(&mut self, spool: &mut Spool, _now: Instant) -> Result<u64> {
        // The line to which they belong is read again.
        self.rest.clear();
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
