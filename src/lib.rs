//! Secure Telemetry Shell: telemetry from one device's pipe to another's, through a broker that neither trusts.

pub mod cache;
pub mod crypto;
pub mod error;
pub mod files;
pub mod message;
pub mod secret;
pub mod session;
pub mod stream;
pub mod suite;

pub use error::{Error, Exit, Rejected, Result};
