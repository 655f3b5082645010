//! Claim: the three tools keep their promises as real processes, on real files, with a real broker.
//!
//! All tests are one program, so that the few RSA keys that they need are generated only once. The modules:
//!
//! - `broker`: a mosquitto for one test
//! - `certificates`: an authority for TLS
//! - `device`: a device's directories and tools, `process`: a running tool, `sniffer`: an eavesdropper
//! - `scratch`: directories that are gone after their test
//! - `server`: a server that is not a broker, or a bad one
//! - the others: tests, with their claim at the head of each file

#![expect(clippy::unwrap_used, reason = "a call that fails here fails the test, with its place")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

mod attacks;
mod broker;
mod certificates;
mod device;
mod process;
mod scratch;
mod server;
mod sniffer;

mod bystanders;
mod causes;
mod check;
mod confirm;
mod copies;
mod cron;
mod directories;
mod durability;
mod eavesdropping;
mod enrolment;
mod first_session;
mod fleet;
mod flood;
mod full_disk;
mod gateway;
mod hostile;
mod keep;
mod large_fleet;
#[cfg(feature = "legacy")]
mod legacy;
mod lost_ends;
mod memory;
mod monitoring;
mod moving;
mod nosec;
mod order;
mod outages;
mod pairing;
mod pipe;
mod poison;
mod proxies;
mod recv_limits;
mod refusals;
mod refused_order;
mod refused_spool;
mod retained;
mod rotation;
mod sandbox;
mod sandbox_names;
mod shared_spool;
mod signals;
mod soak;
mod spool;
mod stamp;
mod standby;
mod storm;
mod suspended;
mod ten_thousand;
mod tls;
mod tls_early_data;
mod tls_floods;
mod transports;
mod trust;
mod versions;
mod will;

/// The modules that `text` names as filters for tests: words that end in `::`. Lines about unit tests have others.
fn named_modules(text: &str) -> BTreeSet<&str> {
    let words = text.lines().filter(|line| !line.contains("slow=")).flat_map(|line| line.split([' ', '\'']));
    words.filter_map(|word| word.strip_suffix("::")).collect()
}

/// The modules here that have tests.
fn modules_with_tests() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let with_tests = entries.filter(|path| {
        let text = fs::read_to_string(if path.is_dir() { path.join("mod.rs") } else { path.clone() });
        text.unwrap_or_default().contains("\n#[test]\n") && !path.ends_with("main.rs")
    });
    with_tests.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Else `tests/mutants` would take a change for one that no test notices.
#[test]
fn each_module_is_asked_about_changes_or_is_said_not_to_be() {
    let script = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants")).unwrap();
    let (_, rooms) = script.split_once("case $room in").unwrap();
    let modules = modules_with_tests();
    assert!(modules.len() > 40, "{modules:?}");
    let named = named_modules(rooms);
    assert_eq!(named, modules.iter().map(String::as_str).collect());
}
