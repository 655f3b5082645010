//! Topic aliases (MQTT 5, 3.3.2.3.4): a number that stands for a topic on one connection, once both were sent together.

/// Topics that get an alias at most. A run publishes on a few, so that a search from the first is short.
const MAX_ALIASES: u16 = 16;

/// An alias and what it takes with it: a topic that is not longer gains nothing.
const MIN_TOPIC_LEN: usize = 4;

/// The topics that have an alias on this connection, in the order of their aliases, from 1 on.
#[derive(Debug, Default)]
pub(super) struct TopicAliases {
    topics: Vec<String>,
    max: u16,
}

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// By its name alone.
    None,
    /// By its name, for which this alias stands from now on.
    New(u16),
    /// By this alias alone.
    Known(u16),
}

impl TopicAliases {
    /// None yet, and at most as many as the broker takes.
    pub(super) fn new(topic_alias_maximum: u16) -> Self {
        Self { topics: Vec::new(), max: topic_alias_maximum.min(MAX_ALIASES) }
    }

    /// How the PUBLISH that is encoded next names this topic.
    pub(super) fn get(&mut self, topic: &str) -> Alias {
        if self.max == 0 || topic.len() < MIN_TOPIC_LEN {
            return Alias::None;
        }
        for (one, alias) in self.topics.iter().zip(1..) {
            if one == topic {
                return Alias::Known(alias);
            }
        }
        let next = u16::try_from(self.topics.len() + 1).unwrap_or(u16::MAX);
        if next > self.max {
            return Alias::None;
        }
        self.topics.push(topic.to_owned());
        Alias::New(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_once_and_then_by_its_alias() {
        let mut aliases = TopicAliases::new(2);
        let got: Vec<_> = ["plant/a", "plant/b", "plant/a", "abc", "plant/c"].map(|topic| aliases.get(topic)).into();
        assert_eq!(got, [Alias::New(1), Alias::New(2), Alias::Known(1), Alias::None, Alias::None]);
        assert_eq!(TopicAliases::new(0).get("plant/a"), Alias::None);
    }

    #[test]
    fn the_search_stays_short_whatever_the_broker_takes() {
        let mut aliases = TopicAliases::new(u16::MAX);
        let known = (0..1000).map(|number| aliases.get(&format!("topic/{number}")));
        assert_eq!(known.filter(|alias| *alias != Alias::None).count(), usize::from(MAX_ALIASES));
    }
}
