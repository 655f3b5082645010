//! Secrets as types: erased when dropped, never printed. Keys are one type a purpose, and compared in constant time.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What a [`Key`] is for. Keys of different purposes are different types, so one cannot stand in for another.
pub trait KeyPurpose {
    /// The purpose in a word, for `Debug`.
    const NAME: &'static str;
}

macro_rules! purposes {
    ($($(#[$doc:meta])* $purpose:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $purpose {}
        impl KeyPurpose for $purpose {
            const NAME: &'static str = $name;
        }
    )*};
}

purposes! {
    /// The key schedule's pseudorandom key, 32 bytes (RFC 5869, 2.2).
    Root = "root";
    /// What SPAKE2 makes of a one-time code, 32 bytes; input to the key schedule only.
    Pake = "pake";
    /// Seals one message of the handshake, 32 bytes.
    HandshakeSeal = "handshake seal";
    /// Authenticates a refusal, 32 bytes.
    Refusal = "refusal";
    /// Authenticates RDYREQ and RDYACK, 32 bytes.
    Confirm = "confirm";
    /// A node of a tree of stream keys, 32 bytes.
    Tree = "tree";
    /// Makes the first keys of the side streams of one direction, 32 bytes.
    Side = "side";
    /// Makes the key that seals one part of a stream, and the [`StreamKey`](crate::key_tree::StreamKey) after it, 32 bytes.
    Stream = "stream";
    /// Makes the key that seals the wills of a stream, 32 bytes.
    Will = "will";
    /// Seals one part of a stream, or its wills; 32 or 64 bytes, as the suite says.
    Traffic = "traffic";
    /// Makes a slave's answers repeatable while it keeps nothing, 32 bytes.
    Epoch = "epoch";
}

/// Key material of one purpose. A clone shares it: it is in memory once, and erased with the last of them.
pub struct Key<P: KeyPurpose> {
    bytes: Arc<Zeroizing<Vec<u8>>>,
    purpose: PhantomData<P>,
}

impl<P: KeyPurpose> Key<P> {
    /// Takes over `bytes`; the caller's copy is the one that is erased.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self { bytes: Arc::new(bytes), purpose: PhantomData }
    }

    /// A key of `len` bytes that `fill` writes in place.
    #[must_use]
    pub fn generate(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Zeroizing::new(vec![0; len]);
        fill(&mut bytes);
        Self::new(bytes)
    }

    /// Shares what `known` has, if it is the same.
    pub fn share(&mut self, known: &Self) {
        if self == known {
            self.bytes = Arc::clone(&known.bytes);
        }
    }

    /// The bytes, for the cipher or MAC they key and for the session file that keeps them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }
}

impl<P: KeyPurpose> Clone for Key<P> {
    fn clone(&self) -> Self {
        Self { bytes: Arc::clone(&self.bytes), purpose: PhantomData }
    }
}

impl<P: KeyPurpose> PartialEq for Key<P> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes.ct_eq(&other.bytes).into()
    }
}

impl<P: KeyPurpose> Eq for Key<P> {}

impl<P: KeyPurpose> fmt::Debug for Key<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", P::NAME)
    }
}

/// A broker password: erased on drop, never shown. A clone shares it.
#[derive(Clone)]
pub struct Password(Arc<Zeroizing<String>>);

impl Password {
    /// Takes a password over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The password itself, for CONNECT and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_names_the_purpose_and_nothing_else() {
        let key = Key::<Confirm>::generate(32, |bytes| bytes.fill(0xa5));
        assert_eq!(format!("{key:?}"), "Key(confirm)");
        let password = Password::new("sesame".to_owned());
        assert_eq!((format!("{password:?}").as_str(), password.expose()), ("Password(..)", "sesame"));
    }

    #[test]
    fn equality_is_of_all_bytes() {
        let key = |last| Key::<Traffic>::generate(64, |bytes| bytes[63] = last);
        assert_eq!(key(1), key(1));
        assert_ne!(key(1), key(2));
        assert_ne!(key(0), Key::generate(32, |_| ()));
    }
}
