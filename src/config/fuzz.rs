//! Any text as a configuration: an error names the file or the option, and shows nothing that a terminal would obey.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{Config, ConfigSource, Override, SecretFile};
use crate::fuzz::input::{FuzzInput, check_text};

pub(crate) fn configuration(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let options: Vec<_> = (0..input.below(3)).map(|_| String::from_utf8_lossy(input.chunk()).into_owned()).collect();
    let secret = String::from_utf8_lossy(input.chunk()).into_owned();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let mut overrides = Vec::new();
    for option in &options {
        match Override::parse(option) {
            Ok(parsed) => overrides.push(parsed),
            Err(error) => check_text(&error.to_string()),
        }
    }
    let source =
        ConfigSource { link: "link".parse().expect("it is a name"), path: PathBuf::from("/etc/sts/link.conf") };
    let mut read = |_: &std::path::Path| {
        Ok(SecretFile { text: Zeroizing::new(secret.clone()), exposed: secret.len().is_multiple_of(2) })
    };
    match Config::parse(&source, text, &overrides, &mut read) {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                check_text(warning);
            }
            if let Err(error) = parsed.config.check_supported() {
                check_text(&error.to_string());
            }
        }
        Err(error) => {
            check_text(&error.to_string());
            check_text(error.hint_text().unwrap_or_default());
        }
    }
}
