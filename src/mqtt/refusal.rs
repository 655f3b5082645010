//! How each of a broker's refusals reads to the person who must mend it.

use super::Version;
use super::codec::ConnectRefusal;
use crate::{Error, Exit};

/// A CONNACK with a refusal that trying again will not change.
pub(super) fn connection(refusal: ConnectRefusal, version: Version, client_id: &str, with_login: bool) -> Error {
    let error = Error::new(Exit::Unavailable, "the broker refused the connection");
    match refusal {
        ConnectRefusal::Version => error
            .because(format!("it does not support MQTT {version} (CONNACK 1)"))
            .hint(format!("set `mqtt_version` to a version that it supports: {}", versions())),
        ConnectRefusal::ClientId => error
            .because(format!("it does not allow the client id {client_id:?} (CONNACK 2)"))
            .hint("set `clientid` to one that it allows"),
        ConnectRefusal::Unavailable => error.because("its MQTT service is unavailable (CONNACK 3)"),
        ConnectRefusal::Login => error
            .because("bad user name or password (CONNACK 4)")
            .hint("check `username` and `password` or `password_file`"),
        ConnectRefusal::NotAuthorized if with_login => error
            .because("not authorised (CONNACK 5)")
            .hint("check `username` and `password`, and what the broker allows this user and this `clientid`"),
        ConnectRefusal::NotAuthorized => error
            .because("not authorised (CONNACK 5)")
            .hint("the broker may want a login: set `username` and `password` or `password_file`"),
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
        .hint("check `subtop`, and what the broker's access list allows this user")
}

/// A message that ends each connection it is sent on.
pub(super) fn message(topic: &str, len: usize, times: u32) -> Error {
    Error::new(Exit::DataLost, format!("the broker does not take a message of {len} bytes on {topic:?}"))
        .because(format!("it closed {times} connections in a row when this message was sent"))
        .hint("it may be over the broker's limit: set a lower `max_message`; or `pubtop` is not allowed there")
}
