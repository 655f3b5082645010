//! Messages for the old program (`sts_version = 1`): each line is a text, and a long one several.
//!
//! A line is checked as a whole before any of it is sent, then encrypted message by message, at the pace that the gate of
//! the run has. What the other device sends is followed here, too: the next message continues from it, and a KILL ends
//! this run.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::SendOptions;
use super::outgoing::{
    ConfirmedStream, OutgoingMessage, OutgoingStream, Reply, SpoolStream, WillMessage, WillOf, WillStream,
};
use crate::config::Legacy;
use crate::files::Lock;
use crate::legacy::{Decrypted, Store, Unsendable, check, max_payload_len, max_text_len, pieces};
use crate::link::Link;
use crate::spool::Pending;
use crate::stdio::Split;
use crate::{Error, Exit, Result};

/// Lines as messages of a session with the old program.
pub(super) struct LegacyStream {
    store: Store,
    /// No other sts-send runs on the link.
    _lock: Lock,
    topic: String,
    listen: String,
    /// The longest line, in bytes, with one more.
    max_line: usize,
    /// The longest text of a message, in bytes.
    max_text: usize,
    /// How many lines were read.
    lines: u64,
    /// The texts of a line that is more than one message, as far as they are not sent.
    rest: VecDeque<Bytes>,
}

/// Why a link to the old program has no spool.
///
/// # Errors
/// [`Exit::Usage`] on such a link.
pub(super) fn refuse_spool(link: &Link) -> Result<()> {
    match link.legacy() {
        Some(_) => refused("--spool", "it acknowledges nothing, so nothing says when a message can leave the spool"),
        None => Ok(()),
    }
}

fn refused<T>(option: &str, why: &str) -> Result<T> {
    Err(Error::new(Exit::Usage, option).because(format!("the link is to the old program (sts_version = 1): {why}")))
}

impl LegacyStream {
    /// The stream of a link.
    ///
    /// # Errors
    /// [`Exit::Usage`] for an option that the old program has nothing for; [`Exit::TryAgain`] without a session, or where
    /// another sts-send runs on the link.
    pub(super) fn open(link: &Link, legacy: Legacy, options: &SendOptions) -> Result<Self> {
        if options.confirm {
            return refused("--confirm", "it confirms nothing");
        }
        if options.to.is_some() {
            return refused("--to", "the device at its other end has no name");
        }
        if options.will.is_some() {
            return refused("--will", "a message that is sent later would be out of step");
        }
        if options.split == Split::Binary {
            return refused("-b", "it takes texts, one per line");
        }
        let store = Store::new(link.cache()?, legacy);
        let lock = store.lock_sending()?;
        store.check_current()?;
        let (topic, max_message) = (link.config.publish.as_str().to_owned(), link.config.mqtt.max_message);
        let listen = link.config.subscribe.plain().to_owned();
        let max_text = max_text_len(topic.len(), max_message);
        let (max_line, rest) = (max_message + 1, VecDeque::new());
        Ok(Self { store, _lock: lock, topic, listen, max_line, max_text, lines: 0, rest })
    }

    /// The next message of the line.
    fn next_of_line(&mut self) -> Result<Option<Bytes>> {
        let Some(text) = self.rest.pop_front() else { return Ok(None) };
        self.store.seal(&text).map(|payload| Some(Bytes::from(payload)))
    }

    fn unsendable(&self, why: &str) -> Error {
        Error::new(Exit::DataLost, format!("line {} cannot be sent", self.lines)).because(why)
    }
}

impl OutgoingStream for LegacyStream {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn begin(&mut self, _now: Instant) -> Result<usize> {
        // Split::Each cuts a line that is too long before the last byte that has room.
        Ok(self.max_line + 1)
    }

    fn limit_messages(&mut self, max_message: usize) -> usize {
        self.max_text = self.max_text.min(max_text_len(self.topic.len(), max_message));
        // A line may be several messages.
        self.max_line + 1
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

    fn seal(&mut self, line: BytesMut, ends: bool, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        if line.is_empty() {
            return Ok(None);
        }
        self.lines += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if text.len() >= self.max_line || (text.len() == line.len() && !ends) {
            let max = self.max_line - 1;
            return Err(self
                .unsendable(&format!("it is longer than {max} bytes"))
                .hint("split it, or set a larger max_message"));
        }
        if let Err(Unsendable::Zero(at)) = check(text) {
            let why = format!("byte {} of it is NUL, where the old program would cut it", at + 1);
            return Err(self.unsendable(&why));
        }
        self.rest.extend(pieces(text, self.max_text).into_iter().map(Bytes::copy_from_slice));
        self.next_of_line()
    }

    fn next_due(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        Ok(self.next_of_line()?.map(OutgoingMessage::Unretained))
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
            Some(Decrypted::Text(_) | Decrypted::Damaged(_) | Decrypted::NotWhole) => return Ok(Reply::Nothing),
            Some(Decrypted::Kill) => "the other device ended the session",
            // sts-recv has taken a KILL before, or sts-pair --end ran here.
            None => "the session has ended",
        };
        Err(Error::new(Exit::TryAgain, what).hint("pair both devices again"))
    }
}

impl SpoolStream for LegacyStream {}

impl WillStream for LegacyStream {
    fn will_of(&mut self, _now: Instant) -> Result<Option<WillOf>> {
        Ok(None)
    }

    fn will(&mut self, _text: &str, _number: u32, _rng: &mut ThreadRng) -> Result<WillMessage> {
        refused("--will", "a message that is sent later would be out of step")
    }
}
