//! libFuzzer on one target, which the environment names: `STS_FUZZ_TARGET`. `tests/fuzz` runs it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sts::fuzz::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

/// The target that was asked for. Without one that exists, this process ends and names those that do.
#[expect(clippy::print_stdout, reason = "the names are what tests/fuzz asks for")]
fn target() -> Target {
    let name = std::env::var("STS_FUZZ_TARGET").unwrap_or_default();
    let Some((_, run)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        for (known, _) in TARGETS {
            println!("{known}");
        }
        std::process::exit(if name.is_empty() { 0 } else { 64 });
    };
    *run
}

fuzz_target!(
    init: {
        TARGET.get_or_init(target);
    },
    |data: &[u8]| {
        TARGET.get_or_init(target)(data);
    }
);
