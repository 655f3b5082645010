//! The suites that a session can seal its messages with (`sts-protocol(7)`, "Suites").
//!
//! A suite is a row of the table here. How it seals and opens is in `cipher.rs`, to which the compiler leads; the
//! configuration, the handshake and the session files take it from here.

use std::fmt;

/// Makes [`Suite`] of its table, with all that follows from a row: variant, number on the wire, name in a configuration or
/// session file, length in bytes of the key that seals.
macro_rules! suites {
    ($($(#[$attribute:meta])* $variant:ident = $code:literal, $name:literal, $key_len:literal;)*) => {
        /// How a session's messages are sealed: the configuration key `aes`, and one byte of INITREQ.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum Suite {
            $($(#[$attribute])* $variant = $code,)*
        }

        impl Suite {
            /// All suites, in the order of their numbers.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$variant),*];

            /// The name: `gcm`, `cbc` or `ecb`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Length in bytes of the key that seals.
            #[must_use]
            pub fn key_len(self) -> usize {
                match self {
                    $(Self::$variant => $key_len,)*
                }
            }
        }
    };
}

suites! {
    /// AES-256-GCM with a 96-bit nonce (NIST SP 800-38D).
    #[default]
    Gcm = 1, "gcm", 32;
    /// `AEAD_AES_256_CBC_HMAC_SHA_512` (RFC 7518, 5.2.5).
    Cbc = 2, "cbc", 64;
    /// AES-256-ECB with HMAC-SHA-512: authentic, but equal blocks show as equal.
    Ecb = 3, "ecb", 64;
}

impl Suite {
    /// What sealing adds to a message at most, in any suite, in bytes: the header, the kind, an IV, padding to a whole block
    /// and a tag take 85, rounded up to what a spool has always left for it. A record that is cut to `max_message` less
    /// this fits whatever session comes to seal it.
    pub const MAX_OVERHEAD_LEN: usize = 96;
    /// What of that follows the message's bytes at most: padding and a tag take 48.
    pub const MAX_TRAILER_LEN: usize = 64;

    /// The suite of this name in a configuration or session file.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// The suite of this number on the wire.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.code() == code)
    }

    /// The number on the wire, one byte.
    #[must_use]
    pub fn code(self) -> u8 {
        // The discriminants are the numbers.
        self as u8
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for suite in Suite::ALL {
            assert_eq!(Suite::from_name(&suite.to_string()), Some(suite));
            assert_eq!(Suite::from_code(suite.code()), Some(suite));
        }
        assert_eq!(Suite::from_name("GCM"), None);
        assert_eq!(Suite::from_code(0), None);
    }
}
