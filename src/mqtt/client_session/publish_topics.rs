//! The topics that messages are published on.

use std::sync::Arc;

use crate::Result;
use crate::mqtt::topic;

/// What is known of the last ones.
#[derive(Debug, Default)]
pub(super) struct PublishTopics {
    /// The last topic published on, which is valid: messages on the same one share it.
    last: Option<Arc<str>>,
    /// The longest message that the broker acknowledged on the latest topic: it has no reason to refuse a shorter one.
    longest_accepted: Option<(Arc<str>, usize)>,
}

impl PublishTopics {
    /// A topic for a message, checked if it is another one than the last.
    pub(super) fn share(&mut self, topic: &str) -> Result<Arc<str>> {
        match &self.last {
            Some(last) if **last == *topic => Ok(Arc::clone(last)),
            _ => {
                topic::check_name(topic)?;
                Ok(Arc::clone(self.last.insert(Arc::from(topic))))
            }
        }
    }

    /// The length of the last one, bytes.
    pub(super) fn last_len(&self) -> usize {
        self.last.as_ref().map_or(0, |topic| topic.len())
    }

    /// The broker acknowledged a message of this length.
    pub(super) fn accepted(&mut self, topic: Arc<str>, len: usize) {
        match &mut self.longest_accepted {
            Some((latest, longest)) if *latest == topic => *longest = len.max(*longest),
            latest => *latest = Some((topic, len)),
        }
    }

    /// Whether it acknowledged one at least as long on this topic.
    pub(super) fn was_longer_accepted(&self, topic: &Arc<str>, len: usize) -> bool {
        self.longest_accepted.as_ref().is_some_and(|(latest, longest)| latest == topic && *longest >= len)
    }
}
