//! How sessions and runs end: what a KILL leaves to wait for, and what is missing.

use std::time::{Duration, Instant};

use super::Opening;
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::session::SessionId;
use crate::stream::Opened;
use crate::text::{is_or_are, numbered};

/// How long after a KILL the streams before it may still arrive.
const AFTER_KILL: Duration = Duration::from_secs(60);

/// A peer that ended its sessions, of which the last streams may be on their way.
pub(super) struct Ending {
    peer: Digest,
    session: SessionId,
    next_stream: u32,
    pub(super) until: Instant,
}

impl Opening<'_> {
    /// A KILL came: its sender took no stream number from `next_stream` on.
    pub(super) fn begin_ending(&mut self, opened: &Opened, next_stream: u32, now: Instant) {
        let ending = Ending { peer: opened.peer, session: opened.stream.session, next_stream, until: now + AFTER_KILL };
        self.endings.push(ending);
    }

    /// Whether sessions that their peer ended are deleted now, whatever is still to come.
    pub(in crate::recv) fn is_late(&self, now: Instant) -> bool {
        self.endings.iter().any(|ending| now >= ending.until)
    }

    /// Deletes the sessions that their peer ended, once all of their streams are complete or it is too late for that.
    /// To be called when everything received was written.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the session files cannot be written.
    pub(in crate::recv) fn delete_ended(&mut self, now: Instant) -> Result<()> {
        let mut waiting = Vec::new();
        let mut deleted = false;
        for ending in std::mem::take(&mut self.endings) {
            let ids = self.receiver.ended_by(ending.session).to_vec();
            let end = |id: &SessionId| (*id == ending.session).then_some(ending.next_stream);
            let incomplete: Vec<_> =
                ids.iter().flat_map(|id| self.receiver.outstanding(*id, end(id)).iter().collect::<Vec<_>>()).collect();
            // What is held was not accepted: no stream is known by it.
            let is_complete = incomplete.is_empty() && !ids.iter().any(|id| self.held.needs(*id));
            if !is_complete && now < ending.until {
                waiting.push(ending);
                continue;
            }
            let name = self.name(&ending.peer);
            if incomplete.is_empty() {
                self.report.info(format_args!("{name} ended the session; its keys are deleted"));
            } else {
                self.lost = true;
                let streams = numbered("stream", &incomplete);
                self.report.warning(format_args!("gap: {name} ended the session; never complete: {streams}"));
            }
            self.cache.delete(&ending.peer, &ids)?;
            deleted = true;
            for id in &ids {
                self.receiver.remove(*id);
                self.open.retain(|stream| stream.session != *id);
            }
            self.over |= self.receiver.sessions().next().is_none();
        }
        self.endings = waiting;
        if deleted {
            // Until the next look the sessions would be neither there nor deleted: lost, to a peer that asks for one.
            self.look(now)?;
        }
        Ok(())
    }

    /// The streams that this run saw and that are not complete, as `stream 3 is not complete`.
    pub(in crate::recv) fn open_streams(&self) -> Option<String> {
        let mut streams: Vec<_> = self.open.iter().map(|stream| (stream.number, stream.number)).collect();
        streams.sort_unstable();
        let are = is_or_are(streams.len() as u64);
        (!streams.is_empty()).then(|| format!("{} {are} not complete", numbered("stream", &streams)))
    }

    /// Reports streams that were lost whole: numbers that a later one proves to have been taken.
    pub(in crate::recv) fn report_missing(&mut self) {
        let sessions: Vec<SessionId> = self.receiver.sessions().copied().collect();
        for id in sessions {
            let Some(streams) = self.receiver.streams(id) else { continue };
            let first = self.first.get(&id).copied().unwrap_or(0);
            let missing: Vec<_> = streams
                .missing()
                .iter()
                .filter(|(_, last)| *last >= first)
                .map(|(from, to)| (from.max(first), to))
                .collect();
            if !missing.is_empty() {
                self.lost = true;
                self.report.warning(format_args!("gap: nothing came of {}", numbered("stream", &missing)));
            }
        }
    }

    /// Says where a sender may not have heard that all of its stream is written.
    pub(in crate::recv) fn report_unsettled(&self) {
        if self.confirming.lingers().is_some() {
            self.report.info("the other device may not have heard that all is written; the next run tells it");
        }
    }
}
