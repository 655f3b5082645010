//! Claim: whatever a WebSocket server does, bytes arrive as they were sent, and memory stays bounded.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, Timespec, poll};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::Frame;
use tungstenite::{Message, accept_hdr};

use super::*;

/// After this long without progress a test fails.
const HANG: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// A server that grants the request, then does this.
fn serve(act: impl FnOnce(&mut tungstenite::WebSocket<UnixStream>) + Send + 'static) -> (WebSocket, JoinHandle<()>) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let server = thread::spawn(move || {
        #[expect(clippy::result_large_err, reason = "tungstenite's type")]
        let grant = |request: &Request, mut response: Response| {
            assert_eq!((request.uri().path(), &request.headers()["host"]), ("/mqtt", &HeaderValue::from_static("b:1")));
            let offered = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("Sec-WebSocket-Protocol", offered);
            Ok(response)
        };
        act(&mut accept_hdr(far, grant).unwrap());
    });
    let mut client = WebSocket::new(Box::new(near), "b:1", "/mqtt");
    while client.handshake().is_pending() {
        wait(&client, PollFlags::empty());
    }
    (client, server)
}

/// Waits for what the transport needs, and for `flags`.
fn wait(client: &WebSocket, flags: PollFlags) {
    let mut fds = [PollFd::new(client, client.needs() | flags)];
    assert!(poll(&mut fds, Some(&HANG)).unwrap() > 0, "nothing happened");
}

/// Reads the next payload.
fn read(client: &mut WebSocket) -> io::Result<Vec<u8>> {
    let mut space = [0; 1000];
    loop {
        match client.read(&mut space) {
            Ok(count) => return Ok(space[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(client, PollFlags::IN),
            Err(error) => return Err(error),
        }
    }
}

fn flush(client: &mut WebSocket) {
    while let Err(error) = client.flush() {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        wait(client, PollFlags::OUT);
    }
}

#[test]
fn bytes_go_and_come_however_they_are_framed() {
    let sent: Vec<u8> = (0..500_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    let expected = sent.clone();
    let (mut client, server) = serve(move |server| {
        let mut came = Vec::new();
        while came.len() < expected.len() {
            // tungstenite refuses a frame of a client that is not masked.
            let message = server.read().unwrap();
            assert!(message.is_binary() && message.len() <= MAX_FRAME_LEN);
            came.extend_from_slice(&message.into_data());
        }
        assert!(came == expected);
        let (first, rest) = came.split_at(100_000);
        server.send(Message::Binary(first.to_vec().into())).unwrap();
        server.send(Message::Ping(b"still there?".to_vec().into())).unwrap();
        for (index, part) in rest.chunks(70_001).enumerate() {
            let data = if index == 0 { Data::Binary } else { Data::Continue };
            let is_last = (index + 1) * 70_001 >= rest.len();
            server.send(Message::Frame(Frame::message(part.to_vec(), OpCode::Data(data), is_last))).unwrap();
        }
        assert_eq!(server.read().unwrap(), Message::Pong(b"still there?".to_vec().into()));
    });
    let mut rest = &sent[..];
    while !rest.is_empty() {
        match client.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&client, PollFlags::OUT),
            Err(error) => panic!("{error}"),
        }
        assert!(client.out.capacity() <= 2 * (MAX_FRAME_LEN + 1000), "{}", client.out.capacity());
    }
    flush(&mut client);
    let mut came = Vec::new();
    while came.len() < sent.len() {
        came.extend(read(&mut client).unwrap());
    }
    assert!(came == sent);
    assert!(client.needs().contains(PollFlags::OUT), "the answer to the ping");
    flush(&mut client);
    assert!(client.needs().is_empty());
    server.join().unwrap();
}

#[test]
fn a_flood_of_pings_takes_no_memory_and_stops_nothing() {
    const PINGS: usize = 20_000;
    let (mut client, server) = serve(|server| {
        for _ in 0..PINGS {
            server.write(Message::Ping(vec![7; 125].into())).unwrap();
        }
        server.send(Message::Binary(b"data".to_vec().into())).unwrap();
        assert_eq!(server.read().unwrap(), Message::Pong(vec![7; 125].into()));
        assert_eq!(server.read().unwrap(), Message::Binary(b"next".to_vec().into()), "one answer to all of them");
    });
    // The first read returns, although there is no end of them.
    wait(&client, PollFlags::IN);
    assert_eq!(client.read(&mut [0; 127]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(read(&mut client).unwrap(), b"data");
    assert!(client.out.capacity() < 1000);
    assert_eq!(client.write(b"next").unwrap(), 4);
    flush(&mut client);
    server.join().unwrap();
}

#[test]
fn a_close_is_answered_and_told_after_what_came_before_it() {
    let (mut client, server) = serve(|server| {
        server.write(Message::Binary(b"last".to_vec().into())).unwrap();
        let frame = tungstenite::protocol::CloseFrame { code: 1001.into(), reason: "going".into() };
        server.close(Some(frame)).unwrap();
        assert!(server.read().unwrap().is_close());
    });
    assert_eq!(read(&mut client).unwrap(), b"last");
    let lost = ConnectionLost::from(read(&mut client).unwrap_err());
    assert_eq!(lost.to_string(), "the broker closed the connection, with WebSocket's code 1001: going");
    assert_eq!(lost.obstacle(), Obstacle::Closed);
    server.join().unwrap();
}

#[test]
fn the_end_is_said_with_a_close_frame() {
    let (mut client, server) = serve(|server| {
        let closed = server.read().unwrap();
        let Message::Close(Some(frame)) = closed else { panic!("{closed:?}") };
        assert_eq!(u16::from(frame.code), NORMAL_CLOSURE);
        // The server closes first.
        while server.read().is_ok() {}
        server.get_ref().shutdown(Shutdown::Both).unwrap();
    });
    client.shutdown_write().unwrap();
    read(&mut client).unwrap_err();
    server.join().unwrap();
}

#[test]
fn a_slow_socket_takes_one_frame_at_a_time() {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let mut client = WebSocket::new(Box::new(near), "b:1", "/mqtt");
    (client.stage, client.out) = (Stage::Open, Vec::new().into());
    let mut accepted = 0;
    while let Ok(count) = client.write(&[1; 16_000]) {
        accepted += count;
    }
    assert!(accepted > 0 && client.out.len() <= MAX_FRAME_LEN + 14, "{accepted}");
    assert_eq!(client.flush().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(client.needs().contains(PollFlags::OUT));
    drop(far);
    assert_ne!(client.flush().unwrap_err().kind(), ErrorKind::WouldBlock);
}
