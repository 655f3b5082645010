//! A ticket as it is kept for the next run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// What a file begins with.
const FORMAT: &str = "sts-tls 2";

/// Longest ticket that is kept, bytes: those of OpenSSL have 200, and as much more as a client's certificate has.
pub(super) const MAX_TICKET_LEN: usize = 8 << 10;

/// Longest key of a ticket, bytes: as long as the longest hash of a suite.
const MAX_SECRET_LEN: usize = 64;

/// Longest time that tickets are used after a full handshake, in seconds: the certificate is checked at least this often.
const MAX_AGE: u64 = 24 * 3600;

/// Whether the check of a certificate still counts. A clock that was set back makes it none.
pub(super) fn counts(checked: u64, now: u64) -> bool {
    now.checked_sub(checked).is_some_and(|age| age <= MAX_AGE)
}

/// Everything that a ticket of TLS 1.3 (RFC 8446, 4.6.1) is used with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Of broker, files and options: the ticket is good for these only.
    pub(super) binding: [u8; 32],
    /// The number of the cipher suite.
    pub(super) suite: u16,
    /// When the certificate was last checked, in a full handshake, in seconds since 1970.
    pub(super) checked: u64,
    /// When the ticket came, as `checked`.
    pub(super) issued: u64,
    /// How long it is good from then on, in seconds.
    pub(super) lifetime: u32,
    /// What is added to its age to hide that.
    pub(super) age_add: u32,
    /// The pre-shared key that belongs to it.
    pub(super) secret: Zeroizing<Vec<u8>>,
    pub(super) ticket: Vec<u8>,
}

impl Record {
    /// Whether it can be used at this time. A clock that was set back makes it none.
    pub(super) fn is_fresh(&self, now: u64) -> bool {
        let age = now.checked_sub(self.issued);
        age.is_some_and(|age| age <= u64::from(self.lifetime)) && counts(self.checked, now)
    }

    /// As a line of text.
    pub(super) fn encode(&self) -> Zeroizing<String> {
        let Self { suite, checked, issued, lifetime, age_add, .. } = self;
        let binding = STANDARD.encode(self.binding);
        let secret = Zeroizing::new(STANDARD.encode(&*self.secret));
        let ticket = STANDARD.encode(&self.ticket);
        let secret = secret.as_str();
        Zeroizing::new(format!(
            "{FORMAT} {binding} {suite} {checked} {issued} {lifetime} {age_add} {secret} {ticket}\n"
        ))
    }

    /// Reads such a line; `None` for any other text.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let words: Vec<&str> = text.strip_prefix(FORMAT)?.strip_prefix(' ')?.strip_suffix('\n')?.split(' ').collect();
        let [binding, suite, checked, issued, lifetime, age_add, secret, ticket] = words[..] else { return None };
        let decode = |word: &str| STANDARD.decode(word).ok();
        let record = Self {
            binding: decode(binding)?.try_into().ok()?,
            suite: suite.parse().ok()?,
            checked: checked.parse().ok()?,
            issued: issued.parse().ok()?,
            lifetime: lifetime.parse().ok()?,
            age_add: age_add.parse().ok()?,
            secret: Zeroizing::new(decode(secret)?),
            ticket: decode(ticket)?,
        };
        let is_possible =
            (1..=MAX_TICKET_LEN).contains(&record.ticket.len()) && (1..=MAX_SECRET_LEN).contains(&record.secret.len());
        is_possible.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            binding: [7; 32],
            suite: 0x1301,
            checked: 1_799_990_000,
            issued: 1_800_000_000,
            lifetime: 7200,
            age_add: u32::MAX,
            secret: Zeroizing::new(vec![1; 32]),
            ticket: vec![2; 200],
        }
    }

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_nothing_else_is() {
        let text = record().encode();
        assert!(Record::parse(text.as_bytes()).unwrap() == record());
        for len in 0..text.len() {
            assert!(Record::parse(&text.as_bytes()[..len]).is_none(), "{len}");
        }
        for bad in [text.replace("sts-tls 2", "sts-tls 1"), text.replace(" 7200 ", " -1 "), format!("{}x", *text)] {
            assert!(Record::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let long = Record { ticket: vec![0; MAX_TICKET_LEN + 1], ..record() };
        assert!(Record::parse(long.encode().as_bytes()).is_none());
        let long = Record { secret: Zeroizing::new(vec![0; MAX_SECRET_LEN + 1]), ..record() };
        assert!(Record::parse(long.encode().as_bytes()).is_none());
    }

    #[test]
    fn a_ticket_is_good_for_its_lifetime_and_a_day_from_the_last_check_at_most() {
        let issued = record().issued;
        let fresh = |record: &Record, age| record.is_fresh(issued.saturating_add_signed(age));
        assert_eq!([-1, 0, 7200, 7201].map(|age| fresh(&record(), age)), [false, true, true, false]);
        let long = Record { lifetime: 7 * 24 * 3600, ..record() };
        assert_eq!([76_400, 76_401].map(|age| fresh(&long, age)), [true, false]);
        let set_back = Record { checked: issued + 2, ..record() };
        assert_eq!([1, 2].map(|age| fresh(&set_back, age)), [false, true]);
    }
}
