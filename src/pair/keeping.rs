//! `--if-older`: keeping the session that is there, if the peer still has it or nobody comes to agree a new one.

use std::time::Instant;

use rand::rngs::ThreadRng;

use super::{Run, age};
use crate::cache::Cache;
use crate::cli::Reporter;
use crate::crypto::schedule::Topics;
use crate::handshake::session_check::{CheckEvent, SessionCheck};
use crate::link::unix_time;
use crate::mqtt::Qos;
use crate::peers::LinkPeers;
use crate::units::Age;
use crate::{Rejected, Result};

/// The question whether the peer still has the current session, where that is younger than `age`.
///
/// # Errors
/// As [`age::sessions`].
pub(super) fn question(
    age: Age,
    ends: &LinkPeers,
    cache: &Cache,
    report: &Reporter,
    rng: &mut ThreadRng,
) -> Result<Option<SessionCheck>> {
    if let Err(error) = cache.note_rotation(age.seconds()) {
        // Only --status wants to know.
        report.warn(&error);
    }
    let age::Sessions { current, others, past } = age::sessions(ends, cache)?;
    let young = current.filter(|session| age.keeps(session, unix_time()));
    Ok(young.map(|session| SessionCheck::new(session, others, past, rng)))
}

impl Run<'_> {
    /// Sends the question where it is due; unanswered for too long, the handshake begins.
    pub(super) fn ask(&mut self, now: Instant) -> Result<()> {
        let Some(asking) = &mut self.asking else { return Ok(()) };
        if asking.is_timed_out(now) {
            self.report.verbose("the peer does not say that it still has the session");
            self.asking = None;
            self.start(now);
            return Ok(());
        }
        let topics = asking.session().topics.clone();
        asking.poll(now).map_or(Ok(()), |question| self.publish(&topics, question, Qos::AtMostOnce))
    }

    /// Takes a question or an answer about a session. Whoever wants a new one is silent: so the peer comes to pair.
    pub(super) fn take_presence(&mut self, topics: &Topics, payload: &[u8], now: Instant) -> Result<()> {
        if let Some(service) = &mut self.service {
            let answer = service.answer(&self.cache, &self.ends, payload, now)?;
            return answer.map_or(Ok(()), |answer| self.publish(topics, answer, Qos::AtMostOnce));
        }
        let heard = self.asking.as_mut().map_or(Err(Rejected::Unexpected), |asking| asking.accept(payload, now));
        match heard {
            Ok(CheckEvent::Queried(session, frames)) => {
                // Where this is pending, the question proves it.
                self.cache.promote(&session.peer, &session.id, unix_time())?;
                frames.into_iter().try_for_each(|frame| self.publish(topics, frame, Qos::AtMostOnce))
            }
            Ok(CheckEvent::Present) => {
                if let Some(asking) = self.asking.take() {
                    let session = asking.session();
                    self.kept = self.cache.prove(&session.peer, &session.id)?;
                }
                if self.kept {
                    self.report.verbose("the session is young enough, and the peer still has it");
                } else {
                    // Somebody deleted it meanwhile.
                    self.start(now);
                }
                Ok(())
            }
            Err(rejected) => {
                self.report.verbose(format_args!("dropped a question or an answer: {rejected}"));
                Ok(())
            }
        }
    }

    /// Whether the session that is there will do, as nobody came to agree a new one.
    pub(super) fn will_do(&self) -> Result<bool> {
        let Some(age) = self.if_older else { return Ok(false) };
        let now = unix_time();
        let session = age::sessions(&self.ends, &self.cache)?.current.filter(|session| age.tolerates(session, now));
        if session.as_ref().is_some_and(|session| !age.keeps(session, now)) {
            self.report.info(format_args!("{}; the session that is there stays in use", self.timed_out()));
        }
        Ok(session.is_some())
    }
}
