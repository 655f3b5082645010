//! Messages by way of a spool: standard input goes to disk first, is sealed and published from there, and is deleted as it is
//! acknowledged.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::outgoing::{OutgoingStream, Publication};
use super::source::{Amount, MessageSource, Turn, larger};
use crate::config::Config;
use crate::crypto::schedule::Digest;
use crate::mqtt::Token;
use crate::report::Reporter;
use crate::spool::{self, Owner, Pending, Spool};
use crate::stdio::{Input, Split};
use crate::suite::Suite;
use crate::text::{count, show};
use crate::throttle::Throttle;
use crate::{Error, Exit, Result};

/// Most bytes that are written to the spool before some are published.
const MAX_WRITTEN_PER_TURN: usize = 1 << 20;
/// Time between two attempts to write to a full disk.
const DISK_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// After a signal, how long nothing is acknowledged before the rest is left in the spool.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Standard input, on disk until it is delivered.
pub(super) struct Spooled<'a> {
    input: Input,
    split: Split,
    spool: Spool,
    /// Most bytes of a record.
    max_record: usize,
    /// What was read and not written, as the disk is full.
    unwritten: BytesMut,
    disk_full: Throttle,
    /// Each record that was published by this run and is not acknowledged, with whether the broker has it.
    published: VecDeque<(Token, bool)>,
    report: &'a Reporter,
}

impl<'a> Spooled<'a> {
    /// Opens the spool; `peer` is the fingerprint of the link's peer, `None` where the link is not encrypted.
    ///
    /// # Errors
    /// As [`Spool::open`]; [`Exit::Usage`] where the spool is too small.
    pub(super) fn open(
        input: Input,
        split: Split,
        options: &spool::SpoolOptions,
        config: &Config,
        peer: Option<&Digest>,
        report: &'a Reporter,
    ) -> Result<Self> {
        let max_message = config.mqtt.max_message;
        if options.max.bytes() < 2 * max_message as u64 {
            return Err(Error::new(Exit::Usage, "--spool-max")
                .because(format!("smaller than two messages of max_message ({max_message} bytes each)")));
        }
        let mut spool = Spool::open(options, Owner { link: &config.link, peer })?;
        if spool.cut_off() > 0 {
            report.info(format_args!("discarded {} bytes of an unfinished write to the spool", spool.cut_off()));
        }
        if spool.unfinished() > 0 {
            // The rest of an earlier run's last line will not come. On a full disk it must not wait for this run's input.
            spool.write([(&[][..], true)])?;
        }
        if !spool.is_empty() {
            report.info(format_args!("in the spool from an earlier run: {}", Amount(spool.pending())));
        }
        Ok(Self {
            input,
            split,
            spool,
            max_record: if peer.is_some() { max_message - Suite::MAX_OVERHEAD_LEN } else { max_message },
            unwritten: BytesMut::new(),
            disk_full: Throttle::once(),
            published: VecDeque::new(),
            report,
        })
    }

    /// Takes up the stream that an earlier run left in the spool. Returns how many messages may be duplicated, where its
    /// session is gone.
    ///
    /// # Errors
    /// [`Exit::Usage`] where that run had another `--confirm`; otherwise as
    /// [`crate::sessions::LinkSessions::resume_stream`].
    pub(super) fn resume(&mut self, stream: &mut dyn OutgoingStream, now: Instant) -> Result<u64> {
        stream.resume(&mut self.spool, now)
    }

    /// Reads standard input into the spool, as long as there is any and room for it.
    ///
    /// # Errors
    /// As [`Input::read`] and [`Spool::write`].
    pub(super) fn read_input(&mut self, now: Instant) -> Result<()> {
        let mut written = 0;
        loop {
            let more = self.unwritten.is_empty() && written < MAX_WRITTEN_PER_TURN && !self.input.at_end();
            if more && self.input.is_ready()? {
                let limit = self.max_read();
                self.input.read(&mut self.unwritten, limit)?;
            }
            let finishes = self.input.at_end() && self.spool.unfinished() > 0;
            if self.unwritten.is_empty() && !finishes {
                return Ok(());
            }
            let len = self.unwritten.len();
            if !self.write()? {
                let mut unfinished = BytesMut::new();
                if self.spool.reclaim_unfinished(&mut unfinished)? {
                    unfinished.extend_from_slice(&self.unwritten);
                    self.unwritten = unfinished;
                    continue;
                }
                if self.disk_full.happened(now).is_some() {
                    let path = show(self.spool.path());
                    self.report.info(format_args!("the disk is full; waiting for space to write to the spool {path}"));
                }
                return Ok(());
            }
            if self.disk_full.has_happened() {
                self.report.info("there is space on the disk again");
                self.disk_full.reset();
            }
            written += len.max(1);
        }
    }

    /// Most bytes to read at once: no more than one message, or than there is room for.
    fn max_read(&self) -> usize {
        let room = match self.split {
            // Each line may be a piece of its own.
            Split::Each => self.spool.free_bytes(2) / (1 + spool::PIECE_OVERHEAD_LEN),
            _ => self.spool.free_bytes(2),
        };
        room.min(self.max_record)
    }

    /// Writes what was read, cut into records; false where the disk is full.
    fn write(&mut self) -> Result<bool> {
        let at_end = self.input.at_end();
        let mut pieces: Vec<(&[u8], bool)> = Vec::new();
        let (mut rest, mut unfinished) = (&self.unwritten[..], self.spool.unfinished());
        while let Some(len) = self.split.next(rest, self.max_record.saturating_sub(unfinished), at_end) {
            pieces.push((&rest[..len], true));
            (rest, unfinished) = (&rest[len..], 0);
        }
        // The beginning of a record is written by itself, so that it never stands in the way of a new segment.
        let whole = self.unwritten.len() - rest.len();
        if !pieces.is_empty() && !self.spool.write(pieces)? {
            return Ok(false);
        }
        self.unwritten.advance(whole);
        if !self.unwritten.is_empty() || (at_end && self.spool.unfinished() > 0) {
            if !self.spool.write([(&self.unwritten[..], at_end)])? {
                return Ok(false);
            }
            self.unwritten.clear();
        }
        Ok(true)
    }

    /// Whether all of standard input was read, and all that was read is in the spool, in whole records.
    pub(super) fn has_all_input(&self) -> bool {
        self.input.at_end() && self.unwritten.is_empty() && self.spool.unfinished() == 0
    }

    /// Whether nothing waits in the spool.
    pub(super) fn is_empty(&self) -> bool {
        self.pending(Pending::default()).messages == 0
    }
}

impl MessageSource for Spooled<'_> {
    fn fill(&mut self, _room: bool, _stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<()> {
        // The room that counts is that on the disk.
        self.read_input(turn.now)
    }

    fn next(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<Option<Publication>> {
        if !turn.connected {
            return Ok(None);
        }
        let ended = self.has_all_input();
        if let Some(payload) = stream.before_record(&mut self.spool, ended, turn.now, turn.rng)? {
            return Ok(Some(Publication::Control(payload)));
        }
        let mut message = stream.buffer();
        let head_len = message.len();
        if !self.spool.read(&mut message)? {
            let close = stream.after_last_record(&self.spool, turn.now, turn.rng)?;
            return Ok(close.map(Publication::Control));
        }
        let len = message.len() - head_len;
        if len > self.max_record {
            return Err(Error::new(Exit::Config, "max_message")
                .because(format!("the spool holds a message of {len} bytes"))
                .hint("set it to the value that it had when the spool was filled"));
        }
        let payload = stream.seal(message, false, turn.now, turn.rng)?;
        // With `--confirm` a record can go when the receiver has written it, whatever the broker acknowledges.
        let publication = if stream.is_confirmed() { Publication::Message } else { Publication::Record };
        Ok(payload.map(publication))
    }

    fn input_fd(&self, _room: bool) -> Option<BorrowedFd<'_>> {
        self.input.as_fd().filter(|_| self.unwritten.is_empty() && self.max_read() > 0)
    }

    fn stop_reading(&mut self) {
        self.input.stop();
    }

    fn published(&mut self, token: Token) {
        self.published.push_back((token, false));
    }

    fn acknowledged(&mut self, token: Token) -> Result<()> {
        if let Ok(at) = self.published.binary_search_by_key(&token, |(token, _)| *token) {
            self.published[at].1 = true;
        }
        let count = self.published.iter().take_while(|(_, done)| *done).count();
        if count == 0 {
            return Ok(());
        }
        self.published.drain(..count);
        self.spool.acknowledge(self.spool.next() - self.published.len() as u64)
    }

    fn confirmed(&mut self, seq: u32) -> Result<()> {
        let Some(stream) = self.spool.stream() else { return Ok(()) };
        let below = stream.first_record + u64::from(seq.saturating_sub(stream.seq(stream.first_record)));
        // What closes the stream has a seq of its own, and is no record.
        let end = stream.close.map_or(u64::MAX, |(end, _)| end);
        self.spool.acknowledge(below.min(end))
    }

    fn sync(&mut self) -> Result<()> {
        self.spool.sync()
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.unwritten.is_empty()).then_some(now + DISK_RETRY_INTERVAL)
    }

    fn reseal(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<u64> {
        stream.reseal_records(&mut self.spool, turn.now)
    }

    fn survives_session(&self) -> bool {
        true
    }

    fn is_stream_closed(&self, stream: &dyn OutgoingStream) -> bool {
        stream.is_closed(&self.spool)
    }

    fn leave_stream(&mut self, stream: &mut dyn OutgoingStream, now: Instant) -> Result<()> {
        stream.leave(&mut self.spool, now)
    }

    fn is_done(&self, stream: &dyn OutgoingStream) -> bool {
        self.has_all_input() && self.spool.is_empty() && stream.is_over(&self.spool)
    }

    fn pending(&self, in_flight: Pending) -> Pending {
        let (spooled, unwritten) = (self.spool.pending(), self.unwritten.len() as u64);
        let messages = spooled.messages + u64::from(unwritten > 0);
        // What is in flight is in the spool, too.
        larger(in_flight, Pending { messages, bytes: spooled.bytes + unwritten })
    }

    fn awaits_delivery(&self, in_flight: Pending) -> bool {
        let begun = u64::from(self.spool.unfinished() > 0);
        in_flight.messages > 0 || self.spool.pending().messages > begun || !self.unwritten.is_empty()
    }

    fn stop_timeout(&self) -> Option<Duration> {
        Some(STOP_TIMEOUT)
    }

    fn undelivered(&self, _exit: Exit, what: &str, _in_flight: Pending) -> Error {
        let left = Amount(self.spool.pending());
        if !self.unwritten.is_empty() {
            let lost = count(self.unwritten.len() as u64, "byte");
            return Error::new(Exit::DataLost, what).because(format!(
                "not written to the spool because the disk is full: {lost}; left in the spool: {left}"
            ));
        }
        // Nothing is lost by ending now.
        Error::new(Exit::TryAgain, what)
            .because(format!("left in the spool {}: {left}", show(self.spool.path())))
            .hint("the next run with this spool sends them first")
    }

    fn close(&mut self) -> Result<()> {
        self.spool.shut_down()
    }
}
