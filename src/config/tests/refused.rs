//! What is refused, with file, line and remedy.

use super::*;

#[test]
fn wrong_lines_are_named_with_their_remedy() {
    for (line, what, hint) in [
        ("usrname = u", "unknown key `usrname`", "did you mean `username`?"),
        ("Qos = 1", "unknown key `Qos`", "did you mean `qos`?"),
        ("colour = red", "unknown key `colour`", "the keys are mqtt_version, ip, "),
        ("\u{1b}[31m = x", r"unknown key `\x1b[31m`", ""),
        ("qos", "not a line of the form `key = value`", "write `qos = ` and the value"),
        ("qos: 1", "not a line of the form `key = value`", "write `qos = ` and the value"),
        ("qos 1", "not a line of the form `key = value`", "write `qos = ` and the value"),
        ("[broker]", "not a line of the form `key = value`", "there are no sections: remove this line"),
        ("; qos", "not a line of the form `key = value`", "a comment begins with `#`"),
        ("qos = 3", "invalid value `3` for `qos`: must be 0, 1 or 2", ""),
        (
            "qos = 1 # once",
            "invalid value `1 # once` for `qos`: must be 0, 1 or 2",
            "a comment needs a line of its own",
        ),
        ("port = 0", "invalid value `0` for `port`: must be a number from 1 to 65535", ""),
        ("keep_alive = 65536", "invalid value `65536` for `keep_alive`: must be a number from 0 to 65535", ""),
        ("keep_alive = 1d", "invalid value `1d` for `keep_alive`: must be a number from 0 to 65535", ""),
        ("keep_alive = +1", "invalid value `+1` for `keep_alive`: ", ""),
        ("max_message = 255", "invalid value `255` for `max_message`: must be a number from 256 to 268369904", ""),
        (&format!("url = unix:///{}", "x".repeat(107)), "invalid value", ""),
        ("max_message = 99999999999999999999", "invalid value `99999999999999999999` for `max_message`: ", ""),
        ("retain = yes", "invalid value `yes` for `retain`: must be 0 or 1", ""),
        ("mqtt_version = 6", "invalid value `6` for `mqtt_version`: must be 3, 4 or 5", ""),
        ("aes = gmc", "invalid value `gmc` for `aes`: must be gcm, cbc, ecb or null", "did you mean `gcm`?"),
        ("aes = null", "`aes = null` can be used only with `sts_mode = nosec`", "use gcm, cbc or ecb"),
        ("sts_version = 3", "invalid value `3` for `sts_version`: must be 1 or 2", ""),
        (
            "url = mqtts://a, ws://b",
            "invalid value `mqtts://a, ws://b` for `url`: the nodes of a cluster have one scheme, which is written once: \
             mqtts://HOST1,HOST2",
            "",
        ),
        ("host = a, WS://b/x", "invalid value `a, WS://b/x` for `host`: the nodes of a cluster have one scheme", ""),
        ("url = ws://a/x,ws://b/x", "invalid value `ws://a/x,ws://b/x` for `url`: the nodes of a cluster have one", ""),
        ("peer = a, ../b", "invalid value `a, ../b` for `peer`: a name has 1 to 64 ", ""),
        ("peer = a a", "`a` occurs twice in `peer`", ""),
        ("peer = ,", "invalid value `,` for `peer`", ""),
        ("channel = a/#", "invalid value `a/#` for `channel`", ""),
        ("clientid = a\u{0}b", "the value of `clientid` contains a control character", ""),
        ("clientid = a\u{9b}b", "the value of `clientid` contains a control character", ""),
        ("password = p", "`password` needs `username`", ""),
        ("ca_file = x", "`ca_file` needs TLS", TLS_HINT),
        ("tls_pin = x", "`tls_pin` needs TLS", TLS_HINT),
        ("tls_alpn = x", "`tls_alpn` needs TLS", TLS_HINT),
        ("tls = 1", "unknown key `tls`", TLS_HINT),
        ("use-tls = 1", "unknown key `use-tls`", TLS_HINT),
        ("broker = b", "unknown key `broker`", "the key is `host`"),
        ("Broker = b", "unknown key `Broker`", "the key is `host`"),
        ("topic = t", "unknown key `topic`", "the keys are `subtop`, the topic to receive on, and `pubtop`, "),
        ("user = u", "unknown key `user`", "the key is `username`"),
        ("pass = p", "unknown key `pass`", "the key is `password`, or `password_file`"),
        ("id = i", "unknown key `id`", "the key is `clientid`"),
        ("client-id = i", "unknown key `client-id`", "did you mean `clientid`?"),
        ("aes = 'gcm'", "invalid value `'gcm'` for `aes`", "quotes are part of a value: leave them out"),
        ("host = \"b\"", "invalid value `\"b\"` for `host`", "quotes are part of a value: leave them out"),
        ("peer = \"a\"", "invalid value `\"a\"` for `peer`", "quotes are part of a value: leave them out"),
    ] {
        let (exit, text, hints) = failure(&format!("{MASTER}{line}\n"), &[]);
        assert_eq!(exit, Exit::Config, "{line}");
        assert!(text.starts_with(&format!("etc/gw.conf, line 4: {what}")), "{line}: {text}");
        assert!(hints.starts_with(hint), "{line}: {hints}");
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let (_, text, hint) = failure(&NOSEC.replace("nosec", "server"), &[]);
    assert!(text.ends_with("must be nosec, master or slave") && hint.starts_with("master on one of"), "{text}: {hint}");
    for (text, expected) in [
        ("qos = 1\nqos = 1", "line 5: `qos` is already set by `qos` on line 4"),
        ("ip = a\nhost = a", "line 5: `host` is already set by `ip` on line 4"),
        ("host = a\nurl = mqtt://a", "line 5: `url` is already set by `host` on line 4"),
        ("url = mqtt://a:1\nport = 1", "line 5: `url` on line 4 already contains a port"),
        ("url = mqtt://u@a\nusername = u", "line 5: `url` on line 4 already contains a login"),
        ("url = unix:///s\nport = 1", "line 5: a Unix socket has no `port`"),
        ("username = u\npassword = p\npassword_file = secret", "line 6: `password` is already set"),
        ("url = mqtts://h\ncert_file = c", "line 5: `cert_file` needs `key_file`"),
        ("url = wss://h\nkey_file = c", "line 5: `key_file` needs `cert_file`"),
        (
            "sts_version = 1\naes = gcm",
            "line 5: invalid value `gcm` for `aes`: must be cbc or ecb with `sts_version = 1`",
        ),
        (
            "mqtt_version = 3\nclientid = a23456789012345678901234",
            "line 5: invalid value `a23456789012345678901234` for `clientid`: ",
        ),
    ] {
        let (exit, text, _) = failure(&format!("{MASTER}{text}\n"), &[]);
        assert!(exit == Exit::Config && text.starts_with(&format!("etc/gw.conf, {expected}")), "{text}");
    }
    for (line, expected) in [
        ("aes = gcm", "`aes = gcm` cannot be used with `sts_mode = nosec`"),
        ("peer = a", "`peer` cannot be used with `sts_mode = nosec`"),
        ("channel = a", "`channel` cannot be used with `sts_mode = nosec`"),
    ] {
        let (exit, text, _) = failure(&format!("{NOSEC}{line}\n"), &[]);
        assert!(exit == Exit::Config && text.contains(expected), "{text}");
    }
    for (missing, text) in [
        ("sts_mode", "subtop = a\npubtop = b"),
        ("subtop", "sts_mode = nosec\npubtop = b"),
        ("pubtop", "sts_mode = nosec\nsubtop = a"),
    ] {
        let (exit, text, hint) = failure(text, &[]);
        assert_eq!((exit, text), (Exit::Config, format!("etc/gw.conf: `{missing}` is not set")));
        assert!(hint.starts_with(&format!("add the line `{missing} = ")));
    }
}

#[test]
fn an_encrypted_link_has_two_topics() {
    assert_eq!(parse(&NOSEC.replace("= b", "= a")).publish.as_str(), "a");
    for topic in ["m2s", "$share/g/m2s"] {
        let (exit, text, hint) = failure(&MASTER.replace("s2m", topic), &[]);
        assert_eq!(exit, Exit::Config);
        assert!(text.starts_with("etc/gw.conf, line 3: `pubtop` is the same topic as `subtop` on line 2"), "{text}");
        assert_eq!(hint, "give each direction a topic of its own");
    }
    assert_eq!(failure(MASTER, &["subtop=m2s"]).0, Exit::Config);
    let shared = parse(&MASTER.replace("s2m", "$share/g/s2m"));
    assert_eq!(handshake_topics(&shared), ["m2s", "s2m"]);
    let named = parse(&format!("{MASTER}channel = site/7\npeer = a,b  c , d\n"));
    assert_eq!(handshake_topics(&named), ["site/7/m2s", "site/7/s2m"]);
    assert_eq!(named.sealed().unwrap().peers.iter().map(PeerName::as_str).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[test]
fn what_this_build_lacks_is_understood_and_refused() {
    let lacking: &[(&str, &str)] = &[
        #[cfg(not(feature = "tls"))]
        ("url = mqtts://h", "mqtts://: this build has no TLS"),
        #[cfg(not(feature = "websocket"))]
        ("url = ws://h", "ws://: this build has no WebSocket"),
        #[cfg(not(feature = "tls"))]
        ("url = wss://h/x", "wss://: this build has no TLS"),
        #[cfg(not(feature = "legacy"))]
        ("sts_version = 1", "this build does not support sts_version = 1"),
    ];
    for (line, what) in lacking {
        let (exit, text, _) = failure(&format!("{MASTER}{line}\n"), &[]);
        assert_eq!((exit, text), (Exit::Config, format!("etc/gw.conf, line 4: {what}")));
    }
}

/// The configuration files of the old program, and those of its later versions, which name the broker by `url`.
#[test]
fn links_to_the_old_program_are_of_the_shape_it_has() {
    for (seed, role) in [(SEED_MASTER, Role::Master), (SEED_SLAVE, Role::Slave)] {
        let config = parse(&format!("{seed}\nsts_version = 1\n"));
        assert_eq!(config.protection, Protection::Legacy(Legacy { role, aes: Suite::Cbc }));
        assert_eq!((config.mqtt.qos, config.mqtt.session.clean), (Qos::AtMostOnce, Some(true)));
        let later = seed.replace("mqtt_version  = 4\n", "").replace("ip   =", "url  =");
        assert!(later != seed && !later.contains("mqtt_version"));
        let later = parse(&format!("{later}\nsts_version = 1\n"));
        assert_eq!((later.mqtt.endpoint, later.mqtt.version), (config.mqtt.endpoint, MqttVersion::V311));
        assert_eq!((later.protection, later.publish), (config.protection, config.publish));
    }
    let aes = |line: &str| match parse(&format!("{MASTER}sts_version = 1\n{line}\n")).protection {
        Protection::Legacy(legacy) => legacy.aes,
        other => panic!("{other:?}"),
    };
    assert_eq!([aes(""), aes("aes = cbc"), aes("aes = ecb")], [Suite::Cbc, Suite::Cbc, Suite::Ecb]);
    assert_eq!(parse(&format!("{NOSEC}sts_version = 1\n")).protection, Protection::None);
}

#[test]
fn what_the_old_program_has_nothing_for_is_refused() {
    let long = format!("pubtop = {}", "x".repeat(129));
    for (mode, line, why) in [
        ("master", "peer = a", "`peer = a` cannot be used with `sts_version = 1`, which authenticates no device"),
        ("master", "channel = a", "`channel = a` cannot be used with `sts_version = 1`, which authenticates no device"),
        ("master", "qos = 1", "`qos = 1` cannot be used with `sts_version = 1`, where a message that comes twice"),
        ("master", "retain = 1", "`retain = 1` cannot be used with `sts_version = 1`, where a message that comes late"),
        ("slave", "subtop = a/+", "with `sts_version = 1` a link has one device at its other end"),
        ("slave", "subtop = $share/g/a", "with `sts_version = 1` a link has one device at its other end"),
        ("slave", &long, "with `sts_version = 1` a topic has at most 128 bytes"),
        ("master", "aes = null", "`aes = null` can be used only with `sts_mode = nosec`"),
    ] {
        let others = [("subtop", "s2m"), ("pubtop", "m2s")].into_iter().filter(|(key, _)| !line.starts_with(key));
        let others: Vec<_> = others.map(|(key, value)| format!("{key} = {value}\n")).collect();
        let (exit, text, hint) =
            failure(&format!("sts_mode = {mode}\nsts_version = 1\n{}{line}\n", others.concat()), &[]);
        assert!(exit == Exit::Config && text.contains(why) && !hint.is_empty(), "{line}: {text}: {hint}");
    }
    for line in ["qos = 0", "retain = 0", "clean_session = 0"] {
        parse(&format!("{MASTER}sts_version = 1\n{line}\n"));
    }
}

#[test]
fn what_only_mqtt_5_can_say_needs_it() {
    let config = parse(&format!("{MASTER}mqtt_version = 5\nclientid = a\nsession_expiry = 2d\nmessage_expiry = 90\n"));
    assert_eq!((config.mqtt.session.expiry, config.mqtt.message_expiry), (172_800, Some(90)));
    let config = parse(&format!("{MASTER}mqtt_version = 5\nmessage_expiry = 0\n"));
    assert_eq!((config.mqtt.session.expiry, config.mqtt.message_expiry), (7 * 86_400, None));
    for (text, expected) in [
        ("message_expiry = 9", "line 4: MQTT 3.1.1 has no `message_expiry`"),
        ("mqtt_version = 3\nsession_expiry = 9", "line 5: MQTT 3.1 has no `session_expiry`"),
        ("mqtt_version = 5\nsession_expiry = 9", "line 5: `session_expiry` needs a `clientid`"),
        (
            "mqtt_version = 5\nclientid = a\nclean_session = 1\nsession_expiry = 9",
            "line 7: `session_expiry` cannot be used with `clean_session = 1`",
        ),
        ("mqtt_version = 5\nmessage_expiry = 4294967296", "line 5: invalid value `4294967296` for `message_expiry`: "),
    ] {
        let (exit, text, _) = failure(&format!("{MASTER}{text}\n"), &[]);
        assert!(exit == Exit::Config && text.starts_with(&format!("etc/gw.conf, {expected}")), "{text}");
    }
}
