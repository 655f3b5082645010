//! Entrances for fuzzing: all that takes bytes which somebody else made, a function for each (`tests/fuzz`).
//!
//! Each target lives beside what it drives, in a `fuzz.rs`, and panics where a promise is broken, not only where the code
//! itself panics. To add one, write it there and name it in [`TARGETS`]. Inputs from which to begin are files in
//! `tests/fuzz_targets/corpus/TARGET`; `cargo test` runs all of them, so that what was found once stays mended.
//!
//! None of it is in a build of the tools.

pub(crate) mod input;

/// Takes any bytes, and panics where a promise is broken.
pub type Target = fn(&[u8]);

/// The targets, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", crate::message::fuzz::frames),
    ("master", crate::handshake::fuzz::master),
    ("slave", crate::handshake::fuzz::slave),
    ("contents", crate::stream::fuzz::contents),
    ("receiver", crate::stream::fuzz::receiver),
    ("mqtt_codec", crate::mqtt::fuzz::codec),
    ("mqtt_session", crate::mqtt::fuzz::session),
    ("web_socket", crate::mqtt::fuzz::web_socket),
    ("proxy", crate::mqtt::fuzz::proxy),
    ("configuration", crate::config::fuzz::configuration),
    ("session_file", crate::cache::fuzz::session_file),
    ("receive_state", crate::cache::fuzz::receive_state),
    ("spool", crate::spool::fuzz::spool),
    #[cfg(feature = "legacy")]
    ("legacy_pairing", crate::legacy::fuzz::pairing),
    #[cfg(feature = "legacy")]
    ("legacy_session", crate::legacy::fuzz::session),
    ("known_peers", crate::identity::fuzz::known_peers),
    ("identity_file", crate::identity::fuzz::identity_file),
    ("tickets", crate::mqtt::fuzz::tickets),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every stored input, and its first halves, through its target.
    #[test]
    fn the_stored_inputs_break_no_promise() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz_targets/corpus");
        for (name, run) in TARGETS {
            let files = fs::read_dir(corpus.join(name)).unwrap_or_else(|_| panic!("{name} has no stored inputs"));
            let mut count = 0;
            for file in files {
                let bytes = fs::read(file.unwrap().path()).unwrap();
                run(&bytes);
                run(&bytes[..bytes.len() / 2]);
                count += 1;
            }
            assert!(count > 0, "{name}");
            run(&[]);
        }
    }
}
