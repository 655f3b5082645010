//! A device: its own configuration and runtime directories, and the three tools, which run as if on a machine of their own.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::broker::Broker;
use crate::process::{Ended, Process};
use crate::scratch::directory;

/// The link that every test uses.
pub(crate) const LINK: &str = "gateway";

/// Topics of the old STS program's configuration files: master to slave, and back.
pub(crate) const M2S: &str = "m2s";
pub(crate) const S2M: &str = "s2m";

/// Which of this run's identity keys a device gets: two devices that communicate need different ones.
#[derive(Clone, Copy)]
pub(crate) enum Identity {
    Station,
    Gateway,
    Stranger,
}

pub(crate) struct Device {
    dir: TempDir,
}

impl Device {
    /// A new device: both directories exist and are empty.
    pub(crate) fn bare() -> Self {
        let dir = directory("device");
        let device = Self { dir };
        for path in [device.config_dir(), device.runtime_dir()] {
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        device
    }

    /// A device of a link without encryption. As in the old STS program's file, one topic is for both directions, so it
    /// receives its own messages.
    pub(crate) fn plain(broker: &Broker) -> Self {
        let port = broker.port().to_string();
        let mut settings = settings(&port, "nosec", "null");
        settings.retain(|(key, _)| !["pubtop", "subtop"].contains(key));
        let device = Self::bare();
        device.configure(&[&settings[..], &[("pubtop", "one_topic"), ("subtop", "one_topic")]].concat());
        device
    }

    /// A device with an identity key.
    pub(crate) fn with(identity: Identity) -> Self {
        let device = Self::bare();
        device.write("identity.pem", key_file(identity), 0o600);
        device
    }

    /// A device with an identity key and a configuration of the link, with a line `key = value` for each of `settings`.
    pub(crate) fn configured(identity: Identity, settings: &[(&str, &str)]) -> Self {
        let device = Self::with(identity);
        device.configure(settings);
        device
    }

    pub(crate) fn configure(&self, settings: &[(&str, &str)]) {
        let mut text = String::new();
        for (key, value) in settings {
            writeln!(text, "{key:13} = {value}").unwrap();
        }
        self.write("gateway.conf", text, 0o600);
    }

    /// Writes a file into the configuration directory.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.config_dir().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config_dir(&self) -> PathBuf {
        self.path().join("config")
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    /// All files in the runtime directory, with their content.
    pub(crate) fn runtime_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.runtime_dir())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Removes them, as a restart does where they are in memory.
    pub(crate) fn lose_runtime_files(&self) {
        for (path, _) in self.runtime_files() {
            fs::remove_file(path).unwrap();
        }
    }

    pub(crate) fn pair(&self, args: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_sts-pair"), args)
    }

    pub(crate) fn send(&self, args: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_sts-send"), args)
    }

    pub(crate) fn recv(&self, args: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_sts-recv"), args)
    }

    /// Starts sts-recv with `-v`, and returns once it is subscribed.
    pub(crate) fn listen(&self, args: &[&str]) -> Process {
        let receiver = Process::spawn(self.recv(&[&["-v"], args, &[LINK]].concat()));
        receiver.wait_for("listening on");
        receiver
    }

    /// Sends these bytes, and returns when sts-send has ended.
    pub(crate) fn send_all(&self, args: &[&str], input: impl Into<Vec<u8>>) -> Ended {
        Process::spawn_with(self.send(&[args, &[LINK]].concat()), input).wait()
    }

    /// Trusts `other`'s key under `name`, as a person would do it: `--key` there, `--trust` here.
    pub(crate) fn trust(&self, name: &str, other: &Self) {
        let key = Process::spawn(other.pair(&["--key"])).wait().succeeded();
        Process::spawn_with(self.pair(&["--trust", name]), key.stdout).wait().succeeded();
    }

    /// Another program, in the environment of this device's tools and with them in its path.
    pub(crate) fn shell(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments[0], &arguments[1..]);
        let tools = Path::new(env!("CARGO_BIN_EXE_sts-pair")).parent().unwrap();
        command.env("PATH", format!("{}:{}", tools.display(), std::env::var("PATH").unwrap()));
        command
    }

    /// A tool of this device, without the variables of this process that would affect it.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("STS_") || name.starts_with("XDG_")) {
                command.env_remove(name);
            }
        }
        command.env("STS_CONFIG_DIR", self.config_dir()).env("STS_RUNTIME_DIR", self.runtime_dir()).args(args);
        command.current_dir(self.path());
        command
    }
}

/// A master and a slave on one broker that trust each other.
pub(crate) struct Pair {
    pub(crate) master: Device,
    pub(crate) slave: Device,
}

impl Pair {
    /// Both trust each other, but have no session yet.
    pub(crate) fn enrolled(broker: &Broker, suite: &str) -> Self {
        Self::enrolled_at(broker.port(), suite)
    }

    /// As [`Pair::enrolled`], with the broker on this port.
    pub(crate) fn enrolled_at(port: u16, suite: &str) -> Self {
        let port = port.to_string();
        let master = Device::configured(Identity::Station, &settings(&port, "master", suite));
        let slave = Device::configured(Identity::Gateway, &settings(&port, "slave", suite));
        master.trust("gateway", &slave);
        slave.trust("station", &master);
        Self { master, slave }
    }

    /// As [`Pair::enrolled`], with the broker at this URL.
    pub(crate) fn enrolled_over(url: &str, suite: &str) -> Self {
        let pair = Self::enrolled_at(1, suite);
        pair.reach(&[("url", url)], suite);
        pair
    }

    /// From here on both reach the broker in this way.
    pub(crate) fn reach(&self, way: &[(&str, &str)], suite: &str) {
        for (device, mode) in [(&self.master, "master"), (&self.slave, "slave")] {
            let mut settings = settings("", mode, suite);
            settings.retain(|(key, _)| !["ip", "port"].contains(key));
            device.configure(&[&settings[..], way].concat());
        }
    }

    /// Both trust each other and have a session.
    pub(crate) fn paired(broker: &Broker, suite: &str) -> Self {
        let pair = Self::enrolled(broker, suite);
        pair.agree();
        pair
    }

    /// Both ends agree on a session.
    pub(crate) fn agree(&self) {
        let slave = Process::spawn(self.slave.pair(&[LINK]));
        let master = Process::spawn(self.master.pair(&[LINK]));
        master.wait().succeeded();
        slave.wait().succeeded();
    }

    /// Sends these bytes from master to slave, and waits for both tools to exit; what arrived must be the same.
    pub(crate) fn carries(&self, args: &[&str], input: &[u8]) {
        let receiver = self.slave.listen(&["--once"]);
        self.master.send_all(args, input).succeeded();
        receiver.wait().succeeded().wrote(input);
    }
}

/// The settings of the old STS program's configuration file, for this broker.
pub(crate) fn settings<'a>(port: &'a str, mode: &'a str, suite: &'a str) -> Vec<(&'a str, &'a str)> {
    let (subtop, pubtop) = if mode == "master" { (S2M, M2S) } else { (M2S, S2M) };
    vec![
        ("mqtt_version", "4"),
        ("ip", "127.0.0.1"),
        ("port", port),
        ("subtop", subtop),
        ("pubtop", pubtop),
        ("clientid", if mode == "master" { "station" } else { "gateway" }),
        ("sts_mode", mode),
        ("aes", suite),
    ]
}

/// Lines as a sensor writes them, 74 bytes each with their newline.
pub(crate) fn readings(count: usize) -> Vec<u8> {
    let mut text = String::with_capacity(74 * count);
    for number in 0..count {
        let celsius = 15 + number % 20;
        writeln!(text, r#"{{"seq":{number:>13},"device":"station-07","celsius":{celsius}.25,"humid":0.481}}"#).unwrap();
    }
    text.into_bytes()
}

/// An identity key file, generated by the tool itself, once per test run.
fn key_file(identity: Identity) -> &'static [u8] {
    static FILES: [OnceLock<Vec<u8>>; 3] = [const { OnceLock::new() }; 3];
    FILES[identity as usize].get_or_init(|| {
        let device = Device::bare();
        Process::spawn(device.pair(&["--key"])).wait().succeeded();
        fs::read(device.config_dir().join("identity.pem")).unwrap()
    })
}
