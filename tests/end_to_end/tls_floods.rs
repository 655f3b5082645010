//! Claim: a server that floods a TLS connection with records that carry no payload keeps no run from ending, at
//! `--timeout` and after signals, and does not fill its memory.
//!
//! These are tickets: rustls itself ends a connection for other such records, when there are too many.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, ServerConnection, Stream};

use crate::certificates::{Authority, Kind};
use crate::device::LINK;
use crate::process::{Process, wait_until};
use crate::server::{CONNACK, Server};
use crate::tls::{device, server_config, text};

/// So many bytes are a flood.
const MANY: usize = 1 << 16;
/// Records that are sent at once.
const BATCH: u64 = 100;

/// A record of the handshake (RFC 8446, 5.1) with the beginning of a certificate that never ends.
fn endless_certificate() -> Vec<u8> {
    let mut record = vec![0; 5 + 16_384];
    record[..9].copy_from_slice(&[22, 3, 3, 0x40, 0, 11, 0xff, 0xff, 0xff]);
    record
}

/// A message of the handshake that may come at any time: a new ticket (RFC 8446, 4.6.1), with a ticket of one byte.
const TICKET: [u8; 19] = [4, 0, 0, 15, 0, 0, 14, 16, 1, 2, 3, 4, 1, 0, 0, 1, 9, 0, 0];

/// Ends the handshake, answers CONNECT if it `accepts`, and then sends tickets, and reads nothing.
fn tickets(mut stream: TcpStream, config: Arc<ServerConfig>, accepts: bool, sent: &AtomicUsize) {
    let mut tls = ServerConnection::new(config).unwrap();
    let mut io = Stream::new(&mut tls, &mut stream);
    if io.read(&mut [0; 4096]).is_err() || (accepts && io.write_all(&CONNACK).is_err()) {
        return;
    }
    let aead = tls.negotiated_cipher_suite().and_then(|suite| suite.tls13()).unwrap().aead_alg;
    let (mut seq, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("another cipher")
    };
    let mut encrypter = aead.encrypter(key, iv);
    loop {
        let records: Vec<u8> = (seq..seq + BATCH)
            .flat_map(|seq| {
                let payload = OutboundChunks::Single(&TICKET);
                let (typ, version) = (ContentType::Handshake, ProtocolVersion::TLSv1_3);
                encrypter.encrypt(OutboundPlainMessage { typ, version, payload }, seq).unwrap().encode()
            })
            .collect();
        if stream.write_all(&records).is_err() {
            return;
        }
        seq += BATCH;
        sent.fetch_add(records.len(), Ordering::Relaxed);
    }
}

/// A server that floods each connection after its handshake; and how many bytes it has sent.
fn flood(config: &Arc<ServerConfig>, accepts: bool) -> (Server, Arc<AtomicUsize>) {
    let (config, sent) = (Arc::clone(config), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&sent);
    let server = Server::start(move |_, stream| {
        let (config, count) = (Arc::clone(&config), Arc::clone(&count));
        thread::spawn(move || tickets(stream, config, accepts, &count));
    });
    (server, sent)
}

#[test]
fn a_flood_before_connack_ends_at_the_timeout_and_with_signals() {
    let authority = Authority::new();
    let config = server_config(&authority.sign("broker", Kind::Good), |config| config.enable_secret_extraction = true);
    let (server, sent) = flood(&config, false);
    let raw = Server::start(|_, mut stream| {
        thread::spawn(move || {
            let _ = stream.read(&mut [0; 4096]);
            while stream.write_all(&endless_certificate()).is_ok() {}
        });
    });
    for (port, said) in [(server.port(), "no answer yet to CONNECT"), (raw.port(), "no connection to the broker")] {
        let device = device(port, &[("ca_file", text(&authority.file()))]);
        for timed in [device.send(&["--timeout", "2", LINK]), device.recv(&["--timeout", "2", LINK])] {
            Process::spawn_with(timed, "x\n").wait().failed(&[69], &[said]);
        }
        for tool in [device.send(&[LINK]), device.recv(&[LINK])] {
            let before = sent.load(Ordering::Relaxed);
            let tool = Process::spawn_with(tool, "x\n");
            if port == server.port() {
                wait_until("the flood", || sent.load(Ordering::Relaxed) > before + MANY);
            } else {
                tool.wait_for("waiting for the broker");
            }
            tool.signal(Signal::TERM);
            tool.signal(Signal::TERM);
            let ended = tool.wait();
            assert!([0, 65, 69, 75].contains(&ended.status), "{ended:?}");
        }
    }
}

#[test]
fn a_flood_on_a_connection_ends_at_the_timeout_and_with_signals_and_takes_no_memory() {
    let authority = Authority::new();
    let config = server_config(&authority.sign("broker", Kind::Good), |config| config.enable_secret_extraction = true);
    let (server, sent) = flood(&config, true);
    let device = device(server.port(), &[("ca_file", text(&authority.file()))]);
    let timed = Process::spawn_with(device.send(&["--timeout", "2", LINK]), "x\n");
    timed.wait().failed(&[75], &["timed out: unacknowledged: 1 message"]);
    Process::spawn(device.recv(&["--timeout", "2", LINK])).wait().failed(&[69], &["timed out"]);

    for (tool, statuses) in [(device.send(&["-v", LINK]), &[65][..]), (device.recv(&["-v", LINK]), &[0])] {
        let tool = Process::spawn_with(tool, "x\n");
        tool.wait_for("connected to");
        let (before, memory) = (sent.load(Ordering::Relaxed), tool.memory());
        wait_until("the flood", || sent.load(Ordering::Relaxed) > before + MANY);
        assert!(tool.memory() < memory + (8 << 20), "{} bytes, {memory} before", tool.memory());
        tool.signal(Signal::TERM);
        tool.signal(Signal::TERM);
        let ended = tool.wait();
        assert!(statuses.contains(&ended.status), "{ended:?}");
    }
}
