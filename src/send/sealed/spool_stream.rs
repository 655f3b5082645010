//! Streams of a spool, which knows where they continue. The keys of a stream are gone with the run that began it: what that may
//! have sent, and is not acknowledged, goes into a stream of the next run.

use std::time::Instant;

use bytes::Bytes;
use rand::rngs::ThreadRng;

use super::{OutgoingStream, SealedStream, SealingState};
use crate::send::outgoing::SpoolStream;
use crate::spool::{Close, Spool, SpooledStream, StreamHeader};
use crate::stream::{Content, Sender};
use crate::{Error, Exit, Result};

impl SealedStream {
    /// Takes up the next stream of the spool, if this run began it; the keys of any other are gone, so another one is due.
    fn resume_next(&mut self, spool: &mut Spool, now: Instant) -> Result<()> {
        while let Some(stream) = spool.stream().copied() {
            if let Some(next) = self.announced.take().filter(|next| next.sender.id() == stream.header.stream) {
                self.confirms.restart(now);
                self.checked_version = None;
                self.enter(next);
                return Ok(());
            }
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
        if !undecided {
            return Ok(());
        }
        if spool.next() == spool.whole() {
            return if ended { spool.close_stream(Close::End) } else { Ok(()) };
        }
        match self.next_session(now)? {
            Some(session) => {
                let next = self.new_stream(session, rng)?;
                spool.close_stream(Close::Continued(header(&next.sender)))?;
                self.announced = Some(next);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl SpoolStream for SealedStream {
    fn resume(&mut self, spool: &mut Spool, now: Instant) -> Result<u64> {
        let Some(stream) = spool.stream().copied() else { return Ok(0) };
        check_confirms(&stream, self.confirms.are_asked_for())?;
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
        self.seal_predecessor(predecessor, now, rng).map(Some)
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
        spool.stream().is_some() && self.state.stream().is_some_and(|stream| stream.sender.is_closed())
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

/// What a spool knows of a stream.
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
