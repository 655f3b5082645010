//! The examples in the standards' text, byte for byte.

use bytes::Bytes;

use super::*;
use crate::secret::Password;

fn encoded(version: Version, request: Request<'_>) -> Vec<u8> {
    let mut out = BytesMut::new();
    of(version).encode(request, &mut out);
    out.to_vec()
}

/// The CONNECT of the examples: a login, a will at QoS 1 that is not retained, a keep-alive of ten seconds.
fn connect(version: Version, session_expiry: u32, clean_session: bool) -> Vec<u8> {
    let login = Login { username: "u".into(), password: Some(Password::new("p".into())) };
    let will = Will { topic: "w".into(), payload: "x".into(), qos: Qos::AtLeastOnce, retain: false };
    let (login, will) = (Some(&login), Some(&will));
    let connect = Connect { client_id: "me", login, keep_alive: 10, clean_session, session_expiry, will };
    encoded(version, Request::Connect(connect))
}

#[test]
fn connect_of_3_1() {
    // MQTT V3.1 Protocol Specification, 3.1: the example of the variable header, and the fields in their order.
    let mut expected = vec![0x10, 28, 0, 6];
    expected.extend(b"MQIsdp");
    expected.extend([3, 0xce, 0, 10, 0, 2, b'm', b'e', 0, 1, b'w', 0, 1, b'x', 0, 1, b'u', 0, 1, b'p']);
    assert_eq!(connect(Version::V31, 0, true), expected);
}

#[test]
fn connect_of_3_1_1() {
    // MQTT 3.1.1, figure 3.6.
    let mut expected = vec![0x10, 26, 0, 4, b'M', b'Q', b'T', b'T', 4, 0xce, 0, 10];
    expected.extend([0, 2, b'm', b'e', 0, 1, b'w', 0, 1, b'x', 0, 1, b'u', 0, 1, b'p']);
    assert_eq!(connect(Version::V311, 0, true), expected);
}

#[test]
fn connect_of_5() {
    // MQTT 5, figure 3-6: a session expiry of ten seconds, here without the flag for a clean start. Our receive maximum and
    // maximum packet size follow.
    let mut expected = vec![0x10, 41, 0, 4, b'M', b'Q', b'T', b'T', 5, 0xcc, 0, 10, 13, 0x11, 0, 0, 0, 10];
    expected.extend([0x21, 0x40, 0, 0x27, 0, 0, 1, 0x31, 0, 2, b'm', b'e', 0, 0, 1, b'w', 0, 1, b'x']);
    expected.extend([0, 1, b'u', 0, 1, b'p']);
    assert_eq!(connect(Version::V5, 10, false), expected);
}

#[test]
fn publish_and_subscribe() {
    // Figures 3.11 of MQTT 3.1.1 and 3-9 of MQTT 5: topic a/b, packet identifier 10. Then the first filter of their SUBSCRIBE.
    let payload = Bytes::from_static(b"x");
    let publish =
        Publish { topic: "a/b", payload: &payload, qos: Qos::AtLeastOnce, retain: false, dup: false, pkid: 10 };
    let subscribe = Request::Subscribe { pkid: 10, filter: "a/b", qos: Qos::AtLeastOnce, retained: true };
    for version in [Version::V31, Version::V311] {
        let expected = [0x32, 8, 0, 3, b'a', b'/', b'b', 0, 10, b'x'];
        assert_eq!(encoded(version, Request::Publish(publish)), expected);
        assert_eq!(encoded(version, subscribe), [0x82, 8, 0, 10, 0, 3, b'a', b'/', b'b', 1]);
    }
    let expected = [0x32, 9, 0, 3, b'a', b'/', b'b', 0, 10, 0, b'x'];
    assert_eq!(encoded(Version::V5, Request::Publish(publish)), expected);
    assert_eq!(encoded(Version::V5, subscribe), [0x82, 9, 0, 10, 0, 0, 3, b'a', b'/', b'b', 5]);
}
