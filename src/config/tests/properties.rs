//! Claim: a configuration that is written is the one that is read, and no text or value makes the parser panic.

use proptest::prelude::*;

use super::{MASTER, parse, parse_with, password};
use crate::config::*;

prop_compose! {
    /// A configuration as a list of keys and values that go together.
    fn settings()(
        host in "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", port in 1_u16.., qos in 0..3_u8, keep_alive: u16, retain in 0..2_u8,
        max_message in MIN_MESSAGE..=MAX_MESSAGE, publish in "[a-z$/ é=]{0,20}[a-z]", subscribe in "[a-z/ ]{0,20}[A-Z]",
        username in "[!-~é]{1,20}", password in "[!-~]([ -~é]{0,20}[!-~])?", client_id in "[!-~]{1,22}",
        suite in 0..3_usize, master: bool, peers in proptest::collection::hash_set("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", 1..5),
    ) -> Vec<(&'static str, String)> {
        vec![
            ("host", host), ("port", port.to_string()), ("qos", qos.to_string()), ("keep_alive", keep_alive.to_string()),
            ("retain", retain.to_string()), ("max_message", max_message.to_string()), ("pubtop", publish), ("subtop", subscribe),
            ("username", username), ("password", password), ("clientid", client_id), ("aes", Suite::ALL[suite].name().into()),
            ("sts_mode", if master { "master" } else { "slave" }.into()),
            ("peer", peers.into_iter().collect::<Vec<_>>().join(", ")),
        ]
    }
}

/// What a configuration says, written as one.
fn render(config: &Config) -> Vec<(&'static str, String)> {
    let BrokerAddress::Tcp(nodes) = &config.mqtt.endpoint.address else { panic!("not TCP") };
    let [Node { host, port }] = nodes.as_slice() else { panic!("not one node") };
    let (mqtt, sealed) = (&config.mqtt, config.sealed().unwrap());
    let peers: Vec<&str> = sealed.peers.iter().map(PeerName::as_str).collect();
    vec![
        ("host", host.clone()),
        ("port", port.to_string()),
        ("qos", (mqtt.qos as u8).to_string()),
        ("keep_alive", mqtt.keep_alive.to_string()),
        ("retain", u8::from(mqtt.retain).to_string()),
        ("max_message", mqtt.max_message.to_string()),
        ("pubtop", config.publish.to_string()),
        ("subtop", config.subscribe.to_string()),
        ("username", mqtt.login.as_ref().unwrap().username.clone()),
        ("password", password(config).to_owned()),
        ("clientid", mqtt.session.client_id.clone().unwrap()),
        ("aes", sealed.suite.to_string()),
        ("sts_mode", sealed.role.name().into()),
        ("peer", peers.join(", ")),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        settings in settings().prop_filter("blanks around a value are not part of it", |all| {
            all.iter().all(|(_, value)| value.trim() == value)
        }),
        blanks in proptest::collection::vec("[ \t]{0,3}", 4),
        end in prop_oneof!["\n", "\r\n", "\n# remark = 1\n", "\n\n"],
        order in any::<proptest::sample::Index>(),
    ) {
        let mut shuffled = settings.clone();
        shuffled.rotate_left(order.index(settings.len()));
        let [a, b, c, d] = &blanks[..] else { unreachable!() };
        let lines: Vec<String> = shuffled.iter().map(|(key, value)| format!("{a}{key}{b}={c}{value}{d}{end}")).collect();
        prop_assert_eq!(render(&parse(&lines.concat())), settings);
    }

    #[test]
    fn no_text_panics(text: String, option: String) {
        let _ = parse_with(&text, &[&option]);
    }

    #[test]
    fn no_values_panic(
        lines in proptest::collection::vec((0..23_usize, "\\PC{0,12}|[0-9]{1,6}|[a-z]{1,8}://[!-~]{0,20}|master|gcm"), 0..12),
    ) {
        let names: Vec<&str> = key_names().filter(|name| *name != "password_file").collect();
        let settings: Vec<String> = lines.iter().map(|(at, value)| format!("{}={value}", names[*at])).collect();
        let _ = parse_with(&settings.join("\n"), &[]);
        for option in &settings {
            let _ = parse_with(MASTER, &[option]);
        }
    }
}
