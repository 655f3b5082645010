//! What the user reads when the broker refuses something, and how to mend it.

use super::outgoing_publishes::AttemptedPublish;
use crate::mqtt::Version;
use crate::mqtt::codec::ConnectRefusal;
use crate::{Error, Exit};

/// A CONNACK that refuses the connection.
pub(super) fn connection(refusal: ConnectRefusal, version: Version, client_id: &str, with_login: bool) -> Error {
    let error = Error::new(Exit::Unavailable, "the broker refused the connection");
    match refusal {
        ConnectRefusal::Version => {
            error.because(format!("it does not support MQTT {version} (CONNACK 1)")).hint(other_versions(version))
        }
        ConnectRefusal::ClientId => error
            .because(format!("it rejected the client id {client_id:?} (CONNACK 2)"))
            .hint("set `clientid` to one that the broker accepts"),
        ConnectRefusal::Unavailable => error.because("its MQTT service is unavailable (CONNACK 3)"),
        ConnectRefusal::Login => error
            .because("wrong user name or password (CONNACK 4)")
            .hint("check `username` and `password` or `password_file`"),
        ConnectRefusal::NotAuthorized if with_login => error
            .because("not authorised (CONNACK 5)")
            .hint("check `username` and `password`, and the permissions of this user and `clientid` on the broker"),
        ConnectRefusal::NotAuthorized => error
            .because("not authorised (CONNACK 5)")
            .hint("the broker may require a login: set `username` and `password` or `password_file`"),
    }
}

/// What to do if the broker does not support this version: take another one, if this program has one.
fn other_versions(refused: Version) -> String {
    let others = Version::ALL.into_iter().filter(|version| version.is_supported() && *version != refused);
    let others: Vec<_> =
        others.map(|version| format!("mqtt_version = {} (MQTT {version})", version.config_value())).collect();
    if others.is_empty() {
        return format!(
            "this version has no other value for `mqtt_version`: use a broker or a listener for MQTT {refused}"
        );
    }
    format!("set a version that it supports: {}", others.join(", "))
}

/// A SUBACK that refuses a topic filter.
pub(super) fn subscription(filter: &str) -> Error {
    Error::new(Exit::Unavailable, format!("the broker refused the subscription to {filter:?}"))
        .because("not allowed (SUBACK 0x80)")
        .hint("check `subtop`, and the permissions of this user on the broker")
}

/// What may be wrong with a message that ends each connection on which it is sent.
const MESSAGE_HINT: &str =
    "if it exceeds the broker's size limit, set a lower `max_message`; otherwise check the permissions for `pubtop`";

/// A message that ends each connection on which it is sent.
pub(super) fn message(publish: &AttemptedPublish<'_>, times: u32) -> Error {
    let AttemptedPublish { topic, len, .. } = publish;
    Error::new(Exit::DataLost, format!("the broker did not accept a message of {len} bytes on {topic:?}"))
        .because(format!("it answered until this message was sent, then closed the connection, {times} times in a row"))
        .hint(MESSAGE_HINT)
}

/// A message of which that may still be chance, or have another reason.
pub(super) fn suspect(publish: &AttemptedPublish<'_>, times: u32) -> Error {
    let AttemptedPublish { topic, len, longer_was_accepted, .. } = publish;
    let hint = if *longer_was_accepted {
        "it accepted an equally long one before, so check the broker's log and the permissions for `pubtop`"
    } else {
        MESSAGE_HINT
    };
    Error::new(Exit::DataLost, "trying again")
        .because(format!(
            "the broker closed the connection {times} times in a row when a message of {len} bytes was sent on {topic:?}"
        ))
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_program_has_is_proposed() {
        for refused in Version::ALL {
            let error = connection(ConnectRefusal::Version, refused, "id", false);
            let hint = error.hint_text().unwrap();
            let proposed = |version: &Version| hint.contains(&format!("mqtt_version = {}", version.config_value()));
            let proposed: Vec<_> = Version::ALL.into_iter().filter(proposed).collect();
            let possible = |version: &Version| version.is_supported() && *version != refused;
            let possible: Vec<_> = Version::ALL.into_iter().filter(possible).collect();
            assert_eq!(proposed, possible, "{hint}");
            assert!(!possible.is_empty() || hint.contains(&format!("for MQTT {refused}")), "{hint}");
        }
    }
}
