//! The broker of the tour: `broker [PORT]`, an MQTT 3.1.1 broker on loopback for machines without one.
//!
//! Prints `listening on PORT` once it accepts connections, on a free port if PORT is missing or 0. Then it prints one
//! line for each message that passes through it, as an eavesdropper would record it: the topic, a space, the payload in
//! hexadecimal.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, ServerSettings};

/// Largest payload that the broker passes on, in bytes; the default `max_message` is 64 KiB.
const MAX_PAYLOAD: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted: u16 = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    // rumqttd cannot report the port that the system chose, so choose it here.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))?.local_addr()?;

    let mut broker = Broker::new(config(address));
    let (mut eavesdropper, mut overheard) = broker.link("eavesdropper")?;
    eavesdropper.subscribe("#")?;
    let server = thread::spawn(move || broker.start().map_err(Box::new));
    wait_until_it_answers(address)?;

    let mut out = io::stdout().lock();
    writeln!(out, "listening on {}", address.port())?;
    out.flush()?;
    while !server.is_finished() {
        if let Some(Notification::Forward(message)) = overheard.recv()? {
            let topic = String::from_utf8_lossy(&message.publish.topic);
            writeln!(out, "{topic} {}", hex(&message.publish.payload))?;
            out.flush()?;
        }
    }
    Err("the broker stopped".into())
}

/// Only one MQTT 3.1.1 server, which anyone on this machine may use.
fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: MAX_PAYLOAD,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "tour".to_owned(), listen, tls: None, next_connection_delay_ms: 1, connections };
    Config {
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 16 * MAX_PAYLOAD,
            max_segment_count: 4,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("tour".to_owned(), server)])),
        ..Config::default()
    }
}

/// Returns when the broker accepts connections.
///
/// # Errors
///
/// The last failure to connect, if it does not accept one within 10 seconds.
fn wait_until_it_answers(address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
