//! What the broker sent and we have not finished with: acknowledged when the tool says so, never before.

use std::collections::HashMap;

use super::Qos;
use super::codec::Request;
use super::event::{Owed, Receipt};

/// Deliveries at QoS 2 between PUBLISH and PUBREL, by packet identifier; QoS 1 needs no memory.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// Counts connections: a PUBACK belongs to one.
    connection: u64,
    /// Counts deliveries at QoS 2.
    delivery: u64,
    exactly_once: HashMap<u16, Delivery>,
}

#[derive(Debug)]
struct Delivery {
    number: u64,
    /// The tool acknowledged it.
    acked: bool,
    /// The connection on which the broker sent it last: only there may PUBREC be sent.
    connection: u64,
}

/// What to do with a PUBLISH.
#[derive(Debug)]
pub(super) enum Arrival {
    /// It is new.
    Deliver(Receipt),
    /// The tool had it, and acknowledged it: so is the repeat.
    Answer(Request<'static>),
    /// The tool has it and has not acknowledged it yet.
    Ignore,
}

impl Inbound {
    /// A new connection begins.
    pub(super) fn connected(&mut self) {
        self.connection += 1;
    }

    /// The broker kept no session: its packet identifiers mean other messages now.
    pub(super) fn forgotten(&mut self) {
        self.exactly_once.clear();
    }

    /// A PUBLISH came in.
    pub(super) fn publish(&mut self, qos: Qos, pkid: u16) -> Arrival {
        match qos {
            Qos::AtMostOnce => Arrival::Deliver(Receipt(Owed::Nothing)),
            Qos::AtLeastOnce => Arrival::Deliver(Receipt(Owed::PubAck { pkid, connection: self.connection })),
            Qos::ExactlyOnce => {
                if let Some(delivery) = self.exactly_once.get_mut(&pkid) {
                    delivery.connection = self.connection;
                    return if delivery.acked { Arrival::Answer(Request::PubRec(pkid)) } else { Arrival::Ignore };
                }
                self.delivery += 1;
                let delivery = Delivery { number: self.delivery, acked: false, connection: self.connection };
                self.exactly_once.insert(pkid, delivery);
                Arrival::Deliver(Receipt(Owed::PubRec { pkid, delivery: self.delivery }))
            }
        }
    }

    /// The tool acknowledges a message: the packet to send, unless the broker is to send the message again first.
    pub(super) fn ack(&mut self, receipt: &Receipt) -> Option<Request<'static>> {
        match receipt.0 {
            Owed::Nothing => None,
            Owed::PubAck { pkid, connection } => (connection == self.connection).then_some(Request::PubAck(pkid)),
            Owed::PubRec { pkid, delivery } => {
                let known = self.exactly_once.get_mut(&pkid).filter(|known| known.number == delivery)?;
                known.acked = true;
                (known.connection == self.connection).then_some(Request::PubRec(pkid))
            }
        }
    }

    /// PUBREL came in: the broker will not send this one again.
    pub(super) fn pubrel(&mut self, pkid: u16) -> Request<'static> {
        self.exactly_once.remove(&pkid);
        Request::PubComp(pkid)
    }
}
