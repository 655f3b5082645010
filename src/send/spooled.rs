//! Standard input by way of a spool: on the disk first, then sealed and published, then deleted as it is acknowledged.
//!
//! A stream is not a run's here, but the spool's: the next run seals once more what is not acknowledged, as the same
//! messages, and goes on in the same stream. Another stream begins only when all of the one before it is acknowledged, so
//! there is one at most to remember.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use rand::CryptoRng;

use super::framing::{Framing, Sealing};
use crate::cli::Reporter;
use crate::config::Config;
use crate::crypto::schedule::Digest;
use crate::mqtt::Token;
use crate::spool::{self, Close, Owner, Pending, Spool, SpooledStream};
use crate::stdio::{Input, Split};
use crate::suite::Suite;
use crate::text::{count, show};
use crate::throttle::Throttle;
use crate::{Error, Exit, Result};

/// Most bytes that are written before some are published.
const ENOUGH: usize = 1 << 20;
/// How often it is tried whether a full disk has room again.
const RETRY: Duration = Duration::from_secs(1);

/// Between standard input and the broker.
pub(super) struct Spooled {
    spool: Spool,
    cut: Split,
    /// Most bytes of a record.
    longest: usize,
    /// What was read and found no room on the disk.
    held: BytesMut,
    full: Throttle,
    /// Each record that was published by this run and is not acknowledged, with whether the broker has it.
    published: VecDeque<(Token, bool)>,
    /// This run published what closes the stream.
    closed: bool,
    /// This run has had a stream.
    began: bool,
}

/// What is to be published.
pub(super) struct Outgoing {
    pub(super) payload: Bytes,
    /// It is a record of the spool, not what opens or closes a stream.
    pub(super) record: bool,
}

impl Spooled {
    /// Opens the spool; `peer` is the fingerprint of whom the link is with, `None` where it is not encrypted.
    ///
    /// # Errors
    /// As [`Spool::open`]; [`Exit::Usage`] where the spool is too small.
    pub(super) fn open(
        options: &spool::SpoolOptions,
        cut: Split,
        config: &Config,
        peer: Option<&Digest>,
        report: &Reporter,
    ) -> Result<Self> {
        let longest = config.mqtt.max_message;
        if options.max.bytes() < 2 * longest as u64 {
            return Err(Error::new(Exit::Usage, "--spool-max")
                .because(format!("less than two messages of max_message, {longest} bytes")));
        }
        let mut spool = Spool::open(options, Owner { link: &config.link, peer })?;
        if spool.cut_off() > 0 {
            report.info(format_args!("cut off {} bytes of a write to the spool that did not finish", spool.cut_off()));
        }
        if spool.unfinished() > 0 {
            // Of what an earlier run left nothing waits for what this one reads; on a full disk it has to.
            spool.write([(&[][..], true)])?;
        }
        if !spool.is_empty() {
            report.info(format_args!("in the spool from an earlier run: {}", Left(spool.pending())));
        }
        let longest = if peer.is_some() { longest - Suite::MAX_OVERHEAD_LEN } else { longest };
        let (held, published) = (BytesMut::new(), VecDeque::new());
        Ok(Self { spool, cut, longest, held, full: Throttle::once(), published, closed: false, began: false })
    }

    /// Takes up the stream that an earlier run left in the spool.
    ///
    /// # Errors
    /// [`Exit::Usage`] where that run had another `--confirm`; otherwise as [`crate::cache::Cache::reserve_stream_again`].
    pub(super) fn take_up(&mut self, framing: &mut Framing, report: &Reporter, now: Instant) -> Result<()> {
        let (Framing::Sealed(sealing), Some(stream)) = (framing, self.spool.stream().copied()) else { return Ok(()) };
        check_asks(&stream, sealing.asks())?;
        self.began = sealing.resume(&stream, self.spool.next(), self.spool.may_be_sealed(), now)?;
        if self.began {
            return Ok(());
        }
        self.abandon(sealing, report, "the session is gone", now)?;
        self.began = self.spool.stream().is_some();
        Ok(())
    }

    /// Leaves the stream for another one, as nothing can be confirmed any more under its session.
    ///
    /// # Errors
    /// As [`Spool::restart_unacknowledged`].
    pub(super) fn begin_again(
        &mut self,
        framing: &mut Framing,
        report: &Reporter,
        why: &str,
        now: Instant,
    ) -> Result<()> {
        let Framing::Sealed(sealing) = framing else { return Ok(()) };
        sealing.forsake(now)?;
        self.closed = false;
        self.abandon(sealing, report, why, now)
    }

    fn abandon(&mut self, sealing: &mut Sealing, report: &Reporter, why: &str, now: Instant) -> Result<()> {
        self.spool.restart_unacknowledged()?;
        self.go_on(sealing, now)?;
        let twice = self.spool.sealed().saturating_sub(self.spool.next());
        if twice > 0 {
            report.warning(MayComeTwice(why, twice));
        }
        Ok(())
    }

    /// What is read and not acknowledged.
    pub(super) fn pending(&self) -> Pending {
        let pending = self.spool.pending();
        let held = self.held.len() as u64;
        Pending { messages: pending.messages + u64::from(held > 0), bytes: pending.bytes + held }
    }

    /// Whether standard input can be read.
    pub(super) fn has_room(&self) -> bool {
        self.held.is_empty() && self.limit() > 0
    }

    /// When to try again whether the disk has room.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.held.is_empty()).then_some(now + RETRY)
    }

    /// Reads standard input into the spool, as long as there is any and room for it; true if anything was written.
    ///
    /// # Errors
    /// As [`Input::read`] and [`Spool::write`].
    pub(super) fn fill(&mut self, input: &mut Input, report: &Reporter, now: Instant) -> Result<bool> {
        let mut written = 0;
        loop {
            if self.held.is_empty() && written < ENOUGH && !input.at_end() && input.is_ready()? {
                let limit = self.limit();
                input.read(&mut self.held, limit)?;
            }
            let finishes = input.at_end() && self.spool.unfinished() > 0;
            if self.held.is_empty() && !finishes {
                return Ok(written > 0);
            }
            let before = self.held.len();
            if !self.write(input.at_end())? {
                let mut unfinished = BytesMut::new();
                if self.spool.reclaim_unfinished(&mut unfinished)? {
                    unfinished.extend_from_slice(&self.held);
                    self.held = unfinished;
                    continue;
                }
                if self.full.happened(now).is_some() {
                    let path = show(self.spool.path());
                    report.info(format_args!("the disk is full; waiting for room to write to the spool {path}"));
                }
                return Ok(written > 0);
            }
            if self.full.has_happened() {
                report.info("there is room on the disk again");
                self.full.reset();
            }
            written += before.max(1);
        }
    }

    /// Most bytes to read at once: no more than a message, and than there is room for.
    fn limit(&self) -> usize {
        let room = match self.cut {
            // Each line may be a piece of its own.
            Split::Each => self.spool.free_bytes(2) / (1 + spool::PIECE_OVERHEAD_LEN),
            _ => self.spool.free_bytes(2),
        };
        room.min(self.longest)
    }

    /// Writes what was read, cut into records; false where the disk is full.
    fn write(&mut self, at_end: bool) -> Result<bool> {
        let mut pieces: Vec<(&[u8], bool)> = Vec::new();
        let (mut rest, mut unfinished) = (&self.held[..], self.spool.unfinished());
        while let Some(len) = self.cut.next(rest, self.longest.saturating_sub(unfinished), at_end) {
            pieces.push((&rest[..len], true));
            (rest, unfinished) = (&rest[len..], 0);
        }
        // What is no whole record yet goes apart, so that it never stands in the way of a new segment.
        let whole = self.held.len() - rest.len();
        if !pieces.is_empty() && !self.spool.write(pieces)? {
            return Ok(false);
        }
        self.held.advance(whole);
        if !self.held.is_empty() || (at_end && self.spool.unfinished() > 0) {
            if !self.spool.write([(&self.held[..], at_end)])? {
                return Ok(false);
            }
            self.held.clear();
        }
        Ok(true)
    }

    /// The next message to publish, where there is one; with `ended` there is no more input.
    ///
    /// # Errors
    /// As [`Spool::read`] and [`crate::stream::Sender::data`]; [`Exit::Config`] where a record does not fit any more.
    pub(super) fn next(
        &mut self,
        framing: &mut Framing,
        ended: bool,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<Outgoing>> {
        self.prepare_stream(framing, ended, now, rng)?;
        if let (Framing::Sealed(sealing), Some(stream)) = (&mut *framing, self.spool.stream())
            && let Some(payload) = sealing.open_stream(stream, rng)?
        {
            return Ok(Some(Outgoing { payload, record: false }));
        }
        let mut buffer = framing.buffer();
        let head = buffer.len();
        if self.spool.read(&mut buffer)? {
            if buffer.len() - head > self.longest {
                return Err(Error::new(Exit::Config, "max_message")
                    .because(format!("a message of {} bytes waits in the spool", buffer.len() - head))
                    .hint("set it to what it was when the spool was filled"));
            }
            let payload = framing.finish(buffer, false, now, rng)?;
            return Ok(payload.map(|payload| Outgoing { payload, record: true }));
        }
        let close =
            self.spool.stream().and_then(|stream| stream.close).filter(|(until, _)| self.spool.next() >= *until);
        let (Framing::Sealed(sealing), Some((_, close)), false) = (framing, close, self.closed) else {
            return Ok(None);
        };
        self.closed = true;
        let payload = sealing.close(&close, now, rng)?;
        Ok(Some(Outgoing { payload, record: false }))
    }

    /// Begins a stream where there is something to say, and ends it where that is all, or where another one is due.
    fn prepare_stream(
        &mut self,
        framing: &mut Framing,
        ended: bool,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<()> {
        let Framing::Sealed(sealing) = framing else { return Ok(()) };
        let more = self.spool.next() < self.spool.whole();
        if self.spool.stream().is_none() && (more || (ended && !self.began)) {
            let place = sealing.fresh(now, rng)?;
            self.spool.start_stream(place, sealing.asks())?;
            self.began = true;
        }
        // What may have been sent in this stream stays in it.
        if self.spool.stream().is_none_or(|stream| stream.close.is_some())
            || self.spool.next() < self.spool.may_be_sealed()
        {
            return Ok(());
        }
        if !more && ended {
            return self.spool.close_stream(Close::End);
        }
        let next = if more { sealing.next_due(now, rng)? } else { None };
        next.map_or(Ok(()), |place| self.spool.close_stream(Close::Continued(place)))
    }

    /// A message of [`Spooled::next`] was published.
    pub(super) fn published(&mut self, token: Token, record: bool) {
        if record {
            self.published.push_back((token, false));
        }
    }

    /// The broker has a message.
    ///
    /// # Errors
    /// As [`Spool::acknowledge`].
    pub(super) fn acknowledged(&mut self, token: Token) -> Result<()> {
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

    /// The receiver has written every message of the stream below this seq.
    ///
    /// # Errors
    /// As [`Spool::acknowledge`].
    pub(super) fn confirmed(&mut self, seq: u32) -> Result<()> {
        let Some(stream) = self.spool.stream() else { return Ok(()) };
        let below = stream.first_record + u64::from(seq.saturating_sub(stream.seq(stream.first_record)));
        if let Some((until, _)) = stream.close {
            // Its close may have been confirmed before this run sent it again.
            self.closed |= below > until;
            return self.spool.acknowledge(below.min(until));
        }
        self.spool.acknowledge(below)
    }

    /// Whether what closes the stream was published, or is known to have come.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Everything published is acknowledged, the end of the stream too: the next one can begin.
    ///
    /// # Errors
    /// As [`Spool::advance_stream`].
    pub(super) fn leave(&mut self, framing: &mut Framing, now: Instant) -> Result<()> {
        self.closed = false;
        self.spool.advance_stream()?;
        if let Framing::Sealed(sealing) = framing { self.go_on(sealing, now) } else { Ok(()) }
    }

    /// Takes up the next stream, of which nothing was sealed yet; where its session is gone, another is due.
    fn go_on(&mut self, sealing: &mut Sealing, now: Instant) -> Result<()> {
        if let Some(stream) = self.spool.stream().copied()
            && !sealing.resume(&stream, self.spool.next(), self.spool.next(), now)?
        {
            self.spool.restart_unacknowledged()?;
        }
        Ok(())
    }

    /// Whether nothing is left to send or to be acknowledged, once there is no more input.
    pub(super) fn is_done(&self, framing: &Framing) -> bool {
        let streams_are_over =
            matches!(framing, Framing::Plain { .. }) || (self.began && self.spool.stream().is_none());
        self.held.is_empty() && self.spool.is_empty() && streams_are_over
    }

    /// Whether all of standard input that was read is in the spool, whole.
    pub(super) fn has_all(&self, input: &Input) -> bool {
        input.at_end() && self.held.is_empty() && self.spool.unfinished() == 0
    }

    /// As [`Spool::sync`].
    ///
    /// # Errors
    /// As [`Spool::sync`].
    pub(super) fn sync(&mut self) -> Result<()> {
        self.spool.sync()
    }

    /// Leaves the spool at the end of a run, however that ends.
    ///
    /// # Errors
    /// As [`Spool::shut_down`].
    pub(super) fn end(&mut self) -> Result<()> {
        self.spool.shut_down()
    }

    /// An error that says how much stays in the spool: nothing is lost by it.
    pub(super) fn left(&self, what: &str) -> Error {
        if !self.held.is_empty() {
            let lost = self.held.len();
            return Error::new(Exit::DataLost, what).because(format!(
                "read, and no room for it in the spool: {}; left there: {}",
                count(lost as u64, "byte"),
                Left(self.spool.pending())
            ));
        }
        Error::new(Exit::TryAgain, what)
            .because(format!("left in the spool {}: {}", show(self.spool.path()), Left(self.spool.pending())))
            .hint("the next run with this spool sends them first")
    }

    /// As [`Spooled::left`], where there is no session.
    pub(super) fn left_because(&self, error: &Error) -> Error {
        let left = self.left(&error.to_string());
        error.hint_text().map_or(left.clone(), |hint| left.hint(hint))
    }
}

/// That this many messages may come twice, and why.
pub(super) struct MayComeTwice<'a>(pub(super) &'a str, pub(super) u64);

impl fmt::Display for MayComeTwice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(why, messages) = self;
        write!(f, "{why}; sent again under the new one, and may come twice: {}", count(*messages, "message"))
    }
}

/// How much waits in a spool, in words.
struct Left(Pending);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", count(self.0.messages, "message"), count(self.0.bytes, "byte"))
    }
}

fn check_asks(stream: &SpooledStream, asks: bool) -> Result<()> {
    if stream.wants_confirms == asks {
        return Ok(());
    }
    let (was, remedy) = if stream.wants_confirms { ("with", "with") } else { ("without", "once without") };
    Err(Error::new(Exit::Usage, "--confirm")
        .because(format!("what waits in the spool was sent {was} it, and can only be sent again in the same way"))
        .hint(format!("run sts-send {remedy} --confirm until the spool is empty")))
}
