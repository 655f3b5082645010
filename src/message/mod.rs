//! Every STS/2 frame as bytes: one MQTT payload each, parsed before it is believed (`sts-protocol(7)`, "Messages").
//!
//! Parsing checks lengths and nothing else; what comes out borrows from the payload. Whether a frame is authentic is
//! decided by the handshake and by the session, with the keys that they hold.
//!
//! A frame of an unknown version or type is [`Rejected::Foreign`](crate::Rejected::Foreign). A frame has no room for
//! fields that a version does not know: another layout needs another version, or a bit among the features of both ends.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod fields;
mod frame_type;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handshake;
mod sealed;

#[cfg(test)]
mod tests;

pub use self::frame_type::FrameType;
pub(crate) use self::handshake::{AuthAck, AuthReq, Credentials, NONCE_LEN, Proof};
pub use self::handshake::{InitAck, InitReq, MAX_AUTH_LEN, Ready, SessionCheckFrame};
pub(crate) use self::sealed::{SealedHeader, SessionTag};
