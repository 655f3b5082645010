//! Reads the test vectors beside this file, for the unit tests of both packages of the library.
//!
//! `tests/second_implementation/vectors.py` makes the vectors. All bytes in them are hexadecimal.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::catch_unwind;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// One file of vectors.
pub(crate) fn load(file: &str) -> Value {
    load_from("tests/vectors", file)
}

/// One file of a directory of the repository.
pub(crate) fn load_from(dir: &str, file: &str) -> Value {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let path = above.map(|above| above.join(dir).join(file)).find(|file| file.exists());
    let mut vectors = serde_json::from_str(&std::fs::read_to_string(path.unwrap()).unwrap()).unwrap();
    if let Some((_, pointer)) = FALSIFIED.get().filter(|(falsified, _)| *falsified == file) {
        FALSIFIED.set(None);
        flip(&mut vectors, pointer);
    }
    vectors
}

thread_local! {
    /// A file, and the JSON pointer of the value in it that is altered when it is read next.
    static FALSIFIED: Cell<Option<(&'static str, &'static str)>> = const { Cell::new(None) };
}

/// Flips the lowest bit of the last digit of a value.
fn flip(vectors: &mut Value, pointer: &str) {
    let value = vectors.pointer_mut(pointer).unwrap_or_else(|| panic!("no value {pointer}"));
    let mut text = value.as_str().expect("the value is a text").to_owned();
    let digit = text.pop().and_then(|digit| digit.to_digit(16)).expect("it ends with a digit");
    text.extend(char::from_digit(digit ^ 1, 16));
    *value = text.into();
}

/// Fails if this test does not notice that one bit of one vector is wrong.
pub(crate) fn assert_notices(file: &'static str, pointer: &'static str, test: fn()) {
    FALSIFIED.set(Some((file, pointer)));
    let has_failed = catch_unwind(test).is_err();
    assert!(FALSIFIED.take().is_none(), "the test does not read {file}");
    assert!(has_failed, "{file}: {pointer} may have any value");
}

/// All whole handshakes, with the names of their files.
pub(crate) fn handshakes() -> Vec<(&'static str, Value)> {
    let names = [
        "handshake_key_1_1.json",
        "handshake_key_3_1.json",
        "handshake_key_1_3.json",
        "handshake_key_3_3.json",
        "handshake_key_5_2.json",
        "handshake_key_ecb_2048.json",
        "handshake_channel.json",
        "handshake_code_1_1.json",
        "handshake_code_1_3.json",
        "handshake_code_cbc.json",
        "handshake_suites_differ.json",
        "handshake_cannot_pin.json",
    ];
    names.map(|name| (name, load(name))).into()
}

/// The fields of a vector; one that is not there, or is something else, fails the test.
pub(crate) trait Fields {
    fn bytes(&self, name: &str) -> Vec<u8>;
    fn text(&self, name: &str) -> &str;
    fn number(&self, name: &str) -> u32;
    fn list(&self, name: &str) -> &[Value];
    fn has(&self, name: &str) -> bool;

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap_or_else(|_| panic!("{name} has another length"))
    }
}

impl Fields for Value {
    fn bytes(&self, name: &str) -> Vec<u8> {
        unhex(self.text(name))
    }

    fn text(&self, name: &str) -> &str {
        self[name].as_str().unwrap_or_else(|| panic!("no text {name}"))
    }

    fn number(&self, name: &str) -> u32 {
        self[name].as_u64().and_then(|number| number.try_into().ok()).unwrap_or_else(|| panic!("no number {name}"))
    }

    fn list(&self, name: &str) -> &[Value] {
        self[name].as_array().unwrap_or_else(|| panic!("no list {name}"))
    }

    fn has(&self, name: &str) -> bool {
        !self[name].is_null()
    }
}

/// The bytes of hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

/// A generator that gives the bytes of a vector, in this order, to a caller that draws as many; others draw anything.
pub(crate) struct Scripted {
    script: VecDeque<Vec<u8>>,
    others: StdRng,
}

impl Scripted {
    pub(crate) fn new(script: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { script: script.into_iter().collect(), others: StdRng::seed_from_u64(1) }
    }

    /// Whether all of it was drawn.
    pub(crate) fn is_used_up(&self) -> bool {
        self.script.is_empty()
    }
}

impl rand::TryRng for Scripted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.others.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.others.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match self.script.pop_front_if(|next| next.len() == bytes.len()) {
            Some(next) => bytes.copy_from_slice(&next),
            None => self.others.fill_bytes(bytes),
        }
        Ok(())
    }
}

impl rand::TryCryptoRng for Scripted {}
