//! `sts_version = 1`: what the old program of this name speaks, for devices that still run it.
//!
//! A room of its own: nothing of STS/2 uses it, no key of it is used elsewhere, and nothing falls back to it. A link is of
//! this version only if its configuration says so. The protocol is weak, and nothing here can mend that: see `sts.conf(5)`,
//! "The old program".
//!
//! From the wire inwards:
//!
//! - [`frame`]: the six messages of a pairing, in the clear but for a mask without a key;
//! - [`pairing`]: who sends which of them when, as two machines that get time and randomness as arguments;
//! - [`session`]: what a pairing results in; it encrypts and decrypts texts;
//! - [`chain`]: the value that CBC continues from, which both directions share, and how it survives loss and crossing;
//! - `text_rate`: how fast messages are sent, so that what comes meanwhile can be read;
//! - [`text`]: how long a text can be, and how a longer line is split;
//! - [`session_file`] and [`store`]: the session on disk, shared by the three tools under one lock.
//!
//! The tools see a link of this version through the same doors as any other: `pair/legacy`, `send/legacy.rs` and
//! `recv/legacy.rs` put it behind them.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod chain;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod pairing;
mod session;
mod session_file;
mod store;
mod text;
mod text_rate;

#[cfg(test)]
mod vectors;

use crate::mqtt::Message;
use crate::{Error, Exit};

pub use self::frame::Frame;
pub(crate) use self::pairing::{Pairing, PairingOutput};
#[cfg(test)]
pub(crate) use self::session::TextCounts;
pub(crate) use self::session::{Decrypted, LegacySession};
pub(crate) use self::session::{LegacySessionId, is_ciphertext};
pub(crate) use self::store::{LegacySessionStatus, RecordedKill, Store, delete, status};
pub(crate) use self::text::{is_text, max_payload_len, max_text_len, pieces};
pub(crate) use self::text_rate::TEXT_RATE;

/// Whether a message is not from the old program, which never asks the broker to retain one. A retained message comes again
/// with each subscription.
pub(crate) fn is_foreign(message: &Message) -> bool {
    message.retain
}

/// The error of an option that a link to the old program cannot have, with the reason.
pub(crate) fn refused(option: &str, why: &str) -> Error {
    Error::new(Exit::Usage, option).because(format!("the link is to the old program (sts_version = 1): {why}"))
}

/// The hint where the two devices encrypt in different ways.
pub(crate) const OTHER_AES: &str =
    "set the same `aes` on both devices, and pair again: sts-pair here, then `start` there";

/// The hint where only another pairing helps: what to run on each device.
pub(crate) const PAIR_AGAIN: &str = "pair again: run sts-pair here, then `start` on the other device";

/// What there is to know of it: said each time a link of this version is used, and in the status.
pub(crate) const WEAKNESS: &str = "sts_version = 1 proves neither who the other device is nor that a message is unaltered \
                                   and new, and its keys can be computed from a recording";
