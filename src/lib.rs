//! Secure Telemetry Shell: telemetry from one device's pipe to another's, through a broker that neither trusts.
//!
//! A tour, in the order in which a line travels. The three tools are in `bin/`: each parses its command line and runs one
//! of [`pair`], [`send`] and [`recv`].
//!
//! 1. **What was asked for**: [`cli`] has what the tools share (options, messages, exit), [`config`] makes one link's
//!    configuration of file, `-o` and environment, [`identity`] has this device's key and those that it trusts, and
//!    [`link`] puts the three together, with the topics of both ends, [`route`].
//! 2. **Agreeing a session**, `sts-pair`: [`handshake`] takes and makes the frames of [`message`], with the keys that
//!    [`crypto`] derives, and ends with a [`session`], which [`cache`] stores for the other two tools.
//! 3. **From stdin to the broker**, `sts-send`: [`stdio`] reads and cuts, [`stream`] numbers and seals under the session,
//!    [`mqtt`] publishes until it is acknowledged. With `--spool` the disk comes first: [`spool`].
//! 4. **From the broker to stdout**, `sts-recv`: the same rooms the other way round; [`cache`] remembers what was written,
//!    and only then is it acknowledged.
//!
//! Each tool is one thread around one poll(2), [`event_loop`]. What decides something, [`handshake`], [`session`], [`stream`],
//! [`message`], [`crypto`], [`secret`], and the parsing in [`config`], touches neither file nor socket nor clock nor a
//! generator of its own: time and randomness come in as arguments, and clippy holds these modules, and the session in
//! [`mqtt`], to it.

// What was asked for.
pub mod cli;
pub mod config;
pub mod identity;
pub mod link;
pub mod peers;
pub mod sessions;

// The three tools, and the loop that they share.
pub mod event_loop;
pub mod pair;
pub mod recv;
pub mod send;

// Between them and the broker.
pub mod spool;
pub mod stdio;
pub mod stream;

pub mod handshake;
pub mod message;
pub mod session;

pub mod route;

pub mod cache;
pub mod files;

pub mod mqtt;

// When to repeat something: a message to send, news to say.
mod backoff;
mod throttle;

// Words: of failure, for names, for a person's eyes.
pub mod error;
pub mod name;
pub mod text;
pub mod units;

// A package of their own: compiled for speed, the rest for size.
pub use sts_crypto as crypto;
pub use sts_crypto::{role, secret, suite};

pub use error::{Error, Exit, Rejected, Result};
