//! The broker of a run, mosquitto on two free loopback ports, one of them for TLS; and a second one with a small queue.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{Running, output, wait_until};
use crate::tls::Certificates;

/// The range to choose a port from: below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How much a broker queues for a slow subscriber, or for one that is not connected; it drops the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Queue {
    #[default]
    Unlimited,
    /// mosquitto's default: 1,000 messages.
    Usual,
    /// 64 KiB, and one message at a time is on the way.
    Small,
}

impl Queue {
    /// As mosquitto.conf(5) has it.
    pub(crate) fn lines(self) -> &'static str {
        match self {
            Self::Unlimited => "max_queued_messages 0\n",
            Self::Usual => "",
            Self::Small => "max_queued_bytes 65536\nmax_inflight_messages 1\n",
        }
    }

    /// Short messages that it has room for.
    pub(crate) fn messages(self) -> u32 {
        match self {
            Self::Unlimited => u32::MAX,
            Self::Usual | Self::Small => 1000,
        }
    }
}

pub(crate) struct Broker {
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    pub(crate) certificates: Certificates,
    pub(crate) queue: Queue,
    log: PathBuf,
    process: Running,
}

impl Broker {
    /// Starts it, with its files in `dir`.
    pub(crate) fn start(dir: &Path, queue: Queue) -> Result<Self> {
        let port = free_port(None)?;
        let tls_port = free_port(Some(port))?;
        let certificates = Certificates::make(dir)?;
        let configuration = dir.join("mosquitto.conf");
        let log = dir.join("mosquitto.log");
        // Log subscriptions: mosquitto_sub does not report when it is subscribed.
        let mut lines = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n");
        lines.push_str("log_type error\nlog_type warning\nlog_type subscribe\n");
        lines.push_str(queue.lines());
        let Certificates { certificate, key, .. } = &certificates;
        let (certificate, key) = (certificate.display(), key.display());
        let secure = format!("listener {tls_port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n");
        fs::write(&configuration, lines + &secure)?;
        let mut command = Command::new(program());
        command.arg("-c").arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let process = Running::start(&mut command)?;
        wait_until("mosquitto to accept connections", || {
            if process.has_ended()? {
                return Err(format!("mosquitto: {}", fs::read_to_string(&log)?).into());
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        Ok(Self { port, tls_port, certificates, queue, log, process })
    }

    /// Stops its process, or continues it.
    pub(crate) fn stop(&self, stopped: bool) -> Result<()> {
        self.process.stop(stopped)
    }

    /// Waits until the client with this id has subscribed.
    pub(crate) fn wait_for_subscriber(&self, client_id: &str) -> Result<()> {
        let needle = format!(": {client_id} ");
        wait_until("mosquitto_sub to subscribe", || Ok(fs::read_to_string(&self.log)?.contains(&needle)))
    }

    /// Waits until it has read everything from the sockets of clients that have exited, and closed these sockets.
    ///
    /// At QoS 0, a sender exits while megabytes are still in its socket; the next subscriber would receive them.
    pub(crate) fn wait_until_alone(&self) -> Result<()> {
        wait_until("the broker to read what was sent", || {
            let sockets = fs::read_to_string("/proc/net/tcp")?;
            let is_readable = |line| [self.port, self.tls_port].iter().any(|port| is_readable_at(line, *port));
            Ok(!sockets.lines().any(is_readable))
        })
    }
}

/// Its name and version, as it prints them.
pub(crate) fn version() -> Result<String> {
    // With -h it prints its version and exits with a status other than 0.
    let text = output(Command::new("sh").args(["-c", "\"$0\" -h || :"]).arg(program()))?;
    Ok(text.lines().next().unwrap_or("mosquitto").replace(" version", ""))
}

/// Debian installs it outside an ordinary user's PATH.
fn program() -> PathBuf {
    let system = PathBuf::from("/usr/sbin/mosquitto");
    if system.exists() { system } else { PathBuf::from("mosquitto") }
}

/// Whether a line of `/proc/net/tcp`, proc(5), is a socket at this local port from which data may still be read.
fn is_readable_at(line: &str, port: u16) -> bool {
    /// `ESTABLISHED` and `CLOSE_WAIT`, as the kernel numbers them.
    const READABLE: [&str; 2] = ["01", "08"];
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(|address| address.split_once(':'));
    local.is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port))
        && fields.nth(1).is_some_and(|state| READABLE.contains(&state))
}

/// A port that is free now. Each process starts its search at a different port, so that two benchmarks rarely collide.
fn free_port(taken: Option<u16>) -> Result<u16> {
    let mut ports = PORTS.cycle().skip(std::process::id() as usize % PORTS.len()).take(PORTS.len());
    let is_free = |port: &u16| Some(*port) != taken && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).ok_or_else(|| "no free port".into())
}
