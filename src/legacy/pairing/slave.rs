//! The slave: answers a master, one at a time.

use std::collections::VecDeque;
use std::time::Instant;

use super::{ATTEMPT_TIMEOUT, Draw, Frame, Ids, PairingOutput, REPEAT_INTERVAL, is_accepted, pop};
use crate::crypto::legacy::CurvePoint;

/// What the slave waits for.
enum SlaveStep {
    /// [`PairingSlave::begin`].
    Begin,
    InitReq,
    AuthReq(Ids),
    AuthAck(Ids),
    RdyReq(Ids),
    /// The session is stored, and this key of ours is to be sent.
    RdyAck(Ids, CurvePoint),
}

pub(crate) struct PairingSlave {
    state: SlaveStep,
    /// The session will be in CBC.
    is_cbc: bool,
    outbox: VecDeque<PairingOutput>,
    /// When to repeat the request that is not answered.
    repeat_at: Option<Instant>,
    /// When the master, if it is the old program, has given up.
    give_up_at: Option<Instant>,
}

impl PairingSlave {
    pub(super) fn new(is_cbc: bool) -> Self {
        Self { state: SlaveStep::Begin, is_cbc, outbox: VecDeque::new(), repeat_at: None, give_up_at: None }
    }

    pub(super) fn begin(&mut self) {
        if matches!(self.state, SlaveStep::Begin) {
            self.state = SlaveStep::InitReq;
        }
    }

    pub(super) fn accept(&mut self, frame: &Frame, now: Instant, draw: &mut dyn Draw) -> bool {
        if let Frame::InitReq { master, slave } = frame {
            return self.accept_init_req(Ids { master: *master, slave: *slave }, now);
        }
        match (&self.state, frame) {
            (SlaveStep::AuthReq(ids), Frame::AuthReq(id)) if *id == ids.slave => {
                let ids = *ids;
                self.outbox
                    .extend([PairingOutput::Send(Frame::AuthAck), PairingOutput::Send(Frame::AuthReq(ids.master))]);
                (self.state, self.repeat_at) = (SlaveStep::AuthAck(ids), Some(now + REPEAT_INTERVAL));
            }
            (SlaveStep::AuthAck(ids), Frame::AuthAck) => {
                (self.state, self.repeat_at) = (SlaveStep::RdyReq(*ids), None);
            }
            (SlaveStep::RdyReq(ids), Frame::RdyReq(peer)) => {
                let ids = *ids;
                return self.accept_key(ids, peer, now, draw);
            }
            (SlaveStep::RdyAck(..), Frame::RdyAck) => {
                self.outbox.push_back(PairingOutput::Agreed);
                (self.state, self.repeat_at, self.give_up_at) = (SlaveStep::InitReq, None, None);
            }
            _ => return false,
        }
        true
    }

    /// A master that starts again makes new ids; one that only repeats itself has not heard INITACK, or not yet.
    fn accept_init_req(&mut self, ids: Ids, now: Instant) -> bool {
        match &self.state {
            SlaveStep::Begin => return false,
            SlaveStep::AuthAck(known) | SlaveStep::RdyReq(known) | SlaveStep::RdyAck(known, _) if *known == ids => {
                return false;
            }
            SlaveStep::RdyAck(..) => self.outbox.push_back(PairingOutput::Abandon),
            SlaveStep::InitReq | SlaveStep::AuthReq(_) | SlaveStep::AuthAck(_) | SlaveStep::RdyReq(_) => {}
        }
        // What the one before was to hear must not reach this one, which would be out of step.
        self.outbox.retain(|output| !matches!(output, PairingOutput::Send(_)));
        self.outbox.push_back(PairingOutput::Send(Frame::InitAck));
        self.state = SlaveStep::AuthReq(ids);
        (self.repeat_at, self.give_up_at) = (None, Some(now + ATTEMPT_TIMEOUT));
        true
    }

    /// Answers the master's key with one of ours that makes a session key which the old program does not refuse.
    fn accept_key(&mut self, ids: Ids, peer: &CurvePoint, now: Instant, draw: &mut dyn Draw) -> bool {
        let (public, key) = loop {
            let own = draw.secret_key();
            // Not a point of the curve: drawing again would not help.
            let Some(key) = own.agree(peer) else { return false };
            if is_accepted(&key) {
                break (own.public(), key);
            }
        };
        let answer =
            [PairingOutput::Store(key), PairingOutput::Send(Frame::RdyAck), PairingOutput::Send(Frame::RdyReq(public))];
        self.outbox.extend(answer);
        // If it is only RDYACK that is late, the master is on already, and decrypts what it gets. In CBC it drops this key, as it
        // is not of whole blocks. In ECB it would display it as noise: there the key is not repeated, and if it is lost, the
        // master has to start again.
        let repeat_at = self.is_cbc.then(|| now + REPEAT_INTERVAL);
        (self.state, self.repeat_at) = (SlaveStep::RdyAck(ids, public), repeat_at);
        true
    }

    pub(super) fn poll(&mut self, now: Instant, can_send: bool) -> Option<PairingOutput> {
        if self.give_up_at.is_some_and(|at| now >= at) {
            let was_stored = matches!(self.state, SlaveStep::RdyAck(..));
            (self.state, self.repeat_at, self.give_up_at) = (SlaveStep::InitReq, None, None);
            self.outbox.clear();
            return was_stored.then_some(PairingOutput::Abandon);
        }
        if let Some(output) = pop(&mut self.outbox, can_send) {
            if matches!(output, PairingOutput::Send(_)) {
                // It leaves now, perhaps long after it was made.
                self.repeat_at = self.repeat_at.map(|_| now + REPEAT_INTERVAL);
            }
            return Some(output);
        }
        if can_send && self.outbox.is_empty() && self.repeat_at.is_some_and(|at| now >= at) {
            self.repeat_at = Some(now + REPEAT_INTERVAL);
            return match &self.state {
                SlaveStep::AuthAck(ids) => Some(PairingOutput::Send(Frame::AuthReq(ids.master))),
                SlaveStep::RdyAck(_, public) => Some(PairingOutput::Send(Frame::RdyReq(*public))),
                SlaveStep::Begin | SlaveStep::InitReq | SlaveStep::AuthReq(_) | SlaveStep::RdyReq(_) => None,
            };
        }
        None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.repeat_at, self.give_up_at].into_iter().flatten().min()
    }

    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.state, SlaveStep::Begin | SlaveStep::InitReq)
    }
}
