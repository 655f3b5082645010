//! Messages by way of a spool: standard input goes to disk first, is sealed and published from there, and is deleted as
//! it is acknowledged.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::failure::{SendFailure, cannot_recut};
use super::intake::{Intake, LOCK_RETRY_INTERVAL};
use super::outgoing::{Cut, OutgoingMessage, OutgoingStream};
use super::source::{Amount, MessageSource, NextMessage, Turn, larger};
use crate::event_loop::{CLOSE_TIMEOUT, next_deadline};
use crate::link::unix_time;
use crate::mqtt::Token;
use crate::report::Reporter;
use crate::spool::{Found, Pending, RecordLimit, RecordStore, Recut, Spool};
use crate::stdio::Input;
use crate::stream::Content;
use crate::text::{count, show};
use crate::{Error, Exit, Result};

/// How often a run that nobody can wake looks for what others appended.
const APPEND_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Standard input, on disk until it is delivered.
pub(super) struct Spooled<'a> {
    intake: Intake<'a>,
    spool: Spool,
    /// Each record that was published by this run and is not acknowledged, with whether the broker has it.
    published: VecDeque<(Token, bool)>,
    /// Whether the newest record that was read is published as a whole: it may be several messages.
    is_record_whole: bool,
    stop: StopPoint,
    /// How many bytes of data less a message carries for the time of its record; 0 if times are not sent.
    time_room: usize,
    /// When to look for what others appended; `None` where they wake this run.
    look_at: Option<Instant>,
    report: &'a Reporter,
}

/// What a run that was told to stop still has to send, where another one sends the rest.
#[derive(Clone, Copy)]
enum StopPoint {
    /// It was not told.
    None,
    /// All of its own input, which is not in the spool yet.
    Undecided,
    /// The records below.
    At(u64),
}

impl<'a> Spooled<'a> {
    /// Sends from a spool, of which `cut_off` bytes were an unfinished write.
    pub(super) fn new(intake: Intake<'a>, spool: Spool, cut_off: u64, time_room: usize, report: &'a Reporter) -> Self {
        if cut_off > 0 {
            report.info(format_args!("discarded {cut_off} bytes of an unfinished write to the spool"));
        }
        if !spool.is_empty() {
            report.info(format_args!("in the spool from an earlier run: {}", Amount(spool.pending())));
        }
        let (published, is_record_whole) = (VecDeque::new(), true);
        Self { intake, spool, published, is_record_whole, stop: StopPoint::None, time_room, look_at: None, report }
    }

    /// What becomes readable when another run appends to the spool, or wants to: as [`Spool::bell`]. Where there is
    /// none, others cannot ask, so this run makes way for them at once.
    pub(super) fn bell(&mut self, now: Instant) -> Result<Option<OwnedFd>> {
        let bell = self.spool.bell()?;
        if bell.is_none() {
            self.look_at = Some(now);
        }
        Ok(bell)
    }

    /// Whether this stream can send what an earlier run left in the spool.
    ///
    /// # Errors
    /// [`Exit::Usage`] where that run had another `--confirm`.
    pub(super) fn check(&self, stream: &dyn OutgoingStream) -> Result<()> {
        stream.check(&self.spool)
    }

    /// Reads standard input into the spool: as [`Intake::read`]. Takes notice of what others appended, if they could
    /// not wake this run, or were not done when they did.
    pub(super) fn read_input(&mut self, now: Instant) -> Result<()> {
        let due = self.look_at.is_some_and(|at| now >= at);
        if due || self.spool.is_behind() {
            self.spool.share()?;
        }
        if due {
            self.look_at = Some(now + APPEND_CHECK_INTERVAL);
        }
        self.intake.read(&mut self.spool, now)?;
        self.decide_stop();
        Ok(())
    }

    fn decide_stop(&mut self) {
        if matches!(self.stop, StopPoint::Undecided) && self.has_all_input() {
            self.stop = StopPoint::At(self.spool.whole());
        }
    }

    /// Cuts what waits into records that are no longer than a message may be now, once all that was sent is
    /// acknowledged; false before.
    fn recut(&mut self, stream: &mut dyn OutgoingStream, now: Instant) -> Result<bool> {
        if !self.spool.is_acknowledged() {
            return Ok(false);
        }
        let (intake, mut no_mark) = (&self.intake, 0);
        let mark = if let StopPoint::At(record) = &mut self.stop { record } else { &mut no_mark };
        let duplicates = match self.spool.recut(|bytes| intake.first_record_len(bytes), mark)? {
            Recut::Done(duplicates) => duplicates,
            Recut::Busy => return Ok(false),
            Recut::DiskFull => return Err(cannot_recut()),
        };
        stream.restart(now);
        let what = "the largest message is smaller now; the messages in the spool were cut into smaller ones";
        match duplicates {
            0 => self.report.info(what),
            _ => self.report.warning(format_args!("{what}; possibly duplicated: {}", count(duplicates, "message"))),
        }
        Ok(true)
    }

    /// Tells a person of what waits for long, whatever they wanted to hear: with `-q` they hear of no outage otherwise.
    pub(super) fn warn_of_backlog(&mut self, connected: bool) {
        if let Some(why) = self.spool.due_warning(connected, unix_time()) {
            let (path, waiting) = (show(self.spool.path()), Amount(self.spool.pending()));
            self.report.answer(format_args!("warning: in the spool {path}: {waiting}; {why}"));
        }
    }

    /// Ends the run before it sends anything; what was read is in the spool, or is said to be lost.
    pub(super) fn fail(mut self, failure: SendFailure) -> Error {
        let error = match failure {
            SendFailure::GivenUp(error) => error,
            SendFailure::Interrupted(cause) => {
                // The cause counts: what cannot be kept is counted as lost.
                let _ = self.stop_reading(Instant::now());
                self.interrupted(cause, Pending::default())
            }
        };
        let _ = self.close();
        error
    }

    /// The error of ending for this reason, which says what the spool keeps; [`Exit::DataLost`] where it does not keep
    /// all.
    fn left(&self, exit: Exit, what: &str) -> Error {
        let left = Amount(self.spool.pending());
        if self.intake.unwritten() > 0 {
            let lost = self.intake.not_written(what);
            return Error::new(lost.exit(), lost.to_string()).because(format!("left in the spool: {left}"));
        }
        Error::new(exit, what).because(format!("left in the spool {}: {left}", show(self.spool.path())))
    }

    /// The error of ending for this cause, which says what the spool keeps, if there is anything.
    fn ended_by(&self, cause: Error) -> Error {
        if self.intake.unwritten() == 0 && self.is_empty() {
            return cause;
        }
        self.left(cause.exit(), &cause.to_string()).hint_if(cause.hint_text().map(str::to_owned))
    }

    /// Whether nothing waits in the spool.
    pub(super) fn is_empty(&self) -> bool {
        self.pending(Pending::default()).messages == 0
    }
}

impl MessageSource for Spooled<'_> {
    fn fill(&mut self, _may_read: bool, _stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<()> {
        // The room that counts is that on the disk.
        self.read_input(turn.now)?;
        self.warn_of_backlog(turn.connected);
        Ok(())
    }

    fn next(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<NextMessage> {
        if !turn.connected {
            return Ok(NextMessage::Blocked);
        }
        let ended = self.has_all_input();
        if !stream.prepare_record(&mut self.spool, ended, turn.now)? {
            return Ok(NextMessage::Blocked);
        }
        let mut message = stream.buffer();
        let head_len = message.len();
        // A record without a time, as a run without `--stamp` leaves it, may be longer.
        let limit = RecordLimit::new(self.intake.max_record() + self.time_room, self.time_room);
        let sent = match self.spool.read(&mut message, limit)? {
            Found::Record(sent) => sent.filter(|_| self.time_room > 0),
            Found::Nothing => {
                let close = stream.after_last_record(&self.spool, turn.now, turn.rng)?;
                let without = if ended { NextMessage::Ended } else { NextMessage::NoInput };
                return Ok(close.map_or(without, |close| NextMessage::Message(OutgoingMessage::WithoutData(close))));
            }
            Found::TooLong if self.recut(stream, turn.now)? => return self.next(stream, turn),
            Found::TooLong => return Ok(NextMessage::Blocked),
        };
        let data_len = message.len() - head_len;
        let payload = stream.seal(&Content::Data, sent, message, turn.now, turn.rng)?;
        // Of no record is there no payload, or those after it would wait for ever: on a link without encryption, which
        // has no payload for an empty record, all records are data (`spool::Owner`). With `--confirm` a record can go
        // when the receiver has written it, whatever the broker acknowledges.
        self.is_record_whole = stream.is_record_whole();
        let is_record = !stream.is_confirmed() && self.is_record_whole;
        Ok(NextMessage::sealed(payload, data_len, is_record, stream))
    }

    fn input_fd(&self, _may_read: bool) -> Option<BorrowedFd<'_>> {
        self.intake.fd(&self.spool)
    }

    fn input(&self) -> &Input {
        self.intake.input()
    }

    fn stop_reading(&mut self, now: Instant) -> Result<()> {
        self.intake.stop(&mut self.spool, now)?;
        if matches!(self.stop, StopPoint::None) {
            self.stop = StopPoint::Undecided;
        }
        self.decide_stop();
        Ok(())
    }

    fn published(&mut self, token: Token) {
        self.is_record_whole = true;
        self.published.push_back((token, false));
    }

    fn acknowledged(&mut self, token: Token) -> Result<()> {
        if let Ok(at) = self.published.binary_search_by_key(&token, |(token, _)| *token) {
            self.published[at].1 = true;
        }
        Ok(())
    }

    /// Once for all that came together: the state is written each time.
    fn acknowledged_all(&mut self) -> Result<()> {
        let count = self.published.iter().take_while(|(_, done)| *done).count();
        if count == 0 {
            return Ok(());
        }
        self.published.drain(..count);
        let unfinished = self.published.len() as u64 + u64::from(!self.is_record_whole);
        self.spool.acknowledge(self.spool.next() - unfinished)
    }

    fn confirmed(&mut self, position: u64) -> Result<()> {
        let Some(sequence) = self.spool.sequence() else { return Ok(()) };
        let below = sequence.first_record + position;
        // What closes a stream is no record.
        self.spool.acknowledge(below.min(self.spool.next()))
    }

    fn sync(&mut self) -> Result<()> {
        self.spool.sync()
    }

    fn limit_records(&mut self, max_record: usize) {
        self.intake.limit_records(max_record);
    }

    /// All that is not acknowledged is read again, for another stream of the sequence, in which each record keeps its
    /// position: the receiver drops what it has. The first that is too long is cut once those before it are
    /// acknowledged.
    fn cut_again(&mut self, _waiting: Vec<Bytes>, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<Cut> {
        stream.reseal_records(&mut self.spool, turn.now)?;
        self.spool.rewind()?;
        (self.published, self.is_record_whole) = (VecDeque::new(), true);
        Ok(Cut::Done(0))
    }

    fn restart_sequence(&mut self, refused: Token, stream: &mut dyn OutgoingStream, now: Instant) -> Result<u64> {
        // What was acknowledged before the refused one is not sent again.
        self.acknowledged_all()?;
        let published = self.published.len() as u64;
        if self.published.back().is_none_or(|(newest, _)| *newest < refused) {
            return Ok(0);
        }
        self.spool.abandon_sequence()?;
        stream.restart(now);
        (self.published, self.is_record_whole) = (VecDeque::new(), true);
        Ok(published)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let retry_at = self.spool.is_behind().then(|| now + LOCK_RETRY_INTERVAL);
        next_deadline(now, [self.intake.deadline(now), self.look_at, retry_at])
    }

    fn reseal(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<Option<u64>> {
        stream.reseal_records(&mut self.spool, turn.now).map(Some)
    }

    fn keeps_undelivered(&self) -> bool {
        true
    }

    fn is_stream_closed(&self, stream: &dyn OutgoingStream) -> bool {
        stream.is_closed()
    }

    fn leave_stream(&mut self, stream: &mut dyn OutgoingStream) -> Result<()> {
        stream.leave(&mut self.spool)
    }

    fn delivered(&self) -> Option<u64> {
        self.spool.sequence().map(|sequence| sequence.position_of(self.spool.acknowledged()).position)
    }

    /// In whole records.
    fn has_all_input(&self) -> bool {
        self.intake.is_done() && !self.spool.is_unfinished()
    }

    fn is_done(&self, stream: &dyn OutgoingStream) -> bool {
        self.has_all_input() && self.spool.is_empty() && stream.is_over(&self.spool)
    }

    fn pending(&self, in_flight: Pending) -> Pending {
        let (spooled, unwritten) = (self.spool.pending(), self.intake.unwritten());
        let messages = spooled.messages + u64::from(unwritten > 0);
        // What is in flight is in the spool, too.
        larger(in_flight, Pending { messages, bytes: spooled.bytes + unwritten })
    }

    fn awaits_delivery(&self, in_flight: Pending) -> bool {
        let begun = u64::from(self.spool.is_unfinished());
        // What a full disk does not take keeps the rest of its line from being read.
        let has_message = in_flight.messages > 0 || self.spool.pending().messages > begun;
        // After the last record the end of the sequence is still to be delivered, sealed or not.
        has_message || self.intake.is_blocked() || self.has_all_input()
    }

    fn outlasts_timeout(&self) -> bool {
        self.input_fd(true).is_some()
    }

    fn is_delivered(&self) -> bool {
        self.has_all_input() && self.spool.is_empty()
    }

    fn is_others_turn(&self) -> bool {
        let is_delivered = matches!(self.stop, StopPoint::At(record) if self.spool.acknowledged() >= record);
        // Where nothing else waits, the end of the stream is sent first.
        is_delivered && self.has_all_input() && !self.spool.is_empty()
    }

    fn undelivered(&self, _exit: Exit, what: &str, _in_flight: Pending) -> Error {
        let left = self.left(Exit::TryAgain, what);
        if left.exit() != Exit::TryAgain {
            return left;
        }
        // Nothing is lost by ending now.
        left.hint("the next run with this spool sends them first").deferred()
    }

    fn interrupted(&self, cause: Error, _in_flight: Pending) -> Error {
        let is_known = cause.exit() != Exit::DataLost || self.intake.unwritten() > 0;
        // Of a damaged spool nobody knows what is left.
        if is_known { self.ended_by(cause) } else { cause }
    }

    fn refused(&self, refusal: Error, _in_flight: Pending) -> Error {
        // What is too long is not lost here.
        self.ended_by(match refusal.exit() {
            Exit::DataLost => refusal
                .exit_as(Exit::TryAgain)
                .and_hint("with a lower `max_message`, the next run cuts the messages in the spool"),
            _ => refusal,
        })
    }

    fn woken(&mut self) -> Result<()> {
        self.spool.share()
    }

    fn leave(&mut self) -> Result<bool> {
        self.spool.leave()
    }

    fn close(&mut self) -> Result<()> {
        let until = Instant::now() + CLOSE_TIMEOUT;
        self.intake.stop(&mut self.spool, Instant::now())?;
        // Another run appends for a moment only.
        while self.intake.is_busy() && Instant::now() < until {
            std::thread::sleep(LOCK_RETRY_INTERVAL);
            self.intake.stop(&mut self.spool, Instant::now())?;
        }
        self.warn_of_backlog(false);
        self.spool.shut_down()
    }
}
