//! Claim: two devices that trust each other's key agree on a session, whichever starts first; no other devices do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, M2S, Pair, S2M, readings};
use crate::process::Process;
use crate::sniffer::Sniffer;

/// First bytes of the messages, `sts-protocol(7)`, "Header".
const INITREQ: u8 = 0x21;
const AUTHREQ: u8 = 0x23;

#[test]
fn master_may_start_first() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let master = Process::spawn(pair.master.pair(&[LINK]));
    sniffer.wait_for_type(M2S, INITREQ, 1);
    let slave = Process::spawn(pair.slave.pair(&[LINK]));
    master.wait().succeeded();
    slave.wait().succeeded();
    pair.carries(&[], b"21.5 C\n");
}

#[test]
fn slave_may_start_first() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = Process::spawn(pair.slave.pair(&[LINK]));
    broker.wait_for_log("Sending SUBACK", 1);
    let master = Process::spawn(pair.master.pair(&[LINK]));
    master.wait().succeeded();
    slave.wait().succeeded();
    pair.carries(&[], b"21.5 C\n");
}

#[test]
fn both_say_with_whom() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = Process::spawn(pair.slave.pair(&[LINK]));
    let master = Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    let slave = slave.wait().succeeded();
    for (ended, name, peer) in [(&master, "gateway", &pair.slave), (&slave, "station", &pair.master)] {
        assert!(ended.stdout.is_empty(), "stdout carries data only");
        let expected = format!("paired with {name} ({})", fingerprint(peer));
        assert!(ended.stderr.contains(&expected), "no {expected:?} in:\n{}", ended.stderr);
    }
}

#[test]
fn identity_is_made_once_and_openssl_reads_it() {
    let device = Device::bare();
    let first = Process::spawn(device.pair(&["--key"])).wait().succeeded();
    let again = Process::spawn(device.pair(&["--key"])).wait().succeeded();
    assert_eq!(first.stdout, again.stdout);
    let said =
        format!("generated a new identity key for this device: {}", device.config_dir().join("identity.pem").display());
    assert!(first.stderr.contains(&said) && !again.stderr.contains("generated"), "{}{}", first.stderr, again.stderr);
    assert!(first.text().starts_with("sts-rsa ") && first.text().ends_with('\n'), "{}", first.text());
    assert_eq!(first.text().lines().count(), 1);

    let file = device.config_dir().join("identity.pem");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let openssl = Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(&file).output().unwrap();
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    assert!(String::from_utf8_lossy(&openssl.stdout).contains("3072 bit"));
}

/// If a directory was mistyped, no peer trusts the new key. Tools that only read create neither a key nor a directory.
#[test]
fn a_new_identity_is_never_made_in_silence() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let mistyped = pair.master.path().join("confg");
    let (path, said) = (mistyped.join("identity.pem"), "generated a new identity key for this device: ");
    let conf = pair.master.config_dir().join("gateway.conf");
    let conf = conf.to_str().unwrap();
    let in_mistyped = |mut command: Command| {
        command.env("STS_CONFIG_DIR", &mistyped);
        Process::spawn_with(command, "").wait()
    };
    in_mistyped(pair.master.send(&[conf])).failed(&[77], &["no peer is trusted yet"]);
    in_mistyped(pair.master.recv(&[conf])).failed(&[77], &["no peer is trusted yet"]);
    in_mistyped(pair.master.pair(&["--end", conf])).failed(&[77], &["no peer is trusted yet"]);
    assert!(!mistyped.exists());
    let said = format!("{said}{}", path.display());
    in_mistyped(pair.master.pair(&["--timeout", "1", conf])).failed(&[77], &[&said]);
    fs::remove_file(&path).unwrap();
    in_mistyped(pair.master.pair(&["--trust", "x"])).failed(&[65], &[]);
    assert!(!path.exists(), "for a line that is not a key");
    in_mistyped(pair.master.pair(&["--key"])).succeeded().failed(&[0], &[&said]);
}

/// A key that is known, but is this device's own, is not an unknown one.
#[test]
fn an_identity_copied_from_the_peer_is_named() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let identity = |device: &Device| device.config_dir().join("identity.pem");
    fs::copy(identity(&pair.master), identity(&pair.slave)).unwrap();
    for command in [pair.slave.pair(&["--timeout", "1", LINK]), pair.slave.recv(&[LINK])] {
        Process::spawn(command).wait().failed(&[77], &["is this device's own", "delete it here"]);
    }
}

/// A handshake message cannot be cut: no hint may tell to send shorter ones.
#[test]
fn a_size_limit_too_low_for_pairing_is_named() {
    let broker = Broker::with(Options { max_packet_size: Some(1000), ..Options::default() });
    let pair = Pair::enrolled(&broker, "gcm");
    let with = |set: &str| Process::spawn(pair.master.pair(&["--timeout", "120", "-o", set, LINK]));
    for (set, status, hint) in
        [("mqtt_version=5", 69, "raise the limit of the broker"), ("max_message=900", 78, "set a larger `max_message`")]
    {
        let ended = with(set).wait().failed(&[status], &[hint]);
        assert!(!ended.stderr.contains("set `max_message"), "{}", ended.stderr);
    }
}

#[test]
fn one_key_has_one_name_and_one_name_has_one_key() {
    let device = Device::with(Identity::Gateway);
    let key = |other: &Device| Process::spawn(other.pair(&["--key"])).wait().succeeded().stdout;
    let trust = |name: &str, line: Vec<u8>| Process::spawn_with(device.pair(&["--trust", name]), line).wait();
    let (station, stranger) = (key(&Device::with(Identity::Station)), key(&Device::with(Identity::Stranger)));

    trust("station", station.clone()).succeeded();
    trust("other-name", station).failed(&[65, 77], &["station"]);
    trust("station", stranger.clone()).failed(&[65, 77], &["station"]);
    trust("myself", key(&device)).failed(&[65, 77], &[]);
    trust("../x", stranger).failed(&[64], &[]);
    let hint = "sts-pair --key prints on the other device";
    for (input, said) in [
        ("ssh-rsa AAAA user@host\n", "an SSH key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "PEM"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n", "a private key"),
        ("other sts-rsa AAAA\n", "leave out the name"),
        ("SHA256:47DEQpj8HBSa\n", "a fingerprint"),
        ("hello\n", "`sts-rsa BASE64`"),
        ("", "empty"),
    ] {
        trust("nonsense", input.into()).failed(&[65], &[said, hint]);
    }
}

#[test]
fn forgotten_peer_is_refused_at_once() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    Process::spawn(pair.slave.pair(&["--forget", "station"])).wait().succeeded();
    pair.slave.send_all(&[], "too late\n").failed(&[75, 77], &[]);
    assert!(pair.slave.runtime_files().iter().all(|(_, content)| !content.starts_with(b"-----")));
}

#[test]
fn a_new_session_reaches_running_tools() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    sender.write("under the first session\n");
    receiver.wait_for_stdout(b"under the first session\n");
    pair.agree();
    sender.write("under the second\n");
    sender.close_stdin();
    sender.wait().succeeded();
    pair.master.send_all(&[], "from a new process\n").succeeded();
    receiver.wait_for_stdout(b"under the first session\nunder the second\nfrom a new process\n");
}

#[test]
fn a_recorded_handshake_changes_nothing() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    pair.agree();
    sniffer.wait_for_type(M2S, AUTHREQ, 1);
    let recorded = sniffer.seen();

    // A second pairing, with all messages of the first one replayed in between, to both ends.
    let slave = Process::spawn(pair.slave.pair(&[LINK]));
    let master = Process::spawn(pair.master.pair(&[LINK]));
    for message in &recorded {
        broker.publish(&message.topic, &message.payload);
        let reflected = if message.topic == M2S { S2M } else { M2S };
        broker.publish(reflected, &message.payload);
    }
    master.wait().succeeded();
    slave.wait().succeeded();

    let receiver = pair.slave.listen(&["--once"]);
    for message in &recorded {
        broker.publish(&message.topic, &message.payload);
    }
    let input = readings(100);
    pair.master.send_all(&[], input.clone()).succeeded();
    receiver.wait().succeeded().wrote(&input);
}

#[test]
fn status_shows_no_secret() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "cbc");
    pair.carries(&[], &readings(10));
    for (device, peer) in [(&pair.master, "gateway"), (&pair.slave, "station")] {
        for (args, expected) in
            [(&["--status"][..], &[LINK, peer][..]), (&["--status", "--json"], &[LINK, peer, "cbc"])]
        {
            let status = Process::spawn(device.pair(args)).wait().succeeded();
            for expected in expected {
                assert!(status.text().contains(expected), "no {expected:?} in:\n{}", status.text());
            }
            for secret in secrets(device) {
                let secret = secret.as_str();
                assert!(!status.text().contains(secret) && !status.stderr.contains(secret), "shows {secret}");
            }
        }
    }
}

#[test]
fn end_ends_it_on_both_sides() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&[], "last words\n").succeeded();
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    receiver.wait().succeeded().wrote(b"last words\n");
    for device in [&pair.master, &pair.slave] {
        device.send_all(&[], "anybody there?\n").failed(&[75], &["no session", "sts-pair gateway"]);
    }
    pair.agree();
    pair.carries(&[], b"again\n");
}

#[test]
fn nobody_there_is_a_timeout() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    for device in [&pair.master, &pair.slave] {
        Process::spawn(device.pair(&["--timeout", "1", LINK])).wait().failed(&[75], &[]);
    }
    assert!(pair.master.runtime_files().iter().all(|(path, _)| !path.ends_with("gateway.session")));
}

/// The fingerprint that `sts-pair --key` prints, in OpenSSH's format: 43 characters of base64 after the name of the hash.
fn fingerprint(device: &Device) -> String {
    let key = Process::spawn(device.pair(&["--key"])).wait().succeeded();
    let at = key.stderr.find("SHA256:").expect("--key shows the fingerprint");
    key.stderr[at..].chars().take("SHA256:".len() + 43).collect()
}

/// Every value in a device's session files that is base64 of at least 32 bytes, and the body of its identity file, except
/// for what is public: the key line and the fingerprints.
fn secrets(device: &Device) -> Vec<String> {
    let public = Process::spawn(device.pair(&["--key"])).wait().succeeded();
    let mut secrets = Vec::new();
    for (_, content) in device.runtime_files() {
        for line in String::from_utf8_lossy(&content).lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            let is_public = key.contains("fingerprint") || key.contains("peer") || key.contains("own");
            if !is_public && STANDARD.decode(value).is_ok_and(|bytes| bytes.len() >= 32) {
                secrets.push(value.to_owned());
            }
        }
    }
    assert!(!secrets.is_empty(), "a session file holds keys");
    let pem = fs::read_to_string(device.config_dir().join("identity.pem")).unwrap();
    secrets.extend(pem.lines().filter(|line| !line.starts_with('-') && line.len() >= 32).map(str::to_owned));
    secrets.retain(|secret| !public.text().contains(secret));
    secrets
}

/// A broker that changes or refuses such topics says nothing, so the timeout does.
#[test]
fn a_timeout_on_topics_that_not_every_broker_leaves_alone_says_so() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    for (topic, is_risky) in [("plant.a/x", true), ("plant/a b", true), ("plant-a/x", false)] {
        for option in [format!("subtop={topic}"), format!("pubtop={topic}")] {
            for code in [&[][..], &["--code"]] {
                let options = [code, &["--timeout", "1", "-o", &option, LINK]].concat();
                let ended = Process::spawn(pair.slave.pair(&options)).wait().failed(&[75], &["timed out", "hint: "]);
                for broker in ["RabbitMQ", "NATS"] {
                    assert_eq!(ended.stderr.contains(broker), is_risky, "{option}: {}", ended.stderr);
                }
            }
        }
    }
}
