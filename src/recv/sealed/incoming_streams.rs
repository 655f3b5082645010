//! What the loop of sts-recv asks of an encrypted link.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::SealedStreams;
use super::reports::not_complete;
use crate::event_loop::next_deadline;
use crate::message::FrameType;
use crate::mqtt::{Message, Qos, Receipt};
use crate::recv::SESSION_ENDED;
use crate::recv::delivery::Completion;
use crate::recv::incoming::{ConfirmMessage, Disposition, GivenUp, IncomingStreams, Supply};
use crate::session::SessionId;
use crate::sessions::SessionChanges;
use crate::stream::StreamId;
use crate::{Error, Exit, Rejected, Result};

impl SessionChanges for SealedStreams<'_> {
    fn follow_changes(&mut self, now: Instant) -> Result<()> {
        let has_changed = self.received.sessions.link.refresh_if_changed(now)?;
        self.received.follow_sessions(has_changed)
    }

    fn changes_fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.received.sessions.link.changes_fd(now)
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        self.received.sessions.link.next_look(now)
    }
}

impl IncomingStreams for SealedStreams<'_> {
    fn receive(&mut self, message: Message, now: Instant) -> Result<Disposition> {
        if message.qos > Qos::AtMostOnce {
            self.received.lost_ends.arrived(now);
        }
        match FrameType::of(&message.payload) {
            Ok(FrameType::Enc | FrameType::Kill | FrameType::Will) => self.receive_sealed(message, false, now),
            Ok(FrameType::RdyReq) => self.answer(message, now),
            // The handshake's frames are sts-pair's, which listens on the same topic.
            Ok(
                FrameType::InitReq | FrameType::InitAck | FrameType::AuthReq | FrameType::AuthAck | FrameType::RdyAck,
            ) => Ok(Disposition::Drop(message.receipt)),
            Err(reason) => Ok(self.received.reject(reason, message.receipt, now)),
        }
    }

    fn limit_messages(&mut self, max_message: usize) -> bool {
        self.received.log.limit_messages(max_message, self.received.sessions.link.pad())
    }

    fn receive_without_data(&mut self, message: Message, now: Instant) -> Result<Option<Completion>> {
        let Ok(opened) = self.received.open_sealed(&message.payload, &mut self.plaintext)? else {
            return Ok(None);
        };
        let is_wanted = opened.head.wants_confirms && opened.head.content.is_without_data(&self.plaintext);
        if !(is_wanted && self.received.log.is_written_before(opened.stream, opened.seq)) {
            return Ok(None);
        }
        Ok(match self.accept(&opened, message, now) {
            Disposition::Deliver(delivery) => Some(delivery.completion),
            _ => None,
        })
    }

    fn reject_oversize(&mut self, len: usize, now: Instant) {
        self.received.log.journal.count_rejected(Rejected::Foreign);
        self.received.reports.oversize(len, now);
    }

    fn next_released(&mut self, given_up: GivenUp<'_>, now: Instant) -> Result<Option<Disposition>> {
        self.received.check_keys(now)?;
        self.received.recall_more(now)?;
        if let Some(message) = self.received.admissions.next_released(given_up, &self.received.sessions, now) {
            return self.receive_sealed(message, true, now).map(Some);
        }
        let recordable = self.received.next_recordable();
        let delivery = recordable.or_else(|| self.received.next_lost_end(given_up, now));
        Ok(delivery.or_else(|| self.received.next_waited(now)).map(Disposition::Deliver))
    }

    fn take_joined(&mut self) -> Vec<(StreamId, StreamId)> {
        self.received.admissions.take_joined()
    }

    fn holds_unkept(&self, keeps: &dyn Fn(Qos) -> bool) -> bool {
        self.received.admissions.held().any(|message| !keeps(message.qos))
    }

    fn set_supply(&mut self, supply: Supply, now: Instant) {
        self.received.admissions.set_stalled(supply == Supply::Stalled, now);
        // What waits here is unacknowledged as well.
        let is_held = self.received.admissions.held().next().is_some() || !self.received.ended.is_empty();
        let supply = if is_held && supply == Supply::Flowing { Supply::Doubtful } else { supply };
        self.received.lost_ends.set_supply(supply, now);
    }

    fn subscribed(&mut self, now: Instant) {
        self.received.lost_ends.subscribed(now);
    }

    fn disconnected(&mut self) {
        self.received.admissions.disconnected();
    }

    fn record(&mut self, written: &[Completion], now: Instant) -> Result<()> {
        self.received.log.record(written, self.received.sessions.link.cache(), now)?;
        if self.received.admissions.are_crowded() {
            self.received.forget_chains();
        }
        self.received.log.erase_keys_if_due(self.received.sessions.link.cache(), now)
    }

    fn update_session_files(&mut self) -> Result<()> {
        self.received.update_session_files()
    }

    fn close(&mut self, now: Instant) -> Result<()> {
        self.received.give_up_lost_ends(now)?;
        self.received.update_session_files()?;
        self.received.log.erase_keys(self.received.sessions.link.cache())
    }

    fn due_confirms(&mut self, all: bool, now: Instant) -> Result<Vec<ConfirmMessage>> {
        let (confirms, is_outdated) = self.received.log.due_confirms(
            all,
            &self.received.sessions,
            &self.received.admissions,
            now,
            &mut rand::rng(),
        )?;
        if is_outdated {
            self.received.refresh(now)?;
        }
        Ok(confirms)
    }

    fn late_sessions(&self, now: Instant) -> Vec<SessionId> {
        self.received.ended.late(&self.received.sessions, now)
    }

    fn delete_ended_sessions(&mut self, is_held: &dyn Fn(SessionId) -> bool, now: Instant) -> Result<Vec<Receipt>> {
        let receipts = self.received.ended.delete(
            &mut self.received.sessions,
            &mut self.received.admissions,
            &mut self.received.reports,
            is_held,
            now,
        )?;
        if !receipts.is_empty() {
            self.is_complete |= !self.received.sessions.load_any(&mut self.received.log)?;
            // At once: until then the sessions would be neither here nor deleted, which is lost to a peer that asks for
            // one.
            self.received.refresh(now)?;
        }
        Ok(receipts)
    }

    fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn linger_until(&self, now: Instant) -> Option<Instant> {
        let until = if self.is_complete { self.received.log.confirms.unsettled_until() } else { None };
        until.filter(|until| *until > now)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        // Past one of these, what it is for waits for standard output or for room.
        let log = self.received.log.confirms.deadline().into_iter().chain(self.received.log.erasure_due());
        let own = self
            .received
            .ended
            .deadlines()
            .chain(log)
            .chain(self.received.admissions.deadline())
            .chain(self.received.lost_ends.deadline())
            .chain(self.received.checks.deadline());
        next_deadline(now, own.map(Some).chain([self.linger_until(now)]))
    }

    fn report_unfinished(&mut self) {
        self.received.report_open(&[]);
        self.received.report_missing();
    }

    fn verdict(&mut self, timed_out: bool) -> Result<()> {
        if self.received.admissions.is_selective() && self.received.log.confirms.unsettled_until().is_some() {
            self.received.reports.unsettled();
        }
        self.received.report_missing();
        if timed_out {
            let incomplete = self.received.admissions.incomplete();
            let open = self.received.report_open(&incomplete);
            if !incomplete.is_empty() {
                return Err(Error::new(Exit::TryAgain, "timed out").because(not_complete(&incomplete, &open)));
            }
        }
        let lost = self.received.reports.data_lost();
        if self.received.admissions.awaits_first() {
            let what = if timed_out { "timed out" } else { SESSION_ENDED };
            let error = Error::new(Exit::TryAgain, what).because("no stream was received");
            return Err(error.and_error(lost.as_ref()));
        }
        lost.map_or(Ok(()), Err)
    }
}
