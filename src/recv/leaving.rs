//! When a run ends, what is done before it does, and what its exit status says.

use std::time::Instant;

use bytes::BytesMut;

use super::opening::Opening;
use super::{Options, Run, Source};
use crate::event_loop::Stop;
use crate::stdio::Written;
use crate::{Error, Exit, Result};

/// Why a run ends.
pub(super) enum End {
    /// By an option: its exit status tells what was lost.
    Itself,
    /// Somebody told it to, or nobody reads any more.
    Told,
    /// The broker refuses us.
    Refused(Error),
}

impl Run<'_> {
    /// Whether an option ends the run now.
    pub(super) fn has_ended(&mut self, data: &mut BytesMut, now: Instant) -> Result<Option<End>> {
        let idle = self.options.timeout.is_some_and(|timeout| now >= self.last + timeout);
        let late = matches!(&self.source, Source::Sealed(opening) if opening.is_late(now));
        if idle || late {
            self.take_held(true, data, now)?;
            self.order.flush(&mut self.sink);
        }
        let over = match &mut self.source {
            Source::Plain { received } => self.options.once && *received,
            Source::Sealed(opening) => {
                if self.sink.output.is_empty() && self.order.is_empty() {
                    opening.delete_ended(now)?;
                }
                opening.over
            }
        };
        if over {
            self.order.flush(&mut self.sink);
        }
        let ended = (over && self.lingers(now).is_none()) || idle || self.sink.is_satisfied();
        Ok((ended && self.sink.output.is_empty()).then_some(End::Itself))
    }

    /// Until when a run that is over answers a sender that may not have heard so; nobody else would.
    pub(super) fn lingers(&self, now: Instant) -> Option<Instant> {
        match &self.source {
            Source::Sealed(opening) if opening.over => opening.lingers(now),
            _ => None,
        }
    }

    /// Waits until standard output took what was received; a second signal ends that at once.
    pub(super) fn drain(&mut self, data: &mut BytesMut) -> Result<()> {
        // What the broker keeps comes again, perhaps with the rest of what it waits for.
        if let Source::Sealed(opening) = &self.source
            && opening.held.messages().any(|message| !self.events.broker.keeps(message.qos))
        {
            self.take_held(true, data, Instant::now())?;
        }
        self.order.flush(&mut self.sink);
        self.pause(true, Instant::now());
        loop {
            let now = self.events.begin_turn();
            if self.write(now)? == Written::Closed || self.sink.output.is_empty() {
                return Ok(());
            }
            if self.events.stop_requested() == Stop::AtOnce {
                let left = self.sink.output.waiting();
                return Err(Error::new(Exit::Failed, "stopped by a second signal")
                    .because(format!("{left} bytes that were received are not written, and not acknowledged")));
            }
            self.wait(now)?;
        }
    }
}

/// What a run that ended by itself tells by its exit status.
pub(super) fn verdict(mut opening: Opening<'_>, options: Options, is_satisfied: bool, last: Instant) -> Result<()> {
    if options.once {
        opening.report_unsettled();
    } else {
        opening.report_missing();
    }
    let idle = options.timeout.is_some_and(|timeout| Instant::now() >= last + timeout);
    if idle
        && !opening.over
        && !is_satisfied
        && let Some(open) = opening.open_streams()
    {
        return Err(Error::new(Exit::TryAgain, "timed out").because(open));
    }
    if idle && options.once && !opening.over && !is_satisfied {
        return Err(Error::new(Exit::TryAgain, "timed out").because("no stream came"));
    }
    if opening.lost {
        return Err(Error::new(Exit::DataLost, "data was lost").because("the gaps are reported above"));
    }
    Ok(())
}
