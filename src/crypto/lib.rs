//! Everything that names a primitive: the suites' ciphers, the key exchange, the key schedule and its labels.
//!
//! No primitive is written here; each comes from a crate that is kept for it. What is ours is how they are put
//! together, and that is all in these files, so that it can be read against `sts-protocol(7)` in one sitting.
//!
//! A package of its own for one reason: it is compiled for speed, all else of ours for size (`Cargo.toml`). Generic code
//! is compiled as the crate that asks for it, so nothing here is generic over its caller: generators come as `dyn`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod cipher;
pub mod exchange;
mod gcm;
pub mod key_tree;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod pake;
pub mod schedule;

// What they are told, and what they say.
mod rejected;
pub mod role;
pub mod secret;
mod stack;
pub mod suite;

pub use rejected::Rejected;

#[cfg(test)]
mod public_vectors;
#[cfg(test)]
mod vectors;

#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}
