//! What the receiver says of the stream, with `--confirm`, and what to do about its silence.

use std::time::Instant;

use super::failure::{RunResult, SendFailure};
use super::outgoing::Reply;
use super::retried_failure::FailureCause;
use super::run::SendRun;
use super::source::Turn;
use crate::mqtt::Message;
use crate::text::count;
use crate::{Error, Exit};

/// The receiver does not have the session of the stream.
const SESSION_LOST: &str = "the other device has lost the session";
/// The receiver is of a version that cannot read what is sent.
const NOT_UNDERSTOOD: &str = "the other device does not understand a message";
/// The receiver has a stream of this number already, which another device sent.
const SESSION_SHARED: &str = "two devices use this session: a copy of this device's runtime directory is in use";
/// The receiver has deleted the session of the stream, and says so.
const SESSION_ENDED: &str = "the other device has deleted the session";
/// The session of the stream is not on this device any more.
const SESSION_GONE: &str = "the session is gone";

fn not_understood() -> Error {
    Error::new(Exit::Protocol, NOT_UNDERSTOOD).hint("install this version on the other device, too")
}

impl SendRun<'_> {
    /// Acts on what arrived on one of the [`ReplyTopics`](super::reply_topics::ReplyTopics).
    pub(super) fn handle_reply(&mut self, message: &Message, now: Instant) -> RunResult<()> {
        let reply = self.stream.receive(message, now);
        let Some(reply) = self.unless_retried(reply, now)? else { return Ok(()) };
        match reply {
            Reply::Nothing => Ok(()),
            Reply::Rejected(rejected) => {
                self.report.verbose(format_args!("dropped a message: {rejected}"));
                Ok(())
            }
            Reply::Answer(answer) => Ok(self.publish(answer, now)?),
            Reply::Confirmed(position) => self.confirmed(position, now),
            Reply::Refused(seq) => {
                self.report.verbose(format_args!("message {seq} of the stream is refused"));
                self.fail(FailureCause::NotUnderstood, not_understood(), now)
            }
            // Nothing of ours was taken under this number, and nothing will be.
            Reply::Copied => {
                let Some(resent) = self.reseal(now)? else { return Ok(()) };
                let resent = count(resent, "message");
                self.report.warning(format_args!("{SESSION_SHARED}; resent in another stream: {resent}"));
                Ok(())
            }
            Reply::SessionLost => {
                let duplicates = self.reseal(now)?.unwrap_or(0);
                if duplicates > 0 {
                    // It may have written them before it lost what it knew of them.
                    let messages = count(duplicates, "message");
                    let what =
                        format_args!("{SESSION_LOST}; resent under the new session, possibly duplicated: {messages}");
                    self.report.warning(what);
                }
                Ok(())
            }
            Reply::Moved => self.follow_to_new_peer(now),
            Reply::SessionEnded => self.leave_ended_session(now),
            Reply::SessionDeleted if self.source.keeps_undelivered() => {
                let Some(resent) = self.reseal(now)? else { return Ok(()) };
                let resent = count(resent, "message");
                self.report.info(format_args!("{SESSION_GONE}; resent under the new session: {resent}"));
                Ok(())
            }
            // The receiver may have written everything and can only say so in a way that this device cannot read, so sending
            // it again could duplicate all of it.
            Reply::SessionDeleted => Err(self.session_gone()),
        }
    }

    /// The device is with another peer now: what the one before has not confirmed is sent to that one.
    fn follow_to_new_peer(&mut self, now: Instant) -> RunResult<()> {
        let Some(duplicates) = self.reseal(now)? else { return Ok(()) };
        let receiver = self.stream.receiver();
        match duplicates {
            0 => self.report.info(format_args!("this device has paired with {receiver}; sending to it")),
            _ => self.report.warning(format_args!(
                "this device has paired with {receiver}; resent to it, possibly duplicated: {}",
                count(duplicates, "message")
            )),
        }
        Ok(())
    }

    /// The receiver has ended the session. A run that keeps nothing ends then, unless everything is written:
    /// [`SendRun::is_session_over`].
    fn leave_ended_session(&mut self, now: Instant) -> RunResult<()> {
        if self.source.keeps_undelivered()
            && let Some(resent) = self.reseal(now)?
        {
            let what = if resent == 0 {
                SESSION_ENDED.to_owned()
            } else {
                let resent = count(resent, "message");
                format!("{SESSION_ENDED}; to be resent under the next one, possibly duplicated: {resent}")
            };
            self.report.warning(what);
        }
        Ok(())
    }

    /// The receiver has written every message of the sequence below this position.
    fn confirmed(&mut self, position: u64, now: Instant) -> RunResult<()> {
        self.registration.reply_topics.delivered();
        self.timeouts.progress(now);
        self.succeeded(FailureCause::NotUnderstood);
        if self.timeouts.end_silence() {
            self.report.info("confirms are arriving again");
        }
        Ok(self.source.confirmed(position)?)
    }

    fn session_gone(&self) -> SendFailure {
        self.without_session(SESSION_GONE)
    }

    /// Whether the receiver has ended the session, and a run that keeps nothing has something left to be confirmed.
    pub(super) fn is_session_over(&self) -> bool {
        let is_done = || self.source.is_done(&*self.stream) && self.pending().messages == 0;
        self.stream.is_session_ended() && !self.source.keeps_undelivered() && !is_done()
    }

    pub(super) fn session_ended(&self) -> SendFailure {
        self.without_session(SESSION_ENDED)
    }

    fn without_session(&self, why: &str) -> SendFailure {
        let left = self.unfinished(Exit::DataLost, why);
        SendFailure::GivenUp(left.hint("before the next run, run sts-pair on both devices"))
    }

    /// Nothing was confirmed for long, though confirms could reach us. Silence alone is no reason to send anything under
    /// another session, as the broker can cause it: only the receiver's word is.
    pub(super) fn handle_silence(&mut self, now: Instant) -> RunResult<()> {
        if !self.source.is_collecting() && self.stream.is_orphaned(now)? {
            return Err(self.session_gone());
        }
        if let Some(query) = self.stream.query(now, &mut self.rng)? {
            self.registration.reply_topics.follow(&*self.stream, &mut self.events.broker, now)?;
            self.publish(query, now)?;
        }
        if self.timeouts.report_silence(now) {
            let receiver = self.stream.receiver();
            self.report.info(format_args!("no confirms are arriving; waiting for sts-recv on {receiver}"));
        }
        Ok(())
    }

    /// Nothing more can be confirmed under the session of the stream: what is not, is sealed again under the current one.
    /// Returns how many messages that are, or `None` while the disk is full: the receiver is asked again, and says the same.
    fn reseal(&mut self, now: Instant) -> RunResult<Option<u64>> {
        let in_flight = self.in_flight();
        let mut turn = Turn { now, connected: self.events.is_connected(), rng: &mut self.rng };
        let resealed = self.source.reseal(&mut *self.stream, &mut turn);
        let resent = resealed.map_err(|cause| self.not_resealed(cause, in_flight))?;
        if resent.is_none() {
            return Ok(None);
        }
        self.timeouts.progress(now);
        self.registration.reply_topics.follow(&*self.stream, &mut self.events.broker, now)?;
        Ok(resent)
    }
}
