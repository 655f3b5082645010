//! Why TLS failed, in words, and what to do about it.

use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::client_certificate::ClientCertificate;
use super::plain_port::PlainPort;
use super::system_authorities::SystemAuthorities;
use super::verifier::{Authorities, BrokerVerifier};
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::foreign_protocol;
use crate::mqtt::tls_options::KeyPin;
use crate::text::{escape, tame};
use crate::units::utc;

/// When this program was built, in seconds since 1970: a clock that says less is wrong.
const BUILD_TIME: &str = env!("STS_BUILD_TIME");

/// The first byte of a record (RFC 8446, 5.1): change of cipher, alert, handshake, data.
pub(super) const CONTENT_TYPES: [u8; 4] = [20, 21, 22, 23];

/// Most bytes of an unknown answer that are shown.
const MAX_FIRST_SHOWN: usize = 16;

/// Most names of a certificate that are shown, and most bytes of one.
const MAX_NAMES: usize = 8;
const MAX_NAME_LEN: usize = 80;

/// What the verifier says of a broker that shows the certificate of an authority as its own.
const CA_AS_BROKER: &str = "CaUsedAsEndEntity";

/// How a key is compared, before somebody pins it.
const COMPARE: &str = "if the broker itself shows the same one (openssl x509 -in CERTIFICATE -noout -pubkey \
    | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | openssl base64)";

/// Finds words for what rustls says, with what is known of the broker.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    pub(super) port: PlainPort,
    pub(super) verifier: Arc<BrokerVerifier>,
    pub(super) certificate: Arc<ClientCertificate>,
}

impl Judge {
    /// What `error` means; `first` are the first bytes of the other end, if the handshake was not over.
    ///
    /// Before the handshake is over, nothing of this is authenticated: anybody on the path can cause any of it with one
    /// packet in place of the broker's answer. So it is final only if it is repeated. A certificate is final at once,
    /// though TLS 1.2 checks it before any key is used, so that a forged one ends a first connection: nothing secret is
    /// sent to an attacker, and a user learns at once what is wrong with the broker's certificate.
    pub(super) fn failure(&self, error: &Error, first: Option<&[u8]>) -> ConnectionLost {
        let lost = match (error, first) {
            (Error::InvalidCertificate(error), _) => return self.certificate(error),
            (Error::AlertReceived(alert), _) => self.alert(*alert),
            (Error::PeerIncompatible(reason), _) => incompatible(reason),
            (_, Some([byte, ..])) if !CONTENT_TYPES.contains(byte) => self.plain(first.unwrap_or_default()),
            _ => failed(tame(&error.to_string())),
        };
        if first.is_some() { lost.final_only_if_repeated() } else { lost }
    }

    /// The broker closed the connection in the handshake, after an answer or without.
    pub(super) fn closed(&self, answered: bool) -> ConnectionLost {
        if answered {
            return ConnectionLost::at(Obstacle::Closed, "the broker closed the connection in the TLS handshake");
        }
        let why = "the broker closed the connection without an answer to the TLS handshake";
        // A broker without TLS does so, but one that starts or fails over does, too.
        ConnectionLost::at(Obstacle::Closed, why).hint(self.port.hint(false)).final_if_repeated()
    }

    /// The other end does not speak TLS.
    fn plain(&self, first: &[u8]) -> ConnectionLost {
        let known = foreign_protocol::recognize(first);
        let is_http = known.as_ref().is_some_and(|known| known.obstacle() == Obstacle::Http);
        let what = match known {
            Some(known) => known.to_string(),
            None => format!("it begins with {}", escape(&first[..first.len().min(MAX_FIRST_SHOWN)])),
        };
        failed(format!("the answer is not TLS: {what}")).hint(self.port.hint(is_http)).final_one()
    }

    fn certificate(&self, error: &CertificateError) -> ConnectionLost {
        let (why, hint) = match error {
            CertificateError::ExpiredContext { time, not_after } => {
                let why = format!("the broker's certificate expired on {}", utc(not_after.as_secs()));
                return dated(&why, time.as_secs(), "renew the certificate on the broker, or set this device's clock");
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let why = format!("the broker's certificate is not valid before {}", utc(not_before.as_secs()));
                return dated(&why, time.as_secs(), "set this device's clock");
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let why =
                    format!("the broker's certificate is for {}, not for {}", names(presented), expected.to_str());
                let renew = || format!("renew the certificate with subjectAltName = {}", expected.to_str());
                let hint = if presented.is_empty() {
                    renew()
                } else {
                    "set `host` to a name that is in the certificate".to_owned()
                };
                (why, hint)
            }
            CertificateError::ApplicationVerificationFailure => self.other_key(),
            // An authority that was made anew has the same name, and another key.
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => self.unknown_issuer(),
            CertificateError::Other(error) if error.to_string() == CA_AS_BROKER => {
                let why = "the broker's certificate is one of an authority (CA:TRUE), as a self-signed one often is";
                let renew = "have the broker use a certificate with CA:FALSE";
                let pin = self.trust_this_key().map(|pin| format!("; or, without `ca_file`, {pin}"));
                (why.to_owned(), format!("{renew}{}", pin.unwrap_or_default()))
            }
            other => {
                let why = format!("the broker's certificate is not acceptable: {}", tame(&other.to_string()));
                (why, self.ways_to_trust())
            }
        };
        failed(why).hint(hint).final_one()
    }

    /// Why no authority that counts has signed the certificate, and what to do.
    fn unknown_issuer(&self) -> (String, String) {
        const UNKNOWN: &str = "the broker's certificate is not signed by an authority that this device knows";
        let why = match self.verifier.authorities() {
            Authorities::Own(_) => "the broker's certificate is not signed by an authority in `ca_file`",
            Authorities::System(found) => match found.get() {
                Some(SystemAuthorities { refused: Some(refused), .. }) => {
                    let hint = refused.hint_text().map_or_else(|| self.ways_to_trust(), str::to_owned);
                    return (format!("{UNKNOWN}, and a file was not used: {refused}"), hint);
                }
                Some(SystemAuthorities { verifier: None, .. }) => {
                    "this device has no certificates of authorities (install the package ca-certificates)"
                }
                _ => UNKNOWN,
            },
            Authorities::Nobody => UNKNOWN,
        };
        (why.to_owned(), self.ways_to_trust())
    }

    /// What to write to trust this broker.
    fn ways_to_trust(&self) -> String {
        let ca = "set `ca_file` to the certificate of the authority that signed it";
        self.trust_this_key().map_or_else(|| ca.to_owned(), |pin| format!("{ca}; or {pin}"))
    }

    /// What to write to trust this broker alone, if nothing is pinned yet.
    fn trust_this_key(&self) -> Option<String> {
        let key = self.verifier.shown().filter(|_| self.verifier.pin().is_none())?;
        Some(format!("trust just this key, {COMPARE}: tls_pin = {key}"))
    }

    fn other_key(&self) -> (String, String) {
        let shown = self.verifier.shown().as_ref().map(KeyPin::to_string).unwrap_or_default();
        let why = format!("the broker's key is not the one in `tls_pin`: {shown}");
        (why, format!("the broker may have a new key; trust that {COMPARE}: tls_pin = {shown}"))
    }

    fn alert(&self, alert: AlertDescription) -> ConnectionLost {
        use AlertDescription as Alert;
        let name = alert_name(alert);
        match alert {
            Alert::NoApplicationProtocol => {
                failed("the broker does not have the protocol in `tls_alpn`").hint("check `tls_alpn`").final_one()
            }
            Alert::ProtocolVersion => incompatible_version(),
            Alert::UnrecognisedName => {
                failed("the broker does not know the name in `host` (TLS alert: unrecognized name)")
                    .hint("check `host`: the broker is asked for this name")
                    .final_one()
            }
            Alert::CertificateRequired => self.certificate_wanted(&name),
            _ if !self.certificate.was_wanted() => {
                let lost = failed(format!("the broker refused the TLS handshake (TLS alert: {name})"));
                if alert == Alert::HandshakeFailure { lost.hint("check the broker's log").final_one() } else { lost }
            }
            Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError => self.certificate_wanted(&name),
            _ => failed(format!("the broker ended the connection (TLS alert: {name})")),
        }
    }

    /// The broker wants a certificate of ours, and has none or does not like it.
    fn certificate_wanted(&self, alert: &str) -> ConnectionLost {
        if self.certificate.is_there() {
            failed(format!("the broker did not accept the certificate in `cert_file` (TLS alert: {alert})"))
                .hint("check its dates, and that the broker knows the authority that signed it")
                .final_one()
        } else {
            failed(format!("the broker wants a certificate of this device (TLS alert: {alert})"))
                .hint("set `cert_file` and `key_file`")
                .final_one()
        }
    }
}

fn failed(why: impl Into<String>) -> ConnectionLost {
    ConnectionLost::at(Obstacle::Tls, why)
}

/// A certificate that is wrong by the clock; `now` is what the clock says.
fn dated(why: &str, now: u64, hint: &str) -> ConnectionLost {
    let clock = format!("{why}, and this device's clock says {}", utc(now));
    if now < BUILD_TIME.parse().unwrap_or(0) {
        // It will be set, by a time server for one.
        return failed(format!("{clock}, which is before this program was built")).hint("set this device's clock");
    }
    failed(clock).hint(hint).final_one()
}

fn incompatible(reason: &PeerIncompatible) -> ConnectionLost {
    match reason {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            incompatible_version()
        }
        other => failed(format!("the broker's TLS has nothing in common with ours: {other:?}"))
            .hint("check the versions and ciphers that the broker allows")
            .final_one(),
    }
}

fn incompatible_version() -> ConnectionLost {
    failed("the broker has neither TLS 1.2 nor 1.3").hint("have the broker offer TLS 1.2 or 1.3").final_one()
}

/// `HandshakeFailure` as `handshake failure`.
fn alert_name(alert: AlertDescription) -> String {
    let (mut name, mut last) = (String::new(), ' ');
    for c in format!("{alert:?}").chars() {
        let begins_word = c.is_ascii_uppercase() && last.is_ascii_lowercase();
        name.extend(begins_word.then_some(' '));
        name.push(c.to_ascii_lowercase());
        last = c;
    }
    name
}

/// The names of a certificate, which come from the network.
fn names(presented: &[String]) -> String {
    // As webpki shows them: `DnsName("a.example")`, `IpAddress(127.0.0.1)`.
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
        escape(inner.trim_matches('"').chars().take(MAX_NAME_LEN).collect::<String>())
    };
    let mut shown: Vec<String> = presented.iter().take(MAX_NAMES).map(bare).collect();
    if presented.len() > MAX_NAMES {
        shown.push(format!("{} more", presented.len() - MAX_NAMES));
    }
    if shown.is_empty() { "no name at all (it has no subject alternative names)".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::mqtt::connection_lost::Finality;

    fn judge(own: bool) -> Judge {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pin = (!own).then(|| KeyPin::of(b"key"));
        Judge {
            port: PlainPort { broker: "broker.example:8883".to_owned(), path: None },
            verifier: Arc::new(BrokerVerifier::new(None, pin, provider).unwrap()),
            certificate: Arc::new(ClientCertificate::new(None)),
        }
    }

    fn at(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    #[test]
    fn a_clock_that_was_not_set_will_be_and_is_waited_for() {
        let (issued, built): (u64, u64) = (4_000_000_000, BUILD_TIME.parse().unwrap());
        let judged = |now, error: fn(UnixTime, UnixTime) -> CertificateError| {
            judge(true).failure(&Error::InvalidCertificate(error(at(now), at(issued))), None)
        };
        let early = |time, not_before| CertificateError::NotValidYetContext { time, not_before };
        let late = |time, not_after| CertificateError::ExpiredContext { time, not_after };
        let lost = judged(42, early);
        assert!(
            lost.finality() == Finality::Passing
                && lost.to_string().contains("clock says 1970-01-01 00:00:42 UTC, which is before"),
            "{lost}"
        );
        let lost = judged(built + 1, early);
        assert!(
            lost.finality() == Finality::Final && lost.to_string().contains("not valid before 2096-10-02"),
            "{lost}"
        );
        let lost = judged(issued + 1, late);
        let both = "expired on 2096-10-02 07:06:40 UTC, and this device's clock says 2096-10-02 07:06:41 UTC";
        assert!(lost.finality() == Finality::Final && lost.to_string().contains(both), "{lost}");
    }

    #[test]
    fn names_from_the_network_are_harmless_and_few() {
        assert_eq!(
            names(&["DnsName(\"*.a.example\")".into(), "IpAddress(127.0.0.1)".into()]),
            "*.a.example, 127.0.0.1"
        );
        assert!(names(&[]).contains("no name at all"));
        let hostile = names(&vec![format!("DnsName(\"\u{1b}[31m{}\")", "x".repeat(5000)); 1000]);
        assert!(!hostile.contains('\u{1b}') && hostile.len() < 1000 && hostile.ends_with(", 992 more"), "{hostile}");
    }

    #[test]
    fn what_is_not_tls_is_named_with_the_url_to_write() {
        let lost = judge(true).failure(&Error::General(String::new()), Some(b"HTTP/1.1 400 Bad Request\r\n"));
        assert!(lost.finality() == Finality::FinalIfRepeated && lost.to_string().contains("HTTP/1.1 400"), "{lost}");
        #[cfg(feature = "websocket")]
        assert!(lost.hint_text().unwrap().contains("url = ws://broker.example:8883/mqtt"), "{lost:?}");
        let lost = judge(true).failure(&Error::General(String::new()), Some(&[0x20, 2, 0, 0]));
        assert!(
            lost.finality() == Finality::FinalIfRepeated
                && lost.hint_text().unwrap().contains("mqtt://broker.example:8883"),
            "{lost}"
        );
        let lost = judge(true).failure(&Error::DecryptError, None);
        assert!(lost.finality() == Finality::Passing, "the network may have damaged it: {lost}");
    }

    #[test]
    fn what_anybody_on_the_path_can_say_is_the_last_word_only_if_it_is_said_again() {
        use AlertDescription as Alert;
        let judge = judge(true);
        let record = Some(&[22, 3, 3][..]);
        let version = PeerIncompatible::ServerDoesNotSupportTls12Or13;
        for error in [
            Error::AlertReceived(Alert::NoApplicationProtocol),
            Error::AlertReceived(Alert::UnrecognisedName),
            Error::AlertReceived(Alert::ProtocolVersion),
            Error::AlertReceived(Alert::HandshakeFailure),
            Error::AlertReceived(Alert::CertificateRequired),
            Error::PeerIncompatible(version),
        ] {
            assert_eq!(judge.failure(&error, record).finality(), Finality::FinalIfRepeated, "{error}");
            assert_eq!(judge.failure(&error, None).finality(), Finality::Final, "{error}: authenticated");
        }
        let passing = Error::AlertReceived(Alert::InternalError);
        assert_eq!(judge.failure(&passing, record).finality(), Finality::Passing);
        let certificate = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(judge.failure(&certificate, record).finality(), Finality::Final);
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let said = |error| judge(true).failure(&Error::InvalidCertificate(error), None);
        let expected = "broker.example".try_into().unwrap();
        let lost = said(CertificateError::NotValidForNameContext { expected, presented: Vec::new() });
        assert!(lost.hint_text().unwrap().contains("subjectAltName = broker.example"), "{lost}");
        let lost = judge(true).failure(&Error::AlertReceived(AlertDescription::UnknownCA), None);
        assert!(lost.to_string().ends_with("(TLS alert: unknown ca)"), "{lost}");
    }

    #[test]
    fn one_that_closes_without_a_word_may_have_no_tls() {
        let judge = judge(true);
        assert_eq!(judge.closed(false).finality(), Finality::FinalIfRepeated);
        assert_eq!(judge.closed(true).finality(), Finality::Passing);
    }
}
