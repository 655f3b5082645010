//! What we encode is read by an independent codec as what was meant.

use proptest::prelude::*;
use rumqttc::v5::mqttbytes as mqtt5;
use rumqttc::v5::mqttbytes::v5;

use bytes::Bytes;

use super::*;
use crate::secret::Password;

/// What a message holds, owned.
#[derive(Clone, Debug)]
struct Sent {
    topic: String,
    payload: Bytes,
    qos: Qos,
    retain: bool,
    dup: bool,
    pkid: u16,
}

impl Sent {
    fn publish(&self) -> Publish<'_> {
        let Self { topic, payload, qos, retain, dup, pkid } = self;
        Publish { topic, payload, qos: *qos, retain: *retain, dup: *dup, pkid: *pkid }
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    ("[a-zß/]{1,20}", payload, 0..3_u8, any::<bool>(), any::<bool>(), 1..=u16::MAX).prop_map(
        |(topic, payload, qos, retain, dup, pkid)| {
            let qos = Qos::from_code(qos).unwrap();
            let pkid = if qos == Qos::AtMostOnce { 0 } else { pkid };
            Sent { topic, payload: payload.into(), qos, retain, dup, pkid }
        },
    )
}

fn login() -> impl Strategy<Value = Option<Login>> {
    let login = ("[a-z]{1,9}", prop::option::of("[a-z]{1,9}"));
    prop::option::of(login.prop_map(|(username, password)| Login { username, password: password.map(Password::new) }))
}

fn will() -> impl Strategy<Value = Option<Will>> {
    prop::option::of(sent().prop_map(|Sent { topic, payload, qos, retain, .. }| Will { topic, payload, qos, retain }))
}

fn encoded(codec: &mut Codec, request: Request<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    codec.encode(request, &mut out);
    out
}

/// Name and password of a login as rumqttc has them.
fn texts(login: Option<&Login>) -> Option<(String, String)> {
    let password = |login: &Login| login.password.as_ref().map_or("", Password::expose).to_owned();
    login.map(|login| (login.username.clone(), password(login)))
}

/// A codec for MQTT 5 whose broker takes this many aliases.
fn with_expiry(message_expiry: Option<u32>) -> ClientOptions {
    let mut options = options(Version::V5);
    options.v5.message_expiry = message_expiry;
    options
}

fn codec_with_aliases(message_expiry: Option<u32>, max: u8) -> Codec {
    let mut codec = Codec::new(&with_expiry(message_expiry));
    codec.decode(&mut BytesMut::from(&[0x20, 6, 0, 0, 3, 34, 0, max][..])).unwrap();
    codec
}

proptest! {
    #[test]
    fn publish_in_3_1_and_3_1_1(one in sent(), version in prop::sample::select(&[Version::V31, Version::V311][..])) {
        let mut bytes = encoded(&mut of(version), Request::Publish(one.publish()));
        let v4::Packet::Publish(read) = v4::Packet::read(&mut bytes, usize::MAX).unwrap() else { panic!() };
        prop_assert_eq!((read.topic, read.payload, read.qos as u8), (one.topic, one.payload, one.qos.code()));
        prop_assert_eq!((read.retain, read.dup, read.pkid), (one.retain, one.dup, one.pkid));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn publish_in_5(all in prop::collection::vec(sent(), 1..8), expiry in prop::option::of(any::<u32>()), max in 0..4_u8) {
        let mut codec = codec_with_aliases(expiry, max);
        let mut known = std::collections::HashMap::new();
        for one in &all {
            let mut bytes = encoded(&mut codec, Request::Publish(one.publish()));
            let v5::Packet::Publish(read) = v5::Packet::read(&mut bytes, None).unwrap() else { panic!() };
            let properties = read.properties.unwrap_or_default();
            prop_assert_eq!(properties.message_expiry_interval, expiry);
            if let Some(alias) = properties.topic_alias {
                prop_assert!((1..=max.into()).contains(&alias));
                if !read.topic.is_empty() {
                    known.insert(alias, read.topic.clone());
                }
                prop_assert_eq!(&known[&alias], one.topic.as_bytes());
            } else {
                prop_assert_eq!(&read.topic, one.topic.as_bytes());
            }
            prop_assert_eq!((&read.payload, read.qos as u8), (&one.payload, one.qos.code()));
            prop_assert_eq!((read.retain, read.dup, read.pkid), (one.retain, one.dup, one.pkid));
            prop_assert!(bytes.is_empty());
        }
        prop_assert!(known.len() <= max.into());
    }

    #[test]
    fn connect_in_3_1_1(
        client_id in "[a-zß]{0,40}", login in login(), will in will(), keep_alive: u16, clean_session: bool,
    ) {
        let (login, will) = (login.as_ref(), will.as_ref());
        let connect = Connect { client_id: &client_id, login, keep_alive, clean_session, session_expiry: 7, will };
        let mut bytes = encoded(&mut codec(), Request::Connect(connect));
        let v4::Packet::Connect(read) = v4::Packet::read(&mut bytes, usize::MAX).unwrap() else { panic!() };
        prop_assert_eq!((&read.client_id, read.keep_alive, read.clean_session), (&client_id, keep_alive, clean_session));
        prop_assert_eq!(read.login.map(|login| (login.username, login.password)), texts(login));
        let expected = will.map(|Will { topic, payload, qos, retain }| {
            let qos = rumqttc::mqttbytes::qos(qos.code()).unwrap();
            v4::LastWill { topic: topic.clone(), message: payload.clone(), qos, retain: *retain }
        });
        prop_assert_eq!(read.last_will, expected);
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn connect_in_5(
        client_id in "[a-zß]{0,40}", login in login(), will in will(), keep_alive: u16, clean_session: bool,
        session_expiry: u32, message_expiry in prop::option::of(any::<u32>()),
    ) {
        let (login, will) = (login.as_ref(), will.as_ref());
        let mut codec = Codec::new(&with_expiry(message_expiry));
        let connect = Connect { client_id: &client_id, login, keep_alive, clean_session, session_expiry, will };
        let mut bytes = encoded(&mut codec, Request::Connect(connect));
        let read = v5::Packet::read(&mut bytes, None).unwrap();
        let v5::Packet::Connect(read, read_will, read_login) = read else { panic!() };
        prop_assert_eq!((&read.client_id, read.keep_alive, read.clean_start), (&client_id, keep_alive, clean_session));
        let properties = read.properties.unwrap();
        prop_assert_eq!(properties.session_expiry_interval, (!clean_session).then_some(session_expiry));
        prop_assert_eq!(properties.max_packet_size, Some(u32::try_from(LIMIT).unwrap() + 5));
        prop_assert_eq!(properties.receive_maximum, Some(16_384));
        prop_assert_eq!(read_login.map(|login| (login.username, login.password)), texts(login));
        prop_assert_eq!(read_will.is_some(), will.is_some());
        if let (Some(read), Some(will)) = (read_will, will) {
            prop_assert_eq!((&read.topic[..], &read.message), (will.topic.as_bytes(), &will.payload));
            prop_assert_eq!((read.qos as u8, read.retain), (will.qos.code(), will.retain));
            prop_assert_eq!(read.properties.and_then(|all| all.message_expiry_interval), message_expiry);
        }
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn subscribe(filter in "[a-zß/]{1,20}", shared: bool, qos in 0..3_u8, pkid in 1..=u16::MAX, retained: bool) {
        let filter = if shared { format!("$share/{filter}") } else { filter };
        let request = Request::Subscribe { pkid, filter: &filter, qos: Qos::from_code(qos).unwrap(), retained };
        for version in [Version::V31, Version::V311] {
            let mut bytes = encoded(&mut of(version), request);
            let v4::Packet::Subscribe(read) = v4::Packet::read(&mut bytes, usize::MAX).unwrap() else { panic!() };
            let mut expected = v4::Subscribe::new(&filter, rumqttc::mqttbytes::qos(qos).unwrap());
            expected.pkid = pkid;
            prop_assert_eq!(read, expected);
        }
        let mut bytes = encoded(&mut of(Version::V5), request);
        let v5::Packet::Subscribe(read) = v5::Packet::read(&mut bytes, None).unwrap() else { panic!() };
        prop_assert_eq!((read.pkid, read.filters.len(), read.properties), (pkid, 1, None));
        let one = &read.filters[0];
        prop_assert_eq!((&one.path, one.qos), (&filter, mqtt5::qos(qos).unwrap()));
        prop_assert_eq!(one.nolocal, !shared, "a shared subscription with it is a protocol error");
        let never = one.retain_forward_rule == v5::RetainForwardRule::Never;
        prop_assert_eq!((never, one.preserve_retain), (!retained, false));
    }

    #[test]
    fn the_short_packets(pkid in 1..=u16::MAX, version in version()) {
        for (request, expected) in [
            (Request::PubAck(pkid), v4::Packet::PubAck(v4::PubAck::new(pkid))),
            (Request::PubRec(pkid), v4::Packet::PubRec(v4::PubRec::new(pkid))),
            (Request::PubRel(pkid), v4::Packet::PubRel(v4::PubRel::new(pkid))),
            (Request::PubComp(pkid), v4::Packet::PubComp(v4::PubComp::new(pkid))),
            (Request::PingReq, v4::Packet::PingReq),
            (Request::Disconnect, v4::Packet::Disconnect),
        ] {
            let mut bytes = encoded(&mut of(version), request);
            prop_assert_eq!(v4::Packet::read(&mut bytes, usize::MAX).unwrap(), expected);
            prop_assert!(bytes.is_empty());
        }
    }
}
