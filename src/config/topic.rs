//! Topic names and topic filters (MQTT 3.1.1, 4.7).

use std::fmt;

/// Longest topic, in bytes (MQTT 3.1.1, 4.7.3).
const MAX_TOPIC_LEN: usize = 65_535;

/// Why a text is not a topic.
pub(crate) type InvalidTopic = &'static str;

/// A topic to publish on: 1 to 65,535 bytes, no wildcard but a gateway's `+`, no control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Topic(String);

impl Topic {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidTopic> {
        if text.contains(['+', '#']) {
            return Err("a topic to publish on cannot contain `+` or `#`");
        }
        Self::parse_pattern(text)
    }

    /// As [`Topic::parse`], with `+` where a filter may have it: to be filled before anything is published on it.
    pub(super) fn parse_pattern(text: &str) -> Result<Self, InvalidTopic> {
        if text.starts_with(SHARE) {
            return Err("`$share/` is for subscriptions only");
        }
        if text.contains('#') {
            return Err("a topic to publish on cannot contain `#`");
        }
        TopicFilter::parse(text).map(|filter| Self(filter.text))
    }

    /// The topic as MQTT carries it.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const SHARE: &str = "$share/";

/// A filter to subscribe with: as a [`Topic`], with `+` and `#` where MQTT allows them, or `$share/GROUP/` in front.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TopicFilter {
    text: String,
    prefix: usize,
}

impl TopicFilter {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidTopic> {
        check_text(text)?;
        let prefix = match text.strip_prefix(SHARE).map(|rest| rest.split_once('/')) {
            None => 0,
            Some(Some((group, plain))) if !group.is_empty() && !group.contains(['+', '#']) && !plain.is_empty() => {
                text.len() - plain.len()
            }
            Some(_) => return Err("a shared subscription must have the form `$share/GROUP/TOPIC`"),
        };
        let mut levels = text[prefix..].split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err("`#` must be a whole level, after the last `/`");
            }
            if level.contains('+') && level != "+" {
                return Err("`+` must be a whole level, between two `/`");
            }
        }
        Ok(Self { text: text.to_owned(), prefix })
    }

    /// The filter as SUBSCRIBE carries it.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter without `$share/GROUP/`: what messages' topics match, and what the handshake hashes.
    #[must_use]
    pub(crate) fn plain(&self) -> &str {
        &self.text[self.prefix..]
    }

    /// Whether the broker divides the messages among the clients that have it.
    #[must_use]
    pub(crate) fn is_shared(&self) -> bool {
        self.prefix > 0
    }

    /// How many of its levels are `+`.
    #[must_use]
    pub(crate) fn wildcards(&self) -> usize {
        wildcards(self.plain())
    }

    /// Whether it matches a topic (MQTT 3.1.1, 4.7).
    #[must_use]
    pub(crate) fn matches(&self, topic: &str) -> bool {
        let mut levels = topic.split('/');
        // A wildcard at the beginning does not match the broker's own topics.
        if topic.starts_with('$') && self.plain().starts_with(['+', '#']) {
            return false;
        }
        for level in self.plain().split('/') {
            match (level, levels.next()) {
                ("#", _) | ("+", Some(_)) => {}
                (level, Some(found)) if level == found => {}
                _ => return false,
            }
        }
        self.plain().ends_with('#') || levels.next().is_none()
    }

    /// Whether it matches more than one topic.
    #[must_use]
    pub(crate) fn has_wildcard(&self) -> bool {
        self.plain().contains(['+', '#'])
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(super) fn wildcards(text: &str) -> usize {
    text.split('/').filter(|level| *level == "+").count()
}

fn check_text(text: &str) -> Result<(), InvalidTopic> {
    if text.is_empty() || text.len() > MAX_TOPIC_LEN {
        return Err("a topic must have 1 to 65535 bytes");
    }
    if text.contains(char::is_control) { Err("a topic cannot contain control characters") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_matches_as_in_mqtt() {
        for (filter, topics) in [
            ("a/b", &["a/b"][..]),
            ("a/+", &["a/", "a/b", "a/c"]),
            ("+/b", &["a/b", "/b", "c/b"]),
            ("a/#", &["a", "a/", "a/b", "a/c", "a/b/c"]),
            ("#", &["a", "a/", "a/b", "a/c", "a/b/c", "/b", "c/b", "b"]),
            ("$share/g/a/+", &["a/", "a/b", "a/c"]),
            ("$SYS/+", &["$SYS/a"]),
        ] {
            let filter = TopicFilter::parse(filter).unwrap();
            let all = ["a", "a/", "a/b", "a/c", "a/b/c", "/b", "c/b", "b", "$SYS/a", "$SYS"];
            assert_eq!(all.into_iter().filter(|topic| filter.matches(topic)).collect::<Vec<_>>(), topics, "{filter}");
        }
    }

    #[test]
    fn wildcards_stand_where_mqtt_allows_them() {
        for good in ["#", "+", "a/#", "+/a", "a/+/b", "/", "//", "a b", "$SYS/#", "é"] {
            assert_eq!(TopicFilter::parse(good).unwrap().plain(), good);
        }
        for bad in ["", "a#", "#/a", "a/#/b", "a+", "a/b+/c", "##", "a\0", "a\nb"] {
            assert!(TopicFilter::parse(bad).is_err(), "{bad:?}");
        }
        assert!(TopicFilter::parse(&"a".repeat(65_535)).is_ok() && Topic::parse(&"a".repeat(65_535)).is_ok());
        assert!(TopicFilter::parse(&"a".repeat(65_536)).is_err() && Topic::parse(&"a".repeat(65_536)).is_err());
        for bad in ["", "#", "a/+", "$share/g/a", "a\0"] {
            assert!(Topic::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_share_prefix_is_set_apart() {
        let filter = TopicFilter::parse("$share/group/plant/+").unwrap();
        assert_eq!((filter.as_str(), filter.plain()), ("$share/group/plant/+", "plant/+"));
        assert!(filter.is_shared() && !TopicFilter::parse("plant/+").unwrap().is_shared());
        assert!(filter.has_wildcard());
        assert_eq!(TopicFilter::parse("$share/g//").unwrap().plain(), "/");
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g/a#"] {
            assert!(TopicFilter::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(TopicFilter::parse("$shared/g/a").unwrap().plain(), "$shared/g/a");
    }
}
