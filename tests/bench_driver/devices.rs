//! Two paired devices with the tools that run on each, and mosquitto's clients on the same broker to compare to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::broker::Broker;
use crate::process::{Running, filled, output, run};

/// The topic that the station publishes on.
pub(crate) const TOPIC: &str = "from_station";
/// The link's name on both devices.
pub(crate) const LINK: &str = "bench";
/// The topic of mosquitto's clients.
const PEERS: &str = "peers";

/// One of the two devices.
#[derive(Clone, Copy)]
pub(crate) enum Device {
    /// The master, which sends.
    Station,
    /// The slave, which receives.
    Gateway,
}

/// A broker, and two devices that have a session over it.
pub(crate) struct Bench {
    pub(crate) broker: Rc<Broker>,
    tools: PathBuf,
    dir: PathBuf,
    way: BrokerWay,
}

/// How all tools, and mosquitto's clients, reach the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BrokerWay {
    /// As the link is configured.
    Configured,
    /// By options, as it is another broker.
    Other,
    /// By options, by TLS.
    Tls,
}

impl Bench {
    /// Sets up both devices in `dir`, makes each trust the other's key, and pairs them.
    pub(crate) fn new(broker: Broker, tools: &Path, dir: &Path) -> Result<Self> {
        let (tools, dir) = (tools.to_owned(), dir.to_owned());
        let bench = Self { broker: Rc::new(broker), tools, dir, way: BrokerWay::Configured };
        bench.make_dirs()?;
        bench.configure(LINK, [TOPIC, "to_station"], [TOPIC, "to_station"])?;
        for (from, to, name) in
            [(Device::Station, Device::Gateway, "station"), (Device::Gateway, Device::Station, "gateway")]
        {
            let key = output(bench.bare(from, "sts-pair").args(["-q", "--key"]))?;
            run(bench.bare(to, "sts-pair").args(["-q", "--trust", name]).stdin(filled(key.as_bytes())?))?;
        }
        bench.pair()?;
        Ok(bench)
    }

    /// The same two devices on the same broker, in directories of their own that have only their identity keys.
    pub(crate) fn elsewhere(&self, name: &str) -> Result<Self> {
        let bench = Self {
            broker: Rc::clone(&self.broker),
            tools: self.tools.clone(),
            dir: self.dir.join(name),
            way: BrokerWay::Configured,
        };
        bench.make_dirs()?;
        for device in [Device::Station, Device::Gateway] {
            let [from, to] = [self, &bench].map(|bench| bench.config_dir(device).join("identity.pem"));
            fs::copy(from, to)?;
        }
        Ok(bench)
    }

    /// The same two devices with the same sessions, over TLS.
    pub(crate) fn over_tls(&self) -> Self {
        self.reaching(Rc::clone(&self.broker), BrokerWay::Tls)
    }

    /// The same two devices with the same sessions, on another broker.
    pub(crate) fn on(&self, broker: Broker) -> Self {
        self.reaching(Rc::new(broker), BrokerWay::Other)
    }

    fn reaching(&self, broker: Rc<Broker>, way: BrokerWay) -> Self {
        Self { broker, tools: self.tools.clone(), dir: self.dir.clone(), way }
    }

    /// The broker's port.
    pub(crate) fn port(&self) -> u16 {
        if self.way == BrokerWay::Tls { self.broker.tls_port } else { self.broker.port }
    }

    /// sts-send on the station, by a relay on this port.
    pub(crate) fn send_through(&self, port: u16, args: &[&str]) -> Command {
        let mut command = self.bare(Device::Station, "sts-send");
        command.args(self.options(port)).args(args).arg(LINK).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// The options with which a tool reaches the broker on this port.
    fn options(&self, port: u16) -> Vec<String> {
        if self.way == BrokerWay::Tls {
            let authority = self.broker.certificates.authority.display();
            ["-o".into(), format!("url=mqtts://localhost:{port}"), "-o".into(), format!("ca_file={authority}")].into()
        } else {
            ["-o".into(), format!("url=mqtt://localhost:{port}")].into()
        }
    }

    /// A client of mosquitto.
    fn mosquitto(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-p", &self.port().to_string(), "-t", PEERS]);
        if self.way == BrokerWay::Tls {
            command.arg("--cafile").arg(&self.broker.certificates.authority);
        }
        command
    }

    /// Removes its directories.
    pub(crate) fn remove(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.dir)?)
    }

    fn make_dirs(&self) -> Result<()> {
        for device in [Device::Station, Device::Gateway] {
            for dir in [self.config_dir(device), self.runtime_dir(device)] {
                make_private_dir(&dir)?;
            }
        }
        Ok(())
    }

    /// Configures a link on both devices; each array is the topic from the station and the topic to it, as that device
    /// names them.
    pub(crate) fn configure(&self, link: &str, station: [&str; 2], gateway: [&str; 2]) -> Result<()> {
        let port = self.broker.port;
        for (device, mode, publish, subscribe) in
            [(Device::Station, "master", station[0], station[1]), (Device::Gateway, "slave", gateway[1], gateway[0])]
        {
            let text =
                format!("ip = 127.0.0.1\nport = {port}\nsts_mode = {mode}\npubtop = {publish}\nsubtop = {subscribe}\n");
            fs::write(self.config_dir(device).join(format!("{link}.conf")), text)?;
        }
        Ok(())
    }

    /// Makes both ends agree on a session; returns the time until both have exited.
    pub(crate) fn pair(&self) -> Result<Duration> {
        let start = Instant::now();
        let mut slave = Running::start(&mut self.tool(Device::Gateway, "sts-pair", &["-q"]))?;
        let mut master = Running::start(&mut self.tool(Device::Station, "sts-pair", &["-q"]))?;
        master.succeeds()?;
        slave.succeeds()?;
        Ok(start.elapsed())
    }

    /// Replaces all sessions: a receiver would report what was sent while there was none.
    pub(crate) fn begin_anew(&self) -> Result<()> {
        run(&mut self.tool(Device::Gateway, "sts-pair", &["-q", "--end"]))?;
        self.pair().map(drop)
    }

    /// sts-send on the station; stdin is piped.
    pub(crate) fn send(&self, args: &[&str]) -> Command {
        self.tool(Device::Station, "sts-send", args)
    }

    /// sts-recv on the gateway, started and subscribed; stdout is piped.
    pub(crate) fn listen(&self, args: &[&str]) -> Result<Running> {
        let mut command = self.tool(Device::Gateway, "sts-recv", &[&["-v"], args].concat());
        let mut receiver = Running::start(command.stderr(Stdio::piped()))?;
        receiver.wait_for_stderr("listening on")?;
        Ok(receiver)
    }

    /// The path of one of the tools.
    pub(crate) fn executable(&self, tool: &str) -> PathBuf {
        self.tools.join(tool)
    }

    /// `mosquitto_pub`; stdin is piped.
    pub(crate) fn mosquitto_pub(&self, args: &[&str]) -> Command {
        let mut command = self.mosquitto("mosquitto_pub");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::null());
        command
    }

    /// `mosquitto_sub`, started and subscribed; stdout is piped.
    pub(crate) fn mosquitto_sub(&self, args: &[&str]) -> Result<Running> {
        let id = format!("sub-{}", crate::unique());
        let mut command = self.mosquitto("mosquitto_sub");
        command.args(["-i", &id]).args(args);
        let receiver = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        self.broker.wait_for_subscriber(&id)?;
        Ok(receiver)
    }

    /// A tool on a device, with the link as its argument; stdin and stdout are piped.
    pub(crate) fn tool(&self, device: Device, tool: &str, args: &[&str]) -> Command {
        let mut command = self.bare(device, tool);
        if self.way != BrokerWay::Configured {
            command.args(self.options(self.port()));
        }
        command.args(args).arg(LINK).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// A tool on a device, without a link.
    pub(crate) fn bare(&self, device: Device, tool: &str) -> Command {
        let mut command = Command::new(self.executable(tool));
        command.env_remove("STS_LINK");
        command.env("STS_CONFIG_DIR", self.config_dir(device)).env("STS_RUNTIME_DIR", self.runtime_dir(device));
        command
    }

    /// Where both have their directories.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn config_dir(&self, device: Device) -> PathBuf {
        self.dir.join(device.name()).join("config")
    }

    pub(crate) fn runtime_dir(&self, device: Device) -> PathBuf {
        self.dir.join(device.name()).join("run")
    }
}

/// A directory, with those above it, that only its user may enter.
pub(crate) fn make_private_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?)
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Gateway => "gateway",
        }
    }
}
