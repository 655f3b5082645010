//! Reason codes: how a broker says what became of a packet. They are those of MQTT 5; a dialect of an older version maps what
//! that has onto them.

use std::fmt;

use crate::text::escape;

/// The reason codes, in words (MQTT 5, table 2.6).
const NAMES: [(u8, &str); 37] = [
    (0x00, "success"),
    (0x10, "no matching subscribers"),
    (0x80, "no reason given"),
    (0x81, "malformed packet"),
    (0x82, "protocol error"),
    (0x83, "not accepted by this broker"),
    (0x84, "protocol version not supported"),
    (0x85, "client id not valid"),
    (0x86, "wrong user name or password"),
    (0x87, "not authorized"),
    (0x88, "service unavailable"),
    (0x89, "broker busy"),
    (0x8a, "banned"),
    (0x8b, "broker shutting down"),
    (0x8c, "authentication method not supported"),
    (0x8d, "nothing received within the keep-alive interval"),
    (0x8e, "another client connected with this client id"),
    (0x8f, "topic filter not valid"),
    (0x90, "topic not valid"),
    (0x91, "packet identifier in use"),
    (0x92, "packet identifier not found"),
    (0x93, "too many unacknowledged messages"),
    (0x94, "topic alias not valid"),
    (0x95, "packet too large"),
    (0x96, "message rate too high"),
    (0x97, "quota exceeded"),
    (0x98, "closed by an administrator"),
    (0x99, "payload format not valid"),
    (0x9a, "retained messages not supported"),
    (0x9b, "QoS not supported"),
    (0x9c, "use another server for now"),
    (0x9d, "the broker has moved"),
    (0x9e, "shared subscriptions not supported"),
    (0x9f, "too many connections in a short time"),
    (0xa0, "maximum connect time reached"),
    (0xa1, "subscription identifiers not supported"),
    (0xa2, "wildcard subscriptions not supported"),
];

/// A reason code (MQTT 5, 2.4). Any number may come from the network; one without a name is of its class all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct ReasonCode(u8);

/// What a reason code means for the packet that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum ReasonClass {
    /// It was accepted.
    Success,
    /// It was not, and the same packet would not be accepted later either.
    Refusal,
    /// It was not, and may be accepted later.
    Temporary,
}

/// Those that are acted upon; [`ReasonCode::name`] has all.
impl ReasonCode {
    pub(in crate::mqtt) const SUCCESS: Self = Self(0x00);
    pub(in crate::mqtt) const NO_MATCHING_SUBSCRIBERS: Self = Self(0x10);
    pub(in crate::mqtt) const UNSPECIFIED_ERROR: Self = Self(0x80);
    pub(in crate::mqtt) const IMPLEMENTATION_SPECIFIC: Self = Self(0x83);
    pub(in crate::mqtt) const UNSUPPORTED_VERSION: Self = Self(0x84);
    pub(in crate::mqtt) const INVALID_CLIENT_ID: Self = Self(0x85);
    pub(in crate::mqtt) const BAD_LOGIN: Self = Self(0x86);
    pub(in crate::mqtt) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(in crate::mqtt) const SERVER_UNAVAILABLE: Self = Self(0x88);
    pub(in crate::mqtt) const SERVER_BUSY: Self = Self(0x89);
    pub(in crate::mqtt) const SHUTTING_DOWN: Self = Self(0x8b);
    pub(in crate::mqtt) const BAD_AUTH_METHOD: Self = Self(0x8c);
    pub(in crate::mqtt) const KEEP_ALIVE_TIMEOUT: Self = Self(0x8d);
    pub(in crate::mqtt) const SESSION_TAKEN_OVER: Self = Self(0x8e);
    pub(in crate::mqtt) const INVALID_TOPIC_FILTER: Self = Self(0x8f);
    pub(in crate::mqtt) const INVALID_TOPIC: Self = Self(0x90);
    pub(in crate::mqtt) const PACKET_ID_IN_USE: Self = Self(0x91);
    pub(in crate::mqtt) const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    pub(in crate::mqtt) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(in crate::mqtt) const MESSAGE_RATE_TOO_HIGH: Self = Self(0x96);
    pub(in crate::mqtt) const QUOTA_EXCEEDED: Self = Self(0x97);
    pub(in crate::mqtt) const INVALID_PAYLOAD_FORMAT: Self = Self(0x99);
    pub(in crate::mqtt) const RETAIN_NOT_SUPPORTED: Self = Self(0x9a);
    pub(in crate::mqtt) const QOS_NOT_SUPPORTED: Self = Self(0x9b);
    pub(in crate::mqtt) const USE_ANOTHER_SERVER: Self = Self(0x9c);
    pub(in crate::mqtt) const SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: Self = Self(0x9e);
    pub(in crate::mqtt) const CONNECTION_RATE_EXCEEDED: Self = Self(0x9f);
    pub(in crate::mqtt) const MAXIMUM_CONNECT_TIME: Self = Self(0xa0);
    pub(in crate::mqtt) const WILDCARDS_NOT_SUPPORTED: Self = Self(0xa2);
}

impl ReasonCode {
    /// The first number of those that say that something was not accepted.
    pub(super) const FIRST_FAILURE: u8 = 0x80;

    /// The code of this number, which any number may be.
    pub(in crate::mqtt) fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    pub(in crate::mqtt) fn number(self) -> u8 {
        self.0
    }

    /// What users read, where the code has a name.
    fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }

    /// What it means for the packet that it answers.
    pub(in crate::mqtt) fn class(self) -> ReasonClass {
        match self {
            Self(number) if number < Self::FIRST_FAILURE => ReasonClass::Success,
            Self::SERVER_UNAVAILABLE
            | Self::SERVER_BUSY
            | Self::SHUTTING_DOWN
            | Self::KEEP_ALIVE_TIMEOUT
            | Self::PACKET_ID_IN_USE
            | Self::RECEIVE_MAXIMUM_EXCEEDED
            | Self::MESSAGE_RATE_TOO_HIGH
            | Self::QUOTA_EXCEEDED
            | Self::USE_ANOTHER_SERVER
            | Self::CONNECTION_RATE_EXCEEDED
            | Self::MAXIMUM_CONNECT_TIME => ReasonClass::Temporary,
            _ => ReasonClass::Refusal,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "reason code {:#04x}", self.0),
        }
    }
}

/// What a broker says became of a packet; where it says nothing, success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct Reason {
    /// The code.
    pub(in crate::mqtt) code: ReasonCode,
    /// Its number on the wire, for messages: it differs in the CONNACK of the versions before 5.
    pub(in crate::mqtt) sent_as: u8,
    /// The broker's own words. They come from the network: [`Reason`]'s `Display` escapes them.
    pub(in crate::mqtt) text: Option<String>,
    /// Where to connect instead, in the broker's own words, as for `text`.
    pub(in crate::mqtt) server: Option<String>,
}

impl Reason {
    /// A code alone, sent as itself.
    pub(in crate::mqtt) fn new(code: ReasonCode) -> Self {
        Self { code, sent_as: code.number(), text: None, server: None }
    }

    /// That of a packet that says nothing.
    pub(in crate::mqtt) fn success() -> Self {
        Self::new(ReasonCode::SUCCESS)
    }

    /// What it means for the packet that it answers.
    pub(in crate::mqtt) fn class(&self) -> ReasonClass {
        self.code.class()
    }

    /// Whether it says that something was not accepted, and nothing about why: that may pass.
    pub(in crate::mqtt) fn is_unexplained(&self) -> bool {
        [ReasonCode::UNSPECIFIED_ERROR, ReasonCode::IMPLEMENTATION_SPECIFIC].contains(&self.code)
    }

    /// Whether a DISCONNECT with it can be for a topic filter that we subscribed to.
    pub(in crate::mqtt) fn is_for_subscription(&self) -> bool {
        [
            ReasonCode::UNSPECIFIED_ERROR,
            ReasonCode::IMPLEMENTATION_SPECIFIC,
            ReasonCode::NOT_AUTHORIZED,
            ReasonCode::INVALID_TOPIC_FILTER,
            ReasonCode::QUOTA_EXCEEDED,
            ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
            ReasonCode::WILDCARDS_NOT_SUPPORTED,
        ]
        .contains(&self.code)
    }

    /// Whether a DISCONNECT with it is for a message that we published.
    pub(in crate::mqtt) fn is_for_message(&self) -> bool {
        [
            ReasonCode::NOT_AUTHORIZED,
            ReasonCode::INVALID_TOPIC,
            ReasonCode::PACKET_TOO_LARGE,
            ReasonCode::INVALID_PAYLOAD_FORMAT,
            ReasonCode::RETAIN_NOT_SUPPORTED,
            ReasonCode::QOS_NOT_SUPPORTED,
        ]
        .contains(&self.code)
    }
}

/// The code's name and the broker's own words, escaped.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        match &self.text {
            Some(text) => write!(f, ": {}", escape(text)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_without_a_name_is_of_its_class() {
        for (number, class) in
            [(0x00, ReasonClass::Success), (0x02, ReasonClass::Success), (0x7f, ReasonClass::Success)]
        {
            assert_eq!(ReasonCode::new(number).class(), class);
        }
        for number in 0x80..=0xff {
            assert_ne!(ReasonCode::new(number).class(), ReasonClass::Success, "{number:#x}");
        }
        assert_eq!(ReasonCode::new(0xfe).to_string(), "reason code 0xfe");
    }

    #[test]
    fn the_words_of_a_broker_are_escaped() {
        let reason = Reason { text: Some("no\u{1b}[31m\nway".into()), ..Reason::new(ReasonCode::NOT_AUTHORIZED) };
        assert_eq!(reason.to_string(), r"not authorized: no\x1b[31m\nway");
    }
}
