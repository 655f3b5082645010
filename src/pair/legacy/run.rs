//! One run of a pairing with the old program.

use std::time::Instant;

use rustix::event::PollFlags;

use super::new_session::NewSession;
use crate::config::Legacy;
use crate::event_loop::{BrokerEvent, EventLoop, Stop};
use crate::legacy::{Decrypted, Frame, Pairing, PairingOutput, Store, is_foreign};
use crate::link::{Link, Tool};
use crate::mqtt::{Message, Qos};
use crate::pair::progress_line::ProgressLine;
use crate::pair::service::Service;
use crate::report::Reporter;
use crate::role::Role;
use crate::stdio::Signals;
use crate::suite::Suite;
use crate::system_rng::system_rng;
use crate::{Error, Exit, Result};

/// Said where the slave may have taken one of two keys.
const OTHER_KEY: &str = "the slave answered late, or an offer was lost: if it displays noise, pair again";
/// Said where the last message may be lost, which nothing answers.
const NOT_HEARD: &str = "the connection broke at the end of the pairing: if the slave is not ready, pair again";

/// Said at the first text that no tool writes: sts-pair has no output for it.
const LOST_TEXT: &str =
    "a text of the other device is lost, since no sts-recv is running on this link (not reported again)";

/// What a run is for.
pub(super) enum LegacyPurpose<'a> {
    /// One session.
    Once(ProgressLine),
    /// A session whenever the master wants one.
    Serve(&'a mut Service),
}

/// How a run ended that did not fail.
#[derive(Clone, Copy)]
pub(super) enum LegacyOutcome {
    /// A session is stored, and both ends may use it.
    Paired,
    /// A service is to end.
    Stopped,
    /// A service is to read its configuration again.
    Reload,
}

pub(super) struct LegacyRun<'a> {
    link: &'a Link,
    report: &'a Reporter,
    purpose: LegacyPurpose<'a>,
    events: EventLoop<'a>,
    is_subscribed: bool,
    pairing: Pairing,
    session: NewSession<'a>,
    /// It was said that a text is lost.
    has_lost_text: bool,
}

impl<'a> LegacyRun<'a> {
    /// Connects and subscribes.
    ///
    /// # Errors
    /// As [`Link::connect`].
    pub(super) fn begin(
        link: &'a Link,
        legacy: Legacy,
        store: &'a Store,
        report: &'a Reporter,
        purpose: LegacyPurpose<'a>,
        signals: Signals,
    ) -> Result<Self> {
        let mut broker = link.connect(Tool::Pair, &mut rand::rng())?;
        broker.subscribe(link.config.subscribe.as_str(), Qos::AtMostOnce, Instant::now())?;
        let events = EventLoop::new(broker, signals, report);
        let pairing = Pairing::new(legacy.role, legacy.aes == Suite::Cbc);
        let session = NewSession::new(store, legacy);
        Ok(Self { link, report, purpose, events, is_subscribed: false, pairing, session, has_lost_text: false })
    }

    /// Runs to the end and closes the connection.
    ///
    /// # Errors
    /// As [`crate::pair::once::run`].
    pub(super) fn finish(self) -> Result<LegacyOutcome> {
        self.close_after_run()?.0
    }

    /// As [`LegacyRun::finish`]; also returns the signals for a run that follows.
    ///
    /// # Errors
    /// As [`EventLoop::close`]: what became of the run is returned.
    pub(super) fn close_after_run(mut self) -> Result<(Result<LegacyOutcome>, Signals)> {
        let outcome = self.run();
        // If the run failed, why it did counts: a pending session that stays harms nothing.
        let abandoned = self.session.abandon();
        let outcome = outcome.and_then(|outcome| abandoned.map(|()| outcome));
        self.report.status("");
        Ok((outcome, self.events.close()?))
    }

    fn run(&mut self) -> Result<LegacyOutcome> {
        loop {
            let now = self.events.begin_turn();
            while let Some(event) = self.events.next_event()? {
                self.take_event(event, now)?;
            }
            self.perform(now)?;
            if self.session.is_agreed() && matches!(self.purpose, LegacyPurpose::Once(_)) {
                return Ok(LegacyOutcome::Paired);
            }
            if let Some(outcome) = self.outcome(now)? {
                return Ok(outcome);
            }
            self.wait(now)?;
        }
    }

    fn take_event(&mut self, event: BrokerEvent, now: Instant) -> Result<()> {
        match event {
            BrokerEvent::Subscribed { .. } => {
                self.report.verbose(format_args!("listening on {}", self.link.config.subscribe));
                self.is_subscribed = true;
                self.pairing.begin(now, &mut system_rng());
            }
            BrokerEvent::Message(message) => {
                self.take_message(&message, now);
                self.events.broker.ack(message.receipt);
                // What answers it goes out before the next message is looked at.
                self.perform(now)?;
            }
            BrokerEvent::Oversize { receipt, .. } => self.events.broker.ack(receipt),
            BrokerEvent::TooLong(error) => return Err(error),
            BrokerEvent::Disconnected => self.session.note_disconnection(),
            BrokerEvent::Connected | BrokerEvent::Acknowledged(_) => {}
        }
        Ok(())
    }

    fn take_message(&mut self, message: &Message, now: Instant) {
        if is_foreign(message) {
            return self.report.verbose("ignored a retained message");
        }
        let Some(frame) = Frame::parse(&message.payload) else { return self.follow(&message.payload, now) };
        let is_accepted = self.pairing.accept(&frame, now, &mut system_rng());
        let did = if is_accepted { "received" } else { "ignored" };
        self.report.verbose(format_args!("{did} {}", frame.name()));
    }

    /// Follows a message that is not part of a pairing, as each tool that hears it does: no other one may be running. An
    /// error does not end a run: a pairing replaces the session.
    fn follow(&mut self, payload: &[u8], now: Instant) {
        let followed = self.session.follow(payload).and_then(|opened| match opened {
            Some(Decrypted::Kill) => {
                self.report.info("the other device ended the session");
                Ok(())
            }
            Some(Decrypted::Text(_)) => self.report_lost_text(),
            _ => {
                self.report.verbose("ignored a message that is not part of a pairing");
                Ok(())
            }
        });
        match (followed, &mut self.purpose) {
            (Ok(()), _) => {}
            (Err(error), LegacyPurpose::Serve(service)) => service.report_error(&error, self.report, now),
            (Err(error), LegacyPurpose::Once(_)) => self.report.verbose(error),
        }
    }

    /// Says once that texts come which no tool writes.
    fn report_lost_text(&mut self) -> Result<()> {
        if !self.has_lost_text && !self.session.is_receiving()? {
            self.has_lost_text = true;
            self.report.warning(LOST_TEXT);
        }
        Ok(())
    }

    /// Does what the pairing asks for. An error ends a run that is for one pairing; a service continues with the next
    /// one.
    fn perform(&mut self, now: Instant) -> Result<()> {
        let performed = self.perform_all(now);
        let LegacyPurpose::Serve(service) = &mut self.purpose else { return performed };
        if let Err(error) = performed {
            service.report_error(&error, self.report, now);
            // Nothing that follows the failed step may be sent: the master waits for it in vain, and gives up.
            let Legacy { role, aes } = self.session.legacy;
            self.pairing = Pairing::new(role, aes == Suite::Cbc);
            self.pairing.begin(now, &mut system_rng());
        }
        Ok(())
    }

    fn perform_all(&mut self, now: Instant) -> Result<()> {
        while let Some(output) = self.pairing.poll(now, self.can_send(), &mut system_rng()) {
            match output {
                PairingOutput::Send(frame) => self.send(&frame)?,
                PairingOutput::Store(key) => self.session.store(key)?,
                PairingOutput::Agreed => self.promote()?,
                PairingOutput::StoreOther(key) => {
                    self.session.store_other(key)?;
                    self.report.warning(OTHER_KEY);
                }
                PairingOutput::Abandon => self.session.abandon()?,
            }
        }
        Ok(())
    }

    /// Whether a frame leaves now: nothing may count as sent that waits, or is dropped.
    fn can_send(&self) -> bool {
        let topic_len = self.link.config.publish.as_str().len();
        self.events.is_connected() && self.events.broker.has_room(topic_len + Frame::MAX_LEN)
    }

    fn send(&mut self, frame: &Frame) -> Result<()> {
        self.report.verbose(format_args!("sent {}", frame.name()));
        let topic = self.link.config.publish.as_str();
        self.events.broker.publish(topic, frame.encode().into(), Qos::AtMostOnce, false).map(drop)
    }

    fn promote(&mut self) -> Result<()> {
        if self.session.promote()? {
            self.report.warning(NOT_HEARD);
        }
        let Legacy { role, aes } = self.session.legacy;
        let (peer, topic) = (role.other(), &self.link.config.subscribe);
        self.report.info(format_args!("paired with the {peer} on {topic} (sts_version = 1, {aes})"));
        Ok(())
    }

    /// The outcome, if the run is over.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] if it is over without a session; [`Exit::Unavailable`] if there is no connection either.
    fn outcome(&mut self, now: Instant) -> Result<Option<LegacyOutcome>> {
        let is_stopped = self.events.stop_requested() > Stop::No;
        match &mut self.purpose {
            LegacyPurpose::Serve(_) if is_stopped => Ok(Some(LegacyOutcome::Stopped)),
            LegacyPurpose::Serve(service) => Ok(service.is_told_to_reload().then_some(LegacyOutcome::Reload)),
            LegacyPurpose::Once(_) if is_stopped => {
                let error = Error::new(Exit::TryAgain, "stopped by a signal").because("no session was agreed on");
                Err(self.events.explain(error))
            }
            LegacyPurpose::Once(progress) if progress.until().is_some_and(|until| now >= until) => {
                Err(self.timed_out())
            }
            LegacyPurpose::Once(_) => Ok(None),
        }
    }

    fn timed_out(&self) -> Error {
        if let Some(error) = self.events.unreachable("timed out") {
            return error;
        }
        let (listen, publish) = (&self.link.config.subscribe, &self.link.config.publish);
        if !self.is_subscribed {
            let endpoint = self.events.broker.endpoint();
            return Error::new(Exit::Unavailable, "timed out")
                .because(format!("the broker at {endpoint} did not grant the subscription to {listen}"));
        }
        let (role, error) = (self.session.legacy.role, Error::new(Exit::TryAgain, "timed out"));
        if self.pairing.is_under_way() {
            return error
                .because(format!("the {} did not finish the pairing", role.other()))
                .hint("start it again there: the old program gives up 30 seconds after its start");
        }
        let did = if role == Role::Master { "answered" } else { "asked to pair" };
        let order = match role {
            Role::Master => "before this command or while it runs",
            Role::Slave => "while this command runs, since it asks only once",
        };
        error.because(format!("no {} {did} on {listen}", role.other())).hint(format!(
            "start the old program there {order}, with sts_mode = {}, pubtop = {listen} and subtop = {publish}",
            role.other()
        ))
    }

    fn wait(&mut self, now: Instant) -> Result<()> {
        let is_waiting = self.is_subscribed && self.events.is_connected();
        let (own, progress, until) = match &mut self.purpose {
            LegacyPurpose::Serve(service) => (Some((service.as_fd(), PollFlags::IN)), None, None),
            LegacyPurpose::Once(progress) => {
                let waits_for = if is_waiting { "other device" } else { "broker" };
                let shown = self.report.has_status().then(|| progress.show(now, waits_for, self.report));
                (None, shown, progress.until())
            }
        };
        // What is due waits for a connection, which wakes the run.
        let pairing = self.pairing.deadline().filter(|at| *at > now);
        let deadline = [pairing, progress, until].into_iter().flatten().min();
        self.events.wait(own, deadline, now)
    }
}
