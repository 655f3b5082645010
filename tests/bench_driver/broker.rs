//! The one broker of a run: mosquitto on a free loopback port.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{Running, output, wait_until};

/// Where a port is looked for: below the ones that outgoing connections are given.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

pub(crate) struct Broker {
    pub(crate) port: u16,
    /// Messages that it keeps for a client that is away.
    pub(crate) queue: u32,
    log: PathBuf,
    process: Running,
}

impl Broker {
    /// Starts it; `default_queue` leaves its limit of 1,000 messages for a slow subscriber, past which it drops some.
    pub(crate) fn start(dir: &Path, default_queue: bool) -> Result<Self> {
        let port = free_port()?;
        let configuration = dir.join("mosquitto.conf");
        let log = dir.join("mosquitto.log");
        // Subscriptions are logged, so that a peer that does not say when it listens can be waited for.
        let mut lines = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n");
        lines.push_str("log_type error\nlog_type warning\nlog_type subscribe\n");
        if !default_queue {
            lines.push_str("max_queued_messages 0\n");
        }
        fs::write(&configuration, lines)?;
        let mut command = Command::new(program());
        command.arg("-c").arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let process = Running::start(&mut command)?;
        wait_until("mosquitto to answer", || {
            if process.has_ended()? {
                return Err(format!("mosquitto: {}", fs::read_to_string(&log)?).into());
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        Ok(Self { port, queue: if default_queue { 1000 } else { u32::MAX }, log, process })
    }

    /// Stops it, or lets it go on.
    pub(crate) fn stop(&self, stopped: bool) -> Result<()> {
        self.process.stop(stopped)
    }

    /// Waits until this client has subscribed.
    pub(crate) fn wait_for_subscriber(&self, client_id: &str) -> Result<()> {
        let needle = format!(": {client_id} ");
        wait_until("a peer to subscribe", || Ok(fs::read_to_string(&self.log)?.contains(&needle)))
    }

    /// Waits until it has read all that clients that are gone left in its sockets, and closed them.
    ///
    /// At QoS 0 a sender ends while megabytes of it are there: whoever subscribes next would be sent them.
    pub(crate) fn wait_until_alone(&self) -> Result<()> {
        wait_until("the broker to take what was sent", || {
            let sockets = fs::read_to_string("/proc/net/tcp")?;
            Ok(!sockets.lines().any(|line| is_readable_at(line, self.port)))
        })
    }
}

/// Its version, as it names itself.
pub(crate) fn version() -> Result<String> {
    // Asked for help, it gives the help and an exit status of its own.
    let text = output(Command::new("sh").args(["-c", "\"$0\" -h || :"]).arg(program()))?;
    Ok(text.lines().next().unwrap_or("mosquitto").replace(" version", ""))
}

/// Debian keeps it outside an ordinary user's PATH.
fn program() -> PathBuf {
    let system = PathBuf::from("/usr/sbin/mosquitto");
    if system.exists() { system } else { PathBuf::from("mosquitto") }
}

/// Whether a line of `/proc/net/tcp` is a socket at this local port that data may still be read from, proc(5).
fn is_readable_at(line: &str, port: u16) -> bool {
    /// `ESTABLISHED` and `CLOSE_WAIT`, as the kernel numbers them.
    const READABLE: [&str; 2] = ["01", "08"];
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(|address| address.split_once(':'));
    local.is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port))
        && fields.nth(1).is_some_and(|state| READABLE.contains(&state))
}

/// Nobody's at the moment. Each process begins to look at a place of its own, so that two benchmarks rarely meet.
fn free_port() -> Result<u16> {
    let mut ports = PORTS.cycle().skip(std::process::id() as usize % PORTS.len()).take(PORTS.len());
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).ok_or_else(|| "no free port".into())
}
