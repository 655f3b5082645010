//! Streams that outlive the run that began them: the spool remembers what makes their messages the same again.

use std::time::Instant;

use bytes::Bytes;
use rand::rngs::ThreadRng;

use super::{ActiveStream, OutgoingStream, SealedStream, SealingState};
use crate::send::outgoing::SpoolStream;
use crate::spool::{Close, Spool, SpooledStream, StreamHeader};
use crate::stream::{Content, Sender};
use crate::{Error, Exit, Result};

impl SealedStream {
    /// Takes up a stream of the spool at its record `next`, where records below `sealed` may have been sent; false where its
    /// session is gone.
    fn resume_stream(&mut self, stream: &SpooledStream, next: u64, sealed: u64, now: Instant) -> Result<bool> {
        let StreamHeader { stream: id, salt } = stream.header;
        let Some(session) = self.sessions.usable_session(id.session).cloned() else { return Ok(false) };
        let sender = self.sessions.resume_stream(&session, id.number, salt, self.max_message)?;
        let mut sender = self.confirms.ask_in(sender);
        sender.skip_to(stream.resume_seq(next));
        // What closes it may have been sent, too.
        let known = stream.close.map_or(stream.seq(sealed), |(end, _)| stream.seq(end) + 1);
        self.confirms.resume(sender.next_seq(), known, now);
        self.checked_version = None;
        self.enter(Box::new(ActiveStream { sender, session }));
        Ok(true)
    }

    /// Takes up the next stream of the spool, of which nothing was sealed yet; where its session is gone, another one is due.
    fn resume_next(&mut self, spool: &mut Spool, now: Instant) -> Result<()> {
        if let Some(stream) = spool.stream().copied()
            && !self.resume_stream(&stream, spool.next(), spool.next(), now)?
        {
            spool.restart_unacknowledged()?;
        }
        Ok(())
    }

    /// Reads again what is not acknowledged, for another stream; returns how much of it may have been sent in this one.
    fn abandon_records(&mut self, spool: &mut Spool, now: Instant) -> Result<u64> {
        spool.restart_unacknowledged()?;
        self.resume_next(spool, now)?;
        Ok(spool.sealed().saturating_sub(spool.next()))
    }

    /// Decides that the stream is closed after its last record, where the input is over or another stream is due.
    fn decide_close(&mut self, spool: &mut Spool, ended: bool, now: Instant, rng: &mut ThreadRng) -> Result<()> {
        let undecided = spool.stream().is_some_and(|stream| stream.close.is_none());
        // What may have been sent in this stream stays in it.
        if !undecided || spool.next() < spool.may_be_sealed() {
            return Ok(());
        }
        if spool.next() == spool.whole() {
            return if ended { spool.close_stream(Close::End) } else { Ok(()) };
        }
        match self.next_session(now)? {
            Some(session) => spool.close_stream(Close::Continued(header(&self.new_stream(session, rng)?.sender))),
            None => Ok(()),
        }
    }
}

impl SpoolStream for SealedStream {
    fn resume(&mut self, spool: &mut Spool, now: Instant) -> Result<u64> {
        let Some(stream) = spool.stream().copied() else { return Ok(0) };
        check_confirms(&stream, self.confirms.are_asked_for())?;
        if self.resume_stream(&stream, spool.next(), spool.may_be_sealed(), now)? {
            return Ok(0);
        }
        self.abandon_records(spool, now)
    }

    fn before_record(
        &mut self,
        spool: &mut Spool,
        ended: bool,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>> {
        let more = spool.next() < spool.whole();
        // A run without a message has a stream nevertheless: its end tells the receiver that there was nothing.
        let nothing_to_say = ended && matches!(self.state, SealingState::Idle);
        if spool.stream().is_none() && (more || nothing_to_say) {
            self.begin(now, rng)?;
            let header = header(&self.state.open_stream()?.sender);
            spool.start_stream(header, self.confirms.are_asked_for())?;
        }
        self.decide_close(spool, ended, now, rng)?;
        let Some(predecessor) = spool.stream().and_then(|stream| stream.predecessor) else { return Ok(None) };
        if self.state.open_stream()?.sender.next_seq() > 0 {
            return Ok(None);
        }
        self.seal_open(&Content::Continues(predecessor), None, now, rng).map(Some)
    }

    fn after_last_record(&mut self, spool: &Spool, now: Instant, rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        let close = spool.stream().and_then(|stream| stream.close).filter(|(end, _)| spool.next() >= *end);
        let Some((_, close)) = close.filter(|_| !self.is_closed(spool)) else { return Ok(None) };
        let content = match close {
            Close::End => Content::End,
            Close::Continued(next) => Content::Continued(next.stream),
        };
        self.seal_open(&content, None, now, rng).map(Some)
    }

    fn is_closed(&self, spool: &Spool) -> bool {
        let (Some(stream), Some(spooled)) = (self.state.stream(), spool.stream()) else { return false };
        // The receiver may have what closes it from an earlier run, before this one sends it again.
        let arrived = spooled.close.is_some_and(|(end, _)| self.confirms.confirmed() > Some(spooled.seq(end)));
        stream.sender.is_closed() || arrived
    }

    fn leave(&mut self, spool: &mut Spool, now: Instant) -> Result<()> {
        self.state = SealingState::Left;
        spool.advance_stream()?;
        self.resume_next(spool, now)
    }

    fn reseal_records(&mut self, spool: &mut Spool, now: Instant) -> Result<u64> {
        self.abandon_stream(now);
        self.abandon_records(spool, now)
    }

    fn restart(&mut self, spool: &mut Spool, now: Instant) -> Result<()> {
        self.abandon_stream(now);
        self.resume_next(spool, now)
    }

    fn is_over(&self, spool: &Spool) -> bool {
        !matches!(self.state, SealingState::Idle) && spool.stream().is_none()
    }
}

/// What a spool must know of a stream to seal its messages again.
fn header(sender: &Sender) -> StreamHeader {
    StreamHeader { stream: sender.id(), salt: sender.salt() }
}

fn check_confirms(stream: &SpooledStream, asked_for: bool) -> Result<()> {
    if stream.wants_confirms == asked_for {
        return Ok(());
    }
    let how = if stream.wants_confirms { "with" } else { "without" };
    Err(Error::new(Exit::Usage, "--confirm")
        .because(format!("the messages in the spool were sent {how} it and must be resent the same way"))
        .hint(format!("run sts-send {how} --confirm until the spool is empty")))
}
