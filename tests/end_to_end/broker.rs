//! A mosquitto for one test, with its configuration, its directory and a free port on loopback; it is stopped when dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::certificates::Files;
use crate::process::wait_until;
use crate::scratch::directory;

/// Options of a test's broker. By default it is open to all, and forgets everything when it stops.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// The only login that the broker accepts.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// Refuse every subscription with SUBACK 0x80.
    pub(crate) deny_subscriptions: bool,
    /// Close the connection on packets longer than this, in bytes.
    pub(crate) max_packet_size: Option<u32>,
    /// Acknowledge payloads longer than this, in bytes, and drop them.
    pub(crate) message_size_limit: Option<u32>,
    /// Keep sessions and queued messages across a clean stop.
    pub(crate) persistence: bool,
    /// The lines of an `acl_file`: what they do not allow is granted or acknowledged, but dropped.
    pub(crate) acl: Option<&'static str>,
    /// What waits for slow or absent subscribers.
    pub(crate) queue: Queue,
}

/// How much a broker queues for a subscriber; it drops the rest.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Queue {
    /// 1,000 messages.
    #[default]
    Usual,
    Unlimited,
    /// 64 KiB, and one message at a time is on the way.
    Small,
}

pub(crate) struct Broker {
    dir: TempDir,
    port: u16,
    /// Two more, of [`Broker::listening`].
    more_ports: [u16; 2],
    child: Option<Child>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::listening(options, |_, _| String::new())
    }

    /// A broker that listens on ports for WebSocket, with and without TLS, and on a Unix socket, too, and loses nothing.
    pub(crate) fn on_all_transports(files: &Files) -> Self {
        let options = Options { queue: Queue::Unlimited, persistence: true, ..Options::default() };
        Self::listening(options, |dir, [web, secure]| {
            format!(
                "listener {web} 127.0.0.1\nprotocol websockets\n\
                 listener {secure} 127.0.0.1\nprotocol websockets\ncertfile {}\nkeyfile {}\n\
                 listener 0 {}\n",
                files.cert.display(),
                files.key.display(),
                dir.join("socket").display()
            )
        })
    }

    /// As [`Broker::with`], with these lines at the end of its configuration.
    pub(crate) fn with_lines(options: Options, more: &str) -> Self {
        Self::listening(options, |_, _| more.to_owned())
    }

    /// As [`Broker::with`], with these lines at the end of its configuration, for its directory and two more free ports.
    pub(crate) fn listening(options: Options, more: impl Fn(&Path, [u16; 2]) -> String) -> Self {
        let dir = directory("broker");
        loop {
            let [port, more_ports @ ..] = [(); 3].map(|()| free_port());
            let text = configuration(dir.path(), port, options) + &more(dir.path(), more_ports);
            fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
            if let Some(child) = launch(dir.path()) {
                return Self { dir, port, more_ports, child: Some(child) };
            }
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The second port, where [`Broker::listening`] made use of it.
    pub(crate) fn web_port(&self) -> u16 {
        self.more_ports[0]
    }

    /// The second and the third port, where [`Broker::listening`] made use of them.
    pub(crate) fn more_ports(&self) -> [u16; 2] {
        self.more_ports
    }

    /// The URLs of [`Broker::on_all_transports`]: TCP, WebSocket, Unix socket, WebSocket over TLS.
    pub(crate) fn urls(&self) -> [String; 4] {
        let [web, secure] = self.more_ports;
        [
            format!("mqtt://127.0.0.1:{}", self.port),
            format!("ws://127.0.0.1:{web}/mqtt"),
            format!("unix://{}", self.dir.path().join("socket").display()),
            format!("wss://localhost:{secure}/mqtt"),
        ]
    }

    /// Stops the broker, which stores what it keeps, and waits until it has ended.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills the broker, as a power failure does.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts a stopped broker on the same port.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "the broker is running");
        self.child = Some(launch(self.dir.path()).expect("the port was ours and is outside the ephemeral range"));
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Suspends the broker: connections stay open, but nothing is answered.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Waits until the broker has logged `needle` at least `times` times since it last started.
    pub(crate) fn wait_for_log(&self, needle: &str, times: usize) {
        wait_until(&format!("mosquitto to log {needle:?} {times} times"), || self.times_logged(needle) >= times);
    }

    /// How often the broker has logged `needle` since it last started.
    pub(crate) fn times_logged(&self, needle: &str) -> usize {
        fs::read_to_string(log(self.dir.path())).unwrap().matches(needle).count()
    }

    /// How many bytes of payloads were published on `topic` since the broker last started.
    pub(crate) fn published_bytes(&self, topic: &str) -> usize {
        let logged = fs::read_to_string(log(self.dir.path())).unwrap();
        let published = logged.lines().filter_map(|line| {
            let (_, of) = line.split_once("Received PUBLISH from ")?;
            let (_, bytes) = of.split_once(&format!(", '{topic}', ... ("))?;
            bytes.split_once(" bytes)")?.0.parse::<usize>().ok()
        });
        published.sum()
    }

    /// Publishes the content of a file on `topic` as a retained message.
    pub(crate) fn retain(&self, topic: &str, content: &Path) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-p", &self.port.to_string(), "-q", "1", "-r", "-t", topic, "-f"]).arg(content);
        let status = command.status().expect("mosquitto-clients is installed");
        assert!(status.success(), "mosquitto_pub: {status}");
    }

    /// Subscribes to a topic as a stranger, and returns the first message on it once `publish` has run.
    pub(crate) fn record(&self, topic: &str, publish: impl FnOnce()) -> Vec<u8> {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-p", &self.port.to_string(), "-q", "1", "-i", "recorder", "-N", "-C", "1", "-t", topic]);
        let recorder = command.stdout(Stdio::piped()).spawn().expect("mosquitto-clients is installed");
        self.wait_for_log("Sending SUBACK to recorder", 1);
        publish();
        recorder.wait_with_output().unwrap().stdout
    }

    /// Publishes one message as a stranger, with mosquitto's own client.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) {
        self.publish_as("stranger", topic, payload);
    }

    /// Publishes under this client id; the broker disconnects any other client that has it.
    pub(crate) fn publish_as(&self, client_id: &str, topic: &str, payload: &[u8]) {
        let file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        fs::write(file.path(), payload).unwrap();
        let mut command = Command::new("mosquitto_pub");
        command.args(["-p", &self.port.to_string(), "-q", "1", "-i", client_id, "-t", topic]);
        // `-f` does not accept an empty file.
        let status = if payload.is_empty() { command.arg("-n") } else { command.arg("-f").arg(file.path()) }
            .status()
            .expect("mosquitto-clients is installed");
        assert!(status.success(), "mosquitto_pub: {status}");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the broker is running"))
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_child(&child);
            let mut asked: Option<Instant> = None;
            wait_until("mosquitto to end", || {
                // A stopped process handles SIGTERM only once it continues, and one that has just started may miss it.
                if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(2)) {
                    kill_process(pid, signal).and_then(|()| kill_process(pid, Signal::CONT)).ok();
                    asked = Some(Instant::now());
                }
                child.try_wait().unwrap().is_some()
            });
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// Starts mosquitto and waits until it accepts connections; `None` if another program has the port.
fn launch(dir: &Path) -> Option<Child> {
    let errors = File::create(log(dir)).unwrap();
    let mut child = Command::new(mosquitto())
        .arg("-c")
        .arg(dir.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .expect("mosquitto is installed");
    let mut running = false;
    wait_until("mosquitto to serve", || {
        let text = fs::read_to_string(log(dir)).unwrap();
        running = text.lines().any(|line| line.ends_with(" running"));
        let ended = child.try_wait().unwrap().is_some();
        assert!(running || !ended || text.contains("Address already in use"), "mosquitto: {text}");
        running || ended
    });
    running.then_some(child)
}

/// Debian installs it outside an ordinary user's PATH.
fn mosquitto() -> PathBuf {
    let system = PathBuf::from("/usr/sbin/mosquitto");
    if system.exists() { system } else { PathBuf::from("mosquitto") }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn configuration(dir: &Path, port: u16, options: Options) -> String {
    // If root starts mosquitto without `user root`, it changes to a user who cannot read the directory.
    let mut lines = vec![
        format!("listener {port} 127.0.0.1"),
        "user root".to_owned(),
        "log_dest stderr".to_owned(),
        "log_type all".to_owned(),
        format!("allow_anonymous {}", options.login.is_none()),
    ];
    if let Some((user, password)) = options.login {
        let file = dir.join("passwords");
        let made = Command::new("mosquitto_passwd").arg("-b").arg("-c").arg(&file).args([user, password]).output();
        assert!(made.expect("mosquitto is installed").status.success());
        lines.push(format!("password_file {}", file.display()));
    }
    if options.deny_subscriptions {
        // With an acl_file, every SUBSCRIBE is granted; only the plugin answers 0x80.
        let file = dir.join("dynamic-security.json");
        fs::write(&file, DENY_SUBSCRIPTIONS).unwrap();
        lines.push(format!("plugin {}", dynamic_security().display()));
        lines.push(format!("plugin_opt_config_file {}", file.display()));
    }
    if let Some(acl) = options.acl {
        let file = dir.join("acl");
        fs::write(&file, acl).unwrap();
        lines.push(format!("acl_file {}", file.display()));
    }
    if let Some(bytes) = options.max_packet_size {
        lines.push(format!("max_packet_size {bytes}"));
    }
    if let Some(bytes) = options.message_size_limit {
        lines.push(format!("message_size_limit {bytes}"));
    }
    if options.persistence {
        lines.push("persistence true".to_owned());
        lines.push(format!("persistence_location {}/", dir.display()));
    }
    if options.queue == Queue::Unlimited {
        lines.push("max_queued_messages 0".to_owned());
    }
    if options.queue == Queue::Small {
        lines.push("max_inflight_messages 1".to_owned());
        lines.push("max_queued_bytes 65536".to_owned());
    }
    lines.join("\n") + "\n"
}

const DENY_SUBSCRIPTIONS: &str = r#"{
    "defaultACLAccess": {
        "publishClientSend": true, "publishClientReceive": true, "subscribe": false, "unsubscribe": true
    },
    "groups": [{"groupname": "everyone", "roles": []}],
    "anonymousGroup": "everyone", "clients": [], "roles": []
}"#;

/// The plugin; where Debian installs it depends on the machine's architecture.
fn dynamic_security() -> PathBuf {
    let file = "mosquitto_dynamic_security.so";
    let mut candidates = vec![PathBuf::from("/usr/lib").join(file)];
    candidates.extend(fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join(file)));
    candidates.into_iter().find(|path| path.exists()).expect("Debian's mosquitto brings the plugin")
}

/// A port on which nothing listens now, below the range of ports for outgoing connections: otherwise, while the broker is
/// down, a client that keeps trying could be given the broker's port, and connect to itself.
fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(turn < COUNT, "no free port between {FIRST} and {}", FIRST + COUNT);
        // Processes start at different ports, so that tests that run at the same time rarely collide.
        let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap().wrapping_mul(37) % COUNT;
        let port = FIRST + (start + turn) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
