//! What standard output took is written down before anything follows from it, however long the disk is full.

use std::time::Instant;

use super::delivery::Completion;
use super::incoming::IncomingStreams;
use super::run::RecvRun;
use crate::event_loop::Stop;
use crate::space_wait::{RETRY_INTERVAL, SPACE_AGAIN, disk_full, waiting_for_space};
use crate::text::count;
use crate::{Error, Result};

impl RecvRun<'_> {
    /// Does what is owed for what standard output took: it is written down first, then acknowledged.
    pub(super) fn complete_written(&mut self, now: Instant) -> Result<()> {
        let completions: Vec<_> = std::iter::from_fn(|| self.printer.next_completion()).collect();
        self.record(&completions, now)?;
        for receipt in completions.into_iter().filter_map(|completion| completion.receipt) {
            self.events.broker.ack(receipt);
        }
        Ok(())
    }

    /// Writes down how much was written of the message that writing ended in, so that the next run continues at that
    /// byte.
    pub(super) fn record_interrupted(&mut self, now: Instant) -> Result<()> {
        match self.printer.interrupted() {
            Some(completion) => self.record(&[completion], now),
            None => Ok(()),
        }
    }

    /// Writes these down, then what follows from them in the session files.
    fn record(&mut self, written: &[Completion], now: Instant) -> Result<()> {
        let recorded = self.once_there_is_space(now, |streams, now| streams.record(written, now));
        recorded.map_err(|error| comes_again(error, written))?;
        self.once_there_is_space(now, |streams, _| streams.update_session_files())
    }

    /// Writes something down; while the disk has no room for that, waits. If the run ended instead, each later one that finds
    /// the disk still full would write the same to standard output again.
    fn once_there_is_space(
        &mut self,
        now: Instant,
        mut write: impl FnMut(&mut dyn IncomingStreams, Instant) -> Result<()>,
    ) -> Result<()> {
        let mut recorded = write(&mut *self.streams, now);
        if let Some(error) = disk_full(&recorded) {
            self.report.info(waiting_for_space("what was written", error));
            self.pause_reading(true, now);
            while disk_full(&recorded).is_some() && self.events.stop_requested() == Stop::No {
                let now = self.events.begin_turn();
                self.events.wait(None, Some(now + RETRY_INTERVAL), now)?;
                recorded = write(&mut *self.streams, now);
            }
            if recorded.is_ok() {
                self.report.info(SPACE_AGAIN);
            }
        }
        recorded
    }
}

/// Says what the next run writes again, since nobody knows that it was written.
fn comes_again(error: Error, written: &[Completion]) -> Error {
    match written.iter().map(|completion| completion.bytes).sum::<usize>() {
        0 => error,
        bytes => error.and_because(format!("the next run writes {} again", count(bytes as u64, "byte"))),
    }
}
