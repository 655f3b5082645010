//! Streams that another stream closes, or puts into another sequence. This is written down only when everything that
//! was accepted of them has been written: what is not written comes again after a crash, and must find its stream open.
//! What a sender says of how its streams ended is written down with the message that says it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::receive_log::ReceiveLog;
use super::received_streams::ReceivedStreams;
use crate::Result;
use crate::cache::JournalEntry;
use crate::recv::delivery::{Completion, Delivery};
use crate::recv::incoming::GivenUp;
use crate::space_wait::disk_full;
use crate::stream::{EndedStream, Opened, Progress, Receiver, StreamId, StreamState, Streams, ToldStream};

impl ReceivedStreams<'_> {
    /// Takes note of how earlier streams ended, which an accepted message says, and of those that two devices sent. Returns what
    /// is to be written down of it: another run must know if this one ends before it is certain what is lost.
    pub(super) fn note_ended(&mut self, opened: &Opened, copies: &[StreamId], now: Instant) -> Vec<JournalEntry> {
        for copy in copies {
            self.reports.two_devices(&self.sessions.loaded_peer_name(&opened.peer), *copy, now);
        }
        if opened.head.content.ends_session() {
            // Nobody else can report what was told of its sessions. It may still come as long as the KILL waits.
            let receiver = &self.sessions.receiver;
            let deleted = receiver.ended_by(opened.stream.session).iter().filter_map(|id| receiver.streams(*id));
            self.lost_ends.note(deleted.flat_map(Streams::unreported).map(|told| told.ended).collect(), None);
        }
        if opened.head.preamble.is_none() {
            return Vec::new();
        }
        let is_copied = |id| self.log.state().session(id).is_some_and(|(streams, _)| streams.is_copied());
        let sessions: BTreeSet<_> = copies.iter().map(|copy| copy.session).filter(|id| !is_copied(*id)).collect();
        let mut entries: Vec<_> = sessions.into_iter().map(|session| JournalEntry::Copied { session }).collect();
        let (lost, others): (Vec<_>, Vec<_>) = self
            .sessions
            .receiver
            .told_ends(opened)
            .into_iter()
            .partition(|ended| self.sessions.receiver.lost_end(ended).is_some());
        // What is here and not written may be lost with this run, if the broker loses it then.
        let unwritten = others.into_iter().filter(|ended| !self.log.has_end(ended));
        entries.extend(lost.iter().copied().chain(unwritten).map(JournalEntry::Told));
        // With `--once`, other streams are left for another run.
        if !self.admissions.is_selective() {
            self.lost_ends.note(lost, Some(now));
        }
        entries
    }

    /// Takes note of what an accepted message says of lost ends that an earlier run was told of.
    pub(super) fn note_arrival(&mut self, progress: &Progress, now: Instant) {
        self.lost_ends.received(progress, now);
        let stream = progress.stream;
        // An earlier run may have been told of them by a stream that it knew.
        if !stream.is_side_stream() && stream.number >= self.sessions.visible_from(stream.session) {
            let receiver = &self.sessions.receiver;
            self.lost_ends.overtaken(|ended| receiver.is_older(ended, stream), now);
        }
    }

    /// Waits again for what an earlier run was told of, and did not report. The broker may have it: that run followed another
    /// stream, or was killed.
    pub(super) fn recall_lost_ends(&mut self, now: Instant) -> Result<()> {
        let told: Vec<_> = self.log.state().told().copied().collect();
        for told in told {
            let Some(peer) = self.sessions.link.peer_with(told.ended.stream.session) else { continue };
            self.sessions.load(peer, &mut self.log)?;
            // What cannot be reported, as its session is not usable or its stream still asks for confirms, would take the
            // room of what can be, in each run.
            if self.sessions.receiver.lost_end(&told.ended).is_none() {
                self.unload_excess();
            } else if !self.lost_ends.recall(told, now) {
                break;
            }
        }
        Ok(())
    }

    /// Recalls those that were told when there was no room for them.
    pub(super) fn recall_more(&mut self, now: Instant) -> Result<()> {
        if self.lost_ends.take_more() { self.recall_lost_ends(now) } else { Ok(()) }
    }

    /// How long was waited for lost ends, where that is to be written down.
    pub(super) fn next_waited(&mut self, now: Instant) -> Option<Delivery> {
        let waited = self.lost_ends.take_unrecorded(false, now);
        let stream = waited.first()?.0;
        let completion = Completion { prior: entries(waited), ..Completion::default() };
        Some(Delivery::without_data(self.admissions.head_of(stream), completion))
    }

    /// The next stream of which the end is lost for good: it is closed, and what is missing of it is reported. Returns
    /// what is to be written down, after what came of the stream is written.
    pub(super) fn next_lost_end(&mut self, given_up: GivenUp<'_>, now: Instant) -> Option<Delivery> {
        loop {
            let Self { sessions, admissions, log, lost_ends, .. } = self;
            let is_under_way =
                |ended: &EndedStream| admissions.holds(ended.stream) || !is_all_written(ended, &sessions.receiver, log);
            let ended = lost_ends.take_due(now, given_up, is_under_way)?;
            if let Some(prior) = self.close_lost_end(&ended) {
                let completion = Completion { prior, ..Completion::default() };
                let stream = self.admissions.head_of(ended.stream);
                return Some(Delivery::without_data(stream, completion));
            }
        }
    }

    fn close_lost_end(&mut self, ended: &EndedStream) -> Option<Vec<JournalEntry>> {
        let ToldStream { progress, others, gap } = self.sessions.receiver.close_lost_end(ended)?;
        let peer = self.sessions.receiver.session(ended.stream.session).map(|session| session.peer)?;
        // What came of the sequence is written before it is written down that this is over.
        self.admissions.link(ended.stream, progress.sequence.origin.stream);
        self.admissions.end(ended.stream);
        let mut entries = self.note_others(&peer, ended.stream, &others, gap);
        entries.push(JournalEntry::Progress(progress));
        Some(entries)
    }

    /// What is to be written down of a stream that another one closed or moved, now that all of it is written.
    pub(super) fn next_recordable(&mut self) -> Option<Delivery> {
        let (stream, prior) = self.take_recordable()?;
        let completion = Completion { prior, ..Completion::default() };
        Some(Delivery::without_data(self.admissions.head_of(stream), completion))
    }

    fn take_recordable(&mut self) -> Option<(StreamId, Vec<JournalEntry>)> {
        let is_written = |told: &ToldStream| told.closed().all(|over| self.log.has_written(over));
        let told = self.unrecorded.iter().position(is_written)?;
        let ToldStream { progress, others, gap } = self.unrecorded.remove(told);
        let gaps = others.gap.into_iter().chain(gap).map(JournalEntry::Lost);
        let mut entries: Vec<_> = others.superseded.iter().copied().map(JournalEntry::Progress).chain(gaps).collect();
        // What came of it since says where it is in its sequence, too.
        let StreamId { session, number } = progress.stream;
        let next = || self.sessions.receiver.streams(session).and_then(|streams| streams.next_seq(number));
        if progress.state != StreamState::Open || next() == Some(progress.next) {
            entries.push(JournalEntry::Progress(progress));
        }
        Some((progress.stream, entries))
    }

    /// The run ends: nothing more is waited for. What was accepted and is not written comes again, so that its stream
    /// stays open; and what an earlier run was told of is left to the next one if this one did not wait long enough for it.
    pub(super) fn give_up_lost_ends(&mut self, now: Instant) -> Result<()> {
        let mut prior = Vec::new();
        while let Some((_, entries)) = self.take_recordable() {
            prior.extend(entries);
        }
        while let Some(ended) = self.lost_ends.take_due(now, GivenUp::All, |ended| self.admissions.holds(ended.stream))
        {
            if is_all_written(&ended, &self.sessions.receiver, &self.log)
                && let Some(entries) = self.close_lost_end(&ended)
            {
                prior.extend(entries);
            }
        }
        let cache = self.sessions.link.cache();
        self.log.record(&[Completion { prior, ..Completion::default() }], cache, now)?;
        let prior = entries(self.lost_ends.take_unrecorded(true, now));
        let recorded = self.log.record(&[Completion { prior, ..Completion::default() }], cache, now);
        // The next run then waits longer, and nothing is lost with it.
        if disk_full(&recorded).is_some() { Ok(()) } else { recorded }
    }
}

fn entries(waited: Vec<(StreamId, Duration)>) -> Vec<JournalEntry> {
    waited.into_iter().map(|(stream, time)| JournalEntry::Waited { stream, time }).collect()
}

/// Whether all is written down that was accepted of a stream, and of those that are over with it.
fn is_all_written(ended: &EndedStream, receiver: &Receiver, log: &ReceiveLog) -> bool {
    // A stream that another one closed in the meantime is not open any more, and may wait for standard output as well.
    let is_written = |Progress { stream, .. }: &Progress| {
        let accepted = receiver.streams(stream.session);
        accepted.is_none_or(|streams| log.has_written(&streams.close_at(*stream)))
    };
    receiver.lost_end(ended).is_none_or(|lost| lost.closed().all(is_written))
}
