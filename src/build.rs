//! Tells the library when it was built: a clock that says less was not set yet.

use std::time::SystemTime;
use std::{env, io};

/// The time in seconds since 1970 that a reproducible build counts as its own (reproducible-builds.org).
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={SOURCE_DATE_EPOCH}");
    let now = match env::var(SOURCE_DATE_EPOCH) {
        Ok(text) => {
            text.parse().map_err(|_| io::Error::other(format!("{SOURCE_DATE_EPOCH} is not a number: {text}")))?
        }
        Err(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?.as_secs(),
    };
    println!("cargo::rustc-env=STS_BUILD_TIME={now}");
    Ok(())
}
