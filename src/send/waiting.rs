//! What a run waits for, for how long, and what it says of that when it ends before.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::{QUIET, Run, Source};
use crate::text::count;
use crate::{Error, Exit, Result, event_loop, mqtt, spool};

/// After a signal, how long nothing is acknowledged before the rest is left in the spool.
const LINGER: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// What is on its way, and nobody has taken over: not the broker, or with `--confirm` not the receiver.
    pub(super) fn in_flight(&self) -> mqtt::Unacknowledged {
        let mut waiting = self.client.unacknowledged();
        if let Some((messages, bytes)) = self.framing.unconfirmed() {
            waiting.messages = waiting.messages.max(messages);
            waiting.bytes = waiting.bytes.max(bytes);
        }
        waiting
    }

    /// What was read and nobody has taken over.
    pub(super) fn waiting(&self) -> mqtt::Unacknowledged {
        let mut waiting = self.in_flight();
        if let Source::Spooled(spooled) = &self.source {
            let spool::Pending { messages, bytes } = spooled.pending();
            waiting.messages = waiting.messages.max(usize::try_from(messages).unwrap_or(usize::MAX));
            waiting.bytes = waiting.bytes.max(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        waiting
    }

    /// Until when something must be acknowledged for a run that was told to end to go on: what is in a spool can wait.
    pub(super) fn lingering(&self) -> Option<Instant> {
        let stopping = self.stopping.filter(|_| matches!(self.source, Source::Spooled(_)));
        stopping.map(|stopping| stopping.max(self.acknowledged) + LINGER)
    }

    pub(super) fn wait(&mut self, ended: bool, now: Instant) -> Result<()> {
        let waiting = self.waiting().messages > 0;
        let timeout = self.options.timeout.filter(|_| waiting);
        let quiet = (waiting && self.options.confirm && !self.silence.has_happened()).then_some(QUIET);
        let (room, retry) = match &self.source {
            Source::Direct(_) => (!ended && self.has_room(), None),
            Source::Spooled(spooled) => (spooled.has_room(), spooled.deadline(now)),
        };
        let input = self.input.as_fd().filter(|_| room).map(|fd| (fd, PollFlags::IN));
        let silent = timeout.into_iter().chain(quiet).map(|wait| self.acknowledged + wait);
        let silent = silent.chain(self.lingering().filter(|_| waiting)).filter(|at| *at > now);
        let deadline = silent.chain(self.framing.deadline()).chain(retry).min();
        self.ready = event_loop::wait(&self.client, &self.signals, input, deadline, now)?;
        Ok(())
    }

    /// An error that says how much of what was read is in nobody's hands.
    pub(super) fn unacknowledged(&self, exit: Exit, what: &str) -> Error {
        match &self.source {
            Source::Direct(_) => Error::new(exit, what).because(Unacknowledged(self.waiting())),
            Source::Spooled(spooled) => spooled.left(what),
        }
    }
}

/// How much was read that is in nobody's hands, in words.
struct Unacknowledged(mqtt::Unacknowledged);

impl fmt::Display for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mqtt::Unacknowledged { messages, bytes } = self.0;
        write!(f, "unacknowledged: {} ({})", count(messages as u64, "message"), count(bytes as u64, "byte"))
    }
}
