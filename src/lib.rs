//! Secure Telemetry Shell: telemetry from one device's pipe to another's, through a broker that neither trusts.

pub mod cli;
pub mod config;
pub mod error;
pub mod files;
pub mod identity;
pub mod name;
pub mod suite;
pub mod text;

pub use error::{Error, Exit, Rejected, Result};
