//! Texts of the old program (`sts_version = 1`): each is a line.
//!
//! The session is written down before a text is printed: what the old program sends is sent once, so a text that a crash keeps
//! from being printed is lost, and the chain must not be.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::delivery::{Completion, Delivery, Joint, Metadata};
use super::incoming::{Disposition, GivenUp, IncomingStreams, oversize};
use super::left_messages::LeftMessage;
use super::{RecvOptions, SESSION_ENDED, Scope};
use crate::config::Legacy;
use crate::crypto::legacy::BLOCK_LEN;
use crate::event_loop::next_deadline;
use crate::files::Lock;
use crate::legacy::{Decrypted, OTHER_AES, Store, is_foreign, is_text, refused};
use crate::link::Link;
use crate::mqtt::{Message, Qos, Receipt};
use crate::report::Reporter;
use crate::report_throttle::{KeyedReportThrottle, ReportThrottle};
use crate::session::SessionId;
use crate::sessions::SessionChanges;
use crate::space_wait::SpaceWait;
use crate::stream::StreamId;
use crate::suite::Suite;
use crate::text::{count, escape};
use crate::{Error, Exit, Result};

/// Each text ends the stream, so that no line waits for another message.
const STREAM: StreamId = StreamId { session: [0; 8], number: 0 };
/// Most damaged messages that are reported in [`REPORT_INTERVAL`]: a stranger can make any number. All of them are counted.
const MAX_REPORTS: usize = 20;
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether the session was ended on this device, of which no message tells.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The hint where all messages are damaged. Which `aes` a short one needs cannot be seen.
const NOTHING_READ: &str = "if no message can be read, `aes` may differ: set the same on both devices, and pair again";
/// Said as a run ends that found no space.
const NOT_RECORDED: &str =
    "the disk is full; what was received is written but not recorded: the next message may be damaged";
/// Most bytes that are shown of a damaged text.
const MAX_SHOWN: usize = 60;

/// The texts that come under the session of a link.
pub(super) struct LegacyTexts<'a> {
    session: WatchedSession,
    report: &'a Reporter,
    /// The first stream is the first text.
    scope: Scope,
    format: TextFormat,
    received: u64,
    dropped: DroppedMessages<'a>,
    unrecorded: UnrecordedMessages,
}

/// How a text is written.
struct TextFormat {
    with_metadata: bool,
    keeps_blank: bool,
}

/// What was not written, and how much of it is reported.
struct DroppedMessages<'a> {
    report: &'a Reporter,
    is_cbc: bool,
    damaged: u64,
    reported: KeyedReportThrottle<u64>,
    repeated: ReportThrottle,
}

/// The session on disk, as long as it is there.
struct WatchedSession {
    store: Store,
    /// No other sts-recv runs on the link.
    _lock: Lock,
    has_ended: bool,
    /// When to look whether it is still there.
    check_at: Instant,
}

/// Messages that wait for space on the disk, since the session that they change cannot be written down. There are several only
/// if they came before the run.
#[derive(Default)]
struct UnrecordedMessages {
    messages: VecDeque<Message>,
    /// What the run wrote without recording it, as it ends: the next message may continue from it.
    given_up: Vec<Bytes>,
    space: SpaceWait,
}

impl<'a> LegacyTexts<'a> {
    /// The texts of a link.
    ///
    /// # Errors
    /// [`Exit::Usage`] with `--last`; [`Exit::TryAgain`] without a session, or where another sts-recv runs on the link.
    pub(super) fn open(link: &Link, legacy: Legacy, options: &RecvOptions, report: &'a Reporter) -> Result<Self> {
        // The run and its printer act on the others as on any link. A new option has to be looked at here: used, refused, or of no
        // meaning for what is received.
        let RecvOptions { scope, binary, format, lines: _, timeout: _, wait: _, progress: _ } = *options;
        if scope == Scope::Retained {
            return Err(refused("--last", "it retains no messages"));
        }
        let store = Store::new(link.cache()?, legacy);
        let lock = store.cache().lock_receiving()?;
        store.check()?;
        let check_at = Instant::now() + CHECK_INTERVAL;
        Ok(Self {
            session: WatchedSession { store, _lock: lock, has_ended: false, check_at },
            report,
            scope,
            format: TextFormat { with_metadata: format.needs_metadata(), keeps_blank: binary },
            received: 0,
            dropped: DroppedMessages::new(report, legacy.aes == Suite::Cbc),
            unrecorded: UnrecordedMessages::default(),
        })
    }

    /// What becomes of a message; `None` where it waits for space on the disk, unless that `is_given_up`.
    fn take(&mut self, message: Message, is_given_up: bool, now: Instant) -> Result<Option<Disposition>> {
        let (store, UnrecordedMessages { messages, given_up, space }) = (&self.session.store, &mut self.unrecorded);
        if !given_up.is_empty() {
            return self.take_unrecorded(message, now).map(Some);
        }
        if !is_given_up && !space.may_write(now) {
            messages.push_front(message);
            return Ok(None);
        }
        let opened = space.unless_full(store.open(&message.payload), now)?;
        space.tell("what was received", self.report);
        match opened {
            Some(opened) => Ok(Some(self.act(opened, message, now))),
            None if is_given_up => {
                self.report.warning(NOT_RECORDED);
                self.take_unrecorded(message, now).map(Some)
            }
            None => {
                messages.push_front(message);
                Ok(None)
            }
        }
    }

    /// What becomes of a message that is not recorded, nor are those before it.
    fn take_unrecorded(&mut self, message: Message, now: Instant) -> Result<Disposition> {
        let given_up = &mut self.unrecorded.given_up;
        let opened = self.session.store.peek(given_up, &message.payload)?;
        given_up.push(message.payload.clone());
        Ok(self.act(opened, message, now))
    }

    /// What becomes of a message that decrypts to this.
    fn act(&mut self, opened: Option<Decrypted>, message: Message, now: Instant) -> Disposition {
        match opened {
            Some(Decrypted::Text(text)) => return self.deliver(text, message),
            Some(Decrypted::Kill) => self.end("the other device ended the session"),
            Some(Decrypted::Damaged(rest)) => self.dropped.damaged(message.payload.len(), &rest, now),
            Some(Decrypted::OtherMode) => self.dropped.other_mode(now),
            Some(Decrypted::Repeated) => self.dropped.repeated(now),
            Some(Decrypted::NotWhole) => self.report.verbose("dropped a message of a pairing, or from another sender"),
            None => {
                self.report.verbose("dropped a message: there is no session for it");
                // A pending one may still become current.
                self.session.check_at = now;
            }
        }
        Disposition::Drop(message.receipt)
    }

    fn deliver(&mut self, text: Vec<u8>, message: Message) -> Disposition {
        self.received += 1;
        Disposition::Deliver(self.format.delivery(text, message))
    }

    fn end(&mut self, why: &str) {
        self.session.has_ended = true;
        self.report.info(why);
    }
}

impl TextFormat {
    fn delivery(&self, mut text: Vec<u8>, Message { topic, receipt, .. }: Message) -> Delivery {
        // The shell of the old program adds one to each word, the last one, too.
        if !self.keeps_blank && text.ends_with(b" ") {
            text.pop();
        }
        text.push(b'\n');
        let metadata = self.with_metadata.then(|| Metadata::Plain { topic, received: SystemTime::now() });
        Delivery::new(STREAM, Bytes::from(text), Joint::Ends, metadata, Completion::from(receipt))
    }
}

impl<'a> DroppedMessages<'a> {
    fn new(report: &'a Reporter, is_cbc: bool) -> Self {
        let reported = KeyedReportThrottle::every(REPORT_INTERVAL, MAX_REPORTS);
        Self { report, is_cbc, damaged: 0, reported, repeated: ReportThrottle::every(REPORT_INTERVAL) }
    }

    /// A message of this length decrypts to no text, but to this after its first block.
    fn damaged(&mut self, len: usize, rest: &[u8], now: Instant) {
        let is_cbc = self.is_cbc;
        self.unreadable(|| damage(len, rest, is_cbc), now);
    }

    /// A message is encrypted under this key, but as the other value of `aes` has it.
    fn other_mode(&mut self, now: Instant) {
        self.unreadable(|| format!("the other device encrypts with another `aes`; {OTHER_AES}"), now);
    }

    /// A message could not be read: `what` is said of it.
    fn unreadable(&mut self, what: impl FnOnce() -> String, now: Instant) {
        self.damaged += 1;
        if self.reported.is_due(&self.damaged, now) {
            self.report.warning(format_args!("dropped a damaged message: {}", what()));
        }
    }

    fn repeated(&mut self, now: Instant) {
        if let Some(unsaid) = self.repeated.happened(now) {
            let dropped = count(unsaid + 1, "message");
            self.report.warning(format_args!("dropped, as received before or sent by this device: {dropped}"));
        }
    }

    /// The error of a run in which data was lost, if any was.
    fn data_lost(&self) -> Option<Error> {
        self.count().map(|damaged| Error::new(Exit::DataLost, "data was lost").because(damaged))
    }

    /// How many messages were damaged, if any were.
    fn count(&self) -> Option<String> {
        (self.damaged > 0).then(|| format!("damaged: {}", count(self.damaged, "message")))
    }
}

/// What is said of a message of this length that does not decrypt to a text, but to this after its first block. That is right if a
/// message before it is lost; of a stranger's it is noise.
fn damage(len: usize, rest: &[u8], is_cbc: bool) -> String {
    let shown = &rest[..rest.len().min(MAX_SHOWN)];
    if is_text(rest) {
        format!("a message before it was lost, so its first 12 bytes cannot be read; the rest is: {}", escape(shown))
    } else if is_cbc && len == BLOCK_LEN {
        // Nothing of it can be read either way.
        "a message before it was lost, or somebody else sent it".to_owned()
    } else {
        format!("{} that are not a text of this session", count(len as u64, "byte"))
    }
}

impl SessionChanges for LegacyTexts<'_> {}

impl IncomingStreams for LegacyTexts<'_> {
    fn receive(&mut self, message: Message, now: Instant) -> Result<Disposition> {
        if self.is_complete() {
            return Ok(Disposition::Leave(LeftMessage::text(message)));
        }
        if is_foreign(&message) {
            self.report.verbose("dropped a retained message");
            return Ok(Disposition::Drop(message.receipt));
        }
        let taken = if self.waits_for_space() {
            self.unrecorded.messages.push_back(message);
            None
        } else {
            self.take(message, false, now)?
        };
        Ok(taken.unwrap_or(Disposition::Hold { is_followed: true }))
    }

    fn reject_oversize(&mut self, len: usize, _now: Instant) {
        self.report.warn(&oversize(len));
    }

    fn next_released(&mut self, given_up: GivenUp<'_>, now: Instant) -> Result<Option<Disposition>> {
        let Some(message) = self.unrecorded.messages.pop_front() else { return Ok(None) };
        if self.is_complete() {
            return Ok(Some(Disposition::Leave(LeftMessage::text(message))));
        }
        self.take(message, matches!(given_up, GivenUp::All), now)
    }

    fn holds_unkept(&self, _keeps: &dyn Fn(Qos) -> bool) -> bool {
        // The old program sends at QoS 0, and the broker keeps nothing of it.
        self.waits_for_space()
    }

    fn waits_for_space(&self) -> bool {
        !self.unrecorded.messages.is_empty()
    }

    fn delete_ended_sessions(&mut self, _is_held: &dyn Fn(SessionId) -> bool, now: Instant) -> Result<Vec<Receipt>> {
        if !self.session.has_ended && now >= self.session.check_at {
            // An end that no message told of: sts-pair --end ran here, or sts-send took the KILL.
            self.session.check_at = now + CHECK_INTERVAL;
            match self.session.store.check() {
                Err(error) if error.exit() == Exit::TryAgain => self.end("the session has ended"),
                outcome => outcome?,
            }
        }
        Ok(Vec::new())
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        // While standard output takes nothing, it is not looked.
        next_deadline(now, [Some(self.session.check_at), self.unrecorded.space.retry_at()])
    }

    fn is_complete(&self) -> bool {
        self.session.has_ended || (self.scope == Scope::FirstStream && self.received > 0)
    }

    fn report_unfinished(&mut self) {
        if let Some(damaged) = self.dropped.count() {
            // The exit status is 0, and with -q nothing else says so.
            self.report.answer(damaged);
        }
    }

    fn verdict(&mut self, timed_out: bool) -> Result<()> {
        let lost = self.dropped.data_lost();
        let lost = lost.map(|error| if self.received == 0 { error.hint(NOTHING_READ) } else { error });
        if self.received > 0 || self.scope != Scope::FirstStream {
            return lost.map_or(Ok(()), Err);
        }
        let what = if timed_out { "timed out" } else { SESSION_ENDED };
        let error = Error::new(Exit::TryAgain, what).because("no message was received");
        Err(error.and_error(lost.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_message_without_a_part_that_can_be_read_is_not_called_a_strangers() {
        let either = "a message before it was lost, or somebody else sent it";
        assert_eq!(damage(16, b"", true), either);
        assert_eq!(damage(32, &[0xff; 16], true), "32 bytes that are not a text of this session");
        // There, a lost message damages none.
        assert_eq!(damage(16, b"", false), "16 bytes that are not a text of this session");
        let rest = "a message before it was lost, so its first 12 bytes cannot be read; the rest is: rest";
        assert_eq!(damage(32, b"rest", true), rest);
    }
}
