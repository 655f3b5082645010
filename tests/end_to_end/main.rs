//! Claim: the three tools keep their promises as real processes, on real files, with a real broker.
//!
//! All tests are one program, so that the few RSA keys that they need are generated only once. The modules:
//!
//! - `broker`: a mosquitto for one test
//! - `certificates`: an authority for TLS
//! - `device`: a device's directories and tools, `process`: a running tool, `sniffer`: an eavesdropper
//! - `server`: a server that is not a broker, or a bad one
//! - the others: tests, with their claim at the head of each file

#![expect(clippy::unwrap_used, reason = "a call that fails here fails the test, with its place")]

mod attacks;
mod broker;
mod certificates;
mod device;
mod process;
mod server;
mod sniffer;

mod bystanders;
mod causes;
mod check;
mod confirm;
mod copies;
mod cron;
mod directories;
mod durability;
mod eavesdropping;
mod enrolment;
mod first_session;
mod fleet;
mod flood;
mod full_disk;
mod gateway;
mod hostile;
mod keep;
#[cfg(feature = "legacy")]
mod legacy;
mod lost_ends;
mod memory;
mod monitoring;
mod moving;
mod nosec;
mod order;
mod outages;
mod pairing;
mod pipe;
mod poison;
mod proxies;
mod recv_limits;
mod refusals;
mod retained;
mod rotation;
mod sandbox;
mod shared_spool;
mod signals;
mod soak;
mod spool;
mod suspended;
mod ten_thousand;
mod tls;
mod tls_early_data;
mod tls_floods;
mod transports;
mod trust;
mod versions;
mod will;
