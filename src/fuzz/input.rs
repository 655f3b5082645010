//! What the targets have in common: an input that is taken apart, and what is done to genuine bytes.

use std::time::Duration;

/// An input, taken apart from its front. At its end every value is zero or empty, so any input is good for any target.
pub(crate) struct FuzzInput<'a>(&'a [u8]);

impl<'a> FuzzInput<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes, at most `len`.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn number(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// A number that is mostly small, and now and then any.
    pub(crate) fn small_number(&mut self) -> u32 {
        match self.byte() {
            u8::MAX => self.number(),
            small => small.into(),
        }
    }

    /// A number below `below`, which is at most 256.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        usize::from(self.byte()) % below
    }

    /// Bytes after their length, as two bytes.
    pub(crate) fn chunk(&mut self) -> &'a [u8] {
        let len = u16::from_be_bytes(self.array());
        self.take(len.into())
    }

    /// Up to an hour: of each length as likely as of any other.
    pub(crate) fn duration(&mut self) -> Duration {
        Duration::from_millis((1 << self.below(22)) - 1)
    }

    /// All that is left, which stays.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// What an attacker makes of bytes that somebody else sent: cut, extended, or changed in places.
pub(crate) fn forge(genuine: &[u8], input: &mut FuzzInput<'_>) -> Vec<u8> {
    let mut forged = genuine.to_vec();
    for _ in 0..input.below(4) {
        match input.below(4) {
            0 => forged.truncate(usize::from(u16::from_be_bytes(input.array())) % (forged.len() + 1)),
            1 => forged.extend_from_slice(input.chunk()),
            _ => {
                let at = usize::from(u16::from_be_bytes(input.array())) % forged.len().max(1);
                let changed = input.take(1 + input.0.first().map_or(0, |byte| usize::from(byte % 8)));
                for (byte, new) in forged.iter_mut().skip(at).zip(changed) {
                    *byte ^= new;
                }
            }
        }
    }
    forged
}

/// Panics for a message to the user that a terminal would take for a command.
pub(crate) fn check_text(text: &str) {
    assert!(!text.contains(char::is_control), "a control character in {text:?}");
}
