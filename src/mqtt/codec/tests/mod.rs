//! Claim: however its bytes are cut, what a broker sends is decoded; what is malformed is an error, never a panic.

use proptest::prelude::*;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4;

use super::packet::Capabilities;
use super::*;
use crate::mqtt::{Login, Qos, Will};

mod encoded;
mod known_answers;
mod v5;

/// Largest PUBLISH that the codecs here take in.
const LIMIT: usize = 300;

fn codec() -> Codec {
    of(Version::V311)
}

fn of(version: Version) -> Codec {
    Codec::new(&options(version))
}

fn options(version: Version) -> ClientOptions {
    let mut options = ClientOptions { version, ..ClientOptions::new("me") };
    options.limits.max_receive = LIMIT;
    options
}

/// The CONNACK of a version that can say nothing more.
fn connack(session_present: Option<bool>, reason: Reason) -> Packet {
    Packet::ConnAck(Box::new(ConnAck { session_present, reason, capabilities: Capabilities::default() }))
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(&Version::ALL[..])
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

/// What a broker may send, with payloads on both sides of the limit.
fn packet() -> impl Strategy<Value = v4::Packet> {
    let publish = (qos(), 1..=u16::MAX, "[a-zß/]{1,20}", 0..900_usize, any::<bool>(), any::<bool>());
    let suback = prop::collection::vec(
        prop_oneof![qos().prop_map(v4::SubscribeReasonCode::Success), Just(v4::SubscribeReasonCode::Failure)],
        1..4,
    );
    prop_oneof![
        4 => publish.prop_map(|(qos, pkid, topic, len, retain, dup)| {
            let mut publish = v4::Publish::new(topic, qos, vec![b'x'; len]);
            publish.pkid = if qos == QoS::AtMostOnce { 0 } else { pkid };
            (publish.retain, publish.dup) = (retain, dup);
            v4::Packet::Publish(publish)
        }),
        1 => Just(v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::NotAuthorized, false))),
        1 => any::<u16>().prop_map(|pkid| v4::Packet::PubAck(v4::PubAck::new(pkid))),
        1 => any::<u16>().prop_map(|pkid| v4::Packet::PubRec(v4::PubRec::new(pkid))),
        1 => any::<u16>().prop_map(|pkid| v4::Packet::PubRel(v4::PubRel::new(pkid))),
        1 => any::<u16>().prop_map(|pkid| v4::Packet::PubComp(v4::PubComp::new(pkid))),
        1 => any::<u16>().prop_map(|pkid| v4::Packet::UnsubAck(v4::UnsubAck::new(pkid))),
        1 => (any::<u16>(), suback).prop_map(|(pkid, codes)| v4::Packet::SubAck(v4::SubAck::new(pkid, codes))),
        1 => Just(v4::Packet::PingResp),
    ]
}

/// What must come out for each of them.
fn expected(packet: &v4::Packet) -> Packet {
    let convert = |qos: QoS| Qos::from_code(qos as u8).unwrap();
    match packet.clone() {
        v4::Packet::Publish(one) => {
            let id = if one.qos == QoS::AtMostOnce { 0 } else { 2 };
            if 2 + one.topic.len() + id + one.payload.len() > LIMIT {
                Packet::Oversize { topic: one.topic, qos: convert(one.qos), pkid: one.pkid, len: one.payload.len() }
            } else {
                Packet::Publish {
                    topic: one.topic,
                    payload: one.payload,
                    qos: convert(one.qos),
                    retain: one.retain,
                    dup: one.dup,
                    pkid: one.pkid,
                }
            }
        }
        v4::Packet::ConnAck(_) => {
            connack(Some(false), Reason { sent_as: 5, ..Reason::new(ReasonCode::NOT_AUTHORIZED) })
        }
        v4::Packet::PubAck(ack) => Packet::PubAck { pkid: ack.pkid, reason: Reason::success() },
        v4::Packet::PubRec(ack) => Packet::PubRec { pkid: ack.pkid, reason: Reason::success() },
        v4::Packet::PubRel(ack) => Packet::PubRel(ack.pkid),
        v4::Packet::PubComp(ack) => Packet::PubComp(ack.pkid),
        v4::Packet::UnsubAck(ack) => Packet::UnsubAck { pkid: ack.pkid, reasons: Vec::new() },
        v4::Packet::SubAck(ack) => Packet::SubAck {
            pkid: ack.pkid,
            granted: ack
                .return_codes
                .into_iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => Ok(convert(qos)),
                    v4::SubscribeReasonCode::Failure => Err(Reason::new(ReasonCode::UNSPECIFIED_ERROR)),
                })
                .collect(),
        },
        v4::Packet::PingResp => Packet::PingResp,
        other => panic!("no broker sends {other:?}"),
    }
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_decodes_to_the_same_packets(
        packets in prop::collection::vec(packet(), 1..12),
        cuts in prop::collection::vec(1..400_usize, 1..30),
    ) {
        let mut stream = BytesMut::new();
        for packet in &packets {
            packet.write(&mut stream, usize::MAX).unwrap();
        }
        let (mut codec, mut bytes, mut found) = (codec(), BytesMut::new(), Vec::new());
        for cut in cuts.iter().cycle() {
            bytes.extend_from_slice(&stream.split_to((*cut).min(stream.len())));
            while let Some(packet) = codec.decode(&mut bytes).unwrap() {
                found.push(packet);
            }
            // Whatever waits for the rest of its packet is smaller than the largest packet.
            prop_assert!(bytes.len() < LIMIT + 5);
            if stream.is_empty() {
                break;
            }
        }
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(found, packets.iter().map(expected).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        version in version(),
        first in any::<u8>(),
        rest in prop::collection::vec(any::<u8>(), 0..700),
        cut in 1..50_usize,
    ) {
        let (mut codec, mut bytes) = (of(version), BytesMut::new());
        'stream: for chunk in [&[first][..], &rest[..]].concat().chunks(cut) {
            bytes.extend_from_slice(chunk);
            loop {
                match codec.decode(&mut bytes) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(lost) => {
                        prop_assert!(lost.to_string().starts_with("the broker sent invalid MQTT: "));
                        break 'stream;
                    }
                }
            }
        }
    }

    #[test]
    fn a_valid_header_over_arbitrary_bytes_never_panics(
        version in version(),
        first in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..127),
    ) {
        let mut bytes = BytesMut::from(&[first, u8::try_from(body.len()).unwrap()][..]);
        bytes.extend_from_slice(&body);
        let _ = of(version).decode(&mut bytes);
    }
}

#[test]
fn payloads_are_views_of_the_buffer() {
    let mut bytes = BytesMut::new();
    v4::Publish::new("t", QoS::AtMostOnce, "payload").write(&mut bytes).unwrap();
    let place = bytes.as_ptr().addr() + 5;
    match codec().decode(&mut bytes).unwrap() {
        Some(Packet::Publish { payload, .. }) => assert_eq!(payload.as_ptr().addr(), place),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_larger_than_memory_is_read_past() {
    // 256 MiB less one byte, in chunks of 64 KiB.
    let mut bytes = BytesMut::from(&[0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, b't', 0, 7][..]);
    let (mut codec, mut left) = (codec(), MAX_REMAINING_LEN - 5);
    assert_eq!(codec.decode(&mut bytes).unwrap(), None);
    while left > 65_536 {
        bytes.resize(65_536, 0);
        left -= 65_536;
        assert_eq!(codec.decode(&mut bytes).unwrap(), None);
        assert!(bytes.is_empty());
    }
    bytes.resize(left, 0);
    bytes.extend_from_slice(&[0xd0, 0]);
    let oversize = Packet::Oversize { topic: "t".into(), qos: Qos::AtLeastOnce, pkid: 7, len: MAX_REMAINING_LEN - 5 };
    assert_eq!(codec.decode(&mut bytes).unwrap(), Some(oversize));
    assert_eq!(codec.decode(&mut bytes).unwrap(), Some(Packet::PingResp));
}

#[test]
fn what_is_malformed_is_named() {
    for (bytes, named) in [
        (&[0x36, 4, 0, 1, b't', 0][..], "PUBLISH"),
        (&[0x32, 1, 0], "PUBLISH"),
        (&[0x90, 2, 0, 1], "SUBACK"),
        (&[0x32, 5, 0, 1, b't', 0, 0], "PUBLISH"),
        (&[0x30, 3, 0, 9, b't'], "PUBLISH"),
        (&[0x30, 4, 0, 2, 0xff, 0xfe], "PUBLISH"),
        (&[0x20, 2, 0, 99], "CONNACK"),
        (&[0x40, 1, 0], "PUBACK"),
        (&[0x90, 3, 0, 1, 3], "SUBACK"),
        (&[0xd0, 1, 0], "PINGRESP"),
        (&[0x10, 0], "packet type 1"),
        (&[0xf0, 0], "packet type 15"),
        (&[0x40, 0xff, 0xff, 0xff, 0x7f], "packet type 4 of 268435455 bytes"),
        (&[0x30, 0xff, 0xff, 0xff, 0xff], "remaining length"),
        (&[0x36, 0xff, 0x7f, 0, 1, b't', 0, 1], "PUBLISH: QoS 3"),
    ] {
        let error = codec().decode(&mut BytesMut::from(bytes)).unwrap_err();
        assert!(error.to_string().contains(named), "{bytes:02x?}: {error}");
    }
}

#[test]
fn every_suback_code_from_0x80_on_is_a_refusal() {
    for code in [0x80, 0x87, 0x97, 0xa2, 0xff] {
        let mut bytes = BytesMut::from(&[0x90, 4, 0, 7, 1, code][..]);
        let granted = vec![Ok(Qos::AtLeastOnce), Err(Reason::new(ReasonCode::new(code)))];
        assert_eq!(codec().decode(&mut bytes).unwrap(), Some(Packet::SubAck { pkid: 7, granted }));
    }
}

#[test]
fn a_broker_for_another_version_is_understood_when_it_refuses() {
    let mut bytes = BytesMut::from(&[0x20, 3, 0, 0x84, 0][..]);
    let refused = Reason::new(ReasonCode::UNSUPPORTED_VERSION);
    assert_eq!(codec().decode(&mut bytes).unwrap(), Some(connack(Some(false), refused.clone())));
    let mut bytes = BytesMut::from(&[0x20, 2, 0, 1][..]);
    let refused = Reason { sent_as: 1, ..refused };
    assert_eq!(of(Version::V5).decode(&mut bytes).unwrap(), Some(connack(Some(false), refused)));
}

#[test]
fn mqtt_3_1_does_not_say_whether_there_is_a_session() {
    for flags in [0, 1] {
        let mut bytes = BytesMut::from(&[0x20, 2, flags, 0][..]);
        let decoded = of(Version::V31).decode(&mut bytes).unwrap();
        assert_eq!(decoded, Some(connack(None, Reason::success())));
    }
}
