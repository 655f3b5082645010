//! Claim: no data is sent before the broker has answered, even where a ticket and the broker would allow it (0-RTT, RFC 8446,
//! 2.3): who records it could send it once more.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, mpsc};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};

use crate::certificates::{Authority, Kind};
use crate::server::{CONNACK, Server};
use crate::tls;

/// A broker that takes early data, and says how each connection began, and whether there was some.
fn willing_server(authority: &Authority) -> (Server, mpsc::Receiver<(HandshakeKind, bool)>) {
    let config =
        tls::server_config(&authority.sign("broker", Kind::Good), |config| config.max_early_data_size = 1 << 14);
    let (seen, begins) = mpsc::channel();
    let server = Server::start(move |_, mut stream| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        if tls.complete_io(&mut stream).is_ok() {
            seen.send((tls.handshake_kind().unwrap(), tls.early_data().is_some())).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let _ = tls.read(&mut [0; 4096]);
            let _ = tls.write_all(&CONNACK);
            while tls.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        }
    });
    (server, begins)
}

/// A client that sends early data as soon as it can.
fn send_early(config: &Arc<ClientConfig>, port: u16) {
    let mut tls = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    if let Some(mut early) = tls.early_data() {
        early.write_all(b"early").unwrap();
    }
    let mut tls = rustls::Stream::new(&mut tls, &mut stream);
    tls.write_all(b"in time").unwrap();
    // What comes before the answer is the ticket for the next connection.
    tls.read_exact(&mut [0; CONNACK.len()]).unwrap();
}

#[test]
fn no_data_is_sent_before_the_broker_has_answered() {
    let authority = Authority::new();
    let (server, begins) = willing_server(&authority);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let expected = [(HandshakeKind::Full, false), (HandshakeKind::Resumed, true)];
    assert_eq!(expected.map(|_| (send_early(&config, server.port()), begins.recv().unwrap()).1), expected);

    let device = tls::device(server.port(), &[("ca_file", tls::text(&authority.file())), ("qos", "0")]);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        device.send_all(&["--timeout", "20"], "x\n").succeeded();
        assert_eq!(begins.recv().unwrap(), (kind, false));
    }
}
