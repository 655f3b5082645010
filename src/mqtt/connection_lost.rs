//! Why a connection must be dropped.

use std::io::ErrorKind;
use std::{fmt, io};

/// Connections in a row that the broker closed without a word at the same point, before it is asked what that shows.
pub(super) const MIN_CLOSED: u32 = 3;

/// The connection must be dropped; the client then makes another one. Displays as one phrase that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLost {
    why: String,
    obstacle: Obstacle,
    hint: Option<String>,
    finality: Finality,
    /// Which node or address it was, as messages name it, and the node's index.
    place: Option<(String, usize)>,
}

/// Whether another attempt can be of use, least first. Who can close connections, or keep this device from the broker, must not
/// be able to end a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finality {
    /// It can.
    #[default]
    Passing,
    /// It can, unless several in a row fail so, for some time.
    FinalIfRepeated,
    /// It cannot, unless something is changed here or at the broker.
    Final,
}

/// What stands between this client and the broker, as far as that suggests what to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The host name has no address.
    Lookup,
    /// Nothing listens at the port, or on the Unix socket.
    Refused,
    /// There is no Unix socket of this name.
    NoSocket,
    /// This user may not connect.
    Permission,
    /// The proxy cannot be reached, or is none.
    Proxy,
    /// The proxy wants a login, or another one.
    ProxyLogin,
    /// The proxy does not allow the connection.
    ProxyPolicy,
    /// The proxy cannot reach the broker.
    ProxyTarget,
    /// The local address that is to be used cannot be.
    LocalAddress,
    /// Nothing answers from the host.
    Unreachable,
    /// The connection is open, and nothing is said on it.
    Silence,
    /// The other end closed the connection.
    Closed,
    /// The broker has accepted another client with our client id.
    TakenOver,
    /// The broker does not grant a topic filter, and so ends the connection.
    Subscription,
    /// The other end speaks TLS.
    Tls,
    /// The other end speaks HTTP.
    Http,
    /// The answer to a request for WebSocket was this status of HTTP; `None` for no answer.
    #[cfg(feature = "websocket")]
    Upgrade(Option<u16>),
    /// Anything else.
    Other,
}

impl Obstacle {
    /// Whether the other end closed the connection without an answer.
    pub(super) fn is_closed(self) -> bool {
        match self {
            Self::Closed => true,
            #[cfg(feature = "websocket")]
            Self::Upgrade(None) => true,
            _ => false,
        }
    }
}

impl ConnectionLost {
    /// Text from the network in `why` must be escaped.
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self::at(Obstacle::Other, why)
    }

    /// As [`ConnectionLost::new`], where it is known what stands in the way.
    pub(super) fn at(obstacle: Obstacle, why: impl Into<String>) -> Self {
        Self { why: why.into(), obstacle, hint: None, finality: Finality::Passing, place: None }
    }

    /// Adds what to do, where that is known better than the obstacle tells.
    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        self.hint_if(Some(hint))
    }

    /// As [`ConnectionLost::hint`], if there is one.
    #[must_use]
    pub(super) fn hint_if(self, hint: Option<impl Into<String>>) -> Self {
        Self { hint: hint.map(Into::into), ..self }
    }

    /// Says that another attempt would fail, too, unless something is changed here or at the broker.
    #[must_use]
    pub(super) fn final_one(mut self) -> Self {
        self.finality = Finality::Final;
        self
    }

    /// Says that another attempt would fail, too, if several in a row fail so.
    #[cfg(feature = "tls")]
    #[must_use]
    pub(super) fn final_if_repeated(mut self) -> Self {
        self.finality = Finality::FinalIfRepeated;
        self
    }

    /// Limits how final this failure is: it is final only once several attempts in a row have failed in this way.
    #[cfg(feature = "tls")]
    #[must_use]
    pub(super) fn final_only_if_repeated(mut self) -> Self {
        self.finality = self.finality.min(Finality::FinalIfRepeated);
        self
    }

    /// The same in these words, for several of which this is the last, and as final as all of them are.
    pub(super) fn retold(self, why: String, finality: Finality) -> Self {
        Self { why, finality, ..self }
    }

    /// Says where it was, unless it says so already: the node, or its address, as messages name it, and the node's index.
    pub(super) fn at_place(mut self, shown: impl fmt::Display, node: usize) -> Self {
        self.place.get_or_insert_with(|| (shown.to_string(), node));
        self
    }

    /// Where it was, if it says so.
    pub(super) fn place(&self) -> Option<&str> {
        self.place.as_ref().map(|(shown, _)| shown.as_str())
    }

    /// The index of the node that it was at, if it says so.
    pub(super) fn node(&self) -> Option<usize> {
        self.place.as_ref().map(|(_, node)| *node)
    }

    /// What came in is not MQTT, or not what a broker may send.
    pub(super) fn malformed(what: impl fmt::Display) -> Self {
        Self::new(format!("the broker sent invalid MQTT: {what}"))
    }

    /// What to do, as [`ConnectionLost::hint`] said.
    pub(super) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether another attempt can be of use.
    pub(super) fn finality(&self) -> Finality {
        self.finality
    }

    /// What stands in the way.
    pub(super) fn obstacle(&self) -> Obstacle {
        self.obstacle
    }
}

/// Whether an error of this kind means that the other end has dropped the connection.
pub(super) fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

impl From<io::Error> for ConnectionLost {
    /// What a layer says through [`io::Error`] is its own [`ConnectionLost`].
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(lost) => return lost,
            Err(error) => error,
        };
        let obstacle = match error.kind() {
            ErrorKind::ConnectionRefused => Obstacle::Refused,
            ErrorKind::NotFound => Obstacle::NoSocket,
            ErrorKind::PermissionDenied => Obstacle::Permission,
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Obstacle::Unreachable,
            kind if is_closed(kind) => Obstacle::Closed,
            _ => Obstacle::Other,
        };
        Self::at(obstacle, error.to_string())
    }
}

impl fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for ConnectionLost {}
