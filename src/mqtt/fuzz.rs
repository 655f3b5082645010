//! The targets of this room, each beside what it drives.

pub(crate) use super::client_session::fuzz::session;
pub(crate) use super::codec::fuzz::codec;
pub(crate) use super::network::fuzz::{proxy, tickets, web_socket};
