//! Claim: the three tools keep their promises towards a real broker, as real processes, on real files.
//!
//! One program for all of it, so that the few RSA keys it needs are made once. The rooms:
//!
//! - `broker`: a mosquitto of our own, `process`: a running tool, `device`: its directories, `sniffer`: an eavesdropper
//! - the others: the claims, one at the head of each file

#![expect(clippy::unwrap_used, reason = "a call that fails here fails the test, with its place")]

mod attacks;
mod broker;
mod device;
mod process;
mod sniffer;

mod confirm;
mod cron;
mod directories;
mod eavesdropping;
mod enrolment;
mod fleet;
mod flood;
mod gateway;
mod hostile;
mod limits;
mod nosec;
mod order;
mod outages;
mod pairing;
mod pipe;
mod poison;
mod refusals;
mod rotation;
mod signals;
mod soak;
mod spool;
mod suspended;
mod ten_thousand;
