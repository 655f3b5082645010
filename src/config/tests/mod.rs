//! Claim: the old program's files load unchanged, and whatever else is written either means one thing or is refused by
//! file, line and remedy.

mod limits;
mod properties;
mod refused;

use std::path::Path;

use super::*;
use crate::Exit;

const SEED_NOSEC: &str = "mqtt_version  = 4\nip   = 127.0.0.1\nport = 1883\nusername = nosec\npassword = nosec\n\
    subtop   = one_topic       \npubtop   = one_topic\nclientid = test_nosec\nsts_mode = nosec\naes      = null";
const SEED_MASTER: &str = "mqtt_version  = 4\nip   = 127.0.0.1\nport = 1883\nusername = master\npassword = master\n\
    subtop   = s2m\npubtop   = m2s\nclientid = test_master\nsts_mode = master\naes      = cbc";
const SEED_SLAVE: &str = "mqtt_version  = 4\nip   = 127.0.0.1\nport = 1883\nusername = slave\npassword = slave\n\
    subtop   = m2s\npubtop   = s2m\nclientid = test_slave\nsts_mode = slave\naes      = cbc";

pub(super) const MASTER: &str = "sts_mode = master\nsubtop = s2m\npubtop = m2s\n";
const NOSEC: &str = "sts_mode = nosec\nsubtop = a\npubtop = b\n";

pub(super) fn parse_with(text: &str, options: &[&str]) -> Result<Parsed> {
    let source = ConfigSource { link: "gw".parse().unwrap(), path: "etc/gw.conf".into() };
    let overrides = options.iter().map(|option| Override::parse(option)).collect::<Result<Vec<_>>>()?;
    Config::parse(&source, text, &overrides, &mut |path| {
        assert_eq!(path, Path::new("etc/secret"));
        Ok(SecretFile { text: Zeroizing::new("from file\n".into()), exposed: true })
    })
}

pub(super) fn parse(text: &str) -> Config {
    parse_with(text, &[]).unwrap().config
}

pub(super) fn password(config: &Config) -> &str {
    config.mqtt.login.as_ref().unwrap().password.as_ref().unwrap().expose()
}

/// The exit status, the error and its hint, as the tools print them.
fn failure(text: &str, options: &[&str]) -> (Exit, String, String) {
    let err = match parse_with(text, options) {
        Ok(parsed) => parsed.config.check_supported().expect_err(text),
        Err(err) => err,
    };
    (err.exit(), err.to_string(), err.hint_text().unwrap_or_default().to_owned())
}

#[test]
fn the_old_programs_files_load_unchanged() {
    for (text, name, topics) in [
        (SEED_NOSEC, "nosec", ["one_topic"; 2]),
        (SEED_MASTER, "master", ["m2s", "s2m"]),
        (SEED_SLAVE, "slave", ["s2m", "m2s"]),
    ] {
        for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("\u{feff}{text}\n")] {
            let config = parse(&text);
            config.check_supported().unwrap();
            assert_eq!(config.sealed().map_or("nosec", |sealed| sealed.role.name()), name);
            assert_eq!([config.publish.as_str(), config.subscribe.as_str()], topics);
            assert_eq!(config.mqtt.version, MqttVersion::V311);
            assert_eq!(config.mqtt.endpoint, Endpoint::tcp("127.0.0.1", 1883));
            assert_eq!((config.mqtt.login.as_ref().unwrap().username.as_str(), password(&config)), (name, name));
            assert_eq!(config.mqtt.session.client_id.as_deref(), Some(&*format!("test_{name}")));
            assert_eq!(config.sealed().map(|sealed| sealed.suite), (name != "nosec").then_some(Suite::Cbc));
        }
    }
    assert_eq!(handshake_topics(&parse(SEED_MASTER)), ["m2s", "s2m"]);
    assert_eq!(handshake_topics(&parse(SEED_SLAVE)), ["m2s", "s2m"]);
    assert_eq!(parse(SEED_NOSEC).route(), None);
}

#[test]
fn defaults_are_the_manuals() {
    let config = parse(MASTER);
    let mqtt = &config.mqtt;
    assert_eq!(mqtt.endpoint, Endpoint::tcp("localhost", 1883));
    assert_eq!((mqtt.version, mqtt.qos, mqtt.keep_alive), (MqttVersion::V311, Qos::AtLeastOnce, 60));
    assert_eq!((mqtt.session.clean, mqtt.retain, mqtt.max_message), (None, false, 65_536));
    assert!(mqtt.login.is_none() && mqtt.session.client_id.is_none());
    let sealed = Sealed { role: Role::Master, suite: Suite::Gcm, peers: vec![], channel: None };
    assert_eq!(config.protection, Protection::Sealed(sealed));
    // An empty value is as good as no line.
    let unset = |name: &&str| !MASTER.contains(*name) && !["host", "url"].contains(name);
    let empty: Vec<&str> = key_names().filter(unset).flat_map(|name| [name, " =\n"]).collect();
    assert_eq!(format!("{:?}", parse(&format!("{MASTER}{}", empty.concat()))), format!("{config:?}"));
}

#[test]
fn times_and_sizes_have_the_form_that_the_options_have() {
    let config = parse(&format!("{NOSEC}keep_alive = 1m30s\nmax_message = 64k\n"));
    assert_eq!((config.mqtt.keep_alive, config.mqtt.max_message), (90, 65_536));
    assert_eq!(parse(&format!("{NOSEC}keep_alive = 5\n")).mqtt.keep_alive, 5);
}

#[test]
fn values_keep_their_hashes_and_equals_signs() {
    let config = parse(
        "# c\n\t # c\nsts_mode=nosec\nsubtop = #\npubtop\t=\ta=b \nusername=u#1\npassword = a # = b\nclientid = x=#\n",
    );
    assert_eq!((config.subscribe.as_str(), config.publish.as_str()), ("#", "a=b"));
    assert_eq!((config.mqtt.login.as_ref().unwrap().username.as_str(), password(&config)), ("u#1", "a # = b"));
    assert_eq!(parse(&NOSEC.replace("= a", "= plant/#")).subscribe.as_str(), "plant/#");
    let (_, text, hint) = failure(&NOSEC.replace("= a", "= a # in"), &[]);
    assert!(text.starts_with("etc/gw.conf, line 2: ") && hint == "a comment needs a line of its own", "{text}");
}

#[test]
fn a_line_that_was_appended_without_a_line_end_before_it_is_recognized() {
    for line in ["aes = cbcsts_version = 1", "qos = 0sts_version=1", "keep_alive = 60sts_version = 1"] {
        let (_, text, hint) = failure(&format!("{MASTER}{line}\n"), &[]);
        assert!(text.contains("invalid value"), "{text}");
        assert_eq!(hint, "a line end is missing before `sts_version`");
    }
}

#[test]
fn urls_say_it_all() {
    let endpoint = |url: &str| parse(&format!("{NOSEC}url = {url}\n")).mqtt.endpoint;
    let tcp = |host: &str, port| Endpoint::tcp(host, port);
    let tls = |port| Endpoint { tls: Some(TlsOptions::default()), ..tcp("h", port) };
    assert_eq!(endpoint("broker.local"), tcp("broker.local", 1883));
    assert_eq!(endpoint("mqtt://10.0.0.1"), tcp("10.0.0.1", 1883));
    assert_eq!(endpoint("MQTT://h:1884/"), tcp("h", 1884));
    assert_eq!(endpoint("mqtt://[::1]:1884"), tcp("::1", 1884));
    assert_eq!(endpoint("mqtt://[fe80::1%eth0]"), tcp("fe80::1%eth0", 1883));
    assert_eq!(endpoint("::1"), tcp("::1", 1883));
    assert_eq!(endpoint("mqtts://h"), tls(8883));
    let web = |below: Endpoint, path: &str| Endpoint { web_socket: Some(path.into()), ..below };
    assert_eq!(endpoint("ws://h"), web(tcp("h", 80), "/mqtt"));
    assert_eq!(endpoint("wss://h:8443/a/b?c=d"), web(tls(8443), "/a/b?c=d"));
    assert_eq!(endpoint("unix:///run/m.sock"), Endpoint::new(BrokerAddress::Unix("/run/m.sock".into())));

    let config = parse(&format!("{NOSEC}url = mqtt://us%40er:p%3aw%25@h\n"));
    assert_eq!((config.mqtt.login.as_ref().unwrap().username.as_str(), password(&config)), ("us@er", "p:w%"));
    assert!(parse_with(&format!("{NOSEC}url = mqtt://u:p@h\n"), &[]).unwrap().password_in_text);

    let tls = parse(&format!("{NOSEC}host = mqtts://h\nca_file = ca.pem\ncert_file = /c.pem\nkey_file = k.pem\n"));
    let client = Some(ClientCert { cert: "/c.pem".into(), key: "etc/k.pem".into() });
    let files = TlsOptions { ca: Some("etc/ca.pem".into()), client, ..TlsOptions::default() };
    assert_eq!(tls.mqtt.endpoint, Endpoint { tls: Some(files), ..tcp("h", 8883) });

    let pin = "SHA256:BI7ZBpQCjPRXGLMQlo1JAuB4AFWyCnFRJ7t8MM2KNJU=";
    let tls = parse(&format!("{NOSEC}host = mqtts://h\ntls_alpn = x-amzn-mqtt-ca\ntls_pin = {pin}\n"))
        .mqtt
        .endpoint
        .tls
        .unwrap();
    assert_eq!((tls.alpn.as_deref(), tls.pin.unwrap().to_string().as_str()), (Some("x-amzn-mqtt-ca"), pin));
    for line in [format!("tls_alpn = {}", "a".repeat(256)), "tls_pin = SHA256:AAAA".into(), "cert_file = c".into()] {
        assert_eq!(failure(&format!("{NOSEC}url = mqtts://h\n{line}\n"), &[]).0, Exit::Config, "{line}");
    }

    for bad in [
        "h:0",
        "h:",
        "a,,b",
        "a, b,",
        "mqtt://a,::1",
        "mqtt://",
        "mqtt://h:",
        "mqtt://h:0",
        "mqtt://h:65536",
        "mqtt://h:+1",
        "mqtt://::1",
        "mqtt://[::1",
        "[h]",
        "mqtt://h/path",
        "mqtt://h?x",
        "http://h",
        "unix://run/x",
        "unix:///",
        "a b",
        "a/b",
        "-h",
        "mqtt://@h",
        "mqtt://:p@h",
        "mqtt://u:%zz@h",
        "mqtt://u:%0a@h",
        "mqtt://u:%ff@h",
        "ws://h/a b",
        "é",
    ] {
        let (exit, text, _) = failure(&format!("{NOSEC}url = {bad}\n"), &[]);
        assert!(
            exit == Exit::Config
                && text.starts_with("etc/gw.conf, line 4: invalid value ")
                && text.contains(" for `url`: "),
            "{bad}: {text}"
        );
    }
    for scheme in ["mqt", "tcp"] {
        let (_, text, _) = failure(&format!("{NOSEC}url = {scheme}://h\n"), &[]);
        assert!(text.ends_with("did you mean `mqtt://`?"), "{text}");
    }
}

/// What the hint for a key of TLS begins with.
const TLS_HINT: &str =
    if cfg!(feature = "tls") { "TLS is part of the URL: url = mqtts://" } else { "this build has no TLS: " };

#[test]
fn a_cluster_is_a_list_of_nodes() {
    let nodes = |lines: &str, options: &[&str]| {
        let config = parse_with(&format!("{NOSEC}{lines}\n"), options).unwrap().config;
        let BrokerAddress::Tcp(nodes) = config.mqtt.endpoint.address else { panic!("{lines}") };
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    for (lines, options, expected) in [
        ("host = a.example, b.example:8884", &[][..], "a.example:1883 b.example:8884"),
        ("host = a,b:2\nport = 3", &[], "a:3 b:2"),
        ("host = a:1,b:2", &["port=3"], "a:3 b:3"),
        ("host = a:1,a:2\nport = 3", &["host=c:4, d"], "c:4 d:3"),
        ("url = mqtt://u:p@a,[::1]:5,b:6", &[], "a:1883 [::1]:5 b:6"),
        ("host = ::1, [::2], [::3]:7", &[], "[::1]:1883 [::2]:1883 [::3]:7"),
        ("host = broker:1884", &[], "broker:1884"),
    ] {
        assert_eq!(nodes(lines, options), expected, "{lines}");
    }
    for (line, what) in [
        ("host = a, b, a", "`a:1883` occurs twice in `host`"),
        ("host = a, b:0", "a port must be a number from 1 to 65535"),
        (&format!("host = {}", ["a"; 33].join(",")), "at most 32 nodes"),
        ("host = a:1, b:2\nport = 3", "already contains a port"),
        ("bind_address = localhost", "must be an IPv4 or IPv6 address of this device"),
        ("bind_address = ::1\nurl = unix:///s", "a Unix socket has no `bind_address`"),
    ] {
        assert!(failure(&format!("{NOSEC}{line}\n"), &[]).1.contains(what), "{line}");
    }
    let bound = parse(&format!("{NOSEC}bind_address = 127.0.0.2\n"));
    assert_eq!(bound.mqtt.endpoint.bind_address, Some("127.0.0.2".parse().unwrap()));
}

#[test]
fn a_gateway_has_as_many_wildcards_to_fill_as_it_listens_with() {
    let gateway = |sub: &str, publ: &str| format!("sts_mode = slave\nsubtop = {sub}\npubtop = {publ}\n");
    for (sub, publ, came, answer) in [
        ("plant/+/up", "plant/+/down", "plant/s7/up", "plant/s7/down"),
        ("$share/g/plant/+/up", "plant/+/down", "plant/s7/up", "plant/s7/down"),
        ("+/+", "to/+/of/+", "a/b", "to/a/of/b"),
    ] {
        let config = parse(&gateway(sub, publ));
        assert!(config.check_supported().is_ok());
        let topics = config.route().unwrap().topics(came).unwrap();
        assert_eq!((topics.master_to_slave.as_str(), topics.slave_to_master.as_str()), (came, answer));
    }
    for (sub, publ, what) in [
        ("plant/+/up", "plant/down", "`+` occurs 1 times in `subtop` and 0 times in `pubtop`"),
        ("plant/up", "plant/+/down", "`+` occurs 0 times"),
        ("+/+", "+", "`+` occurs 2 times"),
        ("plant/#", "plant/+", "`#` does not say which device"),
        ("$share/g/#", "plant/+", "`#` does not say which device"),
        ("plant/+/up", "plant/#", "cannot contain `#`"),
        ("plant/+/up", "plant/a+/up", "`+` must be a whole level"),
        ("plant/+/up", "$share/g/plant/+", "is for subscriptions only"),
        ("plant/+/up", "plant/+/up", "is the same topic as"),
        ("plant/+/up", "plant/+/down\nchannel = a", "`channel` cannot be used with wildcards"),
    ] {
        let (exit, text, _) = failure(&gateway(sub, publ), &[]);
        assert!(exit == Exit::Config && text.contains(what), "{text}");
    }
    assert!(failure(&MASTER.replace("s2m", "+/s2m"), &[]).1.contains("a master has one slave"));
    assert!(failure(&MASTER.replace("m2s", "+/m2s"), &[]).1.contains("cannot contain `+` or `#`"));
    assert!(parse(&NOSEC.replace("= a", "= +/a")).check_supported().is_ok());
}

fn handshake_topics(config: &Config) -> [String; 2] {
    let topics = config.route().unwrap().topics("whatever").unwrap();
    [topics.master_to_slave, topics.slave_to_master]
}

#[test]
fn the_command_line_goes_over_the_file() {
    let file = format!("{MASTER}ip = a\nport = 1\nqos = 0\nusername = u\npassword = p\n");
    let with = |options: &[&str]| parse_with(&file, options).unwrap();
    let parsed = with(&["url = mqtt://b:2", "qos=2", "password_file=secret", "clientid="]);
    assert_eq!(parsed.config.mqtt.endpoint, Endpoint::tcp("b", 2));
    assert_eq!(parsed.config.mqtt.qos, Qos::ExactlyOnce);
    assert_eq!(password(&parsed.config), "from file");
    assert!(!parsed.password_in_text);
    assert_eq!(parsed.warnings, ["other users can read the password in etc/secret: chmod 600 etc/secret"]);
    assert_eq!(with(&["port=3"]).config.mqtt.endpoint, Endpoint::tcp("a", 3));
    assert_eq!(with(&["port="]).config.mqtt.endpoint, Endpoint::tcp("a", 1883));
    for (options, what) in [
        (&["qos=7"][..], "-o qos: invalid value `7` for `qos`"),
        (&["qso=1"], "-o: unknown key `qso`"),
        (&["qos=1", "qos=1"], "-o qos: already set by -o qos"),
        (&["qos"], "-o qos: no value"),
        (&["out.txt"], "-o: unknown key `out.txt`"),
        (&["=x"], "-o: unknown key ``"),
        (&["clientid=a\nb"], "-o clientid: the value contains a control character"),
    ] {
        let (exit, text, _) = failure(&file, options);
        assert!(exit == Exit::Usage && text.starts_with(what), "{text}");
    }
}

#[test]
fn no_secret_is_taken_from_a_command_line_or_shown() {
    for option in [
        "password=hunter2",
        " password = hunter2",
        "url=mqtt://u:hunter2@h",
        "host=hunter2@h",
        "ip=mqtt://hunter2@h",
        "proxy=http://u:hunter2@h",
    ] {
        let (exit, text, hint) = failure(NOSEC, &[option]);
        let remedy = if option.starts_with("proxy") { "chmod 600 FILE" } else { "-o password_file=FILE" };
        assert!(exit == Exit::Usage && hint.ends_with(remedy), "{text} {hint}");
        assert!(!format!("{text}{hint}").contains("hunter2"), "{text} {hint}");
    }
    assert!(Override::parse("url=unix:///run/a@b").is_ok());
    let config = parse(&format!("{NOSEC}username = u\npassword = hunter2\n"));
    assert!(!format!("{config:?}").contains("hunter2"));
    for text in [
        "url = mqtt://u:hunter2@h:x",
        "url = mqt://u:hunter2@h",
        "proxy = http://u:hunter2@h:x",
        "password = hunter2",
        "password = hunter2\u{1}",
        "pasword = hunter2",
        "url = mqtt://u:hunter2@h\nport = x",
    ] {
        let (_, text, hint) = failure(&format!("{NOSEC}{text}\n"), &[]);
        assert!(!format!("{text}{hint}").contains("hunter2"), "{text} {hint}");
    }
}

#[test]
fn what_other_formats_take_off_a_value_is_warned_of() {
    let comment = "contains ` #` and what follows it: a comment needs a line of its own";
    let quotes = "contains the quotes around it: leave them out";
    let line_end = "contains another key and `=`: a line end is missing before it";
    for (line, name, why) in [
        ("username = \"u\"", "username", quotes),
        ("username = u # the station", "username", comment),
        ("username = u\npassword = 'hunter2'", "password", quotes),
        ("username = u\npassword = hunter2\t# secret", "password", comment),
        ("clientid = \"c\"", "clientid", quotes),
        ("channel = \"c\"", "channel", quotes),
        ("username = u\npassword = hunter2sts_version = 1", "password", line_end),
    ] {
        let warnings = parse_with(&format!("{MASTER}{line}\n"), &[]).unwrap().warnings;
        let number = 4 + line.matches('\n').count();
        assert_eq!(warnings, [format!("etc/gw.conf, line {number}: the value of `{name}` {why}")], "{line}");
    }
    for (from, to) in [("= s2m", "= \"s2m\""), ("= m2s", "= 'm2s'")] {
        assert_eq!(parse_with(&MASTER.replace(from, to), &[]).unwrap().warnings.len(), 1, "{to}");
    }
    let option = parse_with(MASTER, &["username='u'"]).unwrap().warnings;
    assert_eq!(option, [format!("-o username: the value of `username` {quotes}")]);
    for line in ["username = u#1", "username = \"", "username = it's", "clientid = \"a\" b"] {
        assert!(parse_with(&format!("{MASTER}{line}\n"), &[]).unwrap().warnings.is_empty(), "{line}");
    }
}

#[test]
fn ecb_is_warned_of() {
    let warnings = parse_with(&format!("{MASTER}aes = ecb\n"), &[]).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("ecb"));
    assert!(parse_with(&format!("{MASTER}aes = cbc\n"), &[]).unwrap().warnings.is_empty());
}
