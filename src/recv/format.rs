//! What is written of each line: the line, or with `--prefix` and `--json` where it is from, too.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::lines::Label;
use crate::text::{escape, json_string};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Byte for byte.
    #[default]
    Plain,
    /// Behind its peer's name, a colon and a blank.
    Prefix,
    /// As a JSON object (RFC 8259).
    Json,
}

impl Format {
    /// Appends one line, which ends with its newline or was cut before that, as one line of output.
    pub(super) fn put(self, out: &mut Vec<u8>, label: Option<&Label>, line: &[u8]) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        match (self, label) {
            (Self::Plain, _) | (_, None) => out.extend_from_slice(line),
            (Self::Prefix, Some(label)) => {
                out.extend_from_slice(label.name().as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(text);
                out.push(b'\n');
            }
            (Self::Json, Some(label)) => {
                let mut object = label.members();
                // Writing to a String does not fail.
                let _ = match std::str::from_utf8(text) {
                    Ok(text) => write!(object, r#","text":{}"#, json_string(text)),
                    Err(_) => write!(object, r#","base64":"{}""#, STANDARD.encode(text)),
                };
                if text.len() == line.len() {
                    object.push_str(r#","newline":false"#);
                }
                out.extend_from_slice(object.as_bytes());
                out.extend_from_slice(b"}\n");
            }
        }
    }
}

impl Label {
    /// Printable ASCII: a peer's name is checked, a topic is anybody's.
    fn name(&self) -> String {
        match self {
            Self::Peer { name, .. } => name.clone(),
            Self::Topic { topic, .. } => escape(topic),
        }
    }

    /// The beginning of the object.
    fn members(&self) -> String {
        match self {
            Self::Peer { name, stream, seq, received } => {
                let (name, time) = (json_string(name), seconds(*received));
                format!(r#"{{"peer":{name},"stream":{stream},"seq":{seq},"time":{time}"#)
            }
            Self::Topic { topic, received } => {
                format!(r#"{{"topic":{},"time":{}"#, json_string(topic), seconds(*received))
            }
        }
    }
}

/// Seconds since 1970, with thousandths.
fn seconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:03}", since.as_secs(), since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn put(format: Format, label: &Label, line: &[u8]) -> String {
        let mut out = Vec::new();
        format.put(&mut out, Some(label), line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_is_one_line_of_output() {
        let received = UNIX_EPOCH + Duration::from_millis(1_795_642_707_023);
        let peer = Label::Peer { name: "s7".into(), stream: 3, seq: 17, received };
        assert_eq!(put(Format::Plain, &peer, b"21.5\n"), "21.5\n");
        assert_eq!(put(Format::Plain, &peer, b"21.5"), "21.5");
        assert_eq!(put(Format::Prefix, &peer, b"21.5\n"), "s7: 21.5\n");
        assert_eq!(put(Format::Prefix, &peer, b"cut"), "s7: cut\n");
        assert_eq!(
            put(Format::Json, &peer, b"\"21.5\"\n"),
            "{\"peer\":\"s7\",\"stream\":3,\"seq\":17,\"time\":1795642707.023,\"text\":\"\\\"21.5\\\"\"}\n"
        );
        assert_eq!(
            put(Format::Json, &peer, b"\xff\x00\n"),
            "{\"peer\":\"s7\",\"stream\":3,\"seq\":17,\"time\":1795642707.023,\"base64\":\"/wA=\"}\n"
        );
        assert!(put(Format::Json, &peer, b"cut").ends_with("\"text\":\"cut\",\"newline\":false}\n"));
    }

    #[test]
    fn a_topic_is_anybodys_text() {
        let topic = Label::Topic { topic: "a\u{1b}[31m\u{202e}é".into(), received: UNIX_EPOCH };
        assert_eq!(put(Format::Prefix, &topic, b"x\n"), "a\\x1b[31m\\xe2\\x80\\xae\\xc3\\xa9: x\n");
        assert_eq!(
            put(Format::Json, &topic, b"\n"),
            "{\"topic\":\"a\\u001b[31m\\u202eé\",\"time\":0.000,\"text\":\"\"}\n"
        );
    }
}
