//! PUBLISH packets from the broker: each is acknowledged when the tool says so, never before.

use std::collections::{HashMap, VecDeque};

use crate::mqtt::Qos;
use crate::mqtt::codec::Request;
use crate::mqtt::event::{Receipt, RequiredAck};

/// So many PUBREC packets are remembered before those that are answered are removed.
const MIN_RECS: usize = 64;

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
    /// The last connection on which PUBREC was sent.
    answered_on: Option<u64>,
}

/// Whether PUBREL is due to a PUBREC.
fn is_due(unreleased: &HashMap<u16, UnreleasedPublish>, rec: &SentPubRec) -> bool {
    unreleased.get(&rec.pkid).is_some_and(|one| one.delivery == rec.delivery)
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
                self.unreleased
                    .insert(pkid, UnreleasedPublish { delivery, acknowledged: false, connection, answered_on: None });
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
            && let Some(publish) = self.unreleased.get_mut(&pkid)
            // Of repeats, the first answer counts.
            && publish.answered_on.replace(self.connection) != Some(self.connection)
        {
            let delivery = publish.delivery;
            if self.recs.len() > 2 * self.unreleased.len() + MIN_RECS {
                self.recs.retain(|rec| is_due(&self.unreleased, rec));
            }
            self.recs.push_back(SentPubRec { pkid, delivery, end });
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
        while self.recs.front().is_some_and(|rec| !is_due(&self.unreleased, rec)) {
            self.recs.pop_front();
        }
        Request::PubComp(pkid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tool takes a message; PUBREC ends at this byte.
    fn take(incoming: &mut IncomingPublishes, pkid: u16, end: u64) {
        let answer = match incoming.publish(Qos::ExactlyOnce, pkid) {
            IncomingPublish::New(receipt) => incoming.ack(&receipt).unwrap(),
            IncomingPublish::AcknowledgedRepeat(answer) => answer,
            IncomingPublish::PendingRepeat => panic!("it was acknowledged"),
        };
        incoming.encoded(answer, end);
    }

    #[test]
    fn a_broker_that_repeats_or_releases_out_of_order_takes_no_memory() {
        let mut incoming = IncomingPublishes::default();
        incoming.connection_began();
        for end in 1..10_000 {
            take(&mut incoming, 1, 4 * end);
        }
        assert_eq!((incoming.recs.len(), incoming.oldest_unanswered(4)), (1, Some(4)), "the first answer counts");
        for round in 0..50_000_u64 {
            let pkid = u16::try_from(2 + round % 1000).unwrap();
            take(&mut incoming, pkid, 40_000 + 4 * round);
            incoming.pubrel(pkid);
        }
        assert!(incoming.recs.len() <= 2 * incoming.unreleased.len() + MIN_RECS + 1, "{}", incoming.recs.len());
        assert_eq!(incoming.oldest_unanswered(4), Some(4), "1 was never released");
        incoming.connection_began();
        take(&mut incoming, 1, 8);
        assert_eq!(incoming.oldest_unanswered(8), Some(8), "on each connection anew");
    }
}
