//! A server in place of a broker: the test decides what it does with each connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::process::wait_until;

/// CONNACK: accepted, no session.
pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// PINGRESP.
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];

pub(crate) struct Server {
    port: u16,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Calls `serve` with one connection after the other; the first one is number 0.
    pub(crate) fn start(mut serve: impl FnMut(usize, TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                serve(number, stream.unwrap());
            }
        });
        Self { port, stopped }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts connections, so that it ends.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

/// Reads until the client closes its side, for this long at most.
pub(crate) fn read_for(stream: &mut TcpStream, longest: Duration) {
    let until = Instant::now() + longest;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        if let Ok(0) = stream.read(&mut buffer) {
            return;
        }
    }
}

/// Reads once: the client's first bytes.
pub(crate) fn read_once(stream: &mut TcpStream) {
    stream.set_read_timeout(None).unwrap();
    let _ = stream.read(&mut [0; 1 << 12]);
}

/// Reads a packet; its first byte, or `None` at the end of the connection.
pub(crate) fn read_packet(stream: &mut TcpStream) -> Option<u8> {
    read_whole_packet(stream).map(|packet| packet[0])
}

/// Reads a packet; `None` at the end of the connection.
fn read_whole_packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut packet, mut byte, mut len, mut shift) = (vec![0], [0x80], 0, 0);
    stream.read_exact(&mut packet).ok()?;
    while byte[0] & 0x80 != 0 {
        stream.read_exact(&mut byte).ok()?;
        packet.push(byte[0]);
        len |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
    }
    let head_len = packet.len();
    packet.resize(head_len + len, 0);
    stream.read_exact(&mut packet[head_len..]).ok()?;
    Some(packet)
}

/// Resets the connection, as a failing link does.
pub(crate) fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Forwards a connection to the broker at `port`, as a good link does; ends it if there is no broker at the moment.
pub(crate) fn carry(stream: TcpStream, port: u16) {
    stream.set_read_timeout(None).unwrap();
    let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    let (up, down) = ((stream.try_clone().unwrap(), broker.try_clone().unwrap()), (broker, stream));
    for (mut from, mut to) in [up, down] {
        thread::spawn(move || {
            std::io::copy(&mut from, &mut to).ok();
            to.flush().ok();
            to.shutdown(Shutdown::Write).ok();
        });
    }
}

/// What [`carry_refusing`] does.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    /// The PUBLISH to refuse, from 0.
    pub(crate) number: usize,
    /// Why.
    pub(crate) code: u8,
    /// After the refusal, no PUBACK passes.
    pub(crate) withholds_answers: bool,
}

/// Forwards a connection of MQTT 5 to the broker at `port`, as [`carry`], but refuses a PUBLISH (at QoS 1) once the next one has
/// come, and before it forwards that.
pub(crate) fn carry_refusing(stream: TcpStream, port: u16, refusal: Refusal) {
    stream.set_read_timeout(None).unwrap();
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let client = Mutex::new(stream.try_clone().unwrap());
    let (answered, has_refused) = (AtomicUsize::new(0), AtomicBool::new(false));
    let relay = Arc::new(RefusingRelay { client, refusal, answered, has_refused });
    let (to, refusing) = (broker.try_clone().unwrap(), Arc::clone(&relay));
    thread::spawn(move || refusing.forward(stream, to));
    thread::spawn(move || relay.forward_answers(broker));
}

struct RefusingRelay {
    client: Mutex<TcpStream>,
    refusal: Refusal,
    /// How many PUBACK it has forwarded.
    answered: AtomicUsize,
    has_refused: AtomicBool,
}

impl RefusingRelay {
    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let (mut number, mut answer) = (0, None);
        while let Some(packet) = read_whole_packet(&mut from) {
            let is_publish = packet[0] >> 4 == 3;
            if is_publish && number == self.refusal.number {
                answer = Some(self.answer(&packet));
            } else {
                if let Some(answer) = answer.take_if(|_| is_publish) {
                    let answered = || self.answered.load(Ordering::SeqCst) >= self.refusal.number;
                    wait_until("the answers to what came before", answered);
                    self.has_refused.store(true, Ordering::SeqCst);
                    self.client.lock().unwrap().write_all(&answer).unwrap();
                }
                to.write_all(&packet).unwrap();
            }
            number += usize::from(is_publish);
        }
        to.shutdown(Shutdown::Write).ok();
    }

    /// The refusal of this PUBLISH.
    fn answer(&self, publish: &[u8]) -> [u8; 5] {
        let topic = 2 + publish[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
        let id = topic + 2 + usize::from(u16::from_be_bytes([publish[topic], publish[topic + 1]]));
        [0x40, 3, publish[id], publish[id + 1], self.refusal.code]
    }

    fn forward_answers(&self, mut broker: TcpStream) {
        while let Some(packet) = read_whole_packet(&mut broker) {
            let is_answer = packet[0] >> 4 == 4;
            if self.refusal.withholds_answers && is_answer && self.has_refused.load(Ordering::SeqCst) {
                continue;
            }
            // A client that has left needs no more of it.
            let _ = self.client.lock().unwrap().write_all(&packet);
            self.answered.fetch_add(usize::from(is_answer), Ordering::SeqCst);
        }
        self.client.lock().unwrap().shutdown(Shutdown::Write).ok();
    }
}

/// Forwards a connection to the broker at `port`, and counts the bytes that come from there.
pub(crate) fn carry_counting(stream: TcpStream, port: u16) -> thread::JoinHandle<u64> {
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (mut from, mut to) = (stream.try_clone().unwrap(), broker.try_clone().unwrap());
    thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    thread::spawn(move || {
        let (mut broker, mut stream) = (broker, stream);
        let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
        while let Ok(count @ 1..) = broker.read(&mut buffer) {
            total += count as u64;
            // A client that has left needs no more of it.
            let _ = stream.write_all(&buffer[..count]);
        }
        stream.shutdown(Shutdown::Write).ok();
        total
    })
}
