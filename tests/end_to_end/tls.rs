//! Claim: over TLS everything works as over TCP, with the broker's certificate checked, which nothing turns off. What is wrong
//! with a certificate ends the run with 69 and says so in words with what to do; in mid-run it is waited for.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{HandshakeKind, ServerConfig};

use crate::broker::{Broker, Options};
use crate::certificates::{Authority, Files, Kind};
use crate::device::{Device, Identity, LINK, Pair, readings, settings};
use crate::process::{Ended, Process};
use crate::server::{CONNACK, Server, carry, carry_counting, read_for, read_once};

/// The lines of a listener with this certificate.
pub(crate) fn with(files: &Files, more: &str) -> String {
    format!("certfile {}\nkeyfile {}\n{more}\n", files.cert.display(), files.key.display())
}

/// A broker with this certificate.
fn broker(files: &Files, more: &str) -> Broker {
    Broker::with_lines(Options::default(), &with(files, more))
}

/// A device on a plain link to the broker on this port.
pub(crate) fn device(port: u16, more: &[(&str, &str)]) -> Device {
    let port = port.to_string();
    let lines =
        [("url", "mqtts://localhost"), ("port", &port), ("sts_mode", "nosec"), ("subtop", "t"), ("pubtop", "t")];
    Device::configured(Identity::Station, &[&lines[..], more].concat())
}

/// Sends one line; gives up after some seconds, unless something ends the run before.
fn send(device: &Device, more: &[&str]) -> Ended {
    device.send_all(&[&["-q", "--timeout", "20"], more].concat(), "x\n")
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A master and a slave that reach the broker by TLS, and trust each other.
fn pair(port: u16, authority: &Authority) -> Pair {
    let port = port.to_string();
    let ca = authority.file();
    let device = |identity, mode| {
        let mut lines = settings(&port, mode, "gcm");
        lines.retain(|(key, _)| *key != "ip");
        lines.extend([("url", "mqtts://localhost"), ("ca_file", text(&ca))]);
        Device::configured(identity, &lines)
    };
    let (master, slave) = (device(Identity::Station, "master"), device(Identity::Gateway, "slave"));
    master.trust("gateway", &slave);
    slave.trust("station", &master);
    Pair { master, slave }
}

/// A server with this certificate, as the test wants it.
pub(crate) fn server_config(files: &Files, change: impl FnOnce(&mut ServerConfig)) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&files.cert).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    change(&mut config);
    Arc::new(config)
}

#[test]
fn ten_megabytes_cross_in_both_versions_with_both_kinds_of_keys() {
    let authority = Authority::new();
    let input = readings(10_000_000 / 74);
    for (kind, version) in
        [(Kind::Good, "tlsv1.3"), (Kind::Rsa, "tlsv1.2"), (Kind::Good, "tlsv1.2"), (Kind::Rsa, "tlsv1.3")]
    {
        let files = authority.sign("broker", kind);
        let broker = broker(&files, &format!("tls_version {version}\nmax_queued_messages 0"));
        let pair = pair(broker.port(), &authority);
        pair.agree();
        pair.carries(&["--confirm"], &input);
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_and_ends_the_run() {
    let authority = Authority::new();
    let ca = authority.file();
    let other = Authority::new();
    let cases: [(Files, &[&str]); 5] = [
        (
            authority.sign("a", Kind::Expired),
            &["expired on 2004-05-06 00:00:00 UTC", "this device's clock says 2", "renew"],
        ),
        (
            authority.sign("b", Kind::NotYetValid),
            &["not valid before 2101-02-03 00:00:00 UTC", "this device's clock says 2"],
        ),
        (authority.sign("c", Kind::Of("other.example")), &["is for other.example, not for localhost", "set `host`"]),
        (other.sign("d", Kind::Good), &["not signed by an authority in `ca_file`", "tls_pin = SHA256:", "openssl"]),
        (authority.self_signed("e", Kind::Good), &["not signed by an authority in `ca_file`", "tls_pin = SHA256:"]),
    ];
    for (files, said) in cases {
        let broker = broker(&files, "");
        let device = device(broker.port(), &[("ca_file", text(&ca))]);
        send(&device, &[]).failed(&[69], said).failed(&[69], &["no connection to the broker: localhost:"]);
        for tool in [device.recv(&["-q", LINK]), device.send(&["-q", "--spool", "spool", LINK])] {
            Process::spawn_with(tool, "x\n").wait().failed(&[69], said);
        }
    }
    let broker = broker(&authority.sign("a", Kind::Expired), "");
    let pair = pair(broker.port(), &authority);
    Process::spawn(pair.master.pair(&["-q", LINK])).wait().failed(&[69], &["expired"]);
}

#[test]
fn without_a_ca_file_the_authorities_of_the_system_count() {
    let authority = Authority::new();
    let broker = broker(&authority.sign("broker", Kind::Good), "");
    let device = device(broker.port(), &[]);
    let run = |file: &Path| {
        let mut command = device.send(&["-q", LINK]);
        command.env("SSL_CERT_FILE", file).env("SSL_CERT_DIR", device.path());
        Process::spawn_with(command, "x\n").wait()
    };
    run(&authority.file()).succeeded();
    let other = Authority::new();
    run(&other.file()).failed(&[69], &["not signed by an authority that this device knows", "tls_pin = SHA256:"]);
    let empty = device.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    run(&empty).failed(&[69], &["no certificates of authorities", "ca-certificates"]);
}

/// A variable names authorities as `ca_file` does, and what it names must be as safe.
#[test]
fn authorities_that_a_variable_names_are_those_of_this_user_alone() {
    let authority = Authority::new();
    let broker = broker(&authority.sign("broker", Kind::Good), "");
    let device = device(broker.port(), &[]);
    let dir = device.path().join("authorities");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("ca.pem");
    fs::copy(authority.file(), &file).unwrap();
    let run = |variable: &str, place: &Path| {
        // With a ticket of an earlier run, no certificate is checked.
        device.lose_runtime_files();
        let mut command = device.send(&["-q", LINK]);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").env(variable, place);
        Process::spawn_with(command, "x\n").wait()
    };
    let both = [("SSL_CERT_FILE", &file), ("SSL_CERT_DIR", &dir)];
    for (variable, place) in both {
        run(variable, place).succeeded();
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    for (variable, place) in both {
        let said = ["not signed by an authority that this device knows", variable, "ca.pem", "chmod go-w"];
        run(variable, place).failed(&[69], &said);
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    if chown(&file, Some(65_534), None).is_ok() {
        for (variable, place) in both {
            run(variable, place).failed(&[69], &[variable, "ca.pem", "it belongs to user"]);
        }
    }
    fs::remove_file(&file).unwrap();
    run("SSL_CERT_FILE", &file).failed(&[69], &["SSL_CERT_FILE", "No such file"]);
    // A FIFO is not waited for.
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    run("SSL_CERT_FILE", &file).failed(&[69], &["SSL_CERT_FILE", "not a regular file"]);
    run("SSL_CERT_DIR", &dir).failed(&[69], &["no certificates of authorities"]);
}

#[test]
fn a_broker_that_shows_the_certificate_of_an_authority_is_trusted_by_its_key() {
    let authority = Authority::new();
    let files = authority.self_signed("broker", Kind::Ca);
    let broker = broker(&files, "");
    let ended = send(&device(broker.port(), &[("ca_file", text(&files.cert))]), &[]);
    let ended = ended.failed(&[69], &["is one of an authority (CA:TRUE)", "CA:FALSE; or, without `ca_file`, trust"]);
    let pin = ended.stderr.split_once("tls_pin = ").unwrap().1.trim_end();
    send(&device(broker.port(), &[("tls_pin", pin)]), &[]).succeeded();
}

#[test]
fn the_line_that_the_error_proposes_pins_the_key_and_no_other() {
    let authority = Authority::new();
    let files = authority.self_signed("broker", Kind::Good);
    let mut broker = broker(&files, "");
    let device = device(broker.port(), &[]);
    let ended = send(&device, &[]).failed(&[69], &["not signed by an authority"]);
    let pin = ended.stderr.split_once("tls_pin = ").unwrap().1.trim_end();
    let pinned = format!("tls_pin={pin}");
    // The command that it names shows the same.
    let command = &ended.stderr[ended.stderr.find("openssl").unwrap()..];
    let command = command.split_once(')').unwrap().0.replace("CERTIFICATE", text(&files.cert));
    let shown = Command::new("sh").arg("-c").arg(command).output().unwrap();
    assert_eq!(pin.strip_prefix("SHA256:"), Some(String::from_utf8(shown.stdout).unwrap().trim_end()));
    send(&device, &["-o", &pinned]).succeeded();
    // Name and dates are of no concern then.
    send(&device, &["-o", &pinned, "-o", &format!("url=mqtts://127.0.0.1:{}", broker.port())]).succeeded();
    // With authorities, both must hold.
    let ca = format!("ca_file={}", authority.file().display());
    send(&device, &["-o", &pinned, "-o", &ca]).failed(&[69], &["not signed by an authority in `ca_file`"]);

    broker.stop();
    authority.self_signed("broker", Kind::Good);
    broker.start_again();
    send(&device, &["-o", &pinned]).failed(&[69], &["is not the one in `tls_pin`: SHA256:", "openssl x509"]);
}

#[test]
fn a_broker_may_want_a_certificate_of_ours() {
    let authority = Authority::new();
    let other = Authority::new();
    let (own, foreign) = (authority.sign("device", Kind::Of("device")), other.sign("x", Kind::Of("device")));
    let expired = authority.sign("old", Kind::Expired);
    for version in ["tlsv1.3", "tlsv1.2"] {
        let more = format!("cafile {}\nrequire_certificate true\ntls_version {version}", authority.file().display());
        let broker = broker(&authority.sign("broker", Kind::Good), &more);
        let device = device(broker.port(), &[("ca_file", text(&authority.file()))]);
        let show = |files: &Files| {
            [("cert_file", &files.cert), ("key_file", &files.key)]
                .map(|(key, path)| format!("{key}={}", path.display()))
        };
        let shown = |files: &Files| {
            let [cert, key] = show(files);
            send(&device, &["-o", &cert, "-o", &key])
        };
        send(&device, &[]).failed(&[69], &["wants a certificate of this device", "set `cert_file` and `key_file`"]);
        shown(&own).succeeded();
        for files in [&foreign, &expired] {
            shown(files).failed(&[69], &["did not accept the certificate in `cert_file` (TLS alert: "]);
        }
        let [cert, _] = show(&own);
        let [_, key] = show(&foreign);
        send(&device, &["-o", &cert, "-o", &key])
            .failed(&[78], &["`key_file`", "is not the key of the certificate in"]);
    }
}

/// Before there are keys, anybody on the path can replace the broker's answer with one packet.
#[test]
fn an_alert_that_is_not_authenticated_ends_no_run() {
    const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];
    let authority = Authority::new();
    let broker = broker(&authority.sign("broker", Kind::Good), "");
    let port = broker.port();
    let relay = Server::start(move |number, mut stream| match number {
        0 | 1 => {
            read_once(&mut stream);
            stream.write_all(&NO_APPLICATION_PROTOCOL).ok();
        }
        _ => carry(stream, port),
    });
    send(&device(relay.port(), &[("ca_file", text(&authority.file()))]), &[]).succeeded();
}

#[test]
fn tls_and_plain_do_not_meet_and_the_error_has_the_url() {
    let authority = Authority::new();
    let ca = authority.file();
    let plain = Broker::start();
    let url = format!("mqtt://localhost:{}", plain.port());
    send(&device(plain.port(), &[("ca_file", text(&ca))]), &[]).failed(&[69], &["TLS", &url]);
    let web = Server::start(|_, mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").ok();
        read_for(&mut stream, Duration::from_secs(5));
    });
    send(&device(web.port(), &[]), &[]).failed(&[69], &["not TLS", "HTTP/1.1 400 Bad Request"]);

    let secure = broker(&authority.sign("broker", Kind::Good), "");
    let url = format!("url=mqtt://localhost:{}", secure.port());
    for tool in
        [device(secure.port(), &[]).send(&["-o", &url, LINK]), device(secure.port(), &[]).recv(&["-o", &url, LINK])]
    {
        let ended = Process::spawn_with(tool, "x\n").wait().failed(&[69], &["speaks TLS on this port"]);
        ended.failed(&[69], &[&format!("url = mqtts://localhost:{}", secure.port())]);
    }
}

/// Who can close connections on the way, or a cluster that fails over, does so for a while.
#[test]
fn a_run_outlasts_connections_that_are_closed_without_a_word() {
    let authority = Authority::new();
    let broker = broker(&authority.sign("broker", Kind::Good), "");
    let port = broker.port();
    let relay = Server::start(move |number, stream| {
        if number >= 5 {
            carry(stream, port);
        }
    });
    let device = |port| device(port, &[("ca_file", text(&authority.file()))]);
    device(relay.port()).send_all(&["--timeout", "60"], "x\n").succeeded();

    let closing = Server::start(|_, stream| drop(stream));
    let device = device(closing.port());
    let (direct, spooled) = (&[LINK][..], &["--spool", "spool", "--timeout", "15", LINK][..]);
    let [direct, spooled] = [direct, spooled].map(|more| Process::spawn_with(device.send(more), "x\n"));
    direct.wait().failed(&[69], &["without an answer to the TLS handshake", "usually 8883"]);
    spooled.wait().failed(&[75], &["timed out", "left in the spool"]);
}

#[test]
fn web_socket_over_tls_carries_a_line() {
    let authority = Authority::new();
    let lines = with(&authority.sign("broker", Kind::Good), "");
    let broker = Broker::listening(Options::default(), |_, [port, _]| {
        format!("listener {port} 127.0.0.1\nprotocol websockets\n{lines}")
    });
    let url = format!("url=wss://localhost:{}", broker.web_port());
    let device = device(1, &[("ca_file", text(&authority.file()))]);
    let receiver = device.listen(&["--lines", "1", "-o", &url, "-o", "port="]);
    send(&device, &["-o", &url, "-o", "port="]).succeeded();
    receiver.wait().succeeded().wrote(b"x\n");
}

/// The broker's certificate expires, and then is renewed, while both tools run.
#[test]
fn what_fails_in_mid_run_is_waited_for() {
    let authority = Authority::new();
    let mut broker = broker(&authority.sign("broker", Kind::Good), "");
    let pair = pair(broker.port(), &authority);
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&["--confirm", LINK]));
    sender.write("before\n");
    receiver.wait_for_stdout(b"before\n");
    broker.kill();
    authority.sign("broker", Kind::Expired);
    broker.start_again();
    sender.write("after\n");
    broker.wait_for_log("certificate expired", 2);
    broker.stop();
    authority.sign("broker", Kind::Rsa);
    broker.start_again();
    receiver.wait_for_stdout(b"before\nafter\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait_for("connected again");
    receiver.stop().succeeded();
}

#[test]
fn files_that_are_not_usable_are_named_with_what_is_wanted() {
    let authority = Authority::new();
    let files = authority.sign("device", Kind::Good);
    let device = device(1, &[]);
    let (der, encrypted) = (device.path().join("der"), device.path().join("encrypted"));
    fs::write(&der, [0x30, 0x82, 1, 2]).unwrap();
    fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    fs::write(device.path().join("cut"), &fs::read(&files.cert).unwrap()[..200]).unwrap();
    let ca = |path: &str| send(&device, &["-o", &format!("ca_file={path}")]);
    ca("/nowhere/ca.pem").failed(&[78], &["`ca_file`: cannot read /nowhere/ca.pem: No such file"]);
    ca(text(&der)).failed(&[78], &["`ca_file`: ", "no `-----BEGIN CERTIFICATE-----` in it", "DER"]);
    ca(text(&device.path().join("cut"))).failed(&[78], &["`ca_file`: ", "damaged PEM"]);
    ca(text(&files.key)).failed(&[78], &["BEGIN CERTIFICATE", "it has `-----BEGIN PRIVATE KEY-----`"]);
    let key = |path: &Path| {
        send(
            &device,
            &["-o", &format!("cert_file={}", files.cert.display()), "-o", &format!("key_file={}", path.display())],
        )
    };
    key(&encrypted).failed(&[78], &["`key_file`: ", "encrypted with a passphrase", "openssl pkey"]);
    key(&files.cert).failed(&[78], &["`key_file`: ", "no `-----BEGIN PRIVATE KEY-----` in it"]);

    // As for a password: what others can read is said.
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let options = [("cert_file", &files.cert), ("key_file", &files.key)];
    let options = options.map(|(key, path)| format!("{key}={}", path.display()));
    let ended = device.send_all(&["--timeout", "1", "-o", &options[0], "-o", &options[1]], "x\n");
    ended.failed(&[69], &[&format!("other users can read the key in {0}: chmod 600 {0}", files.key.display())]);
}

#[test]
fn the_broker_is_asked_for_its_name_and_for_the_protocol() {
    let authority = Authority::new();
    let server = server_config(&authority.sign("broker", Kind::Good), |config| {
        config.alpn_protocols = vec![b"mqtt".to_vec()];
    });
    let (seen, asked) = mpsc::channel();
    let server = Server::start(move |_, mut stream| {
        let mut tls = rustls::ServerConnection::new(server.clone()).unwrap();
        if tls.complete_io(&mut stream).is_ok() {
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let _ = tls.read(&mut [0; 4096]).unwrap();
            tls.write_all(&CONNACK).unwrap();
            // Until the client leaves.
            while tls.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
            let protocol = tls.conn.alpn_protocol().map(<[u8]>::to_vec);
            seen.send((tls.conn.server_name().map(str::to_owned), protocol)).unwrap();
        }
    });
    let device = device(server.port(), &[("ca_file", text(&authority.file())), ("qos", "0")]);
    send(&device, &["-o", "tls_alpn=mqtt"]).succeeded();
    assert_eq!(asked.recv().unwrap(), (Some("localhost".to_owned()), Some(b"mqtt".to_vec())));
    send(&device, &[]).succeeded();
    assert_eq!(asked.recv().unwrap(), (Some("localhost".to_owned()), None));
    send(&device, &["-o", "tls_alpn=x-amzn-mqtt-ca"]).failed(&[69], &["does not have the protocol in `tls_alpn`"]);
}

/// A server that accepts one message after the other at QoS 0, and says how each connection began.
fn counting_server(config: Arc<ServerConfig>) -> (Server, mpsc::Receiver<HandshakeKind>) {
    let (seen, kinds) = mpsc::channel();
    let server = Server::start(move |_, mut stream| {
        let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        if tls.complete_io(&mut stream).is_ok() {
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let _ = tls.read(&mut [0; 4096]).unwrap();
            tls.write_all(&CONNACK).unwrap();
            while tls.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
            seen.send(tls.conn.handshake_kind().unwrap()).unwrap();
        }
    });
    (server, kinds)
}

#[test]
fn a_run_goes_on_with_the_ticket_of_the_one_before_it() {
    use HandshakeKind::{Full, Resumed};

    let authority = Authority::new();
    let files = authority.sign("broker", Kind::Good);
    for suite in rustls::crypto::ring::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()) {
        let config = server_config(&files, |config| {
            let mut provider = config.crypto_provider().as_ref().clone();
            provider.cipher_suites = vec![*suite];
            let builder =
                ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13]).unwrap();
            *config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(&config.cert_resolver));
        });
        let (server, kinds) = counting_server(config);
        let device = device(server.port(), &[("ca_file", text(&authority.file())), ("qos", "0")]);
        let kind = |more: &[&str]| {
            send(&device, more).succeeded();
            kinds.recv().unwrap()
        };
        assert_eq!([(); 3].map(|()| kind(&[])), [Full, Resumed, Resumed], "{suite:?}");

        // It is used once, by this user alone, and for the same options.
        let file = device.runtime_dir().join("gateway@tls");
        let ticket = fs::read(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(kind(&[]), Resumed);
        fs::write(&file, &ticket).unwrap();
        assert_eq!([kind(&[]), kind(&[])], [Full, Resumed], "the broker knows this ticket no more");
        let other = ["-o", "tls_alpn=mqtt"];
        assert_eq!([kind(&other), kind(&[]), kind(&other), kind(&[])], [Full, Resumed, Resumed, Resumed]);

        // What is no ticket is of no concern.
        for text in [&b""[..], b"sts-tls 2 x\n", &ticket[..ticket.len() / 2], &[0xff; 5000]] {
            fs::write(&file, text).unwrap();
            assert_eq!([kind(&[]), kind(&[])], [Full, Resumed]);
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!([kind(&[]), kind(&[])], [Full, Full]);
    }
}

/// It has given up access to most files by then.
#[test]
fn a_run_that_connects_again_takes_its_ticket_out_of_the_file() {
    use HandshakeKind::{Full, Resumed};

    let authority = Authority::new();
    let config = server_config(&authority.sign("broker", Kind::Good), |config| config.send_tls13_tickets = 1);
    let (seen, kinds) = mpsc::channel();
    let server = Server::start(move |number, mut stream| {
        let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        if tls.complete_io(&mut stream).is_ok() {
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let _ = tls.read(&mut [0; 4096]).unwrap();
            tls.write_all(&CONNACK).unwrap();
            seen.send(tls.conn.handshake_kind().unwrap()).unwrap();
            // The first ones are closed at once.
            while number >= 2 && tls.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        }
    });
    let device = device(server.port(), &[("ca_file", text(&authority.file())), ("qos", "0")]);
    let mut sender = Process::spawn(device.send(&[LINK]));
    let kinds: Vec<_> = kinds.iter().take(3).collect();
    assert_eq!(kinds, [Full, Resumed, Resumed]);
    sender.close_stdin();
    sender.wait().succeeded();
    assert!(device.runtime_dir().join("gateway@tls").exists(), "for the next run");
}

/// A renewed authority, and a pin: the ticket was for what was trusted before.
#[test]
fn a_ticket_does_not_outlive_the_trust_that_it_came_from() {
    let authority = Authority::new();
    let (server, kinds) = counting_server(server_config(&authority.sign("broker", Kind::Good), |_| {}));
    let device = device(server.port(), &[("ca_file", "ca.pem"), ("qos", "0")]);
    device.write("ca.pem", fs::read(authority.file()).unwrap(), 0o644);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        send(&device, &[]).succeeded();
        assert_eq!(kinds.recv().unwrap(), expected);
    }
    let other = Authority::new();
    device.write("ca.pem", fs::read(other.file()).unwrap(), 0o644);
    send(&device, &[]).failed(&[69], &["not signed by an authority in `ca_file`"]);
    let pin = format!("tls_pin=SHA256:{}=", "A".repeat(43));
    device.write("ca.pem", fs::read(authority.file()).unwrap(), 0o644);
    send(&device, &["-o", &pin]).failed(&[69], &["is not the one in `tls_pin`"]);
}

/// mosquitto's tickets, after a connection of another tool of the same link; the certificate does not cross a second time.
#[test]
fn mosquitto_takes_the_ticket_of_an_earlier_run() {
    let authority = Authority::new();
    let broker = broker(&authority.sign("broker", Kind::Rsa), "");
    let port = broker.port();
    let (counted, counts) = mpsc::channel();
    let relay = Server::start(move |_, stream| counted.send(carry_counting(stream, port)).unwrap());
    let device = device(relay.port(), &[("ca_file", text(&authority.file()))]);
    send(&device, &[]).succeeded();
    let receiver = device.listen(&["--lines", "1"]);
    send(&device, &[]).succeeded();
    receiver.wait().succeeded();
    let down: Vec<u64> = counts.iter().take(3).map(|count| count.join().unwrap()).collect();
    assert!(down[0] > 1000 && down[1..].iter().all(|count| *count < 900), "{down:?}");
}
