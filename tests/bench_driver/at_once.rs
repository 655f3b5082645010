//! Many masters that pair with one slave at the same moment, and what each costs the slave.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::devices::Bench;
use crate::process::{Running, filled, output, run};
use crate::relay::Raw;

const LINK: &str = "plant";
/// First bytes of the frames that show how far the masters are (sts-protocol(7), "Messages").
const INITREQ: u8 = 0x21;
const INITACK: u8 = 0x22;
const AUTHREQ: u8 = 0x23;

/// A slave, and masters with identity keys of their own, each on topics of its own.
pub(crate) struct Masters<'a> {
    bench: &'a Bench,
    /// The directories of the slave, then those of the masters.
    devices: Vec<PathBuf>,
}

impl<'a> Masters<'a> {
    pub(crate) fn new(bench: &'a Bench, count: usize) -> Result<Self> {
        let devices: Vec<_> = (0..=count).map(|number| bench.dir().join("at-once").join(number.to_string())).collect();
        let masters = Self { bench, devices };
        let port = bench.broker.port;
        for (number, dir) in masters.devices.iter().enumerate() {
            let (mode, publish, subscribe) = match number {
                0 => ("slave", "plant/+/down".to_owned(), "plant/+/up".to_owned()),
                _ => ("master", format!("plant/{number}/up"), format!("plant/{number}/down")),
            };
            for part in ["config", "run"] {
                crate::devices::make_private_dir(&dir.join(part))?;
            }
            let text =
                format!("ip = 127.0.0.1\nport = {port}\nsts_mode = {mode}\npubtop = {publish}\nsubtop = {subscribe}\n");
            fs::write(dir.join("config").join(format!("{LINK}.conf")), text)?;
        }
        let slave = output(masters.pair(0).args(["-q", "--key"]))?;
        for number in 1..=count {
            let key = output(masters.pair(number).args(["-q", "--key"]))?;
            let trust = |at: usize, key: &str, name: &str| -> Result<()> {
                run(masters.pair(at).args(["-q", "--trust", name]).stdin(filled(key.as_bytes())?))
            };
            trust(0, &key, &format!("m{number}"))?;
            trust(number, &slave, "slave")?;
        }
        Ok(masters)
    }

    /// Pairs all of them; returns the CPU time of the slave for each. The masters share this machine's processors, where
    /// their signatures would arrive one by one: so the slave is stopped until all frames of a step are there, as they are
    /// when many devices start at once.
    pub(crate) fn pair_all(&self) -> Result<Duration> {
        let mut eavesdropper = Eavesdropper::new(self.bench.broker.port)?;
        let mut command = self.pair(0);
        let mut slave = Running::start(command.args(["-v", "--serve", LINK]).stderr(Stdio::piped()))?;
        slave.wait_for_stderr("listening on")?;
        let before = slave.processor()?;
        slave.stop(true)?;
        let count = self.devices.len() - 1;
        let masters = (1..=count).map(|number| Running::start(self.pair(number).args(["-q", LINK])));
        let masters = masters.collect::<Result<Vec<_>>>()?;
        eavesdropper.wait_for(INITREQ, count)?;
        slave.stop(false)?;
        eavesdropper.wait_for(INITACK, count)?;
        slave.stop(true)?;
        eavesdropper.wait_for(AUTHREQ, count)?;
        slave.stop(false)?;
        for mut master in masters {
            master.succeeds()?;
        }
        let took = slave.processor()?.saturating_sub(before);
        slave.terminate()?;
        Ok(took / u32::try_from(count)?)
    }

    fn pair(&self, number: usize) -> Command {
        let mut command = Command::new(self.bench.executable("sts-pair"));
        let dir = &self.devices[number];
        command.env_remove("STS_LINK").env("STS_CONFIG_DIR", dir.join("config"));
        command.env("STS_RUNTIME_DIR", dir.join("run")).stdin(Stdio::null());
        command
    }
}

/// An eavesdropper, and the topics on which it saw each type of frame.
struct Eavesdropper {
    connection: Raw,
    topics: HashMap<u8, HashSet<String>>,
}

impl Eavesdropper {
    fn new(port: u16) -> Result<Self> {
        let mut connection = Raw::connect(port)?;
        connection.subscribe("plant/#")?;
        Ok(Self { connection, topics: HashMap::new() })
    }

    /// Waits until a frame of this type was seen on `count` topics.
    fn wait_for(&mut self, first_byte: u8, count: usize) -> Result<()> {
        while self.topics.get(&first_byte).map_or(0, HashSet::len) < count {
            let (topic, payload) = self.connection.message()?;
            let first = payload.first().copied().unwrap_or_default();
            self.topics.entry(first).or_default().insert(topic);
        }
        Ok(())
    }
}
