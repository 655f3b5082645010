//! A session with a device that runs the old program: one key for both directions, and texts encrypted under it.
//!
//! The plaintext is `ENC:` and a text, or `KILL:`, and zeros up to a whole block; the payload is its ciphertext and nothing
//! else. There is no number, no tag and no length: a text ends at its first zero byte.

use std::fmt;

use zeroize::Zeroizing;

use super::chain::{Chain, Origin};
use super::text::{MAX_PAYLOAD, is_text};
use crate::crypto::legacy::{BLOCK_LEN, Block, BlockCipher, LegacyCipher};
use crate::role::Role;
use crate::secret::Key;

pub(super) const TEXT_HEADER: &[u8] = b"ENC:";
const KILL_HEADER: &[u8] = b"KILL:";

/// Names a session on this device, so that a tool that runs notices when another one takes its place; 8 random bytes.
pub(crate) type LegacySessionId = [u8; 8];

/// How messages are encrypted: both devices are configured with the same.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// In CBC, from one message to the next.
    Cbc(Chain),
    /// Each block by itself.
    Ecb,
}

/// What was sent and received under a session, counted for `sts-pair --status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TextCounts {
    /// Messages with a text that were sent.
    pub(crate) sent: u64,
    /// Messages with a text that were received.
    pub(crate) received: u64,
    /// Messages that did not decrypt to a header.
    pub(crate) damaged: u64,
    /// When the last text was received, in seconds since 1970.
    pub(crate) last_text: Option<u64>,
}

/// One session.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LegacySession {
    pub(super) id: LegacySessionId,
    /// Which side we were when it was agreed.
    pub(super) role: Role,
    /// When it was agreed, in seconds since 1970 by this device's clock.
    pub(super) created: u64,
    pub(super) key: Key<LegacyCipher>,
    pub(super) mode: Mode,
    pub(super) counters: TextCounts,
}

/// What a payload is decrypted for: two tools may take the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// To continue from it; it is not counted.
    Follow,
    /// To write its text.
    Write,
}

/// What came of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decrypted {
    /// A text.
    Text(Vec<u8>),
    /// The other device has ended the session.
    Kill,
    /// It does not decrypt to a header: a message before it is lost, or it is a stranger's. In CBC only its first block is
    /// garbled then; this is what follows it.
    Damaged(Vec<u8>),
    /// It is encrypted under this key, but as the other value of `aes` has it.
    OtherMode,
    /// In CBC: the same was taken before, or this device sent it. The old program sends none twice.
    Repeated,
    /// It is not a ciphertext: its length is not a multiple of a block, or more than either device can send.
    NotWhole,
}

/// Whether a payload may be of a session: its length is a multiple of a block, which that of no message of a pairing is, and not
/// more than either device can send.
pub(crate) fn is_ciphertext(payload: &[u8]) -> bool {
    (1..=MAX_PAYLOAD).contains(&payload.len()) && payload.len().is_multiple_of(BLOCK_LEN)
}

/// The chain's start is the first half of the key.
pub(super) fn chain_start(key: &Key<LegacyCipher>) -> Zeroizing<Block> {
    Zeroizing::new(*key.expose().first_chunk().expect("the key is two blocks long"))
}

impl LegacySession {
    /// A session in `role` under a key that was just agreed, in CBC or in ECB.
    pub(crate) fn new(id: LegacySessionId, role: Role, key: Key<LegacyCipher>, is_cbc: bool, created: u64) -> Self {
        let mode = if is_cbc { Mode::Cbc(Chain::new(chain_start(&key))) } else { Mode::Ecb };
        Self { id, role, created, key, mode, counters: TextCounts::default() }
    }

    /// The name of the mode, as the key `aes` has it.
    pub(crate) fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Cbc(_) => "cbc",
            Mode::Ecb => "ecb",
        }
    }

    /// Encrypts a text, which has no zero byte.
    #[must_use]
    pub(crate) fn seal(&mut self, text: &[u8]) -> Vec<u8> {
        self.counters.sent += 1;
        self.encrypt([TEXT_HEADER, text].concat())
    }

    /// What tells the other device that the session is over.
    #[must_use]
    pub(crate) fn kill(&mut self) -> Vec<u8> {
        self.encrypt(KILL_HEADER.to_vec())
    }

    /// Whether the other device may expect another value than the one that our next message continues from, so that it would
    /// not recognize a KILL. In CBC that can never be ruled out: it may have sent a message while no tool ran here.
    pub(super) fn may_be_out_of_step(&self) -> bool {
        matches!(self.mode, Mode::Cbc(_))
    }

    /// Forgets the blocks from which no message that still arrives can have been encrypted.
    pub(super) fn forget_old(&mut self, now: u64) {
        if let Mode::Cbc(chain) = &mut self.mode {
            chain.forget_old(now);
        }
    }

    fn encrypt(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        message.resize(message.len().next_multiple_of(BLOCK_LEN), 0);
        let cipher = BlockCipher::new(&self.key);
        match &mut self.mode {
            Mode::Cbc(chain) => {
                cipher.encrypt_cbc(&chain.next, &mut message);
                chain.sent(last_block(&message));
            }
            Mode::Ecb => cipher.encrypt_ecb(&mut message),
        }
        message
    }

    /// Decrypts the payload of a message from any sender.
    #[must_use]
    pub(crate) fn open(&mut self, payload: &[u8], reading: Reading) -> Decrypted {
        let (opened, predecessor) = self.decrypt(payload);
        if let (Mode::Cbc(chain), true) = (&mut self.mode, is_ciphertext(payload))
            && !take(chain, last_block(payload), predecessor, &opened, reading)
        {
            return Decrypted::Repeated;
        }
        if reading == Reading::Write {
            self.count(&opened);
        }
        opened
    }

    fn count(&mut self, opened: &Decrypted) {
        match opened {
            Decrypted::Text(_) => self.counters.received += 1,
            Decrypted::Damaged(_) | Decrypted::OtherMode => self.counters.damaged += 1,
            Decrypted::Kill | Decrypted::Repeated | Decrypted::NotWhole => {}
        }
    }

    /// Whether a payload is a message of this session, so that this is what the other device uses now.
    pub(super) fn opens(&self, payload: &[u8]) -> bool {
        matches!(self.decrypt(payload).0, Decrypted::Text(_) | Decrypted::Kill)
    }

    /// What a payload says, and in CBC what it was made from, if that is known.
    fn decrypt(&self, payload: &[u8]) -> (Decrypted, Option<Predecessor>) {
        if !is_ciphertext(payload) {
            return (Decrypted::NotWhole, None);
        }
        let cipher = BlockCipher::new(&self.key);
        let mut message = payload.to_vec();
        match &self.mode {
            Mode::Ecb => {
                cipher.decrypt_ecb(&mut message);
                let opened = match read(&message) {
                    Some(opened) => opened,
                    None if is_in_cbc(&cipher, &self.key, payload) => Decrypted::OtherMode,
                    None => Decrypted::Damaged(Vec::new()),
                };
                (opened, None)
            }
            Mode::Cbc(chain) => {
                let from = chain.recent.iter().map(|value| &value.block).find(|from| {
                    let mut first: Block = *payload.first_chunk().expect("it has a block");
                    cipher.decrypt_cbc(from, &mut first);
                    has_header(&first)
                });
                cipher.decrypt_cbc(from.unwrap_or(&chain.next), &mut message);
                match from.zip(read(&message)) {
                    Some((from, opened)) => (opened, Some(Predecessor { is_newest: chain.is_newest(from) })),
                    None if is_in_ecb(&cipher, payload) => (Decrypted::OtherMode, None),
                    None => (Decrypted::Damaged(until_zero(&message[BLOCK_LEN..]).to_vec()), None),
                }
            }
        }
    }
}

/// The message that another one was made from, in CBC.
struct Predecessor {
    /// It is our newest one.
    is_newest: bool,
}

impl fmt::Debug for LegacySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the chain: it starts with half of the key.
        let mode = self.mode_name();
        f.debug_struct("LegacySession").field("role", &self.role).field("mode", &mode).finish_non_exhaustive()
    }
}

/// Takes a message that ends with `last` into the chain; false where it is a repeated one, and nothing has changed.
///
/// If nobody disturbs it, the chain never has the same value twice, so a message that ends like an earlier one is that one again.
/// But if both devices send the same text at the same time, their messages are the same. The shell of the old program ends
/// each text with a blank: a message of ours without one cannot be the old program's.
fn take(chain: &mut Chain, last: Block, of: Option<Predecessor>, opened: &Decrypted, reading: Reading) -> bool {
    let origin = match reading {
        Reading::Follow => Origin::Followed,
        Reading::Write => Origin::Read,
    };
    match (chain.known(&last), of) {
        (Some(Origin::Read), _) if reading == Reading::Write => return false,
        // The other tool may still have to act on it.
        (Some(Origin::Read), _) => {}
        (Some(Origin::Sent), _) if !matches!(opened, Decrypted::Text(text) if text.ends_with(b" ")) => return false,
        // sts-send and sts-recv both see it. The second look must not take the chain back to it.
        (Some(known), _) => *known = origin,
        (None, Some(Predecessor { is_newest })) => chain.received(is_newest, last, origin),
        (None, None) => chain.received_garbled(last, origin),
    }
    true
}

/// Whether a payload that is not of a session in CBC is of one in ECB.
fn is_in_ecb(cipher: &BlockCipher, payload: &[u8]) -> bool {
    let mut first: Block = *payload.first_chunk().expect("it has a block");
    cipher.decrypt_ecb(&mut first);
    has_header(&first)
}

/// Whether a payload that is not of a session in ECB is of one in CBC: it is the first one, or its later blocks are a text. Of a
/// short one that comes later, it is not known what it continues from.
fn is_in_cbc(cipher: &BlockCipher, key: &Key<LegacyCipher>, payload: &[u8]) -> bool {
    let mut message = payload.to_vec();
    cipher.decrypt_cbc(&chain_start(key), &mut message);
    let rest = &message[BLOCK_LEN..];
    let text = until_zero(rest);
    has_header(&message) || (is_text(text) && rest[text.len()..].iter().all(|byte| *byte == 0))
}

fn has_header(message: &[u8]) -> bool {
    message.starts_with(TEXT_HEADER) || message.starts_with(KILL_HEADER)
}

/// What a plaintext says, if it begins with a header.
fn read(message: &[u8]) -> Option<Decrypted> {
    if message.starts_with(KILL_HEADER) {
        return Some(Decrypted::Kill);
    }
    message.strip_prefix(TEXT_HEADER).map(|rest| Decrypted::Text(until_zero(rest).to_vec()))
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn last_block(message: &[u8]) -> Block {
    *message.last_chunk().expect("a message has a block")
}

#[cfg(test)]
pub(super) mod tests;
