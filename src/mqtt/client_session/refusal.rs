//! What the user reads when the broker refuses something, and how to mend it.

use super::outgoing_publishes::AttemptedPublish;
use crate::mqtt::codec::{Reason, ReasonCode};
use crate::mqtt::{ClientOptions, Qos, Version};
use crate::text::escape;
use crate::{Error, Exit};

/// A CONNACK that refuses the connection.
pub(super) fn connection(reason: &Reason, version: Version, client_id: &str, with_login: bool) -> Error {
    let what = match reason.code {
        ReasonCode::UNSUPPORTED_VERSION => format!("it does not support MQTT {version}"),
        ReasonCode::INVALID_CLIENT_ID => format!("it rejected the client id {client_id:?}"),
        ReasonCode::SERVER_UNAVAILABLE => "its MQTT service is unavailable".to_owned(),
        code => code.to_string(),
    };
    let error = Error::new(Exit::Unavailable, "the broker refused the connection");
    let error = error.because(format!("{what} (CONNACK {})", shown(reason)));
    match reason.code {
        ReasonCode::UNSUPPORTED_VERSION => error.hint(other_versions(version)),
        ReasonCode::INVALID_CLIENT_ID => error.hint("set `clientid` to one that the broker accepts"),
        ReasonCode::BAD_LOGIN => error.hint("check `username` and `password` or `password_file`"),
        ReasonCode::NOT_AUTHORIZED if with_login => {
            error.hint("check `username` and `password`, and the permissions of this user and `clientid` on the broker")
        }
        ReasonCode::NOT_AUTHORIZED => {
            error.hint("the broker may require a login: set `username` and `password` or `password_file`")
        }
        _ => error,
    }
}

/// The number of a reason code, as the standard writes it, and the broker's own words.
fn shown(reason: &Reason) -> String {
    let number = reason.sent_as;
    let number = if number < 0x80 { number.to_string() } else { format!("{number:#04x}") };
    match &reason.text {
        Some(text) => format!("{number}: {}", escape(text)),
        None => number,
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

/// A SUBACK that refuses a topic filter, where that may pass.
pub(super) fn subscription_for_now(filter: &str, reason: &Reason) -> Error {
    subscription(filter, reason).and_because("trying again")
}

/// A SUBACK that refuses a topic filter.
pub(super) fn subscription(filter: &str, reason: &Reason) -> Error {
    let what = match reason.code {
        // All that MQTT 3.1.1 has, whatever the reason is.
        ReasonCode::UNSPECIFIED_ERROR => "not allowed".to_owned(),
        code => code.to_string(),
    };
    Error::new(Exit::Unavailable, format!("the broker refused the subscription to {filter:?}"))
        .because(format!("{what} (SUBACK {})", shown(reason)))
        .hint(with_topic("check `subtop`, and the permissions of this user on the broker", filter))
}

/// Adds to a hint what may be wrong with this topic.
fn with_topic(hint: &str, topic: &str) -> String {
    let risk = if topic.contains(['.', ' ']) { "; NATS refuses topics with dots or blanks" } else { "" };
    format!("{hint}{risk}")
}

/// The broker closes each connection when this topic filter is subscribed.
pub(super) fn closed_at_subscribe(filter: &str, times: u32) -> Error {
    Error::new(Exit::Unavailable, "trying again")
        .because(format!("the broker closed the connection {times} times in a row when {filter:?} was subscribed"))
        .hint(subscribe_hint(filter))
}

/// What may be wrong where the broker closes the connection instead of an answer to SUBSCRIBE.
pub(super) fn subscribe_hint(filter: &str) -> String {
    with_topic("some brokers refuse so: check `subtop`, and the permissions of this user on the broker", filter)
}

/// The broker closes each connection instead of an answer to CONNECT.
pub(super) fn closed_at_connect(options: &ClientOptions, times: u32) -> Error {
    Error::new(Exit::Unavailable, "trying again")
        .because(format!("the broker closed the connection {times} times in a row at CONNECT, without an answer"))
        .hint(connect_hint(options))
}

/// What may be wrong where the broker closes the connection instead of an answer to CONNECT.
pub(super) fn connect_hint(options: &ClientOptions) -> String {
    match &options.login {
        Some(login) => format!(
            "some brokers refuse so: check the login of user {:?} (`username`, and `password` or `password_file`), and `clientid`",
            login.username
        ),
        None => "some brokers refuse so where they require a login: set `username` and `password` or `password_file`; \
                 or check `clientid`"
            .to_owned(),
    }
}

/// A broker acknowledged a message at QoS 2 with PUBACK.
pub(super) fn lower_qos() -> Error {
    Error::new(Exit::Unavailable, "the broker takes QoS 2 for QoS 1")
        .because("it answers with PUBACK, so after a lost connection messages may arrive twice")
        .hint("with `qos = 1` this is as it should be")
}

/// What may be wrong with a message that ends each connection on which it is sent.
const MESSAGE_HINT: &str =
    "if it exceeds the broker's size limit, set a lower `max_message`; otherwise check the permissions for `pubtop`";

/// The same, if it was sent at QoS 2.
const QOS_HINT: &str = "the broker may not support QoS 2: set `qos = 1`; otherwise check the permissions for `pubtop`, and \
                        whether the message exceeds the broker's size limit (`max_message`)";

/// What may be wrong with this message.
fn message_hint(publish: &AttemptedPublish<'_>) -> String {
    with_topic(if publish.qos == Qos::ExactlyOnce { QOS_HINT } else { MESSAGE_HINT }, publish.topic)
}

/// A message that ends each connection on which it is sent.
pub(super) fn message(publish: &AttemptedPublish<'_>, times: u32) -> Error {
    let AttemptedPublish { topic, len, .. } = publish;
    Error::new(Exit::DataLost, format!("the broker did not accept a message of {len} bytes on {topic:?}"))
        .because(format!("it answered until this message was sent, then closed the connection, {times} times in a row"))
        .hint(message_hint(publish))
}

/// A message of which that may still be chance, or have another reason.
pub(super) fn suspect(publish: &AttemptedPublish<'_>, times: u32) -> Error {
    let AttemptedPublish { topic, len, longer_was_accepted, .. } = publish;
    let hint = if *longer_was_accepted {
        "it accepted an equally long one before, so check the broker's log and the permissions for `pubtop`".to_owned()
    } else {
        message_hint(publish)
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
            let error = connection(&Reason::new(ReasonCode::UNSUPPORTED_VERSION), refused, "id", false);
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
