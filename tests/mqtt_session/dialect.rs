//! A broker's packets in every version of MQTT, by rumqttc: a broker of the tests thinks in those of 3.1.1. In MQTT 5 it takes
//! topic aliases, and adds properties that a client need not know.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{ConnectReturnCode, LastWill, Login, Packet, Publish, Subscribe, SubscribeReasonCode};
use rumqttc::mqttbytes::{self, v4};
use rumqttc::v5::mqttbytes::{self as mqttbytes5, v5};

/// The broker's side of one version.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// The protocol level: 3, 4 or 5.
    level: u8,
    /// What it says of itself in CONNACK, where that can be said.
    pub(crate) capabilities: v5::ConnAckProperties,
    /// The topics that a client has given an alias on this connection.
    aliases: HashMap<u16, String>,
}

impl Dialect {
    pub(crate) fn new(level: u8) -> Self {
        let capabilities = v5::ConnAckProperties {
            session_expiry_interval: None,
            receive_max: None,
            max_qos: None,
            retain_available: None,
            max_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_max: Some(2),
            reason_string: Some("welcome".into()),
            user_properties: vec![("name".into(), "value".into())],
            wildcard_subscription_available: None,
            subscription_identifiers_available: None,
            shared_subscription_available: None,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        };
        Self { level, capabilities, aliases: HashMap::new() }
    }

    /// Takes the next packet off the front of what a client sent; `None` where more has to come.
    pub(crate) fn read(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, String> {
        let packet = match self.level {
            5 => return self.read_5(bytes),
            3 if bytes.first() == Some(&0x10) => {
                if bytes.len() < 2 || bytes.len() < 2 + usize::from(bytes[1]) {
                    return Ok(None);
                }
                // rumqttc knows no MQTT 3.1, which differs in these bytes.
                assert_eq!(bytes[2..11], *b"\0\x06MQIsdp\x03", "the protocol's name and level");
                let mut connect = BytesMut::from(&[0x10, bytes[1] - 2][..]);
                connect.extend_from_slice(b"\0\x04MQTT\x04");
                let rest = bytes.split_to(2 + usize::from(bytes[1]));
                connect.extend_from_slice(&rest[11..]);
                Packet::read(&mut connect, usize::MAX)
            }
            _ => Packet::read(bytes, usize::MAX),
        };
        match packet {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn read_5(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, String> {
        // rumqttc takes an empty DISCONNECT for an error.
        if bytes.starts_with(&[0xe0, 0]) {
            let _ = bytes.split_to(2);
            return Ok(Some(Packet::Disconnect));
        }
        match v5::Packet::read(bytes, None) {
            Ok(packet) => Ok(Some(self.older(packet))),
            Err(mqttbytes5::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What a packet of MQTT 5 would be in 3.1.1.
    fn older(&mut self, packet: v5::Packet) -> Packet {
        match packet {
            v5::Packet::Connect(connect, will, login) => {
                self.aliases.clear();
                let mut older = v4::Connect::new(connect.client_id);
                (older.keep_alive, older.clean_session) = (connect.keep_alive, connect.clean_start);
                let expiry = connect.properties.and_then(|all| all.session_expiry_interval);
                assert_eq!(expiry.is_none(), connect.clean_start, "a session is kept for some time or not at all");
                older.last_will = will.map(|will| LastWill {
                    topic: text(&will.topic),
                    message: will.message,
                    qos: qos_4(will.qos),
                    retain: will.retain,
                });
                older.login = login.map(|login| Login { username: login.username, password: login.password });
                Packet::Connect(older)
            }
            v5::Packet::Publish(publish) => Packet::Publish(self.older_publish(publish)),
            v5::Packet::PubAck(ack) => Packet::PubAck(v4::PubAck::new(ack.pkid)),
            v5::Packet::PubRec(ack) => Packet::PubRec(v4::PubRec::new(ack.pkid)),
            v5::Packet::PubRel(ack) => Packet::PubRel(v4::PubRel::new(ack.pkid)),
            v5::Packet::PubComp(ack) => Packet::PubComp(v4::PubComp::new(ack.pkid)),
            v5::Packet::Subscribe(subscribe) => {
                let filter = &subscribe.filters[0];
                let mut older = Subscribe::new(&filter.path, qos_4(filter.qos));
                older.pkid = subscribe.pkid;
                Packet::Subscribe(older)
            }
            v5::Packet::PingReq(_) => Packet::PingReq,
            other => panic!("no client sends {other:?}"),
        }
    }

    fn older_publish(&mut self, publish: v5::Publish) -> Publish {
        let mut topic = text(&publish.topic);
        if let Some(alias) = publish.properties.and_then(|all| all.topic_alias) {
            assert!(alias > 0 && Some(alias) <= self.capabilities.topic_alias_max, "topic alias {alias}");
            if topic.is_empty() {
                topic.clone_from(&self.aliases[&alias]);
            } else {
                self.aliases.insert(alias, topic.clone());
            }
        }
        let mut older = Publish::from_bytes(topic, qos_4(publish.qos), publish.payload);
        (older.retain, older.dup, older.pkid) = (publish.retain, publish.dup, publish.pkid);
        older
    }

    /// Appends a PUBACK or PUBREC that refuses a message for now: quota exceeded.
    pub(crate) fn write_refusal(&self, ack: &Packet, out: &mut BytesMut) {
        assert_eq!(self.level, 5);
        let (first, pkid) = match ack {
            Packet::PubAck(ack) => (0x40, ack.pkid),
            Packet::PubRec(ack) => (0x50, ack.pkid),
            other => panic!("{other:?} refuses nothing"),
        };
        let [high, low] = pkid.to_be_bytes();
        out.extend_from_slice(&[first, 3, high, low, 0x97]);
    }

    /// Appends a packet for the client.
    pub(crate) fn write(&self, packet: &Packet, out: &mut BytesMut) {
        match packet {
            Packet::ConnAck(connack) if self.level == 5 => {
                let properties = Some(self.capabilities.clone());
                let code = connack_code(connack.code);
                v5::ConnAck { session_present: connack.session_present, code, properties }.write(out).unwrap();
            }
            Packet::Publish(publish) if self.level == 5 => {
                let user_properties = vec![("key".into(), "value".into())];
                let properties = v5::PublishProperties { user_properties, ..Default::default() };
                let qos = mqttbytes5::qos(publish.qos as u8).unwrap();
                let mut newer = v5::Publish::new(&publish.topic, qos, publish.payload.clone(), Some(properties));
                (newer.retain, newer.dup, newer.pkid) = (publish.retain, publish.dup, publish.pkid);
                newer.write(out).unwrap();
            }
            Packet::SubAck(suback) if self.level == 5 => {
                let return_codes = suback.return_codes.iter().map(|code| match code {
                    SubscribeReasonCode::Success(qos) => {
                        v5::SubscribeReasonCode::Success(mqttbytes5::qos(*qos as u8).unwrap())
                    }
                    SubscribeReasonCode::Failure => v5::SubscribeReasonCode::Unspecified,
                });
                let (pkid, return_codes) = (suback.pkid, return_codes.collect());
                v5::SubAck { pkid, return_codes, properties: None }.write(out).unwrap();
            }
            // The others are in MQTT 5 what they always were, where nothing went wrong.
            _ => drop(packet.write(out, usize::MAX).unwrap()),
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn qos_4(qos: mqttbytes5::QoS) -> mqttbytes::QoS {
    mqttbytes::qos(qos as u8).unwrap()
}

fn connack_code(code: ConnectReturnCode) -> v5::ConnectReturnCode {
    match code {
        ConnectReturnCode::Success => v5::ConnectReturnCode::Success,
        ConnectReturnCode::RefusedProtocolVersion => v5::ConnectReturnCode::UnsupportedProtocolVersion,
        ConnectReturnCode::BadClientId => v5::ConnectReturnCode::ClientIdentifierNotValid,
        ConnectReturnCode::ServiceUnavailable => v5::ConnectReturnCode::ServerUnavailable,
        ConnectReturnCode::BadUserNamePassword => v5::ConnectReturnCode::BadUserNamePassword,
        ConnectReturnCode::NotAuthorized => v5::ConnectReturnCode::NotAuthorized,
    }
}
