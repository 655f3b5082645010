//! MQTT 5 on the wire.
//!
//! rumqttc's codec for MQTT 5 lets a property reach past the length of the properties, counts a subscription identifier twice,
//! refuses reason codes that it has no name for, and knows no AUTH. The tests read and write with it where it is right.

use bytes::{BufMut, Bytes, BytesMut};

use super::connect::{self, VersionFields};
use super::fields::{Fields, Malformed, put_binary, put_varint};
use super::packet::{Capabilities, ConnAck, Connect, Packet, Publish, Request};
use super::packet_reader::FixedHeader;
use super::properties::{self, Allowed, Properties, Property};
use super::publish;
use super::reason::{Reason, ReasonCode};
use super::topic_aliases::{Alias, TopicAliases};
use super::v3::{self, Mqtt3};
use crate::mqtt::{ClientOptions, ConnectionLost, Qos};

/// The packet type and flags in the first byte.
const SUBSCRIBE: u8 = 0x82;

/// Subscription options (3.8.3.1).
const NO_LOCAL: u8 = 0x04;
const NO_RETAINED: u8 = 0x20;

/// PUBLISH packets at QoS 1 and 2 that the broker may send without an acknowledgement: as many as this client sends without.
const RECEIVE_MAXIMUM: u16 = 16_384;

/// What a subscription begins with that is shared between clients, which must not have [`NO_LOCAL`].
const SHARED: &str = "$share/";

/// MQTT 5 as one client sends and receives it.
#[derive(Debug)]
pub(super) struct Mqtt5 {
    /// Seconds after which the broker discards a message that it has not delivered.
    message_expiry: Option<u32>,
    /// The longest packet that the broker may send, bytes.
    max_packet: u32,
    aliases: TopicAliases,
    /// Those of the last PUBLISH: kept, so that none costs an allocation.
    properties: BytesMut,
    /// The packets that are as they always were.
    without_properties: Mqtt3,
}

impl Mqtt5 {
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self {
            message_expiry: options.v5.message_expiry,
            max_packet: u32::try_from(options.limits.max_receive + FixedHeader::MAX_LEN).unwrap_or(u32::MAX),
            aliases: TopicAliases::default(),
            properties: BytesMut::new(),
            without_properties: Mqtt3::v311(),
        }
    }

    /// Starts anew, as for a new connection.
    pub(super) fn reset(&mut self) {
        self.aliases = TopicAliases::default();
    }

    /// Reads one whole packet.
    pub(super) fn decode(&mut self, header: FixedHeader, bytes: &Bytes) -> Result<Packet, ConnectionLost> {
        let fields = Fields::new(&bytes[header.len()..]);
        let (name, packet) = match header.packet_type() {
            2 => ("CONNACK", self.connack(fields)),
            3 => ("PUBLISH", publish::decode(header, bytes, skip_properties).and_then(with_topic)),
            4 => ("PUBACK", ack(fields).map(|(pkid, reason)| Packet::PubAck { pkid, reason })),
            5 => ("PUBREC", ack(fields).map(|(pkid, reason)| Packet::PubRec { pkid, reason })),
            6 => ("PUBREL", ack(fields).map(|(pkid, _)| Packet::PubRel(pkid))),
            7 => ("PUBCOMP", ack(fields).map(|(pkid, _)| Packet::PubComp(pkid))),
            9 => ("SUBACK", suback(fields)),
            11 => ("UNSUBACK", unsuback(fields)),
            13 => ("PINGRESP", fields.end().map(|()| Packet::PingResp)),
            14 => ("DISCONNECT", reason_and(fields, Allowed::DISCONNECT).map(Packet::Disconnect)),
            15 => ("AUTH", reason_and(fields, Allowed::AUTH).map(|_| Packet::Auth)),
            other => return Err(FixedHeader::not_from_broker(other)),
        };
        packet.map_err(|malformed| malformed.in_packet(name))
    }

    /// Appends one packet to `out`.
    pub(super) fn encode(&mut self, request: Request<'_>, out: &mut BytesMut) {
        match request {
            Request::Connect(connect) => self.connect(&connect, out),
            Request::Publish(publish) => self.publish(publish, out),
            Request::Subscribe { pkid, filter, qos, retained } => {
                out.put_u8(SUBSCRIBE);
                put_varint(2 + 1 + 2 + filter.len() + 1, out);
                out.put_u16(pkid);
                out.put_u8(0);
                put_binary(filter.as_bytes(), out);
                // What this client publishes is for another device, whatever topics they share.
                let no_local = if filter.starts_with(SHARED) { 0 } else { NO_LOCAL };
                out.put_u8(qos.code() | no_local | if retained { 0 } else { NO_RETAINED });
            }
            // Without a reason code they are success, and as they always were.
            Request::PubAck(_)
            | Request::PubRec(_)
            | Request::PubRel(_)
            | Request::PubComp(_)
            | Request::PingReq
            | Request::Disconnect => self.without_properties.encode(request, out),
        }
    }

    fn publish(&mut self, publish: Publish<'_>, out: &mut BytesMut) {
        self.properties.clear();
        if let Some(seconds) = self.message_expiry {
            properties::put_u32(Property::MESSAGE_EXPIRY, seconds, &mut self.properties);
        }
        let (topic, alias) = match self.aliases.get(publish.topic) {
            Alias::None => (publish.topic, None),
            Alias::New(alias) => (publish.topic, Some(alias)),
            Alias::Known(alias) => ("", Some(alias)),
        };
        if let Some(alias) = alias {
            properties::put_u16(Property::TOPIC_ALIAS, alias, &mut self.properties);
        }
        publish::encode(&Publish { topic, ..publish }, &self.properties, out);
    }

    fn connect(&self, connect: &Connect<'_>, out: &mut BytesMut) {
        let (mut own, mut of_will) = (BytesMut::new(), BytesMut::new());
        if !connect.clean_session {
            properties::put_u32(Property::SESSION_EXPIRY, connect.session_expiry, &mut own);
        }
        properties::put_u16(Property::RECEIVE_MAXIMUM, RECEIVE_MAXIMUM, &mut own);
        properties::put_u32(Property::MAXIMUM_PACKET_SIZE, self.max_packet, &mut own);
        if let Some(seconds) = self.message_expiry {
            properties::put_u32(Property::MESSAGE_EXPIRY, seconds, &mut of_will);
        }
        let fields = VersionFields { name: "MQTT", level: 5, properties: Some([&own, &of_will]) };
        connect::encode(connect, &fields, out);
    }

    fn connack(&mut self, mut fields: Fields<'_>) -> Result<Packet, Malformed> {
        let (flags, number) = (fields.u8()?, fields.u8()?);
        // A broker for an older version alone answers in the form of that.
        if fields.is_empty() {
            let (reason, capabilities) = (v3::connack_reason(number)?, Capabilities::default());
            let session_present = Some(flags & 1 == 1);
            return Ok(Packet::ConnAck(Box::new(ConnAck { session_present, reason, capabilities })));
        }
        if flags > 1 {
            return Err(Malformed("reserved flags"));
        }
        let (mut reason, mut capabilities) = (Reason::new(ReasonCode::new(number)), Capabilities::default());
        capabilities.receive_maximum = Some(u16::MAX);
        let mut properties = Properties::read(&mut fields, Allowed::CONNACK)?;
        while let Some((property, value)) = properties.next()? {
            match property {
                Property::SESSION_EXPIRY => capabilities.session_expiry = Some(value.number),
                Property::RECEIVE_MAXIMUM => capabilities.receive_maximum = Some(value.not_zero()?.short()),
                Property::MAXIMUM_QOS => {
                    let qos = u8::try_from(value.number).ok().and_then(Qos::from_code);
                    capabilities.max_qos = qos.ok_or(Malformed("maximum QoS"))?;
                }
                Property::RETAIN_AVAILABLE => capabilities.retains = value.number != 0,
                Property::MAXIMUM_PACKET_SIZE => {
                    let max = usize::try_from(value.not_zero()?.number).unwrap_or(usize::MAX);
                    capabilities.max_packet = capabilities.max_packet.min(max);
                }
                Property::ASSIGNED_CLIENT_ID => capabilities.client_id = Some(value.text.to_owned()),
                Property::TOPIC_ALIAS_MAXIMUM => self.aliases = TopicAliases::new(value.short()),
                Property::SERVER_KEEP_ALIVE => capabilities.keep_alive = Some(value.short()),
                Property::REASON_STRING => reason.text = Some(shortened(value.text)),
                Property::SERVER_REFERENCE => reason.server = Some(shortened(value.text)),
                _ => {}
            }
        }
        fields.end()?;
        Ok(Packet::ConnAck(Box::new(ConnAck { session_present: Some(flags == 1), reason, capabilities })))
    }
}

/// Most characters of what a broker says in words.
const MAX_WORDS_LEN: usize = 200;

/// Reads the properties of a PUBLISH, none of which is needed.
fn skip_properties(fields: &mut Fields<'_>) -> Result<(), Malformed> {
    let mut properties = Properties::read(fields, Allowed::PUBLISH)?;
    while let Some((property, _)) = properties.next()? {
        if property == Property::TOPIC_ALIAS {
            return Err(Malformed("a topic alias, of which none is allowed"));
        }
    }
    Ok(())
}

/// Without an alias, a message has a topic.
fn with_topic(packet: Packet) -> Result<Packet, Malformed> {
    match &packet {
        Packet::Publish { topic, .. } if topic.is_empty() => Err(Malformed("no topic")),
        _ => Ok(packet),
    }
}

/// Reads a packet identifier and what became of the packet.
fn ack(mut fields: Fields<'_>) -> Result<(u16, Reason), Malformed> {
    Ok((fields.u16()?, reason_and(fields, Allowed::ACK)?))
}

/// Reads a reason code and its properties, both of which may be missing.
fn reason_and(mut fields: Fields<'_>, allowed: Allowed) -> Result<Reason, Malformed> {
    if fields.is_empty() {
        return Ok(Reason::success());
    }
    let mut reason = Reason::new(ReasonCode::new(fields.u8()?));
    if !fields.is_empty() {
        read_words(&mut reason, Properties::read(&mut fields, allowed)?)?;
        fields.end()?;
    }
    Ok(reason)
}

/// Reads the words that go with a reason code.
fn read_words(reason: &mut Reason, mut properties: Properties<'_>) -> Result<(), Malformed> {
    while let Some((property, value)) = properties.next()? {
        match property {
            Property::REASON_STRING => reason.text = Some(shortened(value.text)),
            Property::SERVER_REFERENCE => reason.server = Some(shortened(value.text)),
            _ => {}
        }
    }
    Ok(())
}

/// As much of a text for people as is kept and shown.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_WORDS_LEN).collect()
}

/// Reads the answers to the topic filters of one packet, all of which have the same words.
fn answers(fields: &mut Fields<'_>) -> Result<(u16, impl Iterator<Item = Reason>), Malformed> {
    let pkid = fields.u16()?;
    let mut words = Reason::success();
    read_words(&mut words, Properties::read(fields, Allowed::ACK)?)?;
    // This client asks for one filter at a time; and each code has a copy of the words.
    if fields.len() != 1 {
        return Err(Malformed("not exactly one reason code"));
    }
    let codes = fields.rest().iter().map(|&code| ReasonCode::new(code));
    Ok((pkid, codes.map(move |code| Reason { text: words.text.clone(), ..Reason::new(code) })))
}

fn suback(mut fields: Fields<'_>) -> Result<Packet, Malformed> {
    let (pkid, answers) = answers(&mut fields)?;
    Ok(Packet::SubAck { pkid, granted: answers.map(v3::granted).collect::<Result<_, _>>()? })
}

fn unsuback(mut fields: Fields<'_>) -> Result<Packet, Malformed> {
    let (pkid, answers) = answers(&mut fields)?;
    Ok(Packet::UnsubAck { pkid, reasons: answers.collect() })
}
