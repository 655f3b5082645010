//! CONNECT, which differs between the versions by a name, a number, and properties.

use bytes::{BufMut, BytesMut};

use super::fields::{put_binary, put_varint, varint_len};
use super::packet::Connect;
use crate::mqtt::{Login, Will};
use crate::secret::Password;

/// The packet type in the first byte.
const CONNECT: u8 = 0x10;

/// The flags (MQTT 3.1.1, 3.1.2.3).
const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// What a version puts into it.
#[derive(Clone, Copy, Debug)]
pub(super) struct VersionFields<'a> {
    pub(super) name: &'static str,
    pub(super) level: u8,
    /// Those of the packet and those of its will, encoded, where the version has properties.
    pub(super) properties: Option<[&'a [u8]; 2]>,
}

/// Appends a CONNECT. No copy of the password is made.
pub(super) fn encode(connect: &Connect<'_>, fields: &VersionFields<'_>, out: &mut BytesMut) {
    let Connect { client_id, login, will, keep_alive, clean_session, .. } = *connect;
    let (own, of_will) = fields.properties.map_or((None, None), |[own, of_will]| (Some(own), Some(of_will)));
    let (username, password) = (login.map(|login| &*login.username), login.and_then(password));
    out.put_u8(CONNECT);
    let len = 4 + [
        string_len(fields.name),
        properties_len(own),
        string_len(client_id),
        will.map_or(0, |will| properties_len(of_will) + string_len(&will.topic) + 2 + will.payload.len()),
        username.map_or(0, string_len),
        password.map_or(0, string_len),
    ]
    .iter()
    .sum::<usize>();
    put_varint(len, out);
    put_binary(fields.name.as_bytes(), out);
    out.put_u8(fields.level);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let login_flags = flag(username.is_some(), USERNAME) | flag(password.is_some(), PASSWORD);
    out.put_u8(flag(clean_session, CLEAN) | will.map_or(0, will_flags) | login_flags);
    out.put_u16(keep_alive);
    put_properties(own, out);
    put_binary(client_id.as_bytes(), out);
    if let Some(will) = will {
        put_properties(of_will, out);
        put_binary(will.topic.as_bytes(), out);
        put_binary(&will.payload, out);
    }
    for text in [username, password].into_iter().flatten() {
        put_binary(text.as_bytes(), out);
    }
}

fn string_len(text: &str) -> usize {
    2 + text.len()
}

fn properties_len(properties: Option<&[u8]>) -> usize {
    properties.map_or(0, |properties| varint_len(properties.len()) + properties.len())
}

fn will_flags(will: &Will) -> u8 {
    WILL | will.qos.code() << WILL_QOS_SHIFT | if will.retain { WILL_RETAIN } else { 0 }
}

/// An empty one counts as none.
fn password(login: &Login) -> Option<&str> {
    login.password.as_ref().map(Password::expose).filter(|password| !password.is_empty())
}

fn put_properties(properties: Option<&[u8]>, out: &mut BytesMut) {
    if let Some(properties) = properties {
        put_varint(properties.len(), out);
        out.put_slice(properties);
    }
}
