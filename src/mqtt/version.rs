//! The versions of MQTT: the table that defines each; what a version looks like on the wire is in `codec`.

use std::fmt;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1 (protocol level 3).
    V31,
    /// MQTT 3.1.1 (protocol level 4, OASIS standard).
    #[default]
    V311,
    /// MQTT 5 (protocol level 5, OASIS standard).
    V5,
}

/// What distinguishes a version before anything is sent.
struct VersionFacts {
    /// The value of `mqtt_version`, which is the protocol level.
    config_value: &'static str,
    name: &'static str,
    /// Bytes; `None` where only the length of a string limits it.
    max_client_id: Option<usize>,
    /// Packets have properties, with which each side tells its limits and what expires.
    has_properties: bool,
}

impl Version {
    /// All of them, oldest first.
    pub(crate) const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];

    const fn facts(self) -> VersionFacts {
        match self {
            Self::V31 => {
                VersionFacts { config_value: "3", name: "3.1", max_client_id: Some(23), has_properties: false }
            }
            Self::V311 => VersionFacts { config_value: "4", name: "3.1.1", max_client_id: None, has_properties: false },
            Self::V5 => VersionFacts { config_value: "5", name: "5", max_client_id: None, has_properties: true },
        }
    }

    /// The value that the configuration key `mqtt_version` has for it.
    pub(crate) const fn config_value(self) -> &'static str {
        self.facts().config_value
    }

    /// Whether each side tells its limits and what expires: the properties of MQTT 5.
    pub(crate) const fn has_properties(self) -> bool {
        self.facts().has_properties
    }

    /// The longest client id, bytes, where this version limits it.
    pub(crate) const fn max_client_id(self) -> Option<usize> {
        self.facts().max_client_id
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}
