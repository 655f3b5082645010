//! What the broker bears of what we publish.

use crate::mqtt::codec::{Capabilities, MAX_FIXED_HEADER_LEN, MAX_PUBLISH_OVERHEAD, ReasonCode};
use crate::mqtt::{Qos, Will};

/// Messages at QoS 2 between PUBLISH and PUBCOMP. Before MQTT 5 a broker cannot say how many it takes, and mosquitto
/// drops those over its `max_inflight_messages` (20 by default), though it answers with PUBREC and PUBCOMP.
const MAX_EXACTLY_ONCE: usize = 20;

/// Limits that hold for one connection, and how far they are used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct BrokerLimits {
    /// Most messages of at least the QoS `counted` that are sent and not acknowledged.
    max_in_flight: usize,
    counted: Qos,
    in_flight: usize,
    /// They came with a CONNACK.
    pub(super) are_said: bool,
    pub(super) max_qos: Qos,
    pub(super) retains: bool,
    /// The longest packet, bytes.
    max_packet: usize,
    /// It keeps no session after this connection, whatever was asked for.
    pub(super) ends_session: bool,
}

impl Default for BrokerLimits {
    /// Those of a broker that has not said any.
    fn default() -> Self {
        Self { are_said: false, ..Self::new(&Capabilities::default()) }
    }
}

impl BrokerLimits {
    /// Those of a new connection.
    pub(super) fn new(capabilities: &Capabilities) -> Self {
        let (max_in_flight, counted) = match capabilities.receive_maximum {
            Some(count) => (count.into(), Qos::AtLeastOnce),
            None => (MAX_EXACTLY_ONCE, Qos::ExactlyOnce),
        };
        let Capabilities { max_qos, retains, max_packet, .. } = *capabilities;
        let ends_session = capabilities.session_expiry == Some(0);
        Self { max_in_flight, counted, in_flight: 0, are_said: true, max_qos, retains, max_packet, ends_session }
    }

    /// Whether a message may be sent now.
    pub(super) fn admit(&self, qos: Qos) -> bool {
        qos < self.counted || self.in_flight < self.max_in_flight
    }

    /// A message was sent.
    pub(super) fn sent(&mut self, qos: Qos) {
        self.in_flight += usize::from(qos >= self.counted);
    }

    /// A message that was sent is acknowledged, or refused.
    pub(super) fn answered(&mut self, qos: Qos) {
        self.in_flight = self.in_flight.saturating_sub(usize::from(qos >= self.counted));
    }

    /// The connection is gone, and with it what was on its way.
    pub(super) fn connection_ended(&mut self) {
        self.in_flight = 0;
    }

    /// The will as the broker bears it, as far as that is known.
    pub(super) fn bearable(&self, will: &Will) -> Will {
        Will { qos: will.qos.min(self.max_qos), retain: will.retain && self.retains, ..will.clone() }
    }

    /// The broker refused the connection for a will that asks for more than it bears, which no broker can say before. Returns
    /// whether the next one asks for less.
    pub(super) fn lower_for_will(&mut self, will: &Will, code: ReasonCode, said: &Capabilities) -> bool {
        let refused = self.bearable(will);
        match (code, refused.qos) {
            (ReasonCode::QOS_NOT_SUPPORTED, Qos::ExactlyOnce) => self.max_qos = said.max_qos.min(Qos::AtLeastOnce),
            (ReasonCode::QOS_NOT_SUPPORTED, Qos::AtLeastOnce) => self.max_qos = Qos::AtMostOnce,
            (ReasonCode::RETAIN_NOT_SUPPORTED, _) if refused.retain => self.retains = false,
            _ => return false,
        }
        true
    }

    /// The longest payload on this topic, bytes.
    pub(super) fn max_payload(&self, topic: &str) -> usize {
        self.max_packet.saturating_sub(MAX_FIXED_HEADER_LEN + MAX_PUBLISH_OVERHEAD + topic.len())
    }
}
