//! Secure Telemetry Shell: telemetry from one device's pipe to another's, through a broker that neither device trusts.
//!
//! This is a tour of the code, in the order in which a line travels. Each of the three tools parses its command line ([`cli`])
//! and runs one of [`pair`], [`send`] and [`recv`]; the executables in `bin/` only call it.
//!
//! 1. **What was asked for**: [`cli`] has the options that the tools share, [`report`] what they say on stderr. [`config`]
//!    makes one link's configuration of file, `-o` and environment. [`link`] is that configuration opened for use, with
//!    the topics of both ends ([`route`]). [`peers`] knows this device's [`identity`] and whom the link accepts. What a run
//!    does not need of the system it then gives up ([`sandbox`]).
//! 2. **Agreeing on a session** (`sts-pair`): [`handshake`] reads and makes the frames of [`message`], with the keys that
//!    [`crypto`] derives. It ends with a [`session`], which [`cache`] stores on disk. [`sessions`] is what a running tool
//!    sees of them.
//! 3. **From stdin to the broker** (`sts-send`): [`stdio`] reads, [`send`] splits, [`stream`] numbers and seals under the
//!    session, [`mqtt`] publishes until the message is acknowledged. With `--spool` the disk comes first: [`spool`].
//! 4. **From the broker to stdout** (`sts-recv`): [`mqtt`] hands in a message, [`stream`] opens it, [`recv`] puts it in order
//!    and writes it. [`cache`] records what was written, and only then the message is acknowledged.
//!
//! Beside all that is [`legacy`], a room of its own: what the old program of this name speaks (`sts_version = 1`).
//!
//! Each tool is one thread around one poll(2), in [`event_loop`]. (Name lookups have a thread of their own, since the system
//! has no other way.) Two kinds of failure exist: an [`Error`] ends a run, a [`Rejected`] drops one message.
//!
//! The modules that decide something touch neither file nor socket nor clock, and have no generator of their own: time
//! and randomness come in as arguments. These are [`handshake`], [`legacy`] but for its store, [`session`], [`stream`],
//! [`message`], [`route`], [`crypto`], the parsing in [`config`], and the client session in [`mqtt`]. clippy holds them
//! to it (`clippy.toml`), so that their tests run in virtual time.
//!
//! There are three packages because Cargo sets an optimization level per package. This one is compiled for size, with the
//! command lines. The ciphers (`src/crypto`) and the executables must be compiled for speed, since generic code is optimized
//! as the package that uses it. With one level for all, the executables are a fifth larger, or AES takes twice as long.
//!
//! # Words
//!
//! The words of MQTT, TLS and Unix mean here what they mean there. These are the others, and those of which there are
//! several:
//!
//! | word | means | as |
//! |---|---|---|
//! | session | keys that two devices agreed on, which outlive processes and connections; not the client session of MQTT | TLS session |
//! | stream | what one process sends under a session: messages that are numbered by their seq | QUIC stream |
//! | side stream | what sts-recv says under that session of the streams that it receives | RTCP |
//! | sequence | the messages of a stream and of those that continue it, each at its position, whichever stream carries it | |
//! | chain | streams that are one stream to standard output: those of a sequence, and one that was continued | |
//! | record | what one message of a spool carries, in its file | |
//! | confirm | all of a stream below a seq is written, and recorded as written | TCP's cumulative ACK |
//! | sack | messages that are here, and not confirmed, since others before them are missing | RFC 2018 |
//! | held | a message that waits in sts-recv until what belongs before it has come, or is given up | reordering |
//! | settled | both ends know that all of a stream is written: nothing of it is kept to be sent or said again | AMQP 1.0 |
//! | told | what a stream says of how earlier streams of its device ended, in its preamble | |
//! | gate | what every message of a run of sts-send passes | |
//! | rate limit | how much may pass the gate per time; a pace is one of messages | |
//! | blocked | a source that has no next message yet, whatever was read; a run that cannot send yet has a blocker | |
//! | acknowledged | the broker has it (PUBACK); whether it is also confirmed is another matter | |
//! | delivered | acknowledged, or with `--confirm` confirmed | |
//! | taken (a number) | reserved, on disk, and never reserved again | |
//! | the old program | what spoke `sts_version = 1`; all that is for it is called legacy | |

// What was asked for.
pub mod cli;
pub mod config;
pub mod identity;
pub mod link;
pub mod report;
mod sandbox;
mod service_manager;

// The three tools, their loop, and what they see of a link.
mod event_loop;
pub mod pair;
mod peers;
pub mod recv;
pub mod send;
mod sessions;

// Between stdin, stdout, the disk and the broker.
pub mod mqtt;
pub mod spool;
pub mod stdio;
pub mod stream;

// Agreeing on a session, and what it leaves behind.
pub mod cache;
mod files;
pub mod handshake;
pub mod message;
mod route;
pub mod session;

// Devices that run the old program: a room of its own.
#[cfg(feature = "legacy")]
pub mod legacy;

// When to do something again: connect, send a message, report on stderr.
mod backoff;
mod pace;
mod report_throttle;
mod space_wait;

// Where secrets come from.
mod system_rng;

// Words: of failure, for names, for a person's eyes.
pub mod error;
pub mod name;
pub mod text;
pub mod units;

// What others' bytes are tried on: tests/fuzz.
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

// What the time of a signature is measured through: tests/constant_time.
#[cfg(feature = "timing")]
pub mod timing;

// What tests count instead of time.
#[cfg(test)]
mod looks;

// Test vectors, which a second implementation of the protocol makes.
#[cfg(test)]
#[path = "../tests/vectors/reader.rs"]
mod vectors;

// A package of its own: compiled for speed, this one for size.
pub use sts_crypto as crypto;
pub use sts_crypto::{role, secret, suite};

pub use error::{Error, Exit, Rejected, Result};
