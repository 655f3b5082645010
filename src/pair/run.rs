//! One run of a pairing: what it is for, how far it has come, and how it ends.

use std::time::Instant;

use rustix::event::PollFlags;

use super::claims::{self, PairNotice};
use super::enrolment_outcome;
use super::keeper::Keeper;
use super::key_exchange_queue::KeyExchangeQueues;
use super::progress_line::ProgressLine;
use super::service::Service;
use crate::config::Config;
use crate::crypto::schedule::Topics;
use crate::event_loop::{EventLoop, Stop};
use crate::handshake::session_check::SessionCheck;
use crate::handshake::{Claim, Handshake, Party, Peer};
use crate::link::{Link, Tool};
use crate::mqtt::Qos;
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::report_throttle::KeyedReportThrottle;
use crate::role::Role;
use crate::sessions::LinkSessions;
use crate::stdio::Signals;
use crate::system_rng::system_rng;
use crate::text::escape;
use crate::units::Age;
use crate::{Error, Exit, Result};

/// Room that answers to strangers leave for the frames of attempts, in bytes.
const RESERVED_ROOM: usize = 1 << 19;

/// What a run is for.
pub(super) enum Purpose<'a> {
    /// One session with a peer that is pinned; with `if_older`, unless the one that is there will do.
    Once { if_older: Option<Age>, progress: ProgressLine },
    /// One session with a device that has the code, which is pinned then.
    Enrol { progress: ProgressLine },
    /// A session with each master that wants one.
    Serve(&'a mut Service),
    /// A session with the peer at any time, younger than an age.
    Keep(Keeper<'a>),
}

/// How far a run has come.
pub(super) enum Phase {
    /// The broker has not accepted the subscription yet. A session that may be kept is checked after that.
    Subscribing(Option<Box<SessionCheck>>),
    /// Checks whether the peer still has the session. A slave answers its master meanwhile, which may want a new one.
    Checking(Box<SessionCheck>),
    /// Waits until it is time to check the session again, as a master does that keeps it alive.
    Resting(Instant),
    /// Agrees a new session.
    Handshaking,
    /// A master has stored the session, and waits to hear that the slave has done so, too.
    Confirming(Peer),
    /// Nothing is left to do.
    Done(PairOutcome),
}

/// How a run ended that did not fail.
#[derive(Clone)]
pub(super) enum PairOutcome {
    /// A session with this peer is stored, and both ends may use it.
    Paired(Peer),
    /// The session that was there stays in use.
    Kept,
    /// The slave says that this master was given another code; this many attempts are left.
    WrongCode { left: usize },
    /// A service is to end, or to read its configuration again.
    Interrupted,
}

pub(super) struct PairRun<'a> {
    pub(super) config: &'a Config,
    pub(super) report: &'a Reporter,
    pub(super) purpose: Purpose<'a>,
    pub(super) phase: Phase,
    pub(super) event_loop: EventLoop<'a>,
    pub(super) sessions: LinkSessions,
    pub(super) handshake: Handshake,
    pub(super) key_exchanges: KeyExchangeQueues,
    reported: KeyedReportThrottle<PairNotice>,
}

/// This end's handshake on a link.
pub(super) fn handshake(peers: &LinkPeers, party: Party) -> Handshake {
    let now = Instant::now();
    match (peers.role, peers.route.topics(peers.route.filter())) {
        (Role::Master, Some(topics)) => Handshake::master(party, topics, now),
        // The topics of a slave come with each frame; a master always has topics of its own.
        _ => Handshake::slave(party, now, &mut system_rng()),
    }
}

impl<'a> PairRun<'a> {
    /// Connects and subscribes.
    ///
    /// # Errors
    /// As [`Link::connect`].
    pub(super) fn begin(
        link: &'a Link,
        report: &'a Reporter,
        sessions: LinkSessions,
        handshake: Handshake,
        purpose: Purpose<'a>,
        check: Option<SessionCheck>,
        signals: Signals,
    ) -> Result<Self> {
        let mut broker = link.connect(Tool::Pair, &mut rand::rng())?;
        // Not with a shared subscription: each frame of a handshake is for the one process that pairs.
        broker.subscribe(sessions.peers.route.filter(), Qos::AtLeastOnce, Instant::now())?;
        Ok(Self {
            config: &link.config,
            report,
            purpose,
            phase: Phase::Subscribing(check.map(Box::new)),
            event_loop: EventLoop::new(broker, signals, report),
            sessions,
            handshake,
            key_exchanges: KeyExchangeQueues::default(),
            reported: claims::throttle(),
        })
    }

    /// Runs to the end and closes the connection.
    ///
    /// # Errors
    /// As [`super::once::run`].
    pub(super) fn finish(mut self) -> Result<PairOutcome> {
        let outcome = self.run();
        match &outcome {
            Ok(PairOutcome::Paired(peer)) => self.note_paired(peer),
            Ok(PairOutcome::Kept) => self.note_in_use(),
            Ok(PairOutcome::WrongCode { .. } | PairOutcome::Interrupted) | Err(_) => {}
        }
        self.report.status("");
        let report = self.report;
        // Even if the run failed: its last frame tells the peer why, so let the broker have it.
        self.close()?;
        let outcome = outcome?;
        if let PairOutcome::Paired(peer) = &outcome {
            tell_paired(peer, report);
        }
        Ok(outcome)
    }

    /// Closes the connection; returns what another run can continue with.
    ///
    /// # Errors
    /// As [`EventLoop::close`].
    pub(super) fn close(self) -> Result<(Signals, Handshake, LinkSessions)> {
        Ok((self.event_loop.close()?, self.handshake, self.sessions))
    }

    /// Runs until there is an outcome.
    ///
    /// # Errors
    /// As [`super::once::run`].
    pub(super) fn run(&mut self) -> Result<PairOutcome> {
        loop {
            let now = self.take_events()?;
            self.exchange_keys()?;
            self.poll_round(now)?;
            self.poll_session_check(now)?;
            self.poll_handshake(now)?;
            if let Some(outcome) = self.outcome(now)? {
                return Ok(outcome);
            }
            self.wait(now)?;
        }
    }

    /// Sends what is due in the handshake.
    fn poll_handshake(&mut self, now: Instant) -> Result<()> {
        while let Some((topics, action)) = self.handshake.poll(now, &mut system_rng()) {
            let outcome = self.perform(action, &topics, now);
            self.tolerate(outcome, now)?;
        }
        if self.handshake.is_code_used_up() { Err(enrolment_outcome::code_used_up()) } else { Ok(()) }
    }

    /// Begins the handshake, since no session is kept.
    pub(super) fn begin_handshake(&mut self, now: Instant) {
        self.phase = Phase::Handshaking;
        self.handshake.begin(now, &mut system_rng());
    }

    /// The outcome, if the run is over.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] if it is over without a session; [`Exit::Unavailable`] if there is no connection either.
    fn outcome(&mut self, now: Instant) -> Result<Option<PairOutcome>> {
        if let Phase::Confirming(peer) = &self.phase
            && self.handshake.is_finished()
            && self.event_loop.broker.unacknowledged().messages == 0
        {
            self.phase = Phase::Done(PairOutcome::Paired(peer.clone()));
        }
        self.end_round(now);
        if let Phase::Done(outcome) = &self.phase {
            return Ok(Some(outcome.clone()));
        }
        let is_stopped = self.event_loop.stop_requested() > Stop::No;
        if let Some(service) = self.purpose.service() {
            return Ok((service.is_told_to_reload() || is_stopped).then_some(PairOutcome::Interrupted));
        }
        match &self.phase {
            Phase::Confirming(peer) if is_stopped || self.is_timed_out(now) => {
                Ok(Some(PairOutcome::Paired(peer.clone())))
            }
            _ if is_stopped => {
                let error = Error::new(Exit::TryAgain, "stopped by a signal").because("no session was agreed on");
                Err(self.event_loop.explain(error))
            }
            _ if !self.is_timed_out(now) => Ok(None),
            _ if self.tolerates_session()? => Ok(Some(PairOutcome::Kept)),
            _ => Err(self.timed_out()),
        }
    }

    fn is_timed_out(&self, now: Instant) -> bool {
        self.purpose.until().is_some_and(|until| now >= until)
    }

    /// The error of having no session in time.
    pub(super) fn timed_out(&self) -> Error {
        let error = Error::new(Exit::TryAgain, "timed out");
        if self.handshake.pending().next().is_some() {
            let error = error
                .because("the peer's last message did not arrive; the new session is kept")
                .hint("if the peer reports that it is paired, do nothing: its first message makes the session current");
            return self.event_loop.explain(error);
        }
        if let Some(error) = self.event_loop.unreachable("timed out") {
            return error;
        }
        let listen = &self.config.subscribe;
        let role = self.sessions.peers.role;
        let (other, did) = (role.other(), if role == Role::Master { "answered" } else { "asked to pair" });
        match (&self.phase, &self.purpose) {
            (Phase::Subscribing(_), _) => {
                let endpoint = self.event_loop.broker.endpoint();
                Error::new(Exit::Unavailable, "timed out")
                    .because(format!("the broker at {endpoint} did not grant the subscription to {listen}"))
            }
            (_, Purpose::Enrol { .. }) => error
                .because(format!("no {other} with the code {did} on {listen}"))
                .hint(self.how_to_meet("sts-pair --code")),
            (_, Purpose::Once { .. } | Purpose::Serve(_) | Purpose::Keep(_)) => {
                error.because(format!("no trusted {other} {did} on {listen}")).hint(self.how_to_meet("sts-pair"))
            }
        }
    }

    /// What the other device needs to meet this one: most often both have the same role, or the same topics.
    fn how_to_meet(&self, command: &str) -> String {
        let (publish, listen) = (&self.config.publish, self.config.subscribe.plain());
        let (role, other) = (self.sessions.peers.role, self.sessions.peers.role.other());
        let risky = if self.sessions.peers.route.has_risky_characters() {
            "; if that is so, use topics without dots and blanks, which some brokers change (RabbitMQ) or refuse (NATS)"
        } else {
            ""
        };
        format!(
            "this device is the {role}; run {command} at the same time on the other one, with sts_mode = {other}, pubtop = {listen} and subtop = {publish}{risky}"
        )
    }

    /// Publishes a frame to the peer on these topics. Without room it is dropped, since its sender repeats it.
    pub(super) fn publish(&mut self, topics: &Topics, frame: Vec<u8>) -> Result<()> {
        self.publish_at(topics, frame, Qos::AtMostOnce)
    }

    pub(super) fn publish_at(&mut self, topics: &Topics, frame: Vec<u8>, qos: Qos) -> Result<()> {
        let topic = self.sessions.peers.route.publish(topics);
        self.event_loop.publish_or_drop(topic, frame, qos).map(drop)
    }

    /// Whether there is room for answers to frames that cost a key exchange.
    pub(super) fn has_room_for_strangers(&self) -> bool {
        self.event_loop.broker.has_room(RESERVED_ROOM)
    }

    /// Tells the user of a claim that nothing proves, the same one once a minute.
    pub(super) fn tell_claim(&mut self, claim: &Claim, now: Instant) {
        if self.is_for_other_run(claim) {
            return;
        }
        if self.reported.is_due(&PairNotice::Claim(claim.clone()), now) {
            self.report.warn(&claims::report(claim, &self.sessions.peers.public.fingerprint()));
        }
    }

    /// Whether the other device calls another run on this link: an enrolment beside a service, or the service beside that.
    fn is_for_other_run(&self, claim: &Claim) -> bool {
        match (claim, &self.purpose) {
            (Claim::PeerHasCode, Purpose::Serve(_)) => self.sessions.cache().is_enrolling(),
            (Claim::PeerHasNoCode, Purpose::Enrol { .. }) => self.sessions.cache().has_service(),
            _ => false,
        }
    }

    /// A message came on a topic that is none of this link's.
    pub(super) fn tell_other_topic(&mut self, topic: &str, now: Instant) {
        if self.sessions.peers.route.is_split_at_dots(topic) && self.reported.is_due(&PairNotice::DotsAreLevels, now) {
            self.report.warn(&claims::dots_are_levels(topic));
        }
        self.report.verbose(format_args!("dropped a message on a topic of another link: {}", escape(topic)));
    }

    fn wait(&mut self, now: Instant) -> Result<()> {
        let strangers = (!self.key_exchanges.is_empty() && self.has_room_for_strangers()).then_some(now);
        let progress = self.show_progress(now);
        let deadlines = [self.handshake.deadline(), self.phase.deadline(), self.purpose.until(), strangers, progress];
        let deadline = deadlines.into_iter().chain([self.round_deadline()]).flatten().min();
        let hangup = self.purpose.service().map(|service| (service.as_fd(), PollFlags::IN));
        self.event_loop.wait(hangup, deadline, now)
    }

    /// Shows a person at a terminal what the run waits for; returns when to do so again.
    fn show_progress(&mut self, now: Instant) -> Option<Instant> {
        let is_listening = !matches!(self.phase, Phase::Subscribing(_)) && self.event_loop.is_connected();
        let progress = self.purpose.progress().filter(|_| self.report.has_status())?;
        // Once the handshake is over, only the broker's acknowledgements are missing.
        let waits_for_peer = is_listening && !self.handshake.is_finished();
        Some(progress.show(now, if waits_for_peer { "other device" } else { "broker" }, self.report))
    }
}

impl Purpose<'_> {
    /// When the run gives up.
    fn until(&self) -> Option<Instant> {
        match self {
            Self::Once { progress, .. } | Self::Enrol { progress } => progress.until(),
            Self::Serve(_) | Self::Keep(_) => None,
        }
    }

    /// What a run has that goes on until it is stopped.
    fn service(&mut self) -> Option<&mut Service> {
        match self {
            Self::Once { .. } | Self::Enrol { .. } => None,
            Self::Serve(service) | Self::Keep(Keeper { service, .. }) => Some(service),
        }
    }

    fn progress(&mut self) -> Option<&mut ProgressLine> {
        match self {
            Self::Once { progress, .. } | Self::Enrol { progress } => Some(progress),
            Self::Serve(_) | Self::Keep(_) => None,
        }
    }
}

impl Phase {
    /// The session check that has not ended yet.
    pub(super) fn check(&mut self) -> Option<&mut SessionCheck> {
        match self {
            Self::Subscribing(check) => check.as_deref_mut(),
            Self::Checking(check) => Some(check),
            Self::Resting(_) | Self::Handshaking | Self::Confirming(_) | Self::Done(_) => None,
        }
    }

    /// When the check must be polled, if nothing arrives before.
    fn deadline(&self) -> Option<Instant> {
        if let Self::Checking(check) = self { check.deadline() } else { None }
    }
}

/// Tells the user that a session is agreed.
pub(super) fn tell_paired(peer: &Peer, report: &Reporter) {
    report.info(format_args!("paired with {} ({})", peer.name, peer.key.fingerprint()));
}
