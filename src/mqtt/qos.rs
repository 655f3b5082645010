//! Quality of service.

use std::fmt;

/// Quality of service: how often a message may arrive (MQTT 3.1.1, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0: at most once; never acknowledged.
    AtMostOnce = 0,
    /// 1: at least once; acknowledged by PUBACK.
    #[default]
    AtLeastOnce = 1,
    /// 2: exactly once, while both ends keep the session; PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl Qos {
    /// The quality of service of this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce].into_iter().find(|qos| qos.code() == code)
    }

    /// The number: 0, 1 or 2.
    pub(crate) fn code(self) -> u8 {
        // The discriminants are the numbers.
        self as u8
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}
