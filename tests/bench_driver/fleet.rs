//! Thousands of sessions without pairings: only the first of the devices has the private key that belongs to its public
//! key.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rand::RngExt;
use sts::cache::Cache;
use sts::crypto::schedule::{SessionKeys, Topics};
use sts::identity::PublicKey;
use sts::role::Role;
use sts::secret::Key;
use sts::session::{Parties, Session};
use sts::suite::Suite;

use crate::Result;
use crate::devices::{Bench, Device};
use crate::process::output;

/// Bytes of a 3072-bit modulus, and of what follows it in a key: an exponent of three bytes with its header.
const MODULUS: usize = 384;
const EXPONENT: usize = 5;

/// The keys of both devices.
pub(crate) struct Fleet<'a> {
    bench: &'a Bench,
    station: PublicKey,
    gateway: PublicKey,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Result<Self> {
        let key = |device| -> Result<PublicKey> {
            let line = output(bench.bare(device, "sts-pair").args(["-q", "--key"]))?;
            PublicKey::from_key_line(line.trim()).map_err(|bad| bad.to_string().into())
        };
        Ok(Self { bench, station: key(Device::Station)?, gateway: key(Device::Gateway)? })
    }

    /// `count` devices, s0 and so on, that the gateway trusts and has sessions with over `plant/+/up`; s0 is the
    /// station.
    pub(crate) fn devices(&self, link: &str, count: u32) -> Result<()> {
        self.bench.configure(link, ["plant/s0/up", "plant/s0/down"], ["plant/+/up", "plant/+/down"])?;
        let mut known = String::new();
        for number in 0..count {
            let key = if number == 0 { self.station.clone() } else { self.stranger()? };
            writeln!(known, "{}", key.to_line(&format!("s{number}").parse()?))?;
            let session = Sessions::new([&self.station, &self.gateway, &key], &format!("plant/s{number}"));
            self.cache(Device::Gateway, link)?.store_current(&session.gateway, 1)?;
            if number == 0 {
                self.cache(Device::Station, link)?.store_current(&session.station, 1)?;
            }
        }
        self.trust(Device::Gateway, &known)?;
        self.trust(Device::Station, &format!("{}\n", self.gateway.to_line(&"gateway".parse()?)))
    }

    /// A link between the two devices, with topics of its own and a session; returns the station's end of the session.
    pub(crate) fn link(&self, link: &str) -> Result<Session> {
        let topic = format!("{link}-{}", crate::unique());
        let topics = [&*format!("{topic}/up"), &*format!("{topic}/down")];
        self.bench.configure(link, topics, topics)?;
        let session = Sessions::new([&self.station, &self.gateway, &self.station], &topic);
        self.cache(Device::Gateway, link)?.store_current(&session.gateway, 1)?;
        self.cache(Device::Station, link)?.store_current(&session.station, 1)?;
        Ok(session.station)
    }

    /// Makes each device trust the other.
    pub(crate) fn trust_each_other(&self) -> Result<()> {
        self.trust(Device::Gateway, &format!("{}\n", self.station.to_line(&"s0".parse()?)))?;
        self.trust(Device::Station, &format!("{}\n", self.gateway.to_line(&"gateway".parse()?)))
    }

    /// The sessions of a link on a device.
    pub(crate) fn cache(&self, device: Device, link: &str) -> Result<Cache> {
        Ok(Cache::open(&self.bench.runtime_dir(device), &link.parse()?, link)?)
    }

    /// The fingerprint under which the station stores its sessions with the gateway.
    pub(crate) fn gateway(&self) -> [u8; 32] {
        *self.gateway.fingerprint().as_bytes()
    }

    fn trust(&self, device: Device, known: &str) -> Result<()> {
        let path = self.bench.config_dir(device).join("known_peers");
        fs::write(&path, known)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?)
    }

    /// The key line of a device that nobody knows yet.
    pub(crate) fn newcomer(&self) -> Result<String> {
        let name = "new".parse()?;
        let line = self.stranger()?.to_line(&name);
        Ok(line.split_once(' ').map_or(line.clone(), |(_, key)| format!("{key}\n")))
    }

    /// A public key without a private key: none is needed here.
    fn stranger(&self) -> Result<PublicKey> {
        let mut der = self.station.der().to_vec();
        let end = der.len() - EXPONENT;
        let modulus = &mut der[end - MODULUS..end];
        rand::rng().fill(modulus);
        modulus[0] |= 0x80;
        modulus[MODULUS - 1] |= 1;
        PublicKey::from_der(&der).map_err(|bad| bad.to_string().into())
    }
}

/// Both ends of one session.
struct Sessions {
    station: Session,
    gateway: Session,
}

impl Sessions {
    /// A session between the gateway and `peer`; its station end is of use only if `peer` is the station.
    fn new([station, gateway, peer]: [&PublicKey; 3], topic: &str) -> Self {
        let mut rng = rand::rng();
        let keys = SessionKeys {
            th3: rng.random(),
            id: rng.random(),
            tree_m2s: Key::generate(32, |bytes| rng.fill(bytes)),
            tree_s2m: Key::generate(32, |bytes| rng.fill(bytes)),
            side_m2s: Key::generate(32, |bytes| rng.fill(bytes)),
            side_s2m: Key::generate(32, |bytes| rng.fill(bytes)),
            confirm: Key::generate(32, |bytes| rng.fill(bytes)),
        };
        let topics = Topics { master_to_slave: format!("{topic}/up"), slave_to_master: format!("{topic}/down") };
        let [station, gateway, peer] = [station, gateway, peer].map(|key| *key.fingerprint().as_bytes());
        let end =
            |role, own, peer| Session::new(keys.clone(), Parties { role, own, peer }, topics.clone(), Suite::Gcm, 1);
        Self { station: end(Role::Master, station, gateway), gateway: end(Role::Slave, gateway, peer) }
    }
}
