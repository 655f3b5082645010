//! Secure Telemetry Shell: telemetry from one device's pipe to another's, through a broker that neither trusts.

pub mod error;
pub mod mqtt;
pub mod suite;

pub use error::{Error, Exit, Rejected, Result};
