//! `--last`: the newest message that the broker kept, alone.
//!
//! Such a run looks, and leaves no trace: it has a client id and an MQTT session of its own, acknowledges nothing and writes
//! nothing down, so that sts-recv without `--last` may run at the same time, and misses and repeats nothing for it.

use std::time::Duration;

use crate::{Error, Exit};

/// How long a run waits for another retained message, if the command line does not say. MQTT has no sign that there is none.
pub(super) const RETAINED_TIMEOUT: Duration = Duration::from_secs(10);

/// The error of a run that got nothing on `topic`. That there was no connection is the run's to say, as in any other.
pub(super) fn none_came(topic: &str) -> Error {
    Error::new(Exit::TryAgain, "no retained message")
        .because(format!("the broker sent none on {topic} in time"))
        .hint("with `retain = 1` in the sender's configuration, the broker keeps its newest message (sts.conf(5))")
}
