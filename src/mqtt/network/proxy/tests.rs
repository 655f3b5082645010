//! Claim: each kind of proxy is asked for the broker by its name, and each refusal is told in words that hold no password.

use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::{PollFd, Timespec, poll};

use super::*;
use crate::mqtt::Login;
use crate::secret::Password;

/// After this long without progress a test fails.
const HANG: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// What a proxy expects and answers, in turn.
type Script = Vec<(Vec<u8>, Vec<u8>)>;

/// Asks a proxy that follows the script, and answers a byte at a time, for `broker:1883`; then sends a byte through it.
fn ask(kind: ProxyKind, login: Option<(&str, &str)>, host: &str, script: Script) -> Result<(), ConnectionLost> {
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let proxy = thread::spawn(move || {
        for (expected, answer) in script {
            let mut came = vec![0; expected.len()];
            far.read_exact(&mut came).unwrap();
            assert_eq!(came.escape_ascii().to_string(), expected.escape_ascii().to_string());
            for byte in answer {
                // The client may have seen enough.
                if far.write_all(&[byte]).is_err() {
                    return None;
                }
            }
        }
        far.read_exact(&mut [0]).ok().map(|()| far)
    });
    let login = login.map(|(username, password)| Login {
        username: username.to_owned(),
        password: Some(Password::new(password.to_owned())),
    });
    let proxy_node = Node { host: "proxy".to_owned(), port: 1080 };
    let node = Node { host: host.to_owned(), port: 1883 };
    let mut connection = ProxyConnection::new(Box::new(near), &Proxy { kind, node: proxy_node, login }, &node);
    assert!(!format!("{connection:?}").contains("secret"));
    loop {
        match connection.handshake() {
            Poll::Ready(Ok(())) => break,
            Poll::Ready(Err(lost)) => return Err(lost),
            Poll::Pending => {}
        }
        let mut fds = [PollFd::new(&connection, connection.needs())];
        assert!(poll(&mut fds, Some(&HANG)).unwrap() > 0, "nothing happened");
    }
    assert!(connection.needs().is_empty());
    connection.write_all(b"x").unwrap();
    assert!(proxy.join().unwrap().is_some(), "what follows passes as it is");
    Ok(())
}

fn socks(login: bool, host: &[u8], answers: [&[u8]; 3]) -> Script {
    let [methods, login_answer, answer] = answers;
    let mut script =
        vec![(if login { b"\x05\x02\x00\x02".to_vec() } else { b"\x05\x01\x00".to_vec() }, methods.to_vec())];
    if !login_answer.is_empty() {
        script.push((b"\x01\x04user\x06secret".to_vec(), login_answer.to_vec()));
    }
    if !answer.is_empty() {
        script.push(([b"\x05\x01\x00", host, b"\x07\x5b"].concat(), answer.to_vec()));
    }
    script
}

#[test]
fn socks5_connects_by_name_or_address_with_and_without_a_login() {
    const V4: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34";
    const NAME: &[u8] = b"\x05\x00\x00\x03\x02ab\x12\x34";
    let v6 = [b"\x05\x00\x00\x04", &[0; 18][..]].concat();
    let login = Some(("user", "secret"));
    for (login, host, wire, answers) in [
        (None, "broker", &b"\x03\x06broker"[..], [b"\x05\x00", &b""[..], V4]),
        (login, "broker", b"\x03\x06broker", [b"\x05\x02", b"\x01\x00", NAME]),
        (login, "10.0.0.1", b"\x01\x0a\x00\x00\x01", [b"\x05\x00", b"", &v6]),
        (None, "::1", b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", [b"\x05\x00", b"", V4]),
    ] {
        ask(ProxyKind::Socks5, login, host, socks(login.is_some(), wire, answers)).unwrap();
    }
}

#[test]
fn a_refusal_of_socks5_is_told() {
    const WIRE: &[u8] = b"\x03\x01b";
    let login = Some(("user", "secret"));
    for (login, answers, obstacle, why) in [
        (None, [&b"\x05\xff"[..], b"", b""], Obstacle::ProxyLogin, "wants a login"),
        (None, [b"\x05\x02", b"", b""], Obstacle::ProxyLogin, "wants a login"),
        (login, [b"\x05\x02", b"\x01\x01", b""], Obstacle::ProxyLogin, "refused the login"),
        (None, [b"\x05\x00", b"", b"\x05\x02\x00\x01"], Obstacle::ProxyPolicy, "does not allow"),
        (None, [b"\x05\x00", b"", b"\x05\x05\x00\x01"], Obstacle::ProxyTarget, "refused the proxy's connection"),
        (None, [b"\x05\x00", b"", b"\x05\x04\x00\x01"], Obstacle::ProxyTarget, "cannot reach"),
        (None, [b"HT", b"", b""], Obstacle::Proxy, "does not speak SOCKS5"),
    ] {
        let lost = ask(ProxyKind::Socks5, login, "b", socks(login.is_some(), WIRE, answers));
        let Err(lost) = lost else { panic!("{why}") };
        assert!(lost.obstacle() == obstacle && lost.to_string().contains(why), "{lost:?}");
    }
}

#[test]
fn http_connects_by_name_with_and_without_a_login() {
    for (login, host, header) in [
        (None, "broker", ""),
        (Some(("user", "secret")), "broker", "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"),
        (None, "[::1]", ""),
    ] {
        let request = format!("CONNECT {host}:1883 HTTP/1.1\r\nHost: {host}:1883\r\n{header}\r\n").into_bytes();
        let script = vec![(request, b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n".to_vec())];
        ask(ProxyKind::Http, login, host.trim_matches(['[', ']']), script).unwrap();
    }
}

#[test]
fn a_refusal_of_http_is_told() {
    let login = Some(("user", "secret"));
    for (answer, obstacle, why) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Obstacle::ProxyLogin, "407 Proxy Auth"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", Obstacle::ProxyPolicy, "does not allow"),
        ("HTTP/1.1 502 \x1b[0m\r\n\r\n", Obstacle::ProxyTarget, "502 \\x1b[0m"),
        ("HTTP/1.1 xyz\r\n\r\n", Obstacle::Proxy, "did not connect"),
        ("SSH-2.0-x\r\n", Obstacle::Proxy, "does not speak HTTP"),
        (&format!("HTTP/1.1 200 {}", "x".repeat(17 << 10)), Obstacle::Proxy, "too long"),
    ] {
        let mut dialogue = HttpConnect::new(
            Node { host: "b".to_owned(), port: 1 },
            login.map(|(name, _)| Login { username: name.to_owned(), password: None }),
        );
        let Err(lost) = dialogue.answer(answer.as_bytes()) else { panic!("{answer}") };
        assert!(lost.obstacle() == obstacle && lost.to_string().contains(why), "{lost:?}");
    }
}

#[test]
fn a_proxy_that_hangs_up_is_told() {
    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    let node = Node { host: "b".to_owned(), port: 1883 };
    let proxy = Proxy { kind: ProxyKind::Socks5, node: node.clone(), login: None };
    let Poll::Ready(Err(lost)) = ProxyConnection::new(Box::new(near), &proxy, &node).handshake() else {
        panic!("taken")
    };
    assert!(lost.obstacle() == Obstacle::Proxy && lost.to_string().starts_with("the proxy"), "{lost}");
}

#[test]
fn what_follows_the_answer_is_no_brokers() {
    let request = b"CONNECT b:1883 HTTP/1.1\r\nHost: b:1883\r\n\r\n".to_vec();
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let node = Node { host: "b".to_owned(), port: 1883 };
    let proxy = Proxy { kind: ProxyKind::Http, node: node.clone(), login: None };
    let mut connection = ProxyConnection::new(Box::new(near), &proxy, &node);
    assert!(connection.handshake().is_pending());
    far.read_exact(&mut vec![0; request.len()]).unwrap();
    far.write_all(b"HTTP/1.1 200 OK\r\n\r\n\x20\x02\x00\x00").unwrap();
    let Poll::Ready(Err(lost)) = connection.handshake() else { panic!("taken") };
    assert!(lost.to_string().contains("more than its answer"), "{lost}");
}
