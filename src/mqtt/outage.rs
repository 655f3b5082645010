//! Why there is no connection to the broker, and what is probably wrong.

use std::fmt;

use super::connection_lost::{ConnectionLost, Obstacle};
use super::endpoint::{BrokerAddress, DEFAULT_PATH, Endpoint, MQTT_PORT, MQTTS_PORT};
use super::tls_options::TlsOptions;
use crate::{Error, Exit};

/// Where a broker is reached and says nothing.
const CHECK_LOG: &str = "the broker may be stuck, or may refuse this device: check its log";

/// Where a proxy is reached, and nothing comes from it or from behind it.
const MUTE_PROXY: &str = "the proxy, or the broker behind it, does not answer: check `proxy`, and the logs of both";

/// What to do where another client takes the connection.
pub(crate) const OWN_CLIENT_ID: &str = "give each device and each link a `clientid` of its own";

/// What a plain port is, in a hint.
const PLAIN_PORT: &str = "`port` must be the broker's port for MQTT without TLS, usually 1883";

/// Why there is no connection to the broker; displays as one phrase, in which text from the network is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The node or address that it was at, if it was at one.
    place: Option<String>,
    why: String,
    hint: Option<String>,
    obstacle: Obstacle,
}

impl Outage {
    /// No connection came about, since `lost` stood in the way before the broker had accepted one.
    pub(super) fn before_connack(endpoint: &Endpoint, lost: &ConnectionLost) -> Self {
        let obstacle = lost.obstacle();
        let when = if obstacle == Obstacle::Closed && lost.hint_text().is_none() {
            ", without an answer to CONNECT"
        } else {
            ""
        };
        let known = lost.hint_text().map(str::to_owned);
        let node = endpoint.at_node(lost.node().unwrap_or(0));
        let (why, hint) = (format!("{lost}{when}"), known.or_else(|| hint(obstacle, &node)));
        Self { place: Some(place(endpoint, lost)), why, hint, obstacle }
    }

    /// A connection was lost that the broker had accepted: it is known to be one.
    pub(super) fn after_connack(endpoint: &Endpoint, lost: &ConnectionLost) -> Self {
        let known = lost.hint_text().map(str::to_owned);
        let taken_over =
            || (lost.obstacle() == Obstacle::TakenOver).then(|| hint(Obstacle::TakenOver, endpoint)).flatten();
        let (place, why) = (Some(place(endpoint, lost)), lost.to_string());
        Self { place, why, hint: known.or_else(taken_over), obstacle: lost.obstacle() }
    }

    /// The error of a run that ends for this reason alone.
    pub(crate) fn into_error(self) -> Error {
        let error = Error::new(Exit::Unavailable, "no connection to the broker").because(&self);
        error.hint_if(self.hint)
    }

    /// Adds to the error of a run that ends that this was a reason, too.
    #[must_use]
    pub(crate) fn explain(&self, error: Error) -> Error {
        let error = error.and_because(format_args!("no connection to the broker: {self}"));
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }

    /// As of a connection that the broker ended since it does not grant a topic filter.
    #[cfg(test)]
    pub(crate) fn at_subscribe(why: &str) -> Self {
        Self { obstacle: Obstacle::Subscription, ..why.into() }
    }

    /// Adds one more guess at what to check.
    #[must_use]
    pub(super) fn or_hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(match self.hint.take() {
            Some(first) => format!("{first}; {hint}"),
            None => hint.to_string(),
        });
        self
    }

    /// Whether the next connection will end in the same way unless the broker grants what was subscribed.
    pub(crate) fn is_at_subscribe(&self) -> bool {
        self.obstacle == Obstacle::Subscription
    }

    /// Whether both have the same cause, whatever node, address or time their texts name.
    pub(crate) fn has_cause_of(&self, other: &Self) -> bool {
        self.obstacle == other.obstacle
            && match self.obstacle {
                Obstacle::Tls => self.hint == other.hint,
                Obstacle::Other => self.why == other.why,
                _ => true,
            }
    }

    /// What to check, where that can be guessed.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<&str> for Outage {
    fn from(why: &str) -> Self {
        Self { place: None, why: why.to_owned(), hint: None, obstacle: Obstacle::Other }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// The node or address that it was at.
fn place(endpoint: &Endpoint, lost: &ConnectionLost) -> String {
    lost.place().map_or_else(|| endpoint.to_string(), str::to_owned)
}

/// What is probably wrong.
fn hint(obstacle: Obstacle, endpoint: &Endpoint) -> Option<String> {
    Some(match (obstacle, endpoint.port()) {
        (Obstacle::TakenOver, _) => OWN_CLIENT_ID.to_owned(),
        (Obstacle::Lookup, _) => "check `host`, and that this device can look up names".to_owned(),
        (Obstacle::Refused, Some(_)) => "check `host` and `port`, and that the broker is running".to_owned(),
        (Obstacle::Refused, None) => "check that the broker is running: nothing listens on this socket".to_owned(),
        (Obstacle::Unreachable, _) => "check `host` and `port`, and the network and any firewall in between".to_owned(),
        (Obstacle::NoSocket, _) => "check the path in `url`, and that the broker is running".to_owned(),
        (Obstacle::Permission, None) => {
            "this user must be allowed to write to the socket: check its owner and mode, and those of its directory"
                .to_owned()
        }
        (Obstacle::Proxy, _) => "check `proxy`, and that the proxy is running".to_owned(),
        (Obstacle::ProxyLogin, _) => "check the login in `proxy`".to_owned(),
        (Obstacle::ProxyPolicy, _) => "ask who runs the proxy to allow connections to this host and port".to_owned(),
        (Obstacle::ProxyTarget, _) => "check `host` and `port`, which the proxy connects to".to_owned(),
        (Obstacle::LocalAddress, _) => {
            "check `bind_address`: it must be an address of this device, of the broker's family".to_owned()
        }
        (Obstacle::Tls, _) if endpoint.tls.is_none() => tls_or_plain(endpoint),
        (Obstacle::Http, _) => {
            format!("this is a web server, or a broker's port for WebSocket: {}", web_socket(endpoint))
        }
        #[cfg(feature = "websocket")]
        (Obstacle::Upgrade(status), _) => upgrade(status, endpoint),
        (Obstacle::Silence, _) if endpoint.proxy.is_some() => MUTE_PROXY.to_owned(),
        (Obstacle::Silence | Obstacle::Closed, Some(port))
            if endpoint.web_socket.is_none() && endpoint.tls.is_none() =>
        {
            no_answer_at(port, endpoint)
        }
        (Obstacle::Silence | Obstacle::Closed, _) => CHECK_LOG.to_owned(),
        (Obstacle::Permission | Obstacle::Tls | Obstacle::Subscription | Obstacle::Other, _) => return None,
    })
}

/// Where plain MQTT has no answer: what this port is usually for.
fn no_answer_at(port: u16, endpoint: &Endpoint) -> String {
    match port {
        443 | MQTTS_PORT | 8884 => {
            format!("the broker probably speaks TLS on port {port}: {}; otherwise {CHECK_LOG}", tls_or_plain(endpoint))
        }
        80 | 8080 | 8083 | 9001 => format!("port {port} is usually for HTTP or WebSocket: {}", web_socket(endpoint)),
        MQTT_PORT => CHECK_LOG.to_owned(),
        _ => {
            let tls = over_tls(endpoint).map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("the broker may speak TLS or WebSocket on this port: {PLAIN_PORT}{tls}; otherwise {CHECK_LOG}")
        }
    }
}

/// What to write where a broker speaks TLS, in this build.
fn tls_or_plain(endpoint: &Endpoint) -> String {
    over_tls(endpoint).unwrap_or_else(|| PLAIN_PORT.to_owned())
}

/// What to write where a broker speaks TLS; `None` where this build does not. The other URL is for what may be above TLS.
fn over_tls(endpoint: &Endpoint) -> Option<String> {
    let over = Endpoint { tls: Some(TlsOptions::default()), ..endpoint.clone() };
    let other = other_url(&over).map(|other| format!(", or {other}")).unwrap_or_default();
    over.missing_layer().is_none().then(|| format!("for TLS: url = {}{other}", url(&over)))
}

/// The URL of an endpoint with one node.
fn url(endpoint: &Endpoint) -> String {
    format!("{}://{endpoint}{}", endpoint.scheme(), endpoint.web_socket.as_deref().unwrap_or_default())
}

/// The URL to write instead of that of this endpoint if its port is not for WebSocket, or if it is.
fn other_url(endpoint: &Endpoint) -> Option<String> {
    let is_not = endpoint.web_socket.is_some();
    let web_socket = (!is_not).then(|| DEFAULT_PATH.to_owned());
    let other = Endpoint { web_socket, ..endpoint.clone() };
    let is_possible = other.missing_layer().is_none() && matches!(other.address, BrokerAddress::Tcp(_));
    is_possible.then(|| format!("{} if this port is {}for WebSocket", url(&other), if is_not { "not " } else { "" }))
}

/// What to write where a server speaks HTTP on a port for MQTT.
fn web_socket(endpoint: &Endpoint) -> String {
    let over = Endpoint { web_socket: Some(DEFAULT_PATH.to_owned()), ..endpoint.clone() };
    let usual_port = if endpoint.tls.is_some() { MQTTS_PORT } else { MQTT_PORT };
    match (over.missing_layer(), &over.address) {
        (None, BrokerAddress::Tcp(_)) => {
            format!(
                "write url = {}://{endpoint}{DEFAULT_PATH}, or set `port` to the one for MQTT, usually {usual_port}",
                over.scheme()
            )
        }
        _ => PLAIN_PORT.to_owned(),
    }
}

/// What to check where a request for WebSocket was not granted.
#[cfg(feature = "websocket")]
fn upgrade(status: Option<u16>, endpoint: &Endpoint) -> String {
    let path = endpoint.web_socket.as_deref().unwrap_or_default();
    match status {
        None => {
            let other = other_url(endpoint).map(|other| format!("; write url = {other}")).unwrap_or_default();
            format!("check the port in `url`: it must be the broker's port for WebSocket{other}")
        }
        Some(401 | 403 | 407) => {
            format!("a web server refuses this device: it may want an HTTP login, or a path other than {path} in `url`")
        }
        Some(404 | 405 | 410) => {
            format!("check the path in `url`: the broker has no WebSocket at {path}; others use /mqtt, / or /ws")
        }
        Some(300..=399) => "write the URL that the web server names, as ws:// or wss://".to_owned(),
        Some(500..=599) => "the web server may not reach the broker behind it: check its log".to_owned(),
        Some(_) => format!("check host, port and path ({path}) in `url`: this answer is a web server's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Node;
    use crate::mqtt::endpoint::{Proxy, ProxyKind};

    fn hint_at(port: u16, lost: &ConnectionLost) -> String {
        Outage::before_connack(&Endpoint::tcp("broker", port), lost).hint().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_port_suggests_what_the_server_speaks() {
        let closed = ConnectionLost::at(Obstacle::Closed, "the broker closed the connection");
        let silence = ConnectionLost::at(Obstacle::Silence, "no CONNACK from the broker");
        for lost in [&closed, &silence] {
            assert!(hint_at(8883, lost).contains("probably speaks TLS on port 8883"), "{}", hint_at(8883, lost));
            assert!(hint_at(9001, lost).contains("WebSocket"));
            assert!(hint_at(2000, lost).contains("usually 1883"));
            assert!(hint_at(1883, lost).contains("log"));
        }
        let outage = Outage::before_connack(&Endpoint::tcp("broker", 1), &closed);
        assert_eq!(outage.to_string(), "broker:1: the broker closed the connection, without an answer to CONNECT");
    }

    #[test]
    fn the_hint_is_for_the_node_that_failed() {
        let nodes = [("a", 1883), ("b", 8883)].map(|(host, port)| Node { host: host.to_owned(), port });
        let cluster = Endpoint::new(BrokerAddress::Tcp(nodes.to_vec()));
        let closed = ConnectionLost::at(Obstacle::Closed, "closed").at_place("b:8883", 1);
        let outage = Outage::before_connack(&cluster, &closed);
        assert!(outage.to_string().starts_with("b:8883: closed"), "{outage}");
        assert!(outage.hint().unwrap().contains("probably speaks TLS on port 8883"), "{outage:?}");
    }

    #[test]
    fn a_mute_proxy_is_not_blamed_on_the_port_of_the_broker() {
        let node = Node { host: "proxy".to_owned(), port: 1080 };
        let proxy = Some(Proxy { kind: ProxyKind::Socks5, node, login: None });
        let endpoint = Endpoint { proxy, ..Endpoint::tcp("broker", 8883) };
        let silence = ConnectionLost::at(Obstacle::Silence, "connected, but no answer");
        assert_eq!(Outage::before_connack(&endpoint, &silence).hint(), Some(MUTE_PROXY));
    }

    #[test]
    fn a_cause_is_the_same_at_another_node_and_time_and_differs_between_failures_of_tls() {
        let at = |place: &str, obstacle, why: &str, hint: Option<&str>| {
            let lost = ConnectionLost::at(obstacle, why).hint_if(hint).at_place(place, 0);
            Outage::before_connack(&Endpoint::tcp("broker", 8883), &lost)
        };
        let clock = Some("set the clock");
        let early = at("a:1", Obstacle::Tls, "the clock says 00:00:01", clock);
        assert!(early.has_cause_of(&at("b:1", Obstacle::Tls, "the clock says 00:00:02", clock)));
        assert!(!early.has_cause_of(&at("a:1", Obstacle::Tls, "unknown issuer", Some("set `ca_file`"))));
        let refused = at("a:1", Obstacle::Refused, "refused", None);
        assert!(refused.has_cause_of(&at("b:1", Obstacle::Refused, "refused (127.0.0.1)", None)));
        assert!(!refused.has_cause_of(&early));
        let busy = at("a:1", Obstacle::Other, "server busy", None);
        assert!(busy.has_cause_of(&at("b:1", Obstacle::Other, "server busy", None)));
        assert!(!busy.has_cause_of(&at("a:1", Obstacle::Other, "banned", None)));
    }

    #[test]
    fn what_was_a_broker_once_is_not_doubted() {
        let reset = ConnectionLost::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let outage = Outage::after_connack(&Endpoint::tcp("broker", 8883), &reset);
        assert_eq!((outage.to_string(), outage.hint()), ("broker:8883: connection reset".to_owned(), None));
        let told = ConnectionLost::new("moved").hint("set `host = b2`");
        assert_eq!(Outage::after_connack(&Endpoint::tcp("broker", 8883), &told).hint(), Some("set `host = b2`"));
    }
}
