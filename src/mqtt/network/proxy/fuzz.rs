//! What a proxy answers, whatever it is and however it is cut.

use super::http_connect::HttpConnect;
use super::socks5::Socks5;
use super::{Dialogue, ProxyReply};
use crate::fuzz::input::{FuzzInput, check_text};
use crate::mqtt::Login;
use crate::mqtt::endpoint::Node;
use crate::secret::Password;

const PASSWORD: &str = "sesame";

pub(crate) fn proxy(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let (is_socks, has_login) = (input.flag(), input.flag());
    let node = Node { host: ["broker", "127.0.0.1", "::1"][input.below(3)].to_owned(), port: 1883 };
    let login =
        has_login.then(|| Login { username: "user".to_owned(), password: Some(Password::new(PASSWORD.to_owned())) });
    let mut dialogue: Box<dyn Dialogue> =
        if is_socks { Box::new(Socks5::new(node, login)) } else { Box::new(HttpConnect::new(node, login)) };
    assert!(!dialogue.begin().is_empty());
    let mut answer = Vec::new();
    while !input.is_empty() {
        answer.extend_from_slice(input.take(1 + usize::from(data[0] >> 4)));
        match dialogue.answer(&answer) {
            Ok(ProxyReply::Incomplete) => {}
            Ok(ProxyReply::Say(request)) => {
                assert!(!request.is_empty());
                answer.clear();
            }
            Ok(ProxyReply::Done(len)) => return assert!(len <= answer.len()),
            Err(lost) => {
                let text = lost.to_string();
                // What the proxy itself says may be quoted, even where it says the password.
                let is_quoted = answer.windows(PASSWORD.len()).any(|bytes| bytes == PASSWORD.as_bytes());
                assert!(is_quoted || !text.contains(PASSWORD));
                return check_text(&text);
            }
        }
    }
}
