//! What a run and the receiver have to say to each other besides data: confirms and what they call for, the way from one
//! stream to the next, and questions after sessions.

use std::time::Instant;

use super::spooled::MayComeTwice;
use super::{QUIET, Run, Source};
use crate::mqtt::Qos;
use crate::{Exit, Result};

/// The receiver does not have the session of a stream.
const LOST: &str = "the other device has lost the session";
/// The session of a stream was deleted.
const GONE: &str = "the session that it was sent under is gone";

impl Run<'_> {
    /// Sends again what the receiver has not confirmed, and goes from stream to stream; true if it did either, so that there
    /// may be room.
    pub(super) fn step(&mut self, now: Instant) -> Result<bool> {
        let clear = self.subscribed && self.client.unacknowledged().messages == 0;
        if let Some(sealing) = self.framing.confirms()
            && !clear
        {
            sealing.not_yet(now);
        }
        // To go on in the next stream sends nothing.
        let had_room = self.framing.has_room(0);
        let mut stepped = false;
        while self.client.has_room(self.framing.topic(self.config).len() + self.config.mqtt.max_message)
            && let Some(sealing) = self.framing.sealing()
            && let Some(payload) = sealing.step(now, &mut self.rng)?
        {
            self.publish(payload, now)?;
            stepped = true;
        }
        stepped |= self.framing.has_room(0) != had_room;
        self.listen(now)?;
        let unconfirmed = self.framing.unconfirmed().is_some_and(|(messages, _)| messages > 0);
        if unconfirmed && clear && now >= self.acknowledged + QUIET {
            // With a spool it goes under the next session.
            if matches!(self.source, Source::Direct(_))
                && let Some(sealing) = self.framing.confirms()
                && sealing.is_deleted(now)?
                && !sealing.has_another()
            {
                return Err(self.unacknowledged(Exit::DataLost, GONE));
            }
            self.ask(now)?;
            if self.silence.happened(now).is_some() {
                self.report.info("nothing is confirmed; waiting for sts-recv on the other device");
            }
        }
        Ok(stepped)
    }

    /// Tells a receiver that waits to confirm the end again that it is known here.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(sealing) = self.framing.confirms() else { return Ok(()) };
        let settled = sealing.settle(&mut self.rng)?;
        settled.map_or(Ok(()), |payload| self.publish(payload, Instant::now()).map(drop))
    }

    /// Listens where the peer publishes now: with a new session it may have other topics.
    pub(super) fn listen(&mut self, now: Instant) -> Result<()> {
        let topic = self.framing.listen().filter(|_| self.options.confirm);
        if topic == self.listening.as_deref() {
            return Ok(());
        }
        if let Some(topic) = topic {
            self.client.subscribe(topic, Qos::AtLeastOnce, now)?;
            self.subscribed = false;
        }
        self.listening = topic.map(str::to_owned);
        Ok(())
    }

    /// Asks whether the receiver has lost the session, where nothing is confirmed for long and there is a newer one.
    fn ask(&mut self, now: Instant) -> Result<()> {
        let Some(sealing) = self.framing.confirms() else { return Ok(()) };
        let Some((topic, question)) = sealing.ask(now, &mut self.rng)? else { return Ok(()) };
        let known = [&self.listening, &self.answers].map(Option::as_deref);
        if let Some(elsewhere) = self.framing.answers_on().filter(|topic| !known.contains(&Some(*topic))) {
            self.client.subscribe(elsewhere, Qos::AtLeastOnce, now)?;
            self.answers = Some(elsewhere.to_owned());
        }
        // Without room, or before the broker lets us hear the answer, it is as good as lost: it is asked again.
        if self.client.has_room(topic.len() + question.len()) {
            self.client.publish(&topic, question.into(), Qos::AtMostOnce, false)?;
        }
        Ok(())
    }

    /// Nothing more can be confirmed under the session of the stream: what is not, goes under the current one.
    fn begin_again(&mut self, why: &str, now: Instant) -> Result<()> {
        let unconfirmed = self.framing.unconfirmed().map_or(0, |(messages, _)| messages);
        match &mut self.source {
            Source::Spooled(spooled) => spooled.begin_again(&mut self.framing, self.report, why, now)?,
            Source::Direct(_) => {
                let Some(sealing) = self.framing.confirms() else { return Ok(()) };
                sealing.begin_again(now, &mut self.rng)?;
                self.report.warning(MayComeTwice(why, unconfirmed as u64));
            }
        }
        self.acknowledged = now;
        self.listen(now)
    }

    /// Takes what came on the receiver's topic: a question or an answer about a session, or confirms.
    pub(super) fn hear(&mut self, payload: &[u8], now: Instant) -> Result<()> {
        let Some(sealing) = self.framing.confirms() else { return Ok(()) };
        if let Some(answer) = sealing.answer(payload, now)? {
            let topic = self.framing.topic(self.config);
            // Without room it is as lost as on the way: the question comes again.
            if self.client.has_room(topic.len() + answer.len()) {
                self.client.publish(topic, answer.into(), Qos::AtMostOnce, false)?;
            }
            return Ok(());
        }
        match sealing.peer_has_session(payload) {
            Ok(Some(false)) => return self.begin_again(LOST, now),
            // It may have written all of it, and can say so only in a way that nobody here can open.
            Ok(Some(true)) if sealing.is_deleted(now)? => {
                return match &self.source {
                    Source::Direct(_) => Err(self.unacknowledged(Exit::DataLost, GONE)),
                    // As the next run with this spool would do.
                    Source::Spooled(_) => self.begin_again(GONE, now),
                };
            }
            Ok(_) => {}
            Err(rejected) => self.report.verbose(format_args!("dropped an answer: {rejected}")),
        }
        match sealing.hear(payload, now) {
            Ok(true) => {
                self.acknowledged = now;
                if self.silence.has_happened() {
                    self.report.info("confirmed again");
                    self.silence.reset();
                }
            }
            Ok(false) => {}
            Err(rejected) => self.report.verbose(format_args!("dropped a message: {rejected}")),
        }
        Ok(())
    }
}
