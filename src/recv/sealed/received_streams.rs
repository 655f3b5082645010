//! The streams that a run receives: under which sessions, in which chains, how far, and what is said of them. All of
//! that changes with a message, and with what is lost before it.

use std::collections::VecDeque;
use std::time::Instant;

use super::admissions::Admissions;
use super::ended_sessions::EndedSessions;
use super::key_checks::KeyChecks;
use super::loading::none_usable;
use super::lost_ends::LostEnds;
use super::receive_log::ReceiveLog;
use super::reports::{MAX_OPEN_REPORTED, Reports};
use super::sessions::UsableSessions;
use crate::cache::{JournalEntry, OpenStream};
use crate::crypto::schedule::Digest;
use crate::link::{Link, unix_time};
use crate::mqtt::{Message, Receipt};
use crate::peers::LinkPeers;
use crate::recv::incoming::Disposition;
use crate::recv::left_messages::LeftMessage;
use crate::report::Reporter;
use crate::session::SessionId;
use crate::sessions::LinkSessions;
use crate::stream::{AcceptError, Accepted, Gap, HeaderClaim, Opened, OtherStreams, StreamId, ToldStream};
use crate::{Rejected, Result};

/// What a run knows of the streams that it receives.
pub(super) struct ReceivedStreams<'a> {
    pub(super) sessions: UsableSessions,
    pub(super) admissions: Admissions,
    pub(super) log: ReceiveLog,
    pub(super) ended: EndedSessions,
    pub(super) lost_ends: LostEnds,
    pub(super) reports: Reports<'a>,
    pub(super) checks: KeyChecks,
    /// Streams that a message of another stream closed, or put into their place in a sequence. If this were written
    /// down too early, what is not written of them yet would be dropped as repeated after a crash.
    pub(super) unrecorded: Vec<ToldStream>,
    /// Sessions of which the first message came, with their peers, whose files are to say that they are in use; in the order in
    /// which they came.
    pub(super) promoted: VecDeque<(Digest, SessionId)>,
}

impl<'a> ReceivedStreams<'a> {
    /// Takes the link's receive state.
    pub(super) fn open(link: &Link, peers: LinkPeers, once: bool, report: &'a Reporter, now: Instant) -> Result<Self> {
        let mut sessions = UsableSessions::new(LinkSessions::list(link, peers, now)?);
        let listed = sessions.link.listed();
        let (mut log, lost) = ReceiveLog::open(sessions.link.cache(), &listed, link.config.mqtt.max_message)?;
        sessions.set_lost(lost);
        let checks = KeyChecks::of(&listed, log.state());
        if !sessions.load_any(&mut log)? {
            return Err(none_usable(link, now)?);
        }
        let mut streams = Self {
            sessions,
            checks,
            admissions: Admissions::new(once),
            log,
            ended: EndedSessions::default(),
            lost_ends: LostEnds::default(),
            reports: Reports::new(report, &link.config),
            unrecorded: Vec::new(),
            promoted: VecDeque::new(),
        };
        streams.recall_lost_ends(now)?;
        streams.check_keys(now)?;
        Ok(streams)
    }

    /// Takes note that the first message under a new session came, if it is one.
    pub(super) fn note_promotion(&mut self, opened: &Opened, accepted: &Accepted) {
        if accepted.promoted {
            self.promoted.push_back((opened.peer, opened.stream.session));
        }
    }

    /// Writes down in the session files which sessions are in use, and under which something was received.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::promote`] and [`crate::cache::Journal::mark_received`]; the same may be tried again.
    pub(super) fn update_session_files(&mut self) -> Result<()> {
        let cache = self.sessions.link.cache();
        while let Some((peer, session)) = self.promoted.front() {
            if cache.promote(peer, session, unix_time())? {
                self.reports.session_in_use(&self.sessions.loaded_peer_name(peer));
            }
            self.promoted.pop_front();
        }
        self.log.journal.mark_received(cache)
    }

    /// Reports what was lost before a message; returns what is to be written down of it once the message is written.
    pub(super) fn note_losses(&mut self, peer: &Digest, accepted: &Accepted) -> Vec<JournalEntry> {
        let Accepted { progress, gap, ref others, ref given_up, kept, .. } = *accepted;
        let StreamId { session, .. } = progress.stream;
        let mut prior = self.note_others(peer, progress.stream, others, gap);
        // Now, as they no longer count as missing when the run ends.
        for &(from, to) in given_up {
            let first = self.sessions.visible_from(session);
            if to >= first {
                self.reports.streams_given_up(&self.sessions.loaded_peer_name(peer), (from.max(first), to));
            }
            prior.push(JournalEntry::GivenUp { session, first: from, last: to });
        }
        prior.extend(kept.map(|stream| JournalEntry::Kept { session, stream }));
        prior
    }

    /// As [`ReceivedStreams::note_losses`], of other streams of the sequence, and of one that begins or is closed.
    pub(super) fn note_others(
        &mut self,
        peer: &Digest,
        stream: StreamId,
        others: &OtherStreams,
        gap: Option<Gap>,
    ) -> Vec<JournalEntry> {
        let mut prior = Vec::new();
        for told in &others.moved {
            // What it says is written down later; it closes nothing else, and moves nothing else.
            drop(self.note_others(peer, told.progress.stream, &told.others, told.gap));
            self.unrecorded.push(told.clone());
        }
        let name = || self.sessions.loaded_peer_name(peer);
        for &(progress, why) in &others.closed {
            self.admissions.end(progress.stream);
            self.reports.stream_closed(&name(), progress.stream.number, why);
            self.unrecorded.push(progress.into());
        }
        for superseded in &others.superseded {
            self.admissions.end(superseded.stream);
            // What came of the same chain is written before.
            let is_of_chain = self.admissions.head_of(superseded.stream) == self.admissions.head_of(stream);
            if is_of_chain || self.log.has_written(superseded) {
                prior.push(JournalEntry::Progress(*superseded));
            } else {
                self.unrecorded.push((*superseded).into());
            }
        }
        if let Some(position) = others.unknown {
            self.reports.sequence_unknown(&name(), stream.number, position);
        }
        for gap in others.gap.into_iter().chain(gap) {
            self.reports.messages_lost(&name(), &gap);
            prior.push(JournalEntry::Lost(gap));
        }
        // Last: what is printed as a chain of its own until now is not written before this message by itself.
        for ToldStream { progress, .. } in &others.moved {
            self.admissions.link(progress.stream, progress.sequence.origin.stream);
        }
        prior
    }

    /// What becomes of an authentic message that is not the next of its stream.
    pub(super) fn refuse(
        &mut self,
        opened: &Opened,
        error: AcceptError,
        message: Message,
        now: Instant,
    ) -> Disposition {
        let (stream, receipt) = (opened.stream, message.receipt);
        if let Some(next) = error.confirm().filter(|_| opened.head.wants_confirms) {
            self.log.confirms.repeat(stream, opened.salt(), next, now);
        }
        match error {
            AcceptError::Settled => {
                self.log.confirms.settled(stream);
                Disposition::Drop(receipt)
            }
            AcceptError::Duplicate { .. } if opened.head.content.ends_session() => {
                Disposition::Drop(self.ended.repeat(stream.session, receipt))
            }
            AcceptError::Duplicate { .. } => {
                self.log.journal.count_duplicate(stream.session);
                Disposition::Repeat { stream: self.admissions.head_of(stream), receipt }
            }
            AcceptError::Closed => self.refuse_closed(stream, receipt, now),
            AcceptError::StreamReused | AcceptError::SealedTwice | AcceptError::Unreadable | AcceptError::Gone => {
                self.report_refusal(opened, error, now);
                self.reject(error.rejected(), receipt, now)
            }
            // What is before it is lost or late, and comes again.
            AcceptError::Ahead { .. } if opened.head.content.is_in_sequence() => {
                self.hold_early(opened, &message.payload, now);
                Disposition::Drop(receipt)
            }
            AcceptError::Ahead { .. } => self.reject(error.rejected(), receipt, now),
        }
    }

    /// Keeps a message that came before one that its stream lacks, if there is room, and has the sender told what it lacks.
    fn hold_early(&mut self, opened: &Opened, payload: &[u8], now: Instant) {
        if self.admissions.hold_early(opened, payload, now) {
            self.log.confirms.lacks(opened.stream, now);
        }
    }

    /// Tells whom it concerns of a message that shows a fault of its sender: the user, and its sender if that asks.
    fn report_refusal(&mut self, opened: &Opened, error: AcceptError, now: Instant) {
        let (stream, peer) = (opened.stream, self.sessions.loaded_peer_name(&opened.peer));
        match error {
            AcceptError::StreamReused => self.reports.stream_reused(&peer, stream.number, now),
            AcceptError::SealedTwice => self.reports.two_devices(&peer, stream, now),
            AcceptError::Unreadable => {
                let is_refused = opened.head.wants_confirms && !stream.is_side_stream();
                if is_refused && self.log.confirms.refuse(stream, opened.salt(), opened.seq, now) {
                    self.reports.refused(&peer);
                }
            }
            AcceptError::Duplicate { .. }
            | AcceptError::Ahead { .. }
            | AcceptError::Settled
            | AcceptError::Closed
            | AcceptError::Gone => {}
        }
    }

    /// What becomes of a message that no key opens. The keys of a stream that is over are gone, so nothing proves that
    /// what comes again of it is authentic: it is dropped, and changes nothing but a count. Its sender may lack our
    /// last confirm, which is true for anybody who asks.
    pub(super) fn take_unproven(&mut self, message: Message, now: Instant) -> Disposition {
        let Some((peer, stream, claim)) = self.sessions.receiver.claim(&message.payload) else {
            return self.leave_or_reject(message, Rejected::NotAuthentic, now);
        };
        match claim {
            HeaderClaim::Copied => {
                self.reports.may_be_copied(&self.sessions.loaded_peer_name(&peer), stream.number, now);
                self.log.journal.count_rejected(Rejected::StreamReused);
                Disposition::Drop(message.receipt)
            }
            HeaderClaim::Closed => self.refuse_closed(stream, message.receipt, now),
            HeaderClaim::Settled => {
                Disposition::Repeat { stream: self.admissions.head_of(stream), receipt: message.receipt }
            }
            // The broker sends again what was not acknowledged before a run ended.
            HeaderClaim::EndedBefore if !message.dup => {
                self.reports.number_over(&self.sessions.loaded_peer_name(&peer), stream.number, now);
                self.log.journal.count_rejected(Rejected::StreamReused);
                Disposition::Drop(message.receipt)
            }
            HeaderClaim::EndedBefore | HeaderClaim::Ended { .. } => {
                if let HeaderClaim::Ended { confirm: Some((salt, next)) } = claim {
                    self.log.confirms.repeat(stream, salt, next, now);
                }
                self.log.journal.count_duplicate(stream.session);
                Disposition::Repeat { stream: self.admissions.head_of(stream), receipt: message.receipt }
            }
        }
    }

    /// What becomes of a message of a stream that was closed before its end. What came before that may still wait for
    /// standard output, and come again.
    pub(super) fn refuse_closed(&mut self, stream: StreamId, receipt: Receipt, now: Instant) -> Disposition {
        self.note_rejected(Rejected::StreamClosed, now);
        Disposition::Repeat { stream: self.admissions.head_of(stream), receipt }
    }

    /// What becomes of a message that no usable session opens. One that only this device's configuration keeps out is
    /// not junk: it stays with the broker until the configuration accepts it.
    pub(super) fn leave_or_reject(&mut self, message: Message, reason: Rejected, now: Instant) -> Disposition {
        match self.sessions.keeping_out(&message.payload, self.log.state()) {
            Some((session, why)) => {
                self.reports.left_with_broker(session, &why, now);
                Disposition::Leave(LeftMessage::sealed(message, Some(why)))
            }
            None => self.reject(reason, message.receipt, now),
        }
    }

    /// Counts a message that is dropped.
    pub(super) fn reject(&mut self, reason: Rejected, receipt: Receipt, now: Instant) -> Disposition {
        self.note_rejected(reason, now);
        Disposition::Drop(receipt)
    }

    fn note_rejected(&mut self, reason: Rejected, now: Instant) {
        self.log.journal.count_rejected(reason);
        self.reports.rejected(reason, now);
    }

    pub(super) fn refresh_if_due(&mut self, now: Instant) -> Result<()> {
        let has_changed = self.sessions.link.refresh_if_due(now)?;
        self.follow_sessions(has_changed)
    }

    /// Looks again whether sessions came or went; true if so.
    pub(super) fn refresh(&mut self, now: Instant) -> Result<bool> {
        let has_changed = self.sessions.link.refresh(now)?;
        self.follow_sessions(has_changed)?;
        Ok(has_changed)
    }

    /// Takes over what the last look at the sessions found.
    pub(super) fn follow_sessions(&mut self, has_changed: bool) -> Result<()> {
        self.sessions.share_keys();
        if has_changed || self.sessions.has_unfollowed() { self.adopt_sessions() } else { Ok(()) }
    }

    fn adopt_sessions(&mut self) -> Result<()> {
        self.sessions.follow(&mut self.log);
        for peer in self.sessions.loaded_peers() {
            self.delete_finished(peer)?;
        }
        let (sessions, log) = (&self.sessions, &mut self.log);
        let may_be_usable = |id| sessions.may_be_usable(id);
        log.confirms.retain_sessions(may_be_usable);
        self.admissions.retain_incomplete(may_be_usable);
        self.reports.retain_sessions(|id| sessions.link.is_stored(id));
        self.forget_chains();
        Ok(())
    }

    /// Forgets the chains of which nothing more is to come.
    pub(super) fn forget_chains(&mut self) {
        let may_be_usable = |id| self.sessions.may_be_usable(id);
        self.admissions.retain_chains(|stream| may_be_usable(stream.session) && !self.log.is_over(stream));
    }

    /// Reports each open stream that this run follows, except those that its error is about. Returns all.
    pub(super) fn report_open(&mut self, in_error: &[StreamId]) -> Vec<OpenStream> {
        let now = unix_time();
        let usable = self.log.state().ids().filter(|id| self.sessions.may_be_usable(*id));
        let mut all: Vec<_> = usable.flat_map(|id| self.log.state().open_streams(id, now)).collect();
        all.retain(|open| !self.admissions.is_selective() || self.admissions.is_selected(open.stream));
        all.sort_unstable_by_key(|open| std::cmp::Reverse(open.age));
        let others: Vec<_> = all.iter().filter(|open| !in_error.contains(&open.stream)).collect();
        let (shown, more) = others.split_at(others.len().min(MAX_OPEN_REPORTED));
        let mut named = Vec::new();
        for open in shown {
            if let Some(peer) = self.sessions.link.peer_with(open.stream.session) {
                // A name that cannot be found is no reason to say nothing.
                let _ = self.sessions.load(peer, &mut self.log);
            }
            let session = self.sessions.receiver.session(open.stream.session);
            named.extend(session.map(|session| (self.sessions.loaded_peer_name(&session.peer), *open)));
        }
        self.reports.streams_open(&named, more.len());
        all
    }

    /// Reports the streams of which no message came, though one came of a later stream.
    pub(super) fn report_missing(&mut self) {
        // Other streams than the one that it follows were not for this run.
        if self.admissions.is_selective() {
            return;
        }
        for (id, first) in self.sessions.seen() {
            let written = || self.log.state().session(id).map(|(streams, _)| streams);
            let Some(streams) = self.sessions.receiver.streams(id).or_else(written) else { continue };
            let missing = streams.missing();
            let seen: Vec<_> =
                missing.iter().filter(|(_, to)| *to >= first).map(|(from, to)| (from.max(first), to)).collect();
            if !seen.is_empty() {
                self.reports.streams_missing(&seen);
            }
        }
    }
}
