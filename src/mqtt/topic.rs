//! The syntax of topics, checked here because a broker answers a wrong one by closing the connection.

use crate::{Error, Exit, Result};

/// The longest string that MQTT can carry, bytes (MQTT 3.1.1, 1.5.3).
pub(super) const MAX_STRING_LEN: usize = 65_535;

/// Whether `topic` can be published on: 1 to 65535 bytes, no wildcard, no NUL (MQTT 3.1.1, 4.7).
pub(super) fn check_name(topic: &str) -> Result<()> {
    if topic.contains(['+', '#']) {
        return Err(invalid(topic, "a topic to publish on cannot contain the wildcards `+` and `#`"));
    }
    check_string(topic)
}

/// Whether `filter` can be subscribed to: 1 to 65535 bytes, no NUL, each wildcard a level of its own, `#` last.
pub(super) fn check_filter(filter: &str) -> Result<()> {
    check_string(filter)?;
    let is_in_place = |(at, level): (usize, &str)| match level {
        "+" => true,
        "#" => at == 0,
        _ => !level.contains(['+', '#']),
    };
    if !filter.rsplit('/').enumerate().all(is_in_place) {
        return Err(invalid(filter, "`+` and `#` must each be a whole level, and `#` the last one"));
    }
    Ok(())
}

fn check_string(topic: &str) -> Result<()> {
    if topic.is_empty() {
        return Err(invalid(topic, "empty"));
    }
    if topic.len() > MAX_STRING_LEN {
        return Err(Error::new(Exit::Config, "topic").because(format!("longer than {MAX_STRING_LEN} bytes")));
    }
    if topic.contains('\0') {
        return Err(invalid(topic, "contains a NUL character"));
    }
    Ok(())
}

fn invalid(topic: &str, why: &str) -> Error {
    Error::new(Exit::Config, format!("topic {topic:?}")).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_wildcards_and_filters_have_them_in_place() {
        for good in ["a", "a/b", "/", "grüße/ä", "$share/x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/+", "#", "a\0", &"x".repeat(MAX_STRING_LEN + 1)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["a", "+", "#", "a/+/b", "a/#", "$share/group/a/#"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "a+", "#/a", "a/b#", "a\0/#"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
