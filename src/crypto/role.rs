//! The two sides of an encrypted link.

use std::fmt;

/// Which side of an encrypted link a device is: the configuration key `sts_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Begins the handshake.
    Master,
    /// Answers it.
    Slave,
}

impl Role {
    /// Both roles.
    pub const ALL: [Self; 2] = [Self::Master, Self::Slave];

    /// The role of this name in a configuration or session file.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The role of the device at the other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Master => Self::Slave,
            Self::Slave => Self::Master,
        }
    }

    /// The name: `master` or `slave`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Slave => "slave",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(&role.to_string()), Some(role));
        }
        assert_eq!(Role::from_name("nosec"), None);
    }
}
