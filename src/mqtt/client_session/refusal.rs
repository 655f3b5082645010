//! What the user reads when the broker refuses something, and how to mend it.

use super::outgoing_publishes::AttemptedPublish;
use crate::mqtt::Version;
use crate::mqtt::codec::ConnectRefusal;
use crate::{Error, Exit};

/// A CONNACK that refuses the connection.
pub(super) fn connection(refusal: ConnectRefusal, version: Version, client_id: &str, with_login: bool) -> Error {
    let error = Error::new(Exit::Unavailable, "the broker refused the connection");
    match refusal {
        ConnectRefusal::Version => error
            .because(format!("it does not support MQTT {version} (CONNACK 1)"))
            .hint(format!("set `mqtt_version` to a version that it supports: {}", versions())),
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

/// Each version with its value in the configuration.
fn versions() -> String {
    Version::ALL.map(|version| format!("{} (MQTT {version})", version.config_value())).join(", ")
}

/// A SUBACK that refuses a topic filter.
pub(super) fn subscription(filter: &str) -> Error {
    Error::new(Exit::Unavailable, format!("the broker refused the subscription to {filter:?}"))
        .because("not allowed (SUBACK 0x80)")
        .hint("check `subtop`, and the permissions of this user on the broker")
}

/// What may be wrong with a message that ends each connection on which it is sent.
const MESSAGE_HINT: &str =
    "if it exceeds the broker's size limit, set a lower `max_message`; else check the permissions for `pubtop`";

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
        "it accepted one as long before, so see the broker's log, and the permissions for `pubtop`"
    } else {
        MESSAGE_HINT
    };
    Error::new(Exit::DataLost, "trying again")
        .because(format!(
            "the broker closed the connection {times} times in a row when a message of {len} bytes was sent on {topic:?}"
        ))
        .hint(hint)
}
