//! The loop of a tool that speaks to the broker, written once.
//!
//! A run is a series of turns. Each one does, in this order:
//!
//! 1. [`EventLoop::begin_turn`]: connects, reads and writes as far as that goes without waiting, and gives the time of
//!    the turn.
//! 2. [`EventLoop::next_event`] until there is none: what the broker did. Outages are reported here, not by the run.
//! 3. [`EventLoop::stop_requested`]: whether a signal asks the run to end.
//! 4. The run's own work: publish and acknowledge through [`EventLoop::broker`], read stdin, write stdout.
//! 5. [`EventLoop::wait`]: sends what was published, then sleeps until there is something to do.
//!
//! At its end the run calls [`EventLoop::close`]. Nothing blocks but `wait` and `close`, and nothing wakes an idle run
//! but its deadline, the keep-alive, and what it watches.

mod event;
mod outages;
mod progress;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

pub(crate) use self::event::{BrokerEvent, Stop};
use self::outages::{OutageReports, Reachability};
pub(crate) use self::progress::{ProgressMeter, RunProgress};
use crate::Result;
use crate::mqtt::{self, Client, Qos, Refusal, Refused};
use crate::report::Reporter;
use crate::service_manager::ServiceManager;
use crate::stdio::{self, Signals};

/// How long [`EventLoop::close`] waits for the last acknowledgements and for the broker to end the connection.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// After the first signal, how long a run continues without progress: an acknowledgement, or something written.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The first of these times that has not come yet. One that has is passed over and cannot hide a later one: what was
/// due by now is done, or waits for something else than time.
pub(crate) fn next_deadline(now: Instant, times: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    times.into_iter().flatten().filter(|at| *at > now).min()
}

/// The connection to the broker, the signals, and the one wait for both.
pub(crate) struct EventLoop<'a> {
    /// The connection: to publish, subscribe and acknowledge. Only the loop drives it and takes its events.
    pub broker: Client,
    signals: Signals,
    /// A signal may have come since they were counted.
    is_signalled: bool,
    report: &'a Reporter,
    /// What poll(2) last said of the broker's sockets.
    ready: PollFlags,
    /// What it last said of the run's own descriptor, if that was waited for.
    own_ready: Option<PollFlags>,
    /// Events stay queued, and nothing is read.
    paused: bool,
    reachability: Reachability,
    /// The run has the refusal of the connection whose loss comes next, and reports that.
    is_refused: bool,
    outages: OutageReports,
    /// What another process wakes this one with, and whether it did.
    bell: Option<(OwnedFd, bool)>,
    /// Of a run that can tell how far it has come.
    meter: Option<ProgressMeter>,
}

impl<'a> EventLoop<'a> {
    /// A loop around a client that may be idle until [`Client::connect`].
    #[must_use]
    pub(crate) fn new(broker: Client, signals: Signals, report: &'a Reporter) -> Self {
        Self {
            broker,
            signals,
            is_signalled: true,
            report,
            ready: PollFlags::empty(),
            own_ready: None,
            paused: false,
            reachability: Reachability::Unknown,
            is_refused: false,
            outages: OutageReports::default(),
            bell: None,
            meter: None,
        }
    }

    /// What the last [`EventLoop::wait`] found of the run's own descriptor; `None` if it did not wait for that.
    pub(crate) fn take_own_ready(&mut self) -> Option<PollFlags> {
        self.own_ready.take()
    }

    /// From here on the loop wakes when the run is to tell how far it has come: see [`EventLoop::is_progress_due`].
    pub(crate) fn measure(&mut self, meter: ProgressMeter) {
        self.meter = Some(meter);
    }

    /// Whether the run is to tell how far it has come, with [`EventLoop::tell_progress`].
    #[must_use]
    pub(crate) fn is_progress_due(&self, now: Instant) -> bool {
        self.meter.as_ref().is_some_and(|meter| meter.is_due(now))
    }

    /// Tells how far the run has come.
    pub(crate) fn tell_progress(&mut self, progress: &RunProgress, now: Instant) {
        if let Some(meter) = &mut self.meter {
            meter.tell(progress, self.report, now);
        }
    }

    /// From here on the loop wakes when this becomes readable, too, and what can be read from it is discarded.
    pub(crate) fn watch(&mut self, bell: OwnedFd) {
        self.bell = Some((bell, false));
    }

    /// Whether what is watched became readable since the last call.
    pub(crate) fn was_woken(&mut self) -> bool {
        self.bell.as_mut().is_some_and(|(_, rang)| std::mem::take(rang))
    }

    /// Step 1: does all input and output that does not wait. Returns the time of this turn.
    pub(crate) fn begin_turn(&mut self) -> Instant {
        let now = Instant::now();
        if let Some(manager) = self.report.manager() {
            manager.keep_alive(now);
        }
        let ready = std::mem::replace(&mut self.ready, PollFlags::empty());
        self.broker.drive(now, ready);
        now
    }

    /// Step 2: what happened next, if anything did; or the broker's refusal, after which the client tries again, unless the run
    /// ends for it.
    pub(crate) fn next_event(&mut self) -> std::result::Result<Option<BrokerEvent>, Refusal> {
        while let Some(event) = self.broker.next_event() {
            if let Some(event) = self.handle(event)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Reports what there is to report of an event; what of it concerns the run is left.
    fn handle(&mut self, event: mqtt::Event) -> std::result::Result<Option<BrokerEvent>, Refusal> {
        Ok(match event {
            mqtt::Event::Up { .. } => {
                self.connected();
                Some(BrokerEvent::Connected)
            }
            mqtt::Event::Down { outage, .. } => {
                self.disconnected(outage);
                Some(BrokerEvent::Disconnected)
            }
            mqtt::Event::Renewed => {
                self.reachability = Reachability::Unknown;
                Some(BrokerEvent::Disconnected)
            }
            mqtt::Event::Subscribed { filter, requested, granted } => {
                self.subscribed();
                Some(BrokerEvent::Subscribed { filter, requested, granted })
            }
            mqtt::Event::Acknowledged(token) => {
                self.report_lasting();
                Some(BrokerEvent::Acknowledged(token))
            }
            mqtt::Event::Message(message) => {
                self.report_lasting();
                Some(BrokerEvent::Message(message))
            }
            mqtt::Event::Oversize { len, receipt, .. } => Some(BrokerEvent::Oversize { len, receipt }),
            mqtt::Event::TooLong(error) => Some(BrokerEvent::TooLong(error)),
            mqtt::Event::Refused(refusal) => {
                self.is_refused = refusal.of == Refused::Connection;
                return Err(refusal);
            }
            mqtt::Event::Warning(warning) => self.report_only(|report| report.warn(&warning)),
            mqtt::Event::Note(note) => self.report_only(|report| report.verbose(note)),
            mqtt::Event::Contested { times } => {
                self.contested(times);
                None
            }
            mqtt::Event::Closed => None,
        })
    }

    fn report_only(&self, tell: impl FnOnce(&Reporter)) -> Option<BrokerEvent> {
        tell(self.report);
        None
    }

    /// Step 3: how the run was asked to end.
    pub(crate) fn stop_requested(&mut self) -> Stop {
        match self.count_signals() {
            0 => Stop::No,
            1 => Stop::Gracefully,
            _ => Stop::AtOnce,
        }
    }

    fn count_signals(&mut self) -> usize {
        if std::mem::take(&mut self.is_signalled) { self.signals.count() } else { self.signals.counted() }
    }

    /// Step 5: sends what was published, then waits until the broker's socket is ready, a signal comes, `own` is ready,
    /// or the run's `deadline` or that of [`EventLoop::broker`] passes. Returns at once where events are left that the run
    /// may take now: nothing more is read before they are taken, or the queue would grow without bound.
    ///
    /// # Errors
    /// As [`stdio::wait`].
    pub(crate) fn wait(
        &mut self,
        own: Option<(BorrowedFd<'_>, PollFlags)>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<()> {
        self.wait_beside(None, own, deadline, now)
    }

    /// As [`EventLoop::wait`], also until there is something to read in `beside`.
    ///
    /// # Errors
    /// As [`stdio::wait`].
    pub(crate) fn wait_beside(
        &mut self,
        beside: Option<BorrowedFd<'_>>,
        own: Option<(BorrowedFd<'_>, PollFlags)>,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<()> {
        let has_left = self.has_event();
        self.flush(now);
        if has_left {
            self.is_signalled = true;
            return Ok(());
        }
        // At QoS 0 the socket taking a message is all that ever happens to it, and poll(2) would not tell. A run with a
        // long input has such an event in each turn, so it must look at the sockets all the same, or it never reads.
        let has_event = self.has_event();
        // What a layer of encryption holds back has left the socket.
        let at_once = (has_event || self.broker.has_unread()).then_some(now);
        // One that has passed is of a run that does something else now.
        let progress = self.meter.as_ref().and_then(ProgressMeter::deadline).filter(|due| *due > now);
        let watchdog = self.report.manager().and_then(ServiceManager::deadline);
        let own_deadlines = [self.broker.deadline(), at_once, progress, watchdog];
        let deadline = deadline.into_iter().chain(own_deadlines.into_iter().flatten()).min();
        let signals = self.signals.as_fd();
        let mut fds = Vec::with_capacity(4);
        fds.push(PollFd::new(&signals, PollFlags::IN));
        self.broker.interest(&mut fds);
        let brokers = 1..fds.len();
        let meter = self.meter.as_ref().map(ProgressMeter::as_fd);
        fds.extend(meter.iter().map(|requests| PollFd::new(requests, PollFlags::IN)));
        fds.extend(own.iter().map(|(fd, flags)| PollFd::new(fd, *flags)));
        fds.extend(beside.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.bell.iter().map(|(bell, _)| PollFd::new(bell, PollFlags::IN)));
        stdio::wait(&mut fds, deadline, now)?;
        let is_ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        self.is_signalled |= is_ready(fds.first());
        self.ready = fds[brokers.clone()].iter().fold(PollFlags::empty(), |ready, fd| ready | fd.revents());
        self.own_ready = own.map(|_| fds[brokers.end + usize::from(meter.is_some())].revents());
        let is_requested = is_ready(fds.get(brokers.end));
        let rang = is_ready(fds.last());
        if let Some(meter) = self.meter.as_mut().filter(|_| is_requested) {
            meter.take_requests();
        }
        if let Some((bell, woken)) = self.bell.as_mut().filter(|_| rang) {
            *woken = true;
            // It does not block, and what does not go into one read wakes the loop once more.
            let _ = rustix::io::read(&*bell, &mut [0; 512]);
        }
        Ok(())
    }

    /// Whether an event is queued that the run may take now.
    fn has_event(&self) -> bool {
        self.broker.has_event() && !self.paused
    }

    /// Sends what was published, as far as that goes without waiting.
    pub(crate) fn flush(&mut self, now: Instant) {
        self.broker.drive(now, PollFlags::empty());
    }

    /// Whether the last wait found something to read from the broker.
    #[must_use]
    pub(crate) fn is_readable(&self) -> bool {
        self.ready.contains(PollFlags::IN) || self.broker.has_unread()
    }

    /// Stops reading from the broker, or resumes: what the run cannot take now must wait there.
    pub(crate) fn pause_reading(&mut self, paused: bool, now: Instant) {
        self.paused = paused;
        self.broker.pause_reading(paused, now);
    }

    /// Publishes a frame that its sender repeats until it is answered: without room it is dropped, as if the network
    /// had lost it. Returns whether it was published.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub(crate) fn publish_or_drop(&mut self, topic: &str, frame: impl Into<bytes::Bytes>, qos: Qos) -> Result<bool> {
        let frame = frame.into();
        let has_room = self.broker.has_room(topic.len() + frame.len());
        if has_room {
            self.broker.publish(topic, frame, qos, false)?;
        }
        Ok(has_room)
    }

    /// Waits until the broker has acknowledged all that was published, then ends the connection: for three seconds in
    /// all, or until another signal comes. Returns the signals for a loop that follows.
    ///
    /// # Errors
    /// As [`stdio::wait`].
    pub(crate) fn close(self) -> Result<Signals> {
        let now = Instant::now();
        self.close_by(now + CLOSE_TIMEOUT, now)
    }

    fn close_by(mut self, until: Instant, started: Instant) -> Result<Signals> {
        let signals = self.count_signals();
        // Or the last acknowledgements could not be read. Messages that come now are not acknowledged, and come again.
        self.pause_reading(false, started);
        loop {
            let now = self.begin_turn();
            while self.broker.next_event().is_some() {}
            if self.broker.unacknowledged().messages == 0 {
                self.broker.disconnect();
                self.flush(now);
            }
            if self.broker.is_closed() || now >= until || self.count_signals() > signals {
                return Ok(self.signals);
            }
            self.wait(None, Some(until), now)?;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
