//! TLS: a certificate for the one broker, and how many bytes cross the wire with it and without.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::Result;
use crate::devices::Bench;
use crate::process::{filled, run};

/// The files of an authority and of the broker, for `localhost`.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate whose issuer has the subject's own name for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
        let files = Self {
            authority: dir.join("authority.pem"),
            certificate: dir.join("broker.pem"),
            key: dir.join("broker.key"),
        };
        fs::write(&files.authority, authority.pem())?;
        fs::write(&files.certificate, certificate.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}

/// Bytes in both directions of `sts-send` with these arguments and this input, for so many runs one after the other.
pub(crate) fn bytes_of_runs(bench: &Bench, args: &[&str], input: &[u8], runs: usize) -> Result<Vec<u64>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let through = listener.local_addr()?.port();
    let mut counts = Vec::new();
    for _ in 0..runs {
        let mut sender = bench.send_through(through, args);
        let counted = thread::spawn({
            let (listener, port) = (listener.try_clone()?, bench.port());
            move || relay_once(&listener, port).unwrap_or(0)
        });
        run(sender.stdin(filled(input)?))?;
        counts.push(counted.join().map_err(|_| "the relay panicked")?);
    }
    Ok(counts)
}

/// Relays one connection to the broker, and counts its bytes.
fn relay_once(listener: &TcpListener, port: u16) -> std::io::Result<u64> {
    let (client, _) = listener.accept()?;
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let up = [client.try_clone()?, broker.try_clone()?];
    let up = thread::spawn(move || pass(up));
    let down = pass([broker, client]);
    Ok(down + up.join().unwrap_or(0))
}

/// Passes on what one end sends, until it closes; how many bytes.
fn pass([mut from, mut to]: [TcpStream; 2]) -> u64 {
    let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        total += count as u64;
        // An end that is gone needs no more of it.
        let _ = to.write_all(&buffer[..count]);
    }
    let _ = to.shutdown(Shutdown::Write);
    total
}
