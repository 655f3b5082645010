//! The broker's own limit: how fast it passes on or accepts opaque payloads, from a client that does nothing else.
//!
//! The client writes prepared packets to the bare socket, so that no code of this project lowers the limit.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::Result;

/// Messages in flight: as many as fit into sts-send's in-flight limit, 1 MiB.
const WINDOW: usize = 16;
/// How long to wait for an answer of the broker.
const PATIENCE: Duration = Duration::from_secs(30);

/// One MQTT 3.1.1 connection.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not yet taken.
    filled: std::ops::Range<usize>,
}

impl Raw {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut raw = Self { stream, buffer: vec![0; 256 << 10], filled: 0..0 };
        let id = format!("relay-{}", crate::unique());
        let mut body = b"\0\x04MQTT\x04\x02\0\x3c\0".to_vec();
        body.push(u8::try_from(id.len())?);
        body.extend_from_slice(id.as_bytes());
        raw.write(&packet(0x10, &body))?;
        match raw.next()? {
            (0x20, [_, 0]) => Ok(raw),
            _ => Err("the broker refused the connection".into()),
        }
    }

    pub(crate) fn subscribe(&mut self, topic: &str) -> Result<()> {
        let body = [&[0, 1, 0][..], &[u8::try_from(topic.len())?], topic.as_bytes(), &[1]].concat();
        self.write(&packet(0x82, &body))?;
        match self.next()? {
            (0x90, [0, 1, 1]) => Ok(()),
            _ => Err("the broker refused the subscription".into()),
        }
    }

    /// Publishes each payload at QoS 1, and waits until the broker has acknowledged all of them.
    pub(crate) fn publish(&mut self, topic: &str, payloads: &[Bytes]) -> Result<()> {
        for (id, payload) in (1_u16..).zip(payloads) {
            let body = [&[0, u8::try_from(topic.len())?], topic.as_bytes(), &id.to_be_bytes(), payload].concat();
            self.write(&packet(0x32, &body))?;
        }
        for _ in payloads {
            let (0x40, _) = self.next()? else { return Err("not a PUBACK".into()) };
        }
        Ok(())
    }

    /// Waits for the next message at QoS 1, acknowledges it, and returns the length of its payload.
    pub(crate) fn receive(&mut self) -> Result<usize> {
        let (0x32, body) = self.next()? else { return Err("not a message at QoS 1".into()) };
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let payload = body.len() - 2 - topic - 2;
        let ack = [0x40, 2, body[2 + topic], body[3 + topic]];
        self.write(&ack)?;
        Ok(payload)
    }

    /// Publishes these payloads at QoS 0, in one write.
    pub(crate) fn send(&mut self, topic: &str, payloads: &[Vec<u8>]) -> Result<()> {
        let name = [&[0, u8::try_from(topic.len())?], topic.as_bytes()].concat();
        let packets: Vec<_> = payloads.iter().map(|payload| packet(0x30, &[&name, &payload[..]].concat())).collect();
        self.write(&packets.concat())
    }

    /// Waits for the next message, and returns its topic and its payload.
    pub(crate) fn message(&mut self) -> Result<(String, Vec<u8>)> {
        let (first, body) = self.next()?;
        let has_id = match first {
            0x30 => false,
            0x32 => true,
            _ => return Err("not a message at QoS 0 or 1".into()),
        };
        let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, rest) = (String::from_utf8_lossy(&body[2..end]).into_owned(), &body[end..]);
        let (id, payload) = rest.split_at(if has_id { 2 } else { 0 });
        let (ack, payload) = ([&[0x40, 2], id].concat(), payload.to_vec());
        if has_id {
            self.write(&ack)?;
        }
        Ok((topic, payload))
    }

    /// Waits for a message no longer than this.
    pub(crate) fn give_up_after(&self, timeout: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(timeout))?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next packet: its first byte, and what follows its length field.
    fn next(&mut self) -> Result<(u8, &[u8])> {
        loop {
            if let Some((header, len)) = measure(&self.buffer[self.filled.clone()])
                && header + len <= self.filled.len()
            {
                let start = self.filled.start;
                self.filled.start += header + len;
                return Ok((self.buffer[start], &self.buffer[start + header..][..len]));
            }
            if self.filled.start > self.buffer.len() / 2 {
                self.buffer.copy_within(self.filled.clone(), 0);
                self.filled = 0..self.filled.len();
            }
            match self.stream.read(&mut self.buffer[self.filled.end..])? {
                0 => return Err("the broker closed the connection".into()),
                count => self.filled.end += count,
            }
        }
    }
}

/// Length of the fixed header and of what follows it, once the header is complete.
fn measure(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((at + 2, len));
        }
    }
    None
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.len();
    loop {
        let digit = u8::try_from(left & 0x7f).expect("seven bits are a byte");
        left >>= 7;
        packet.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// Sends `count` payloads of `len` bytes through the broker; returns the time from the sender's connection to the
/// arrival of the last payload.
pub(crate) fn relay(port: u16, count: usize, len: usize) -> Result<Duration> {
    const RELAY: &str = "relay";
    let mut receiver = Raw::connect(port)?;
    receiver.subscribe(RELAY)?;
    let receiver = thread::spawn(move || -> std::result::Result<Instant, String> {
        for _ in 0..count {
            receiver.receive().map_err(|error| error.to_string())?;
        }
        Ok(Instant::now())
    });

    let start = Instant::now();
    let mut sender = Raw::connect(port)?;
    let id_at = 2 + RELAY.len();
    let mut body = vec![0x5a; id_at + 2 + len];
    body[..2].copy_from_slice(&[0, u8::try_from(RELAY.len())?]);
    body[2..id_at].copy_from_slice(RELAY.as_bytes());
    let mut message = packet(0x32, &body);
    let id_at = message.len() - len - 2;
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < count {
        if sent < count && sent - acknowledged < WINDOW {
            let id = u16::try_from(sent % 65_535)? + 1;
            message[id_at..id_at + 2].copy_from_slice(&id.to_be_bytes());
            sender.write(&message)?;
            sent += 1;
        } else {
            let (0x40, _) = sender.next()? else { return Err("not a PUBACK".into()) };
            acknowledged += 1;
        }
    }
    let end = receiver.join().map_err(|_| "the relay's receiver panicked")??;
    Ok(end - start)
}

/// Publishes `count` payloads of `len` bytes at QoS 0 without a subscriber; returns the time from the connection until
/// the broker has them.
pub(crate) fn flood(port: u16, count: usize, len: usize) -> Result<Duration> {
    const AT_ONCE: usize = 1000;
    let topic = b"\0\x05flood";
    let messages = packet(0x30, &[topic, &*vec![0x5a; len]].concat()).repeat(AT_ONCE);
    let start = Instant::now();
    let mut sender = Raw::connect(port)?;
    for _ in 0..count / AT_ONCE {
        sender.write(&messages)?;
    }
    sender.write(&packet(0xe0, &[]))?;
    match sender.stream.read(&mut [0])? {
        0 => Ok(start.elapsed()),
        _ => Err("the broker sent an unexpected answer".into()),
    }
}
