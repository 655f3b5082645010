//! The properties of MQTT 5 (2.2.2): what each packet may have, read and written.

use bytes::{BufMut, BytesMut};

use super::fields::{Fields, Malformed};

/// The identifier of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Property(u8);

/// Those that are read or written (table 2-4); the others of a packet are skipped.
impl Property {
    pub(super) const MESSAGE_EXPIRY: Self = Self(2);
    pub(super) const SESSION_EXPIRY: Self = Self(17);
    pub(super) const ASSIGNED_CLIENT_ID: Self = Self(18);
    pub(super) const SERVER_KEEP_ALIVE: Self = Self(19);
    pub(super) const SERVER_REFERENCE: Self = Self(28);
    pub(super) const REASON_STRING: Self = Self(31);
    pub(super) const RECEIVE_MAXIMUM: Self = Self(33);
    pub(super) const TOPIC_ALIAS_MAXIMUM: Self = Self(34);
    pub(super) const TOPIC_ALIAS: Self = Self(35);
    pub(super) const MAXIMUM_QOS: Self = Self(36);
    pub(super) const RETAIN_AVAILABLE: Self = Self(37);
    const USER_PROPERTY: Self = Self(38);
    pub(super) const MAXIMUM_PACKET_SIZE: Self = Self(39);
    const SUBSCRIPTION_ID: Self = Self(11);
}

/// The properties that one kind of packet may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed(u64);

impl Allowed {
    pub(super) const CONNACK: Self = Self::of(&[17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42]);
    pub(super) const PUBLISH: Self = Self::of(&[1, 2, 3, 8, 9, 11, 35, 38]);
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    pub(super) const ACK: Self = Self::of(&[31, 38]);
    pub(super) const DISCONNECT: Self = Self::of(&[17, 28, 31, 38]);
    pub(super) const AUTH: Self = Self::of(&[21, 22, 31, 38]);

    const fn of(identifiers: &[u8]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < identifiers.len() {
            set |= 1 << identifiers[at];
            at += 1;
        }
        Self(set)
    }

    fn has(self, property: Property) -> bool {
        property.0 < 64 && self.0 >> property.0 & 1 == 1
    }
}

/// The value of a property: a number, or a string.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Value<'a> {
    pub(super) number: u32,
    pub(super) text: &'a str,
}

impl Value<'_> {
    /// The number of a property of two bytes.
    pub(super) fn short(self) -> u16 {
        u16::try_from(self.number).unwrap_or(u16::MAX)
    }

    /// The number of a property that must not be 0.
    pub(super) fn not_zero(self) -> Result<Self, Malformed> {
        if self.number == 0 { Err(Malformed("a property that must not be 0")) } else { Ok(self) }
    }
}

/// The properties of one packet, in the order in which they come.
#[derive(Debug)]
pub(super) struct Properties<'a> {
    rest: Fields<'a>,
    allowed: Allowed,
    /// Those that came, and may not come again.
    seen: u64,
}

impl<'a> Properties<'a> {
    /// Those at the front of `fields`.
    pub(super) fn read(fields: &mut Fields<'a>, allowed: Allowed) -> Result<Self, Malformed> {
        Ok(Self { rest: fields.properties()?, allowed, seen: 0 })
    }

    /// The next one.
    ///
    /// # Errors
    /// [`Malformed`] for one that the packet cannot have, that came before, or that is longer than the properties.
    pub(super) fn next(&mut self) -> Result<Option<(Property, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        // An identifier is a variable byte integer, and all of them are below 128.
        let property = Property(self.rest.u8()?);
        if !self.allowed.has(property) {
            return Err(Malformed("a property that it cannot have"));
        }
        let repeatable = [Property::USER_PROPERTY, Property::SUBSCRIPTION_ID].contains(&property);
        if self.seen >> property.0 & 1 == 1 && !repeatable {
            return Err(Malformed("a property twice"));
        }
        self.seen |= 1 << property.0;
        Ok(Some((property, self.value(property)?)))
    }

    fn value(&mut self, property: Property) -> Result<Value<'a>, Malformed> {
        let number = |number| Value { number, text: "" };
        let rest = &mut self.rest;
        Ok(match property.0 {
            1 | 23 | 25 | 36 | 37 | 40..=42 => number(rest.u8()?.into()),
            19 | 33..=35 => number(rest.u16()?.into()),
            2 | 17 | 24 | 39 => number(rest.u32()?),
            11 => number(rest.varint()?),
            9 | 22 => rest.binary().map(|_| Value::default())?,
            38 => rest.string().and(rest.string()).map(|_| Value::default())?,
            // 3, 8, 18, 21, 26, 28 and 31, as every other number is no property.
            _ => Value { number: 0, text: rest.string()? },
        })
    }
}

/// Appends a property of two bytes.
pub(super) fn put_u16(property: Property, value: u16, out: &mut BytesMut) {
    out.put_u8(property.0);
    out.put_u16(value);
}

/// Appends a property of four bytes.
pub(super) fn put_u32(property: Property, value: u32, out: &mut BytesMut) {
    out.put_u8(property.0);
    out.put_u32(value);
}
