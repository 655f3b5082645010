//! An encrypted link: which messages are authentic, in which order they are written, and what is owed for each.
//!
//! [`SealedStreams`] takes a message through four steps, each with an owner of its own:
//!
//! 1. open it, under one of the [`UsableSessions`](sessions::UsableSessions), which are loaded when their peer sends; junk is
//!    dropped here;
//! 2. admit it: [`Admissions`](admissions::Admissions) know whether this run receives its stream, and whether it must
//!    wait for another one;
//! 3. accept it: the receiver tells the next message of a stream from a repeated one, and what was lost before it;
//! 4. act on its content, in [`SealedStreams::act`], where each kind of content has its line.
//!
//! Once it is written, the [`ReceiveLog`](receive_log::ReceiveLog) writes it down and owes its sender a confirm. A KILL
//! ends in [`EndedSessions`](ended_sessions::EndedSessions); what a sender says of how its earlier streams ended, in
//! [`LostEnds`](lost_ends::LostEnds); `closed_streams.rs` decides when that is written down. All of these are parts of
//! [`ReceivedStreams`], which has what changes several of them: what is lost, what is refused, and sessions that come
//! and go.
//!
//! What a message is of, and what it does, whatever its kind:
//!
//! - A stream is of one process of a peer; the peer is the device, by its identity key ([`Opened::peer`]). What is
//!   known of a peer beyond its streams has no place yet: it would be a field of [`ReceivedStreams`].
//! - A message comes to [`SealedStreams::act`] once: one of which another stream carried the position is a duplicate
//!   before that. The exceptions have an [`Accepted::skip`] that is not 0: the first and the last message of a stream, and
//!   one that is partly written. So what a message makes happen beyond its bytes of data, happens where that is 0.
//! - `--timeout` begins anew for each [`Disposition::Deliver`] and the like ([`Disposition::restarts_timeout`]), with
//!   bytes or without.
//! - `sts-pair --status` counts each message that has a [`Completion`] with a progress, and so does the state file.
//! - A later run knows of the streams what the completions said: how far each is, and which wills came. Of side
//!   streams, and of what waits here, it knows nothing.

mod admissions;
mod arrival_clock;
mod chains;
mod closed_streams;
mod confirm_batch;
mod confirm_queue;
mod early_messages;
mod ended_sessions;
mod incoming_streams;
mod incomplete_streams;
mod key_checks;
mod last_messages;
mod loaded_peers;
mod loading;
mod lost_ends;
mod recalled_wait;
mod receive_log;
mod received_streams;
mod reorder_buffer;
mod reports;
mod sessions;
mod stall;
#[cfg(test)]
mod tests;

use std::time::{Instant, SystemTime};

use bytes::{Buf, BufMut, BytesMut};

use self::admissions::Admission;
pub(super) use self::last_messages::LastMessages;
use self::received_streams::ReceivedStreams;
use super::delivery::{Completion, Delivery, Joint, LineKind, Metadata};
use super::incoming::Disposition;
use super::left_messages::LeftMessage;
use crate::cache::JournalEntry;
use crate::link::Link;
use crate::message::FrameType;
use crate::mqtt::{Message, Receipt};
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::stream::{AcceptError, Accepted, AcceptedWill, Content, Opened};
use crate::{Rejected, Result};

/// The messages of an encrypted link.
pub(super) struct SealedStreams<'a> {
    received: ReceivedStreams<'a>,
    /// What the last message was opened into. The delivery gets a view of it, and once that is printed the buffer is
    /// used again.
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
        let received = ReceivedStreams::open(link, peers, once, report, now)?;
        Ok(Self { received, plaintext: BytesMut::new(), with_metadata, is_complete: false })
    }

    /// Steps 1 and 2; one that `was_held` is not held again.
    fn receive_sealed(&mut self, message: Message, was_held: bool, now: Instant) -> Result<Disposition> {
        // A peer that was forgotten is not heard any more, not even for a second.
        self.received.refresh_if_due(now)?;
        let mut opened = self.received.open_sealed(&message.payload, &mut self.plaintext)?;
        if opened == Err(Rejected::UnknownSession) && self.received.refresh(now)? {
            opened = self.received.open_sealed(&message.payload, &mut self.plaintext)?;
        }
        let opened = match opened {
            Ok(opened) => opened,
            // The broker keeps it until the sender's next one, however long its session is gone.
            Err(Rejected::UnknownSession) if message.retain => {
                self.received.reports.retained_left("a deleted session");
                return Ok(Disposition::Drop(message.receipt));
            }
            Err(Rejected::NotAuthentic) => return Ok(self.received.take_unproven(message, now)),
            Err(reason) => return Ok(self.received.leave_or_reject(message, reason, now)),
        };
        self.look_for_successor(&opened, now)?;
        if FrameType::of(&message.payload) == Ok(FrameType::Will) {
            return Ok(self.accept_will(&opened, message, now));
        }
        // A retained message stands alone, and says nothing of the messages before it, which may still come. So it is
        // taken where it is the next one, and left otherwise. A broker that calls a message retained can withhold it by
        // that, and no more.
        if message.retain && !self.received.sessions.receiver.expects(&opened) {
            self.received.reports.retained_left(&self.received.sessions.loaded_peer_name(&opened.peer));
            return Ok(Disposition::Drop(message.receipt));
        }
        match self.received.admissions.admit(&opened, was_held, &self.received.sessions, now) {
            Admission::Accept => Ok(self.accept(&opened, message, now)),
            Admission::Hold { is_followed } => {
                self.received.admissions.hold(opened.stream, opened.seq, message);
                Ok(Disposition::Hold { is_followed })
            }
            Admission::Leave => {
                self.received.lost_ends.left(opened.stream);
                Ok(Disposition::Leave(LeftMessage::sealed(message, None)))
            }
        }
    }

    /// A sender may continue under a session that is newer than our last look.
    fn look_for_successor(&mut self, opened: &Opened, now: Instant) -> Result<()> {
        if let Content::Continued(next) = opened.head.content
            && self.received.sessions.receiver.session(next.session).is_none()
        {
            self.received.refresh(now)?;
        }
        Ok(())
    }

    /// Steps 3 and 4.
    fn accept(&mut self, opened: &Opened, message: Message, now: Instant) -> Disposition {
        let copies = self.received.sessions.receiver.copies(opened);
        let accepted = match self.received.sessions.receiver.accept(opened) {
            Ok(accepted) => accepted,
            Err(error) => return self.received.refuse(opened, error, message, now),
        };
        let receipt = message.receipt;
        let stream = opened.stream;
        let mut prior = self.received.note_ended(opened, &copies, now);
        if opened.head.content.stays_with_stream() {
            self.received.admissions.select(stream);
        }
        prior.extend(self.received.note_losses(&opened.peer, &accepted));
        self.received.note_promotion(opened, &accepted);
        self.received.note_arrival(&accepted.progress, now);
        // What is said in a side stream is for sts-send, which receives it itself. It is accepted here for the proof
        // that the peer has the session.
        if stream.is_side_stream() {
            return Disposition::Drop(receipt);
        }
        self.act(opened, &accepted, prior, receipt, now)
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
        match opened.head.content {
            Content::Data => self.received.admissions.begin(stream),
            Content::End => {
                self.received.admissions.end(stream);
                self.is_complete |= self.received.admissions.is_selected(stream);
            }
            Content::Continued(_) => {
                let next = self.received.sessions.receiver.successor(opened);
                self.received.admissions.continue_in(next, stream, &self.received.sessions);
            }
            Content::Skipped => self.begin_without_content(opened, true),
            Content::Unreadable => self.begin_without_content(opened, false),
            // A run that ends before the keys are deleted must get it again.
            Content::Kill { next_stream } => {
                let receiver = &self.received.sessions.receiver;
                let spare = self.received.ended.push(opened.peer, stream.session, next_stream, receipt, receiver, now);
                return spare.map_or(Disposition::Hold { is_followed: false }, Disposition::Drop);
            }
            // None of these comes here: in a stream of data `content::read` makes the first unreadable, the receiver
            // accepts no `settled` (`SessionEntry::check`), and a will is accepted by `accept_will`.
            Content::Side(_) | Content::Settled | Content::Will => return Disposition::Drop(receipt),
        }
        if opened.head.wants_confirms && accepted.progress.skip > 0 {
            self.received.log.confirms.repeat(stream, opened.salt(), 0, now);
        }
        self.deliver(opened, accepted, prior, receipt)
    }

    /// A message of which nothing is understood is the next of its stream; `is_skipped` if a later version may say what
    /// it likes there.
    fn begin_without_content(&mut self, opened: &Opened, is_skipped: bool) {
        self.received.admissions.begin(opened.stream);
        let peer = self.received.sessions.loaded_peer_name(&opened.peer);
        self.received.reports.message_without_content(&peer, is_skipped);
    }

    /// Hands an accepted message on, with or without data.
    fn deliver(
        &mut self,
        opened: &Opened,
        accepted: &Accepted,
        prior: Vec<JournalEntry>,
        receipt: Receipt,
    ) -> Disposition {
        self.received.log.beginnings.extend(accepted.beginning);
        let completion = Completion {
            progress: Some(accepted.progress),
            prior,
            offset: accepted.skip.min(self.plaintext.len()),
            wants_confirm: opened.head.wants_confirms,
            receipt: Some(receipt),
            ..Completion::default()
        };
        let joint = if opened.head.content.ends_chain() { Joint::Ends } else { Joint::Continues };
        Disposition::Deliver(self.delivery(opened, (joint, LineKind::Input), completion))
    }

    /// What the broker says for a sender that lost its connection: one line, after what was written of its stream.
    fn accept_will(&mut self, opened: &Opened, message: Message, now: Instant) -> Disposition {
        let stream = opened.stream;
        if !self.received.admissions.receives(stream) {
            return Disposition::Leave(LeftMessage::sealed(message, None));
        }
        let receipt = message.receipt;
        let AcceptedWill { accepted, next } = match self.received.sessions.receiver.accept_will(opened) {
            Ok(accepted) => accepted,
            Err(AcceptError::Duplicate { .. }) => {
                self.received.log.journal.count_duplicate(stream.session);
                return Disposition::Repeat { stream: self.received.admissions.head_of(stream), receipt };
            }
            Err(AcceptError::Closed) => return self.received.refuse_closed(stream, receipt, now),
            Err(error) => return self.received.reject(error.rejected(), receipt, now),
        };
        let mut prior = self.received.note_losses(&opened.peer, &accepted);
        self.received.note_promotion(opened, &accepted);
        self.received.admissions.begin(stream);
        if !self.plaintext.ends_with(b"\n") {
            self.plaintext.put_u8(b'\n');
        }
        let bytes = self.plaintext.len() as u64;
        prior.push(JournalEntry::Written { session: stream.session, messages: 1, bytes });
        prior.push(JournalEntry::Progress(accepted.progress));
        prior.push(JournalEntry::Will { stream, next });
        self.received.log.wills.insert((stream, next));
        let completion = Completion { prior, receipt: Some(receipt), ..Completion::default() };
        Disposition::Deliver(self.delivery(opened, (Joint::Alone, LineKind::Will), completion))
    }

    /// The accepted message, with how it is printed and all that is owed for it.
    fn delivery(&mut self, opened: &Opened, (joint, kind): (Joint, LineKind), completion: Completion) -> Delivery {
        let mut data = self.plaintext.split().freeze();
        data.advance(completion.offset);
        let metadata = self.with_metadata.then(|| Metadata::Sealed {
            peer: self.received.sessions.loaded_peer_name(&opened.peer),
            stream: opened.stream.number,
            seq: opened.seq,
            kind,
            received: SystemTime::now(),
            sent: opened.head.sent,
        });
        Delivery::new(self.received.admissions.head_of(opened.stream), data, joint, metadata, completion)
    }

    /// Answers a peer that asks whether a session is still here.
    fn answer(&mut self, message: Message, now: Instant) -> Result<Disposition> {
        self.received.refresh_if_due(now)?;
        let Message { payload, receipt, .. } = message;
        Ok(match self.received.answer(&payload)? {
            Some(answer) => Disposition::Answer { answer, receipt },
            None => Disposition::Drop(receipt),
        })
    }
}
