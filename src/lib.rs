//! Secure Telemetry Shell: telemetry from one device's pipe to another's, through a broker that neither trusts.

pub mod cache;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod error;
pub mod files;
pub mod handshake;
pub mod identity;
pub mod link;
pub mod message;
pub mod mqtt;
pub mod name;
pub mod pair;
pub mod pipe;
pub mod recv;
pub mod secret;
pub mod send;
pub mod session;
pub mod stream;
pub mod suite;
pub mod text;
pub mod turn;

pub use error::{Error, Exit, Rejected, Result};
