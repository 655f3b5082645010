//! The master: begins a pairing, and offers keys until one is taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{ATTEMPT_TIMEOUT, Draw, Frame, Ids, PairingOutput, REPEAT_INTERVAL, SecretKey, is_accepted, pop};
use crate::crypto::legacy::LegacyCipher;
use crate::secret::Key;

/// How often INITREQ is sent until a slave answers: one that starts later has not heard the earlier ones.
pub(super) const INITREQ_INTERVAL: Duration = Duration::from_millis(1500);
/// How long the old program, as slave, loses what comes after RDYACK: it pauses for one second.
const READY_DELAY: Duration = Duration::from_millis(1500);
/// Most keys that are offered: each is refused once in nine times.
const MAX_OFFERS: usize = 8;

/// What the master waits for.
enum MasterStep {
    /// [`PairingMaster::begin`].
    Begin,
    InitAck(Ids),
    AuthAck(Ids),
    AuthReq(Ids),
    RdyAck(Vec<SecretKey>),
    /// The slave has taken one of these keys.
    RdyReq(Vec<SecretKey>),
    /// The end of the slave's pause; it may have taken the other key, if there is one.
    Ready(Instant, Option<Key<LegacyCipher>>),
    /// Nothing.
    End,
}

pub(crate) struct PairingMaster {
    state: MasterStep,
    outbox: VecDeque<PairingOutput>,
    /// When to repeat the request that is not answered.
    repeat_at: Option<Instant>,
    /// When the slave, if it is the old program, has given up.
    give_up_at: Option<Instant>,
}

impl PairingMaster {
    pub(super) fn new() -> Self {
        Self { state: MasterStep::Begin, outbox: VecDeque::new(), repeat_at: None, give_up_at: None }
    }

    pub(super) fn begin(&mut self, now: Instant, draw: &mut dyn Draw) {
        if matches!(self.state, MasterStep::Begin) {
            self.start(now, draw);
        }
    }

    fn start(&mut self, now: Instant, draw: &mut dyn Draw) {
        let ids = Ids { master: draw.id(), slave: draw.id() };
        self.give_up_at = None;
        self.outbox.clear();
        self.send_init_req(ids, now);
    }

    fn send_init_req(&mut self, ids: Ids, now: Instant) {
        self.outbox.push_back(PairingOutput::Send(Frame::InitReq { master: ids.master, slave: ids.slave }));
        self.repeat_at = Some(now + INITREQ_INTERVAL);
        self.state = MasterStep::InitAck(ids);
    }

    fn send_auth_req(&mut self, ids: Ids, now: Instant) {
        self.outbox.push_back(PairingOutput::Send(Frame::AuthReq(ids.slave)));
        self.repeat_at = Some(now + REPEAT_INTERVAL);
        self.state = MasterStep::AuthAck(ids);
    }

    /// Offers a fresh key. The slave tries the keys in the order of their offers, and takes none after the first it accepts.
    fn offer(&mut self, mut offers: Vec<SecretKey>, now: Instant, draw: &mut dyn Draw) {
        if offers.len() < MAX_OFFERS {
            let key = draw.secret_key();
            self.outbox.push_back(PairingOutput::Send(Frame::RdyReq(key.public())));
            offers.push(key);
        }
        self.repeat_at = (offers.len() < MAX_OFFERS).then(|| now + REPEAT_INTERVAL);
        self.state = MasterStep::RdyAck(offers);
    }

    pub(super) fn accept(&mut self, frame: &Frame, now: Instant, draw: &mut dyn Draw) -> bool {
        match (&mut self.state, frame) {
            (MasterStep::InitAck(ids), Frame::InitAck) => {
                let ids = *ids;
                self.give_up_at = Some(now + ATTEMPT_TIMEOUT);
                self.send_auth_req(ids, now);
            }
            (MasterStep::AuthAck(ids), Frame::AuthAck) => {
                (self.state, self.repeat_at) = (MasterStep::AuthReq(*ids), None);
            }
            (MasterStep::AuthReq(ids), Frame::AuthReq(id)) if *id == ids.master => {
                self.outbox.push_back(PairingOutput::Send(Frame::AuthAck));
                self.offer(Vec::new(), now, draw);
            }
            (MasterStep::RdyAck(offers), Frame::RdyAck) => {
                (self.state, self.repeat_at) = (MasterStep::RdyReq(std::mem::take(offers)), None);
            }
            (MasterStep::RdyReq(offers), Frame::RdyReq(peer)) => {
                // Had it seen all offers, it took the first that passes its check. If an offer was lost, it took a later one, most
                // likely the newest, after which it answered.
                let mut accepted = offers.iter().filter_map(|offer| offer.agree(peer)).filter(is_accepted);
                let Some(key) = accepted.next() else { return false };
                let other = accepted.next_back();
                self.outbox.extend([PairingOutput::Store(key), PairingOutput::Send(Frame::RdyAck)]);
                (self.state, self.give_up_at) = (MasterStep::Ready(now + READY_DELAY, other), None);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn poll(&mut self, now: Instant, can_send: bool, draw: &mut dyn Draw) -> Option<PairingOutput> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if can_send && is_due(self.give_up_at) {
            self.start(now, draw);
        }
        if let Some(output) = pop(&mut self.outbox, can_send) {
            if matches!(output, PairingOutput::Send(_)) {
                self.restart_times(now);
            }
            return Some(output);
        }
        if let MasterStep::Ready(at, other) = &mut self.state
            && self.outbox.is_empty()
            && now >= *at
        {
            self.outbox.extend(other.take().map(PairingOutput::StoreOther));
            self.state = MasterStep::End;
            return Some(PairingOutput::Agreed);
        }
        if can_send && self.outbox.is_empty() && is_due(self.repeat_at) {
            self.repeat(now, draw);
        }
        pop(&mut self.outbox, can_send)
    }

    /// Repeats the request that is not answered; a key is not offered again, but another one.
    fn repeat(&mut self, now: Instant, draw: &mut dyn Draw) {
        match &mut self.state {
            MasterStep::InitAck(ids) => {
                let ids = *ids;
                self.send_init_req(ids, now);
            }
            MasterStep::AuthAck(ids) => {
                let ids = *ids;
                self.send_auth_req(ids, now);
            }
            MasterStep::RdyAck(offers) => {
                let offers = std::mem::take(offers);
                self.offer(offers, now, draw);
            }
            MasterStep::Begin
            | MasterStep::AuthReq(_)
            | MasterStep::RdyReq(_)
            | MasterStep::Ready(..)
            | MasterStep::End => {}
        }
    }

    /// A frame leaves now, perhaps long after it was made.
    fn restart_times(&mut self, now: Instant) {
        let interval = match &mut self.state {
            MasterStep::Ready(at, _) => {
                *at = now + READY_DELAY;
                return;
            }
            MasterStep::InitAck(_) => INITREQ_INTERVAL,
            _ => REPEAT_INTERVAL,
        };
        self.repeat_at = self.repeat_at.map(|_| now + interval);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            MasterStep::Ready(at, _) => Some(at),
            _ => [self.repeat_at, self.give_up_at].into_iter().flatten().min(),
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.state, MasterStep::Begin | MasterStep::InitAck(_))
    }
}
