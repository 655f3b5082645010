//! What the user reads when the broker refuses something, and how to mend it.

use super::outgoing_publish::AttemptedPublish;
use super::subscriptions::RefusedBy;
use crate::mqtt::MIN_MESSAGE;
use crate::mqtt::codec::{Reason, ReasonCode};
use crate::mqtt::connection_lost::Obstacle;
use crate::mqtt::{ClientOptions, ConnectionLost, Qos, Version};
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
        ReasonCode::BAD_AUTH_METHOD => error.hint(AUTH_HINT),
        ReasonCode::PACKET_TOO_LARGE => error.hint("shorten the text of --will, or raise the limit of the broker"),
        _ => error.hint_if(reason.server.as_deref().map(other_server)),
    }
}

/// What to do where the broker names another one.
fn other_server(server: &str) -> String {
    format!("it names another broker: set `host = {}`", escape(server))
}

/// What to do about authentication that this program does not have.
const AUTH_HINT: &str = "set `username` and `password`, or use a listener of the broker that needs no more than these";

/// AUTH: the broker wants an exchange of its own.
pub(super) fn auth_wanted() -> Error {
    Error::new(Exit::Unavailable, "the broker asks for extended authentication (AUTH)")
        .because("only a user name and a password can be given")
        .hint(AUTH_HINT)
}

/// A DISCONNECT from the broker.
pub(super) fn disconnected(reason: &Reason) -> ConnectionLost {
    let obstacle = match reason.code {
        ReasonCode::SESSION_TAKEN_OVER => Obstacle::TakenOver,
        _ => Obstacle::Other,
    };
    let server = reason.server.as_deref().map(|server| format!("; it names {}", escape(server))).unwrap_or_default();
    let lost = ConnectionLost::at(obstacle, format!("the broker ended the connection: {reason}{server}"));
    lost.hint_if(reason.server.as_deref().map(other_server))
}

/// A DISCONNECT from the broker instead of an answer to SUBSCRIBE.
pub(super) fn disconnected_at_subscribe(filter: &str, reason: &Reason) -> ConnectionLost {
    let why = format!("the broker ended the connection when {filter:?} was subscribed: {reason}");
    ConnectionLost::at(Obstacle::Subscription, why).hint(subscription_hint(filter))
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

/// What to do if the broker does not support this version: take another one.
fn other_versions(refused: Version) -> String {
    let others = Version::ALL.into_iter().rev().filter(|version| *version != refused);
    let others: Vec<_> =
        others.map(|version| format!("mqtt_version = {} (MQTT {version})", version.config_value())).collect();
    format!("set a version that it supports: {}", others.join(", "))
}

/// A topic filter is refused, where that may pass.
pub(super) fn subscription_for_now(filter: &str, refused_by: RefusedBy, reason: &Reason) -> Error {
    subscription(filter, refused_by, reason).and_because("trying again")
}

/// A topic filter is refused.
pub(super) fn subscription(filter: &str, refused_by: RefusedBy, reason: &Reason) -> Error {
    let what = match reason.code {
        // All that MQTT 3.1.1 has, whatever the reason is.
        ReasonCode::UNSPECIFIED_ERROR => "not allowed".to_owned(),
        code => code.to_string(),
    };
    let packet = match refused_by {
        RefusedBy::SubAck => "SUBACK",
        RefusedBy::Disconnect => "DISCONNECT",
    };
    Error::new(Exit::Unavailable, format!("the broker refused the subscription to {filter:?}"))
        .because(format!("{what} ({packet} {})", shown(reason)))
        .hint(subscription_hint(filter))
}

/// What to check where a topic filter is refused.
fn subscription_hint(filter: &str) -> String {
    with_topic("check `subtop`, and the permissions of this user on the broker", filter)
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
    with_topic("some brokers refuse this way: check `subtop`, and the permissions of this user on the broker", filter)
}

/// The broker closes each connection instead of an answer to CONNECT.
pub(super) fn closed_at_connect(options: &ClientOptions, times: u32) -> Error {
    Error::new(Exit::Unavailable, "trying again")
        .because(format!("the broker closed the connection {times} times in a row at CONNECT, without an answer"))
        .hint(connect_hint(options))
}

/// What may be wrong where the broker closes the connection instead of an answer to CONNECT.
pub(super) fn connect_hint(options: &ClientOptions) -> String {
    let hint = match &options.login {
        Some(login) => format!(
            "some brokers refuse this way: check the login of user {:?} (`username`, `password` or `password_file`), and `clientid`",
            login.username
        ),
        None => "some brokers do this if they require a login: set `username` and `password` or `password_file`; \
                 or check `clientid`"
            .to_owned(),
    };
    let hint = match &options.will {
        Some(will) if will.qos == Qos::ExactlyOnce => {
            format!("{hint}; the broker may not support QoS 2, which the will has: set `qos = 1`")
        }
        _ => hint,
    };
    // The version that every broker in use has.
    let (version, common) = (options.version, Version::default());
    if version == common {
        return hint;
    }
    format!("{hint}; if the broker has no MQTT {version}, set `mqtt_version = {}`", common.config_value())
}

/// A broker acknowledged a message at QoS 2 with PUBACK.
pub(super) fn lower_qos() -> Error {
    Error::new(Exit::Unavailable, "the broker treats QoS 2 as QoS 1")
        .because("it answers with PUBACK, so after a lost connection messages may arrive twice")
        .hint("set `qos = 1`, which on an encrypted link is enough")
}

/// A PUBACK or PUBREC that refuses a message for good.
pub(super) fn publish(publish: &AttemptedPublish<'_>, reason: &Reason) -> Error {
    refused_message(publish, format!("{} (reason code {})", reason.code, shown(reason)), reason)
}

/// A DISCONNECT for a message that was sent alone.
pub(super) fn publish_ended(publish: &AttemptedPublish<'_>, reason: &Reason) -> Error {
    let why = format!("{}, so it ended the connection (reason code {})", reason.code, shown(reason));
    refused_message(publish, why, reason)
}

fn refused_message(publish: &AttemptedPublish<'_>, why: String, reason: &Reason) -> Error {
    let AttemptedPublish { topic, len, .. } = publish;
    let (exit, hint) = match reason.code {
        ReasonCode::NOT_AUTHORIZED => {
            (Exit::Unavailable, "give this user the right to publish on this topic (`pubtop`) on the broker")
        }
        ReasonCode::PACKET_TOO_LARGE => (Exit::DataLost, "set a lower `max_message`"),
        ReasonCode::RETAIN_NOT_SUPPORTED => (Exit::Unavailable, "set `retain = 0`"),
        ReasonCode::QOS_NOT_SUPPORTED => (Exit::Unavailable, "set a lower `qos`"),
        _ => (Exit::Unavailable, "check `pubtop`, and the broker's log"),
    };
    let what = format!("the broker refused a message of {len} bytes on {topic:?}");
    Error::new(exit, what).because(why).hint(hint)
}

/// A PUBACK or PUBREC that refuses a message for now.
pub(super) fn publish_for_now(publish: &AttemptedPublish<'_>, reason: &Reason) -> Error {
    let AttemptedPublish { topic, len, .. } = publish;
    let why = format!(
        "the broker refused a message of {len} bytes on {topic:?}: {} (reason code {})",
        reason.code,
        shown(reason)
    );
    Error::new(Exit::TryAgain, "trying again").because(why)
}

/// A message that is longer than the broker takes.
pub(super) fn too_long(publish: &AttemptedPublish<'_>, max: usize) -> Error {
    let AttemptedPublish { topic, len, .. } = publish;
    Error::new(Exit::DataLost, format!("the broker does not accept a message of {len} bytes on {topic:?}"))
        .because(format!("it takes at most {max} bytes"))
        .hint(if max < MIN_MESSAGE {
            format!("this program needs at least {MIN_MESSAGE} bytes: raise the limit of the broker")
        } else {
            format!("set `max_message = {max}`, or raise the limit of the broker")
        })
}

/// The broker supports no quality of service as high as a message has.
pub(super) fn lower_max_qos(asked: Qos, max: Qos) -> Error {
    let meaning = match max {
        Qos::AtMostOnce => "a message may be lost",
        Qos::AtLeastOnce | Qos::ExactlyOnce => "a message may arrive twice",
    };
    Error::new(Exit::Unavailable, format!("messages are sent with QoS {max} instead of {asked}"))
        .because(format!("the broker supports no higher one, so {meaning}"))
}

/// The broker supports no quality of service as high as the will has.
pub(super) fn lower_will_qos(asked: Qos, max: Qos) -> Error {
    Error::new(Exit::Unavailable, format!("the will is sent with QoS {max} instead of {asked}"))
        .because("the broker supports no higher one")
}

/// The broker keeps no messages, so no will either.
pub(super) fn will_not_retained() -> Error {
    Error::new(Exit::Unavailable, "the will is sent without `retain`").because("the broker does not keep messages")
}

/// The broker keeps no messages.
pub(super) fn not_retained() -> Error {
    Error::new(Exit::Unavailable, "messages are sent without `retain`").because("the broker does not keep messages")
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

/// The broker closes each connection after this message at QoS 0.
pub(super) fn closed_after(topic: &str, len: usize, times: u32, unique_client_id: bool) -> Error {
    Error::new(Exit::Unavailable, "trying again")
        .because(format!(
            "the broker closed the connection {times} times in a row after a message of {len} bytes was sent on {topic:?}"
        ))
        .hint(length_hint(unique_client_id))
}

/// What may be wrong with a message at QoS 0 that each connection ends after. No other client uses a `unique_client_id`.
pub(super) fn length_hint(unique_client_id: bool) -> String {
    let other = if unique_client_id { "" } else { ", and whether another client uses this `clientid`" };
    format!(
        "the broker may have a limit for the size of a message that is lower than this: raise it; otherwise check the \
         broker's log{other}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_versions_are_proposed() {
        for refused in Version::ALL {
            let error = connection(&Reason::new(ReasonCode::UNSUPPORTED_VERSION), refused, "id", false);
            let hint = error.hint_text().unwrap();
            for version in Version::ALL {
                let proposed = hint.contains(&format!("mqtt_version = {}", version.config_value()));
                assert_eq!(proposed, version != refused, "{hint}");
            }
        }
    }
}
