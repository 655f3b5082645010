//! The one-time code as a person reads it off one device and types it into another.
//!
//! Nine symbols of Crockford's base 32, as in `7KX-4MP-9QC`: eight at random, 40 bits, and one that checks them. Read as
//! elements of GF(32), each weighed by its own power of a generator, they add up to zero. So no single symbol that is
//! mistaken, and no two that are exchanged, make another code: a typo is found before it is sent, and costs no guess.

use std::fmt;

use rand::{CryptoRng, RngExt};
use zeroize::Zeroizing;

/// Symbols of a code, including the check symbol.
const CODE_LEN: usize = 9;
/// Symbols in a group.
const GROUP: usize = 3;
/// Crockford's base 32: without `I`, `L`, `O`, which are read as the digits that they resemble, and without `U`.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A one-time code: erased on drop, shown only by [`Code::expose`].
#[derive(Clone)]
pub struct Code(Zeroizing<[u8; CODE_LEN]>);

/// A text that is not a code; displays why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCode {
    /// It has fewer or more symbols than a code has, or others.
    Form,
    /// It has the form, but the symbols do not match the check symbol.
    Check,
}

impl fmt::Display for BadCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => write!(f, "a code consists of {CODE_LEN} letters and digits, in groups of {GROUP}"),
            Self::Check => f.write_str("one character is wrong, or two are swapped"),
        }
    }
}

impl std::error::Error for BadCode {}

impl Code {
    /// Draws a fresh code.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut symbols = Zeroizing::new([0; CODE_LEN]);
        symbols[..CODE_LEN - 1].fill_with(|| rng.random_range(0..32));
        // The last symbol has weight one: it is what the others add up to, since in GF(32) all is its own negative.
        symbols[CODE_LEN - 1] = sum(&symbols);
        Self(symbols)
    }

    /// Reads a code as it was typed: in either case, with blanks and hyphens anywhere.
    ///
    /// # Errors
    /// [`BadCode`], which says nothing of the text itself.
    pub fn parse(text: &str) -> Result<Self, BadCode> {
        let mut symbols = Zeroizing::new([0; CODE_LEN]);
        let mut typed = text.chars().filter(|c| !c.is_ascii_whitespace() && *c != '-');
        for symbol in &mut symbols[..] {
            *symbol = typed.next().and_then(value).ok_or(BadCode::Form)?;
        }
        match (typed.next(), sum(&symbols)) {
            (Some(_), _) => Err(BadCode::Form),
            (None, 0) => Ok(Self(symbols)),
            (None, _) => Err(BadCode::Check),
        }
    }

    /// The code as it is shown to the person who carries it over.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CODE_LEN + CODE_LEN / GROUP));
        for (at, symbol) in self.0.iter().enumerate() {
            if at > 0 && at % GROUP == 0 {
                text.push('-');
            }
            text.push(ALPHABET[usize::from(*symbol)].into());
        }
        text
    }

    /// What goes into SPAKE2: the symbols as ASCII, without hyphens.
    pub(super) fn password(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.iter().map(|symbol| ALPHABET[usize::from(*symbol)]).collect())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

fn value(typed: char) -> Option<u8> {
    let symbol = match typed.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let at = ALPHABET.iter().position(|known| char::from(*known) == symbol)?;
    u8::try_from(at).ok()
}

/// The symbols' weighed sum in GF(32), by Horner's rule: the last has weight 1, each before it x times the next one's.
fn sum(symbols: &[u8; CODE_LEN]) -> u8 {
    symbols.iter().fold(0, |sum, symbol| times_x(sum) ^ symbol)
}

/// Multiplies by x modulo x^5 + x^2 + 1, under which x generates all 31 elements but zero.
fn times_x(element: u8) -> u8 {
    let shifted = element << 1;
    if shifted & 0x20 == 0 { shifted } else { shifted ^ 0b10_0101 }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn codes() -> impl Iterator<Item = Code> {
        let mut rng = StdRng::seed_from_u64(1);
        std::iter::repeat_with(move || Code::generate(&mut rng)).take(100)
    }

    /// Expected values from a separate computation in another language.
    #[test]
    fn known_answers() {
        for text in ["000-000-000", "7KX-4MP-9QC", "ZZZ-ZZZ-ZZ3", "000-000-012", "123-456-789", "100-000-00D"] {
            let code = Code::parse(text).unwrap();
            assert_eq!(*code.expose(), text);
            assert_eq!(*code.password(), text.replace('-', "").into_bytes());
        }
    }

    #[test]
    fn a_code_leads_back_however_it_is_typed() {
        for code in codes() {
            let shown = code.expose();
            assert_eq!((shown.len(), shown.matches('-').count()), (11, 2));
            for typed in [
                shown.to_string(),
                shown.to_lowercase(),
                shown.replace('-', ""),
                shown.replace('-', " "),
                format!("  {}\r\n", shown.replace('-', " - ")),
                shown.replace('1', "l").replace('0', "o"),
                shown.replace('1', "I").replace('0', "O"),
            ] {
                assert_eq!(*Code::parse(&typed).unwrap().expose(), *shown);
            }
        }
    }

    #[test]
    fn every_wrong_symbol_is_found() {
        for code in codes() {
            for at in 0..CODE_LEN {
                for wrong in 0..32 {
                    let mut symbols = code.0.clone();
                    symbols[at] = wrong;
                    let text = Code(symbols).expose();
                    assert_eq!(Code::parse(&text).is_ok(), wrong == code.0[at], "{at} {wrong}");
                }
            }
        }
    }

    /// Neighbours are what a hand exchanges; any other two are found, too.
    #[test]
    fn every_exchange_is_found() {
        for code in codes() {
            for (one, other) in (0..CODE_LEN).flat_map(|one| (one + 1..CODE_LEN).map(move |other| (one, other))) {
                let mut symbols = code.0.clone();
                symbols.swap(one, other);
                let same = symbols == code.0;
                assert_eq!(Code::parse(&Code(symbols).expose()).is_ok(), same, "{one} {other}");
            }
        }
    }

    #[test]
    fn other_texts_are_no_codes() {
        for (text, why) in [
            ("", BadCode::Form),
            ("000-000-00", BadCode::Form),
            ("000-000-0000", BadCode::Form),
            ("000-000-00U", BadCode::Form),
            ("000-000-00*", BadCode::Form),
            ("000-000-00\u{660}", BadCode::Form),
            ("000_000_000", BadCode::Form),
            ("000-000-001", BadCode::Check),
        ] {
            assert_eq!(Code::parse(text).err(), Some(why), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_text_is_told_and_not_the_text() {
        let why = |text| Code::parse(text).unwrap_err().to_string();
        assert_eq!(why("000-000-00"), "a code consists of 9 letters and digits, in groups of 3");
        assert_eq!(why("000-000-001"), "one character is wrong, or two are swapped");
    }

    #[test]
    fn all_symbols_are_drawn() {
        let mut drawn = [[0; 32]; CODE_LEN];
        for code in codes().chain(codes()) {
            code.0.iter().zip(&mut drawn).for_each(|(symbol, of)| of[usize::from(*symbol)] += 1);
        }
        assert!(drawn.iter().all(|of| of.iter().filter(|times| **times > 0).count() > 24), "{drawn:?}");
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", codes().next().unwrap()), "Code(..)");
    }
}
