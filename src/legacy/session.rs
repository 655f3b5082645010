//! A session with a device that runs the old program: one key for both directions, and texts encrypted under it.
//!
//! The plaintext is `ENC:` and a text, or `KILL:`, and zeros up to a whole block; the payload is its ciphertext and nothing
//! else. There is no number, no tag and no length: a text ends at its first zero byte.

use std::fmt;

use zeroize::Zeroizing;

use super::chain::{Chain, Origin};
use super::text::is_text;
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
    /// It is not a ciphertext: its length is not a multiple of a block.
    NotWhole,
}

/// Whether a payload may be of a session: its length is a multiple of a block, which that of no message of a pairing is.
pub(crate) fn is_ciphertext(payload: &[u8]) -> bool {
    !payload.is_empty() && payload.len().is_multiple_of(BLOCK_LEN)
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
pub(super) mod tests {
    use super::super::chain::MAX_RECENT;
    use super::*;

    pub(in crate::legacy) fn session(is_cbc: bool) -> LegacySession {
        let key = Key::generate(32, |bytes| bytes.fill(7));
        LegacySession::new([1; 8], Role::Master, key, is_cbc, 1000)
    }

    #[test]
    fn a_text_is_as_long_as_the_old_program_makes_it() {
        for (text, len) in [("", 16), ("a", 16), ("twelve bytes", 16), ("thirteen byte", 32)] {
            for is_cbc in [true, false] {
                let (mut one, mut other) = (session(is_cbc), session(is_cbc));
                let payload = one.seal(text.as_bytes());
                assert_eq!(payload.len(), len);
                assert_eq!(other.open(&payload, Reading::Write), Decrypted::Text(text.into()));
            }
        }
    }

    #[test]
    fn what_is_no_message_changes_nothing_or_is_damaged() {
        for is_cbc in [true, false] {
            let mut session = session(is_cbc);
            let before = session.clone();
            for payload in [&[][..], &[0; 15], &[0; 17]] {
                assert_eq!(session.open(payload, Reading::Write), Decrypted::NotWhole);
            }
            assert_eq!(session, before);
            assert!(matches!(session.open(&[0; 48], Reading::Write), Decrypted::Damaged(_)));
            assert_eq!(session.counters, TextCounts { damaged: 1, ..TextCounts::default() });
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", session(true));
        assert_eq!(shown, r#"LegacySession { role: Master, mode: "cbc", .. }"#);
    }

    /// The old program's own rule, which is the plain one.
    fn plain(session: &mut LegacySession) {
        if let Mode::Cbc(chain) = &mut session.mode {
            chain.recent.truncate(1);
            chain.is_unanswered = false;
            *chain.next = chain.recent[0].block;
        }
    }

    #[test]
    fn crossed_messages_are_read_here_and_cost_the_other_device_no_more_than_one() {
        let (mut ours, mut theirs) = (session(true), session(true));
        let (a, b) = (ours.seal(b"ours, which crosses"), theirs.seal(b"theirs, which crosses"));
        plain(&mut theirs);
        assert!(matches!(theirs.open(&a, Reading::Write), Decrypted::Damaged(_)));
        plain(&mut theirs);
        assert_eq!(ours.open(&b, Reading::Write), Decrypted::Text(b"theirs, which crosses".into()));
        assert_eq!(theirs.open(&ours.clone().seal(b"next"), Reading::Write), Decrypted::Text(b"next".into()));
    }

    #[test]
    fn a_lost_message_garbles_the_first_block_of_the_next_and_no_more() {
        let (mut ours, mut theirs) = (session(true), session(true));
        for _ in 0..40 {
            let _ = theirs.seal(b"lost");
        }
        plain(&mut theirs);
        let next = theirs.seal(b"twelve bytes and then the rest");
        assert_eq!(ours.open(&next, Reading::Write), Decrypted::Damaged(b" and then the rest".into()));
        assert_eq!(theirs.open(&ours.seal(b"answer"), Reading::Write), Decrypted::Text(b"answer".into()));
    }

    /// At most so many that [`crate::legacy::pace`] lets us send in the meantime.
    #[test]
    fn a_message_that_was_made_before_many_of_ours_is_read() {
        let (mut ours, mut theirs) = (session(true), session(true));
        let late = theirs.seal(b"made before all of them");
        for number in 0..MAX_RECENT - 1 {
            let _ = ours.seal(format!("text {number}").as_bytes());
        }
        assert_eq!(ours.open(&late, Reading::Write), Decrypted::Text(b"made before all of them".into()));
    }

    #[test]
    fn two_tools_may_take_the_same_messages() {
        let (mut ours, mut theirs) = (session(true), session(true));
        let texts = [b"one", b"two"].map(|text| theirs.seal(text));
        for text in &texts {
            let _ = ours.open(text, Reading::Follow);
        }
        assert_eq!(ours.counters, TextCounts::default());
        // The second tool has taken the first of them only: what is sent now must continue from the last.
        let before = ours.clone();
        assert_eq!(ours.open(&texts[0], Reading::Write), Decrypted::Text(b"one".into()));
        let (Mode::Cbc(now), Mode::Cbc(then)) = (&ours.mode, &before.mode) else { unreachable!() };
        assert!(now.next == then.next && now.is_unanswered == then.is_unanswered, "a second look changes nothing");
        assert_eq!(theirs.open(&ours.seal(b"answer"), Reading::Write), Decrypted::Text(b"answer".into()));
        assert_eq!(ours.open(&texts[1], Reading::Write), Decrypted::Text(b"two".into()));
    }

    #[test]
    fn a_message_that_comes_again_is_not_written_again() {
        let (mut ours, mut theirs) = (session(true), session(true));
        let texts: Vec<_> = (0..40).map(|_| theirs.seal(b"21.5 ")).collect();
        for text in &texts {
            assert_eq!(
                ours.open(text, Reading::Write),
                Decrypted::Text(b"21.5 ".into()),
                "the same text is another message"
            );
        }
        let before = ours.clone();
        for text in &texts {
            assert_eq!(ours.open(text, Reading::Write), Decrypted::Repeated);
        }
        let stranger = [0x55; 32];
        assert!(ours == before && matches!(ours.open(&stranger, Reading::Write), Decrypted::Damaged(_)));
        assert_eq!(ours.open(&stranger, Reading::Write), Decrypted::Repeated);
        // In ECB the two cannot be told apart.
        let (mut ours, mut theirs) = (session(false), session(false));
        let text = theirs.seal(b"21.5 ");
        for _ in 0..2 {
            assert_eq!(ours.open(&text, Reading::Write), Decrypted::Text(b"21.5 ".into()));
        }
    }

    #[test]
    fn an_own_message_that_comes_back_is_not_written() {
        for reading in [Reading::Write, Reading::Follow] {
            let (mut ours, mut theirs) = (session(true), session(true));
            let own = [ours.seal(b"one"), ours.seal(b"two"), ours.kill()];
            let before = ours.clone();
            for message in &own {
                assert_eq!(ours.open(message, reading), Decrypted::Repeated);
                let _ = theirs.open(message, reading);
            }
            assert!(ours == before);
            assert_eq!(ours.open(&theirs.seal(b"answer "), reading), Decrypted::Text(b"answer ".into()));
        }
    }

    #[test]
    fn a_text_that_both_devices_send_at_the_same_time_is_read_once() {
        let (mut ours, mut theirs) = (session(true), session(true));
        let (own, same) = (ours.seal(b"0 "), theirs.seal(b"0 "));
        assert_eq!(own, same);
        assert_eq!(ours.open(&same, Reading::Follow), Decrypted::Text(b"0 ".into()));
        assert_eq!(ours.open(&same, Reading::Write), Decrypted::Text(b"0 ".into()));
        assert_eq!(ours.open(&own, Reading::Write), Decrypted::Repeated, "this is ours, or a repeated one");
        plain(&mut theirs);
        let _ = theirs.open(&own, Reading::Write);
        assert_eq!(theirs.open(&ours.seal(b"next"), Reading::Write), Decrypted::Text(b"next".into()));
    }

    #[test]
    fn a_message_in_the_other_mode_is_named() {
        let (mut cbc, mut ecb) = (session(true), session(false));
        for text in ["short", "", "a text that is longer than one block", "KILL:"] {
            let payload = ecb.seal(text.as_bytes());
            assert_eq!(cbc.open(&payload, Reading::Write), Decrypted::OtherMode, "{text}");
        }
        assert_eq!(cbc.open(&ecb.kill(), Reading::Write), Decrypted::OtherMode);
        assert_eq!(cbc.counters.damaged, 5);
        let (mut cbc, mut ecb) = (session(true), session(false));
        assert_eq!(ecb.open(&cbc.seal(b"first"), Reading::Write), Decrypted::OtherMode);
        assert_eq!(ecb.open(&cbc.seal("größer als ein Block".as_bytes()), Reading::Write), Decrypted::OtherMode);
        // That is not known of what is shorter, and not of a stranger's.
        assert_eq!(ecb.open(&cbc.seal(b"short"), Reading::Write), Decrypted::Damaged(Vec::new()));
        assert_eq!(ecb.open(&[0x55; 48], Reading::Write), Decrypted::Damaged(Vec::new()));
        assert_eq!(ecb.counters.damaged, 4);
    }
}
