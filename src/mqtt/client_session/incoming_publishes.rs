//! PUBLISH packets from the broker: each is acknowledged when the tool says so, never before.

use std::collections::{HashMap, VecDeque};

use crate::mqtt::Qos;
use crate::mqtt::codec::Request;
use crate::mqtt::event::{Receipt, RequiredAck};

/// What must be remembered of them: at QoS 2 each delivery until PUBREL, at QoS 1 only the connection.
#[derive(Debug, Default)]
pub(super) struct IncomingPublishes {
    /// Counts connections: a PUBACK belongs to one.
    connection: u64,
    /// Counts deliveries at QoS 2.
    delivery: u64,
    /// By packet identifier.
    unreleased: HashMap<u16, UnreleasedPublish>,
    /// PUBREC packets of this connection, oldest first. Those that are answered are removed once they are the oldest.
    recs: VecDeque<SentPubRec>,
    /// The tool takes none for now.
    is_paused: bool,
}

/// A PUBREC that PUBREL answers.
#[derive(Debug)]
struct SentPubRec {
    pkid: u16,
    delivery: u64,
    /// Where its last byte lies among those of the connection.
    end: u64,
}

/// A delivery at QoS 2 that the broker may still repeat.
#[derive(Debug)]
struct UnreleasedPublish {
    delivery: u64,
    /// The tool acknowledged it.
    acknowledged: bool,
    /// The connection on which the broker sent it last: only there may PUBREC be sent.
    connection: u64,
}

/// What a PUBLISH turned out to be.
#[derive(Debug)]
pub(super) enum IncomingPublish {
    /// New: the tool gets it.
    New(Receipt),
    /// A repeat of a message that the tool acknowledged: the answer that it needs again.
    AcknowledgedRepeat(Request<'static>),
    /// A repeat of a message that the tool has not acknowledged yet.
    PendingRepeat,
}

impl IncomingPublishes {
    /// The tool takes none from now on, or takes them again.
    pub(super) fn pause(&mut self, paused: bool) {
        self.is_paused = paused;
    }

    /// Whether the tool takes none for now.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// A new connection begins.
    pub(super) fn connection_began(&mut self) {
        self.connection += 1;
        self.recs.clear();
    }

    /// The broker kept no session: its packet identifiers now mean other messages.
    pub(super) fn session_lost(&mut self) {
        self.unreleased.clear();
    }

    /// A PUBLISH came in.
    pub(super) fn publish(&mut self, qos: Qos, pkid: u16) -> IncomingPublish {
        let connection = self.connection;
        let ack = match qos {
            Qos::AtMostOnce => RequiredAck::None,
            Qos::AtLeastOnce => RequiredAck::PubAck { pkid, connection },
            Qos::ExactlyOnce => {
                if let Some(known) = self.unreleased.get_mut(&pkid) {
                    known.connection = connection;
                    return if known.acknowledged {
                        IncomingPublish::AcknowledgedRepeat(Request::PubRec(pkid))
                    } else {
                        IncomingPublish::PendingRepeat
                    };
                }
                self.delivery += 1;
                let delivery = self.delivery;
                self.unreleased.insert(pkid, UnreleasedPublish { delivery, acknowledged: false, connection });
                RequiredAck::PubRec { pkid, delivery }
            }
        };
        IncomingPublish::New(Receipt(ack))
    }

    /// The tool acknowledges a message: the packet to send, unless the broker is to repeat the message first.
    pub(super) fn ack(&mut self, receipt: &Receipt) -> Option<Request<'static>> {
        match receipt.0 {
            RequiredAck::None => None,
            RequiredAck::PubAck { pkid, connection } => {
                (connection == self.connection).then_some(Request::PubAck(pkid))
            }
            RequiredAck::PubRec { pkid, delivery } => {
                let known = self.unreleased.get_mut(&pkid).filter(|known| known.delivery == delivery)?;
                known.acknowledged = true;
                (known.connection == self.connection).then_some(Request::PubRec(pkid))
            }
        }
    }

    /// An answer was encoded; its last byte lies at `end` of this connection.
    pub(super) fn encoded(&mut self, answer: Request<'_>, end: u64) {
        if let Request::PubRec(pkid) = answer
            && let Some(publish) = self.unreleased.get(&pkid)
        {
            self.recs.push_back(SentPubRec { pkid, delivery: publish.delivery, end });
        }
    }

    /// Where the oldest PUBREC to which PUBREL is due ends among the bytes of this connection, if its socket has taken it;
    /// `sent_bytes` counts all that it took.
    pub(super) fn oldest_unanswered(&self, sent_bytes: u64) -> Option<u64> {
        self.recs.front().map(|rec| rec.end).filter(|end| *end <= sent_bytes)
    }

    /// PUBREL came in: the broker will not repeat this one. Returns the answer.
    pub(super) fn pubrel(&mut self, pkid: u16) -> Request<'static> {
        self.unreleased.remove(&pkid);
        let unreleased = &self.unreleased;
        let is_due = |rec: &SentPubRec| unreleased.get(&rec.pkid).is_some_and(|one| one.delivery == rec.delivery);
        while self.recs.front().is_some_and(|rec| !is_due(rec)) {
            self.recs.pop_front();
        }
        Request::PubComp(pkid)
    }
}
