//! Which topics the two ends of a link use: one pair, or, at a gateway with wildcards, a pair for each of its devices.
//!
//! The levels of a topic come from the peer that publishes on it, which need not be one that we trust. What a `+` matched
//! goes into one level of the topic that is answered on, and nowhere else; it is checked here, by our own filter, whatever
//! the broker passes on.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use crate::crypto::schedule::Topics;

/// Longest value of a level that a `+` matches on an encrypted link, in bytes.
pub(crate) const MAX_LEVEL_LEN: usize = 64;

/// The topics of an encrypted link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// One peer at a time, on two topics.
    One {
        /// On which this side publishes.
        publish: String,
        /// On which it listens, without `$share` prefix.
        listen: String,
        /// As the handshake names them: the two topics, or what `channel` makes of them.
        topics: Topics,
    },
    /// A slave with many masters, each on topics of its own (`sts.conf(5)`, "Wildcards").
    Each(Pattern),
}

/// A filter to listen with, and the topic to answer on, with as many `+` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Without `$share` prefix.
    pub(crate) listen: String,
    /// What is in place of `+` in a topic that `listen` matches goes in place of its `+`, in the same order.
    pub(crate) publish: String,
}

impl Pattern {
    /// The topic to answer on what came on `topic`; `None` where the filter does not match, or a level may not be used.
    #[must_use]
    pub(crate) fn answer(&self, topic: &str) -> Option<String> {
        let mut levels = topic.split('/');
        let mut values = Vec::new();
        for wanted in self.listen.split('/') {
            let level = levels.next()?;
            if wanted == "+" {
                values.push(Some(level).filter(|level| is_usable(level))?);
            } else if wanted != level {
                return None;
            }
        }
        if levels.next().is_some() {
            return None;
        }
        let mut values = values.into_iter();
        let answer: Option<Vec<_>> =
            self.publish.split('/').map(|level| if level == "+" { values.next() } else { Some(level) }).collect();
        Some(answer?.join("/"))
    }
}

/// Whether what stands in place of a `+` may: 1 to [`MAX_LEVEL_LEN`] bytes, no wildcard, no control character, and no `$` in
/// front, which is the broker's own.
fn is_usable(level: &str) -> bool {
    let len = 1..=MAX_LEVEL_LEN;
    len.contains(&level.len())
        && !level.starts_with('$')
        && !level.contains(|c: char| "+#".contains(c) || c.is_control())
}

impl Route {
    /// The topics of a handshake whose message came on `topic`; `None` where such a message is none of this link's.
    #[must_use]
    pub(crate) fn topics(&self, topic: &str) -> Option<Topics> {
        match self {
            Self::One { topics, .. } => Some(topics.clone()),
            Self::Each(pattern) => {
                let slave_to_master = pattern.answer(topic)?;
                Some(Topics { master_to_slave: topic.to_owned(), slave_to_master })
            }
        }
    }

    /// Whether a session that was agreed on these topics is one of this link's.
    #[must_use]
    pub(crate) fn has(&self, topics: &Topics) -> bool {
        self.topics(&topics.master_to_slave).as_ref() == Some(topics)
    }

    /// On which topic to publish under a session that was agreed on these topics.
    #[must_use]
    pub(crate) fn publish<'a>(&'a self, topics: &'a Topics) -> &'a str {
        match self {
            Self::One { publish, .. } => publish,
            Self::Each(_) => &topics.slave_to_master,
        }
    }

    /// On which topic the peer of that session publishes.
    #[must_use]
    pub(crate) fn listen<'a>(&'a self, topics: &'a Topics) -> &'a str {
        match self {
            Self::One { listen, .. } => listen,
            Self::Each(_) => &topics.master_to_slave,
        }
    }

    /// What to subscribe to, to hear all that the link's peers publish, without `$share` prefix.
    #[must_use]
    pub(crate) fn filter(&self) -> &str {
        match self {
            Self::One { listen, .. } => listen,
            Self::Each(pattern) => &pattern.listen,
        }
    }

    /// Whether a broker that takes each dot for the end of a level, as RabbitMQ does, may have made this of one of the link's
    /// topics, so that it is none of them any more.
    #[must_use]
    pub(crate) fn is_split_at_dots(&self, topic: &str) -> bool {
        let Self::Each(pattern) = self else { return false };
        let (listen, publish) = (pattern.listen.replace('.', "/"), pattern.publish.replace('.', "/"));
        listen != pattern.listen && self.topics(topic).is_none() && Pattern { listen, publish }.answer(topic).is_some()
    }

    /// Whether its topics have a character that not all brokers take as it is: RabbitMQ splits levels at dots, and NATS refuses
    /// dots and blanks.
    #[must_use]
    pub(crate) fn has_risky_characters(&self) -> bool {
        let topics = match self {
            Self::One { publish, listen, .. } => [publish, listen],
            Self::Each(pattern) => [&pattern.publish, &pattern.listen],
        };
        topics.iter().any(|topic| topic.contains(['.', ' ']))
    }

    /// Whether it has many peers.
    #[must_use]
    pub(crate) fn is_wildcard(&self) -> bool {
        matches!(self, Self::Each(_))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(listen: &str, publish: &str) -> Pattern {
        Pattern { listen: listen.into(), publish: publish.into() }
    }

    #[test]
    fn what_a_plus_matched_fills_the_answer() {
        let plant = pattern("plant/+/up", "plant/+/down");
        assert_eq!(plant.answer("plant/s7/up").unwrap(), "plant/s7/down");
        assert_eq!(plant.answer("plant/Größe 7/up").unwrap(), "plant/Größe 7/down");
        assert_eq!(pattern("+/a/+", "b/+/+/c").answer("1/a/2").unwrap(), "b/1/2/c");
        for other in ["plant/up", "plant/a/b/up", "plant/s7/up/", "plant/s7/UP", "/plant/s7/up", "", "plant/s7"] {
            assert_eq!(plant.answer(other), None, "{other}");
        }
    }

    #[test]
    fn a_broker_that_splits_levels_at_dots_is_recognized() {
        let each = |listen: &str| Route::Each(pattern(listen, "answers/+"));
        assert!(each("plant.a/+/up").is_split_at_dots("plant/a/s7/up"));
        assert!(each("plant.a/+/up").has_risky_characters() && each("plant a/+/up").has_risky_characters());
        for (listen, topic) in
            [("plant.a/+/up", "plant.a/s7/up"), ("plant.a/+/up", "plant/b/s7/up"), ("plant/+/up", "plant/a/b/up")]
        {
            assert!(!each(listen).is_split_at_dots(topic), "{listen} {topic}");
        }
        assert!(!each("plant/+/up").has_risky_characters());
    }

    #[test]
    fn a_level_that_could_be_anything_else_is_refused() {
        let all = pattern("+/up", "+/down");
        let longest = "x".repeat(MAX_LEVEL_LEN);
        assert!(all.answer(&format!("{longest}/up")).is_some());
        for bad in ["", "+", "#", "a+", "a#b", "$SYS", "$share", "a\0", "a\n", "\u{1b}[2J", "\u{9b}", &(longest + "x")]
        {
            assert_eq!(all.answer(&format!("{bad}/up")), None, "{bad:?}");
        }
    }

    #[test]
    fn a_route_knows_its_own_sessions() {
        let route = Route::Each(pattern("plant/+/up", "plant/+/down"));
        let topics = route.topics("plant/s7/up").unwrap();
        assert!(route.has(&topics));
        assert_eq!((route.publish(&topics), route.listen(&topics)), ("plant/s7/down", "plant/s7/up"));
        let crossed = Topics { slave_to_master: "plant/s8/down".into(), ..topics.clone() };
        assert!(!route.has(&crossed));
        let other = Route::Each(pattern("plant/b/+/up", "plant/b/+/down"));
        assert!(!other.has(&topics));
        let one = Route::One { publish: "down".into(), listen: "up".into(), topics: topics.clone() };
        assert!(one.has(&topics) && !one.has(&crossed));
        assert_eq!((one.publish(&topics), one.listen(&topics), one.filter()), ("down", "up", "up"));
    }

    proptest! {
        /// Whatever the topic, the answer has the pattern's levels, and no wildcard: one value cannot become two levels.
        #[test]
        fn no_topic_leaves_its_place(topic in "[a-c+#$/\\PC]{0,12}") {
            let plant = pattern("+/+", "answer/+/to/+");
            if let Some(answer) = plant.answer(&topic) {
                let levels: Vec<_> = answer.split('/').collect();
                prop_assert_eq!((levels.len(), levels[0], levels[2]), (4, "answer", "to"));
                prop_assert!(!answer.contains(['+', '#']) && !answer.contains(char::is_control));
                prop_assert_eq!(format!("{}/{}", levels[1], levels[3]), topic);
            }
        }
    }
}
