//! What to write where a port is not for TLS.

use crate::mqtt::endpoint::{DEFAULT_PATH, MQTTS_PORT, Node};

/// What the user accepts without TLS.
const IN_THE_CLEAR: &str = "which sends topics and the broker's password in the clear";

/// A port that may not be for TLS.
#[derive(Clone, Debug)]
pub(super) struct PlainPort {
    /// `HOST:PORT`.
    pub(super) broker: String,
    /// The path of the request for WebSocket, if that is to be spoken above TLS.
    pub(super) path: Option<String>,
}

impl PlainPort {
    pub(super) fn new(node: &Node, path: Option<String>) -> Self {
        Self { broker: node.to_string(), path }
    }

    /// What to write if it is not for TLS; `is_http` says whether it answers in HTTP, as a port for WebSocket does.
    pub(super) fn hint(&self, is_http: bool) -> String {
        let Self { broker, path } = self;
        match path {
            _ if is_http && cfg!(feature = "websocket") => {
                let path = path.as_deref().unwrap_or(DEFAULT_PATH);
                format!(
                    "this is a web server, or a broker's port for WebSocket without TLS: url = ws://{broker}{path}, \
                     {IN_THE_CLEAR}"
                )
            }
            Some(path) => format!(
                "set the port in `url` to the broker's port for WebSocket over TLS; if it has none: \
                 url = ws://{broker}{path}, or mqtt://{broker} if this port is not for WebSocket, {IN_THE_CLEAR}"
            ),
            None => format!(
                "set `port` to the broker's port for TLS, usually {MQTTS_PORT}; if it has none: url = mqtt://{broker}, \
                 {IN_THE_CLEAR}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_has_the_scheme_of_what_answers_and_the_path_of_what_was_asked_for() {
        let hint = |path: Option<&str>, is_http| {
            let port = PlainPort { broker: "broker:1".to_owned(), path: path.map(str::to_owned) };
            port.hint(is_http)
        };
        assert!(hint(None, false).contains("url = mqtt://broker:1,") && !hint(None, false).contains("ws://"));
        assert!(hint(Some("/here"), false).contains("url = ws://broker:1/here, or mqtt://broker:1 "));
        #[cfg(feature = "websocket")]
        for (path, url) in [(None, "url = ws://broker:1/mqtt,"), (Some("/here"), "url = ws://broker:1/here,")] {
            assert!(hint(path, true).contains(url) && !hint(path, true).contains("mqtt://"));
        }
    }
}
