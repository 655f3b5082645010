//! Streams of a spool. The keys of a stream are gone with the run that began it: what that may have sent, and is not
//! acknowledged, goes into a stream of the next run, which continues the sequence.

use std::time::Instant;

use bytes::Bytes;
use rand::rngs::ThreadRng;

use super::{OutgoingStream, SealedStream, SealingState};
use crate::send::outgoing::SpoolStream;
use crate::spool::Spool;
use crate::stream::Content;
use crate::{Error, Exit, Result};

impl SealedStream {
    /// Begins a stream with the next record: one that continues the sequence, or begins one. False where a full disk holds it
    /// up.
    fn begin_records(&mut self, spool: &mut Spool, now: Instant) -> Result<bool> {
        if self.begin(now)?.is_none() {
            return Ok(false);
        }
        let stream = self.state.open_stream()?;
        let peer = stream.session.peer;
        if spool.sequence().is_some_and(|sequence| sequence.is_with_other(&peer)) {
            spool.abandon_sequence()?;
        }
        match spool.sequence() {
            Some(sequence) => {
                stream.sender.continue_sequence(sequence.position_of(spool.next()));
            }
            None => spool.start_sequence(stream.sender.origin(), &peer, self.confirms.are_asked_for())?,
        }
        Ok(true)
    }

    /// If the stream that was entered is with another peer than the one before, the rest of the spool is another sequence.
    fn follow_peer(&mut self, spool: &mut Spool) -> Result<()> {
        let SealingState::Open(stream) = &self.state else { return Ok(()) };
        let (origin, peer) = (stream.sender.position_of(0).origin, stream.session.peer);
        if spool.sequence().is_some_and(|sequence| sequence.origin != origin) {
            spool.abandon_sequence()?;
            spool.start_sequence(origin, &peer, self.confirms.are_asked_for())?;
        }
        Ok(())
    }
}

impl SpoolStream for SealedStream {
    fn check(&self, spool: &Spool) -> Result<()> {
        let wanted = spool.sequence().map(|sequence| sequence.wants_confirms);
        let how = match wanted {
            Some(wanted) if wanted != self.confirms.are_asked_for() => {
                if wanted {
                    "with"
                } else {
                    "without"
                }
            }
            _ => return Ok(()),
        };
        Err(Error::new(Exit::Usage, "--confirm")
            .because(format!("the messages in the spool were sent {how} it and must be resent the same way"))
            .hint(format!("run sts-send {how} --confirm until the spool is empty")))
    }

    fn prepare_record(&mut self, spool: &mut Spool, ended: bool, now: Instant) -> Result<bool> {
        if self.state.is_unused() || matches!(self.state, SealingState::Left) {
            // A run without a message has a stream nevertheless: its end tells the receiver that there was nothing.
            let is_empty_run = ended && self.state.is_unused();
            let owes_end = spool.sequence().is_some_and(|sequence| ended || sequence.until.is_some());
            if !spool.has_record() && !is_empty_run && !owes_end {
                return Ok(true);
            }
            if !self.begin_records(spool, now)? {
                return Ok(false);
            }
        }
        self.follow_peer(spool)?;
        if spool.has_record() {
            return Ok(!self.switch_if_due(now)?);
        }
        if ended && spool.sequence().is_some_and(|sequence| sequence.until.is_none()) {
            spool.end_sequence()?;
        }
        Ok(true)
    }

    fn after_last_record(&mut self, spool: &Spool, now: Instant, rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        let is_due = spool.sequence().is_some_and(|sequence| sequence.until.is_some_and(|until| spool.next() >= until));
        if !is_due || self.is_closed() {
            return Ok(None);
        }
        self.seal_next(&Content::End, None, self.buffer(), now, rng).map(Some)
    }

    fn is_closed(&self) -> bool {
        matches!(&self.state, SealingState::Open(stream) if stream.sender.is_closed())
    }

    fn leave(&mut self, spool: &mut Spool) -> Result<()> {
        self.count_streams(None);
        spool.finish_sequence()
    }

    fn reseal_records(&mut self, spool: &mut Spool, now: Instant) -> Result<u64> {
        self.give_up_streams();
        self.abandon_stream(now);
        spool.rewind()?;
        Ok(spool.sealed_before())
    }

    fn restart(&mut self, now: Instant) {
        self.count_streams(None);
        self.abandon_stream(now);
    }

    fn is_over(&self, spool: &Spool) -> bool {
        !self.state.is_unused() && spool.sequence().is_none()
    }
}
