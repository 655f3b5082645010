//! PUBLISH packets from the broker: each is acknowledged when the tool says so, never before.

use std::collections::HashMap;

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
    /// A new connection begins.
    pub(super) fn connection_began(&mut self) {
        self.connection += 1;
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

    /// PUBREL came in: the broker will not repeat this one. Returns the answer.
    pub(super) fn pubrel(&mut self, pkid: u16) -> Request<'static> {
        self.unreleased.remove(&pkid);
        Request::PubComp(pkid)
    }
}
