//! An encrypted link: which messages are authentic, in which order they are written, and what is owed for each.
//!
//! [`SealedStreams`] takes a message through four steps, each with an owner of its own:
//!
//! 1. open it, under one of the [`UsableSessions`]; junk is dropped here;
//! 2. admit it: [`Chains`] know whether this run receives its stream, and whether it must wait for another one;
//! 3. accept it: the receiver tells the next message of a stream from a repeated one, and what was lost before it;
//! 4. act on its content, in [`SealedStreams::act`], where each kind of content has its line.
//!
//! Once it is written, the [`ReceiveLog`] writes it down and owes its sender a confirm. A KILL ends in [`EndedSessions`]; what a
//! sender says of how its earlier streams ended, in [`LostEnds`].

mod chain_heads;
mod chains;
mod confirm_queue;
mod early_messages;
mod ended_sessions;
mod incomplete_streams;
mod last_messages;
mod lost_ends;
mod receive_log;
mod reorder_buffer;
mod reports;
mod sessions;

use std::time::{Instant, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use self::chains::{Admission, Chains};
use self::ended_sessions::EndedSessions;
pub(super) use self::last_messages::LastMessages;
use self::lost_ends::LostEnds;
use self::receive_log::ReceiveLog;
use self::reports::{Reports, not_complete};
use self::sessions::UsableSessions;
use super::SESSION_ENDED;
use super::delivery::{Completion, Delivery, Joint, Metadata};
use super::incoming::{ConfirmMessage, Disposition, GivenUp, IncomingStreams};
use super::left_messages::LeftMessage;
use crate::cache::{JournalEntry, OpenStream};
use crate::crypto::schedule::Digest;
use crate::link::{Link, unix_time};
use crate::message::FrameType;
use crate::mqtt::{Message, Qos, Receipt};
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::session::SessionId;
use crate::sessions::LinkSessions;
use crate::stream::{
    AcceptError, Accepted, AcceptedWill, Before, Claim, Content, EndedStream, Gap, Opened, Progress, StreamId,
    ToldStream,
};
use crate::{Error, Exit, Rejected, Result};

/// The messages of an encrypted link.
pub(super) struct SealedStreams<'a> {
    sessions: UsableSessions,
    chains: Chains,
    log: ReceiveLog,
    ended: EndedSessions,
    lost_ends: LostEnds,
    reports: Reports<'a>,
    /// What the last message was opened into. The delivery gets a view of it, and once that is printed the buffer is used again.
    plaintext: BytesMut,
    with_metadata: bool,
    /// The chain that this run follows is complete, or the peer ended the last session.
    is_complete: bool,
}

impl<'a> SealedStreams<'a> {
    /// Takes the link's receive state, which one sts-recv holds at a time.
    ///
    /// # Errors
    /// As [`crate::recv::run()`].
    pub(super) fn open(
        link: &Link,
        peers: LinkPeers,
        once: bool,
        with_metadata: bool,
        report: &'a Reporter,
        now: Instant,
    ) -> Result<Self> {
        let mut sessions = UsableSessions::new(LinkSessions::open(link, peers, now)?);
        let (log, unusable) =
            ReceiveLog::open(sessions.link.cache(), &sessions.stored(), link.config.mqtt.max_message)?;
        sessions.adopt(&unusable, log.state());
        if sessions.is_empty() {
            return Err(sessions.link.none_usable());
        }
        Ok(Self {
            sessions,
            chains: Chains::new(once),
            log,
            ended: EndedSessions::default(),
            lost_ends: LostEnds::default(),
            reports: Reports::new(report, link.config.mqtt.client_id.is_some()),
            plaintext: BytesMut::new(),
            with_metadata,
            is_complete: false,
        })
    }

    /// Steps 1 and 2; one that `was_held` is not held again.
    fn receive_sealed(&mut self, message: Message, was_held: bool, now: Instant) -> Result<Disposition> {
        // A peer that was forgotten is not heard any more, not even for a second.
        self.refresh_if_due(now)?;
        let mut opened = self.sessions.receiver.open(&message.payload, &mut self.plaintext);
        if opened == Err(Rejected::UnknownSession) && self.refresh(now)? {
            opened = self.sessions.receiver.open(&message.payload, &mut self.plaintext);
        }
        let opened = match opened {
            Ok(opened) => opened,
            // The broker keeps it until the sender's next one, however long its session is gone.
            Err(Rejected::UnknownSession) if message.retain => {
                self.reports.retained_left("a deleted session");
                return Ok(Disposition::Drop(message.receipt));
            }
            Err(Rejected::NotAuthentic) => return Ok(self.take_unproven(message, now)),
            Err(reason) => return Ok(self.leave_or_reject(message, reason, now)),
        };
        self.look_for_successor(&opened, now)?;
        if FrameType::of(&message.payload) == Ok(FrameType::Will) {
            return self.accept_will(&opened, message, now);
        }
        // A retained message stands alone, and says nothing of the messages before it, which may still come. So it is taken where it
        // is the next one, and left otherwise. A broker that calls a message retained can withhold it by that, and no more.
        if message.retain && !self.sessions.receiver.expects(&opened) {
            self.reports.retained_left(&self.sessions.peer_name(&opened.peer));
            return Ok(Disposition::Drop(message.receipt));
        }
        match self.chains.admit(&opened, was_held, &self.sessions, now) {
            Admission::Accept => self.accept(&opened, message, now),
            Admission::Hold { is_followed } => {
                self.chains.hold(opened.stream, opened.seq, message);
                Ok(Disposition::Hold { is_followed })
            }
            Admission::Leave => Ok(Disposition::Leave(LeftMessage { qos: message.qos, kept_out: None })),
        }
    }

    /// A sender may continue under a session that is newer than our last look.
    fn look_for_successor(&mut self, opened: &Opened, now: Instant) -> Result<()> {
        if let Content::Continued(next) = opened.content
            && self.sessions.receiver.session(next.session).is_none()
        {
            self.refresh(now)?;
        }
        Ok(())
    }

    /// Steps 3 and 4.
    fn accept(&mut self, opened: &Opened, message: Message, now: Instant) -> Result<Disposition> {
        let copies = self.sessions.receiver.copies(opened);
        let accepted = match self.sessions.receiver.accept(opened) {
            Ok(accepted) => accepted,
            Err(error) => return Ok(self.refuse(opened, error, message, now)),
        };
        let receipt = message.receipt;
        let stream = opened.stream;
        self.note_ended(opened, &copies, now);
        if opened.content.stays_with_stream() {
            self.chains.select(stream);
        }
        let prior = self.note_losses(&opened.peer, &accepted);
        self.note_promotion(opened, &accepted)?;
        // For sts-send, if one waits.
        if stream.is_of_confirms() {
            return Ok(Disposition::Drop(receipt));
        }
        Ok(self.act(opened, &accepted, prior, receipt, now))
    }

    /// What becomes of an accepted message, by its content.
    fn act(
        &mut self,
        opened: &Opened,
        accepted: &Accepted,
        prior: Vec<JournalEntry>,
        receipt: Receipt,
        now: Instant,
    ) -> Disposition {
        let stream = opened.stream;
        match opened.content {
            Content::Data => self.chains.begin(stream),
            Content::End => {
                self.chains.end(stream);
                self.is_complete |= self.chains.is_selected(stream);
            }
            Content::Continued(_) => {
                let next = self.sessions.receiver.successor(opened);
                self.chains.continue_in(next, stream, &self.sessions);
            }
            Content::Skipped | Content::Unreadable => {
                self.chains.begin(stream);
                let is_skipped = opened.content == Content::Skipped;
                self.reports.message_without_content(&self.sessions.peer_name(&opened.peer), is_skipped);
            }
            // A run that ends before the keys are deleted must get it again.
            Content::Kill { next_stream } => {
                let receiver = &self.sessions.receiver;
                let spare = self.ended.push(opened.peer, stream.session, next_stream, receipt, receiver, now);
                return spare.map_or(Disposition::Hold { is_followed: false }, Disposition::Drop);
            }
            // Refused, where they are.
            Content::Confirm(_) | Content::Refused { .. } | Content::Held { .. } | Content::Settled | Content::Will => {
                return Disposition::Drop(receipt);
            }
        }
        if opened.wants_confirms && accepted.progress.skip > 0 {
            self.log.confirms.repeat(stream, opened.salt(), 0, now);
        }
        let completion = Completion {
            progress: Some(accepted.progress),
            prior,
            offset: accepted.skip.min(self.plaintext.len()),
            wants_confirm: opened.wants_confirms,
            receipt: Some(receipt),
            ..Completion::default()
        };
        Disposition::Deliver(self.delivery(opened, completion))
    }

    /// What the broker says for a sender that lost its connection: one line, after what was written of its stream.
    fn accept_will(&mut self, opened: &Opened, message: Message, now: Instant) -> Result<Disposition> {
        let stream = opened.stream;
        if !self.chains.receives(stream) {
            return Ok(Disposition::Leave(LeftMessage { qos: message.qos, kept_out: None }));
        }
        let receipt = message.receipt;
        let AcceptedWill { accepted, next } = match self.sessions.receiver.accept_will(opened) {
            Ok(accepted) => accepted,
            Err(AcceptError::Duplicate { .. }) => {
                self.log.journal.count_duplicate(stream.session);
                return Ok(Disposition::Repeat { stream: self.chains.head_of(stream), receipt });
            }
            Err(error) => return Ok(self.reject(error.rejected(), receipt, now)),
        };
        let mut prior = self.note_losses(&opened.peer, &accepted);
        self.note_promotion(opened, &accepted)?;
        self.chains.begin(stream);
        if !self.plaintext.ends_with(b"\n") {
            self.plaintext.put_u8(b'\n');
        }
        let bytes = self.plaintext.len() as u64;
        prior.push(JournalEntry::Written { session: stream.session, messages: 1, bytes });
        prior.push(JournalEntry::Progress(accepted.progress));
        prior.push(JournalEntry::Will { stream, next });
        let completion = Completion { prior, receipt: Some(receipt), ..Completion::default() };
        Ok(Disposition::Deliver(self.delivery(opened, completion)))
    }

    /// Takes note of how earlier streams ended, which an accepted message says, and of those that two devices sent.
    fn note_ended(&mut self, opened: &Opened, copies: &[StreamId], now: Instant) {
        for copy in copies {
            self.reports.two_devices(&self.sessions.peer_name(&opened.peer), *copy, now);
        }
        // With `--once`, other streams are left for another run.
        if opened.preamble.is_some() && !self.chains.is_selective() {
            // What a KILL names may still come as long as that waits.
            let since = (!opened.content.ends_session()).then_some(now);
            self.lost_ends.note(self.sessions.receiver.lost_ends(opened), since);
        }
    }

    /// The next stream of which the end is lost for good: it is closed, and what is missing of it is reported. Returns what is to
    /// be written down, after what came of the stream is written.
    fn next_lost_end(&mut self, given_up: GivenUp<'_>, now: Instant) -> Option<Delivery> {
        loop {
            let (is_given_up, is_held) = (|id| given_up.includes(id), |stream| self.chains.holds(stream));
            let ended = self.lost_ends.take_due(now, is_given_up, is_held)?;
            if let Some(prior) = self.close_lost_end(&ended) {
                let completion = Completion { prior, ..Completion::default() };
                let stream = self.chains.head_of(ended.stream);
                return Some(Delivery::new(stream, Bytes::new(), Joint::Continues, None, completion));
            }
        }
    }

    fn close_lost_end(&mut self, ended: &EndedStream) -> Option<Vec<JournalEntry>> {
        let ToldStream { progress, before, gap } = self.sessions.receiver.close_lost_end(ended)?;
        let peer = self.sessions.receiver.session(ended.stream.session).map(|session| session.peer)?;
        // What came of the sequence is written before it is written down that this is over.
        self.chains.link(ended.stream, progress.sequence.origin.stream);
        self.chains.end(ended.stream);
        let mut entries = self.note_before(&peer, ended.stream, &before, gap);
        entries.push(JournalEntry::Progress(progress));
        Some(entries)
    }

    /// The run ends: nothing more is waited for. What was accepted and is not written comes again, so that its stream stays open.
    fn give_up_lost_ends(&mut self) -> Result<()> {
        let mut prior = Vec::new();
        while let Some(ended) = self.lost_ends.take_due(Instant::now(), |_| true, |stream| self.chains.holds(stream)) {
            let lost = self.sessions.receiver.lost_end(&ended);
            if lost.is_some_and(|lost| lost.closed().all(|closed| self.is_written(closed)))
                && let Some(entries) = self.close_lost_end(&ended)
            {
                prior.extend(entries);
            }
        }
        let now = Instant::now();
        self.log.record(&[Completion { prior, ..Completion::default() }], self.sessions.link.cache(), now)
    }

    /// Whether all is written down that was accepted of a stream.
    fn is_written(&self, Progress { stream, .. }: &Progress) -> bool {
        let accepted = self.sessions.receiver.streams(stream.session);
        self.log.is_written_up_to(*stream, accepted.and_then(|streams| streams.next_seq(stream.number)))
    }

    /// The first message under a new session came.
    fn note_promotion(&self, opened: &Opened, accepted: &Accepted) -> Result<()> {
        if accepted.promoted && self.sessions.link.cache().promote(&opened.peer, &opened.stream.session, unix_time())? {
            self.reports.session_in_use(&self.sessions.peer_name(&opened.peer));
        }
        Ok(())
    }

    /// Reports what was lost before a message; returns what is to be written down of it once the message is written.
    fn note_losses(&mut self, peer: &Digest, accepted: &Accepted) -> Vec<JournalEntry> {
        let Accepted { progress, gap, ref before, ref given_up, is_kept, .. } = *accepted;
        let StreamId { session, .. } = progress.stream;
        let mut prior = self.note_before(peer, progress.stream, before, gap);
        // Now, as they no longer count as missing when the run ends.
        for &(from, to) in given_up {
            let first = self.sessions.visible_from(session);
            if to >= first {
                self.reports.streams_given_up(&self.sessions.peer_name(peer), (from.max(first), to));
            }
            prior.push(JournalEntry::GivenUp { session, first: from, last: to });
        }
        prior.extend(is_kept.then_some(JournalEntry::Kept(progress.stream)));
        prior
    }

    /// As [`SealedStreams::note_losses`], of other streams of the sequence, and of one that begins or is closed.
    fn note_before(&mut self, peer: &Digest, stream: StreamId, before: &Before, gap: Option<Gap>) -> Vec<JournalEntry> {
        let mut prior = Vec::new();
        for ToldStream { progress, before, gap } in &before.moved {
            prior.extend(self.note_before(peer, progress.stream, before, *gap));
            // Otherwise what is not written of it would be written down as written.
            prior.extend(self.is_written(progress).then_some(JournalEntry::Progress(*progress)));
        }
        let name = || self.sessions.peer_name(peer);
        for (closed, why) in &before.closed {
            self.chains.end(closed.stream);
            self.reports.stream_closed(&name(), closed.stream.number, *why);
            prior.push(JournalEntry::Progress(*closed));
        }
        for superseded in &before.superseded {
            self.chains.end(superseded.stream);
            prior.push(JournalEntry::Progress(*superseded));
        }
        if let Some(position) = before.unknown {
            self.reports.sequence_unknown(&name(), stream.number, position);
        }
        for gap in before.gap.into_iter().chain(gap) {
            self.reports.messages_lost(&name(), &gap);
            prior.push(JournalEntry::Lost(gap));
        }
        prior
    }

    /// The accepted message, with all that is owed for it.
    fn delivery(&mut self, opened: &Opened, completion: Completion) -> Delivery {
        let mut data = self.plaintext.split().freeze();
        data.advance(completion.offset);
        let metadata = self.with_metadata.then(|| Metadata::Sealed {
            peer: self.sessions.peer_name(&opened.peer),
            stream: opened.stream.number,
            seq: opened.seq,
            is_will: opened.content == Content::Will,
            received: SystemTime::now(),
        });
        let joint = match opened.content {
            Content::Will => Joint::Alone,
            _ if opened.content.ends_chain() => Joint::Ends,
            _ => Joint::Continues,
        };
        Delivery::new(self.chains.head_of(opened.stream), data, joint, metadata, completion)
    }

    /// What becomes of an authentic message that is not the next of its stream.
    fn refuse(&mut self, opened: &Opened, error: AcceptError, message: Message, now: Instant) -> Disposition {
        let (stream, receipt) = (opened.stream, message.receipt);
        if opened.wants_confirms
            && let Some(next) = error.confirm()
        {
            self.log.confirms.repeat(stream, opened.salt(), next, now);
        }
        match error {
            AcceptError::Settled => {
                self.log.confirms.settled(stream);
                Disposition::Drop(receipt)
            }
            AcceptError::Duplicate { .. } if opened.content.ends_session() => {
                Disposition::Drop(self.ended.repeat(stream.session, receipt))
            }
            AcceptError::Duplicate { .. } => {
                self.log.journal.count_duplicate(stream.session);
                Disposition::Repeat { stream: self.chains.head_of(stream), receipt }
            }
            AcceptError::StreamReused => {
                self.reports.stream_reused(&self.sessions.peer_name(&opened.peer), stream.number, now);
                self.reject(error.rejected(), receipt, now)
            }
            AcceptError::SealedTwice => {
                self.reports.two_devices(&self.sessions.peer_name(&opened.peer), stream, now);
                self.reject(error.rejected(), receipt, now)
            }
            AcceptError::Unreadable => {
                let is_refused = opened.wants_confirms && !stream.is_of_confirms();
                if is_refused && self.log.confirms.refuse(stream, opened.salt(), opened.seq, now) {
                    self.reports.refused(&self.sessions.peer_name(&opened.peer));
                }
                self.reject(error.rejected(), receipt, now)
            }
            // What is before it is lost or late, and comes again.
            AcceptError::Ahead { .. } if opened.content.is_in_sequence() => {
                self.chains.hold_early(opened, &message.payload, now);
                self.log.confirms.lacks(stream, now);
                Disposition::Drop(receipt)
            }
            AcceptError::Ahead { .. } | AcceptError::Closed | AcceptError::Gone => {
                self.reject(error.rejected(), receipt, now)
            }
        }
    }

    /// What becomes of a message that no key opens. The keys of a stream that is over are gone, so nothing proves that what comes
    /// again of it is authentic: it is dropped, and changes nothing but a count. Its sender may lack our last confirm, which is
    /// true whoever asks for it.
    fn take_unproven(&mut self, message: Message, now: Instant) -> Disposition {
        let Some((peer, stream, claim)) = self.sessions.receiver.claim(&message.payload) else {
            return self.leave_or_reject(message, Rejected::NotAuthentic, now);
        };
        match claim {
            Claim::Copied => {
                self.reports.may_be_copied(&self.sessions.peer_name(&peer), stream.number, now);
                self.log.journal.count_rejected(Rejected::StreamReused);
                Disposition::Drop(message.receipt)
            }
            Claim::Closed => self.reject(Rejected::StreamClosed, message.receipt, now),
            Claim::Settled => Disposition::Drop(message.receipt),
            Claim::Ended { confirm } => {
                if let Some((salt, next)) = confirm {
                    self.log.confirms.repeat(stream, salt, next, now);
                }
                self.log.journal.count_duplicate(stream.session);
                Disposition::Repeat { stream: self.chains.head_of(stream), receipt: message.receipt }
            }
        }
    }

    /// What becomes of a message that no usable session opens. One that only this device's configuration keeps out is not junk:
    /// it stays with the broker until the configuration accepts it.
    fn leave_or_reject(&mut self, message: Message, reason: Rejected, now: Instant) -> Disposition {
        match self.sessions.keeping_out(&message.payload, self.log.state()) {
            Some((session, why)) => {
                self.reports.left_with_broker(session, &why, now);
                Disposition::Leave(LeftMessage { qos: message.qos, kept_out: Some(why) })
            }
            None => self.reject(reason, message.receipt, now),
        }
    }

    /// Reports each open stream that this run follows, except those that its error is about. Returns all.
    fn report_open(&self, in_error: &[StreamId]) -> Vec<OpenStream> {
        let now = unix_time();
        let sessions = self.sessions.receiver.sessions();
        let mut all: Vec<_> = sessions.flat_map(|id| self.log.state().open_streams(*id, now)).collect();
        all.retain(|open| !self.chains.is_selective() || self.chains.is_selected(open.stream));
        all.sort_unstable_by_key(|open| std::cmp::Reverse(open.age));
        let others = all.iter().filter(|open| !in_error.contains(&open.stream));
        let named = others.filter_map(|open| {
            let session = self.sessions.receiver.session(open.stream.session)?;
            Some((self.sessions.peer_name(&session.peer), open))
        });
        self.reports.streams_open(&named.collect::<Vec<_>>());
        all
    }

    /// Reports the streams of which no message came, though one came of a later stream.
    fn report_missing(&mut self) {
        // Other streams than the one that it follows were not for this run.
        if self.chains.is_selective() {
            return;
        }
        let ids: Vec<SessionId> = self.sessions.receiver.sessions().copied().collect();
        for id in ids {
            let Some(streams) = self.sessions.receiver.streams(id) else { continue };
            let first = self.sessions.visible_from(id);
            let missing = streams.missing();
            let seen: Vec<_> =
                missing.iter().filter(|(_, to)| *to >= first).map(|(from, to)| (from.max(first), to)).collect();
            if !seen.is_empty() {
                self.reports.streams_missing(&seen);
            }
        }
    }

    /// Counts a message that is dropped.
    fn reject(&mut self, reason: Rejected, receipt: Receipt, now: Instant) -> Disposition {
        self.log.journal.count_rejected(reason);
        self.reports.rejected(reason, now);
        Disposition::Drop(receipt)
    }

    /// Answers a peer that asks whether a session is still here.
    fn answer(&mut self, message: Message, now: Instant) -> Result<Disposition> {
        self.refresh_if_due(now)?;
        let Message { payload, receipt, .. } = message;
        Ok(match self.sessions.answer(&payload)? {
            Some(answer) => Disposition::Answer { answer, receipt },
            None => Disposition::Drop(receipt),
        })
    }

    fn refresh_if_due(&mut self, now: Instant) -> Result<()> {
        if self.sessions.link.refresh_if_due(now)? { self.adopt_sessions() } else { Ok(()) }
    }

    /// Looks again whether sessions came or went; true if so.
    fn refresh(&mut self, now: Instant) -> Result<bool> {
        let has_changed = self.sessions.link.refresh(now)?;
        if has_changed {
            self.adopt_sessions()?;
        }
        Ok(has_changed)
    }

    fn adopt_sessions(&mut self) -> Result<()> {
        let unusable = self.log.journal.adopt(&self.sessions.stored());
        self.sessions.adopt(&unusable, self.log.state());
        self.sessions.delete_finished(|id| self.chains.involves(id) || self.lost_ends.involves(id))?;
        let (sessions, log) = (&self.sessions, &mut self.log);
        let is_usable = |id| sessions.receiver.session(id).is_some();
        log.confirms.retain_sessions(is_usable);
        self.chains.retain_incomplete(is_usable);
        self.reports.retain_sessions(|id| sessions.link.is_stored(id));
        self.forget_chains();
        Ok(())
    }

    /// Forgets the chains of which nothing more is to come.
    fn forget_chains(&mut self) {
        let is_usable = |id| self.sessions.receiver.session(id).is_some();
        self.chains.retain_chains(|stream| is_usable(stream.session) && !self.log.is_over(stream));
    }
}

impl IncomingStreams for SealedStreams<'_> {
    fn receive(&mut self, message: Message, now: Instant) -> Result<Disposition> {
        match FrameType::of(&message.payload) {
            Ok(FrameType::Enc | FrameType::Kill | FrameType::Will) => self.receive_sealed(message, false, now),
            Ok(FrameType::RdyReq) => self.answer(message, now),
            // The handshake's frames are sts-pair's, which listens on the same topic.
            Ok(
                FrameType::InitReq | FrameType::InitAck | FrameType::AuthReq | FrameType::AuthAck | FrameType::RdyAck,
            ) => Ok(Disposition::Drop(message.receipt)),
            Err(reason) => Ok(self.reject(reason, message.receipt, now)),
        }
    }

    fn receive_end(&mut self, message: Message, now: Instant) -> Result<Option<Completion>> {
        let Ok(opened) = self.sessions.receiver.open(&message.payload, &mut self.plaintext) else { return Ok(None) };
        let is_end = opened.content.ends_chain() && self.plaintext.is_empty();
        if !(is_end && opened.wants_confirms && self.log.is_written_before(opened.stream, opened.seq)) {
            return Ok(None);
        }
        Ok(match self.accept(&opened, message, now)? {
            Disposition::Deliver(delivery) => Some(delivery.completion),
            _ => None,
        })
    }

    fn reject_oversize(&mut self, len: usize, now: Instant) {
        self.log.journal.count_rejected(Rejected::Foreign);
        self.reports.oversize(len, now);
    }

    fn next_released(&mut self, given_up: GivenUp<'_>, now: Instant) -> Result<Option<Disposition>> {
        if let Some(message) = self.chains.next_released(given_up, &self.sessions, now) {
            return self.receive_sealed(message, true, now).map(Some);
        }
        Ok(self.next_lost_end(given_up, now).map(Disposition::Deliver))
    }

    fn holds_unkept(&self, keeps: &dyn Fn(Qos) -> bool) -> bool {
        self.chains.held().any(|message| !keeps(message.qos))
    }

    fn set_stalled(&mut self, stalled: bool, now: Instant) {
        self.chains.set_stalled(stalled, now);
        self.lost_ends.set_stalled(stalled, now);
    }

    fn disconnected(&mut self) {
        self.chains.disconnected();
    }

    fn record(&mut self, written: &[Completion], now: Instant) -> Result<()> {
        self.log.record(written, self.sessions.link.cache(), now)?;
        if self.chains.are_crowded() {
            self.forget_chains();
        }
        self.log.erase_keys_if_due(self.sessions.link.cache(), now)
    }

    fn close(&mut self) -> Result<()> {
        self.give_up_lost_ends()?;
        self.log.erase_keys(self.sessions.link.cache())
    }

    fn due_confirms(&mut self, all: bool, now: Instant) -> Result<Vec<ConfirmMessage>> {
        let (confirms, is_outdated) =
            self.log.due_confirms(all, &self.sessions, &self.chains, now, &mut rand::rng())?;
        if is_outdated {
            self.refresh(now)?;
        }
        Ok(confirms)
    }

    fn late_sessions(&self, now: Instant) -> Vec<SessionId> {
        self.ended.late(&self.sessions, now)
    }

    fn delete_ended_sessions(&mut self, is_held: &dyn Fn(SessionId) -> bool, now: Instant) -> Result<Vec<Receipt>> {
        let receipts = self.ended.delete(&mut self.sessions, &mut self.chains, &mut self.reports, is_held, now)?;
        if !receipts.is_empty() {
            self.is_complete |= self.sessions.is_empty();
            // At once: until then the sessions would be neither here nor deleted, which is lost to a peer that asks for one.
            self.refresh(now)?;
        }
        Ok(receipts)
    }

    fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn linger_until(&self, now: Instant) -> Option<Instant> {
        let until = if self.is_complete { self.log.confirms.unsettled_until() } else { None };
        until.filter(|until| *until > now)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        // Past one of these, what it is for waits for standard output or for room.
        let log = self.log.confirms.deadline().into_iter().chain(self.log.erasure_due());
        let own = self.ended.deadlines().chain(log).chain(self.chains.deadline()).chain(self.lost_ends.deadline());
        own.filter(|deadline| *deadline > now).chain(self.linger_until(now)).min()
    }

    fn report_unfinished(&mut self) {
        self.report_open(&[]);
        self.report_missing();
    }

    fn verdict(&mut self, timed_out: bool) -> Result<()> {
        if self.chains.is_selective() && self.log.confirms.unsettled_until().is_some() {
            self.reports.unsettled();
        }
        self.report_missing();
        if timed_out {
            let incomplete = self.chains.incomplete();
            let open = self.report_open(&incomplete);
            if !incomplete.is_empty() {
                return Err(Error::new(Exit::TryAgain, "timed out").because(not_complete(&incomplete, &open)));
            }
        }
        if self.chains.awaits_first() {
            let what = if timed_out { "timed out" } else { SESSION_ENDED };
            return Err(Error::new(Exit::TryAgain, what).because("no stream was received"));
        }
        self.reports.data_lost().map_or(Ok(()), Err)
    }
}
