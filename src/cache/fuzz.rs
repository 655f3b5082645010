//! Files that an earlier run, another version or a broken disk left. What is read is written as it was.

use super::checked_line::put_line;
use super::{receive_file, session_file};

const LINK: &str = "link";

/// A session file: as it is, and with the checksum that it should have.
pub(crate) fn session_file(data: &[u8]) {
    let _ = session_file::parse(LINK, data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let body = text.rfind("sum = ").map_or(text, |end| &text[..end]);
    let whole = format!("{body}sum = {}\n", super::field_text::sum(body));
    let Ok(parsed) = session_file::parse(LINK, whole.as_bytes()) else { return };
    if parsed.sessions.iter().all(|stored| session_file::can_hold(&stored.session.topics)) {
        let again = session_file::encode(LINK, &parsed);
        assert_eq!(session_file::parse(LINK, again.as_bytes()), Ok(parsed));
    }
}

/// A receive state: as it is, and with the checksums that its lines should have.
pub(crate) fn receive_state(data: &[u8]) {
    let _ = receive_file::parse(LINK, data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut whole = String::new();
    for line in text.lines() {
        put_line(&mut whole, line);
    }
    let Ok(state) = receive_file::parse(LINK, whole.as_bytes()) else { return };
    let again = receive_file::encode(&state, LINK);
    assert_eq!(receive_file::parse(LINK, again.as_bytes()), Ok(state), "{again}");
}
