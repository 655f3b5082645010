//! How a line is written: as it is, or with `--prefix` and `--json` with where it is from.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::recv::delivery::{LineKind, Metadata};
use crate::text::{escape, json_string};
use crate::units::timestamp;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Byte for byte.
    #[default]
    Plain,
    /// After the time at which it was received, its peer's name with a colon, or both.
    Prefix {
        /// With the time.
        time: bool,
        /// With the name.
        name: bool,
    },
    /// As a JSON object (RFC 8259).
    Json,
}

impl Format {
    /// Whether it writes more than the line.
    pub(in crate::recv) fn needs_metadata(self) -> bool {
        match self {
            Self::Plain => false,
            Self::Prefix { .. } | Self::Json => true,
        }
    }

    /// Appends one line, which ends with its newline or was cut before that, as one line of output.
    pub(super) fn write_line(self, out: &mut Vec<u8>, metadata: Option<&Metadata>, line: &[u8]) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        match (self, metadata) {
            (Self::Plain, _) | (_, None) => out.extend_from_slice(line),
            (Self::Prefix { time, name }, Some(metadata)) => {
                if time {
                    out.extend_from_slice(timestamp(metadata.received()).as_bytes());
                    out.push(b' ');
                }
                if name {
                    out.extend_from_slice(metadata.name().as_bytes());
                    out.extend_from_slice(b": ");
                }
                out.extend_from_slice(text);
                out.push(b'\n');
            }
            (Self::Json, Some(metadata)) => {
                let mut object = metadata.members();
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

impl Metadata {
    /// Printable ASCII: a peer's name was checked when it was chosen, but a topic can be anything.
    fn name(&self) -> String {
        match self {
            Self::Sealed { peer, .. } => peer.clone(),
            Self::Plain { topic, .. } => escape(topic),
        }
    }

    fn received(&self) -> SystemTime {
        match self {
            Self::Sealed { received, .. } | Self::Plain { received, .. } => *received,
        }
    }

    /// The first members of the JSON object, with the brace before them.
    fn members(&self) -> String {
        match self {
            Self::Sealed { peer, stream, seq, kind, received, sent } => {
                let (peer, time) = (json_string(peer), seconds(since_1970(*received)));
                let kind = match kind {
                    LineKind::Input => "",
                    LineKind::Will => r#","will":true"#,
                };
                let sent = sent.map(|sent| format!(r#","sent":{}"#, seconds(sent.since_1970()))).unwrap_or_default();
                format!(r#"{{"peer":{peer},"stream":{stream},"seq":{seq}{kind},"time":{time}{sent}"#)
            }
            Self::Plain { topic, received } => {
                format!(r#"{{"topic":{},"time":{}"#, json_string(topic), seconds(since_1970(*received)))
            }
        }
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds with thousandths.
fn seconds(since: Duration) -> String {
    format!("{}.{:03}", since.as_secs(), since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::SentTime;

    fn put(format: Format, metadata: &Metadata, line: &[u8]) -> String {
        let mut out = Vec::new();
        format.write_line(&mut out, Some(metadata), line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_is_one_line_of_output() {
        let received = UNIX_EPOCH + Duration::from_millis(1_795_642_707_023);
        let peer =
            Metadata::Sealed { peer: "s7".into(), stream: 3, seq: 17, kind: LineKind::Input, received, sent: None };
        assert_eq!(put(Format::Plain, &peer, b"21.5\n"), "21.5\n");
        assert_eq!(put(Format::Plain, &peer, b"21.5"), "21.5");
        assert_eq!(put(Format::Prefix { time: false, name: true }, &peer, b"21.5\n"), "s7: 21.5\n");
        assert_eq!(put(Format::Prefix { time: false, name: true }, &peer, b"cut"), "s7: cut\n");
        let timed = |name| put(Format::Prefix { time: true, name }, &peer, b"21.5\n");
        assert_eq!(
            (timed(true).as_str(), timed(false).as_str()),
            ("2026-11-25T21:38:27.023Z s7: 21.5\n", "2026-11-25T21:38:27.023Z 21.5\n")
        );
        assert_eq!(
            put(Format::Json, &peer, b"\"21.5\"\n"),
            "{\"peer\":\"s7\",\"stream\":3,\"seq\":17,\"time\":1795642707.023,\"text\":\"\\\"21.5\\\"\"}\n"
        );
        assert_eq!(
            put(Format::Json, &peer, b"\xff\x00\n"),
            "{\"peer\":\"s7\",\"stream\":3,\"seq\":17,\"time\":1795642707.023,\"base64\":\"/wA=\"}\n"
        );
        let will =
            Metadata::Sealed { peer: "s7".into(), stream: 3, seq: 2, kind: LineKind::Will, received, sent: None };
        assert!(put(Format::Json, &will, b"gone\n").contains("\"seq\":2,\"will\":true,\"time\""));
        let sent = Some(SentTime::of(received - Duration::from_micros(86_400_000_123)));
        let stamped = Metadata::Sealed { peer: "s7".into(), stream: 3, seq: 17, kind: LineKind::Input, received, sent };
        assert_eq!(
            put(Format::Json, &stamped, b"21.5\n"),
            "{\"peer\":\"s7\",\"stream\":3,\"seq\":17,\"time\":1795642707.023,\"sent\":1795556307.022,\"text\":\"21.5\"}\n"
        );
        assert_eq!(put(Format::Prefix { time: true, name: false }, &stamped, b"21.5\n"), timed(false));
        assert!(put(Format::Json, &peer, b"cut").ends_with("\"text\":\"cut\",\"newline\":false}\n"));
    }

    #[test]
    fn a_topic_is_anybodys_text() {
        let topic = Metadata::Plain { topic: "a\u{1b}[31m\u{202e}é".into(), received: UNIX_EPOCH };
        assert_eq!(
            put(Format::Prefix { time: false, name: true }, &topic, b"x\n"),
            "a\\x1b[31m\\xe2\\x80\\xae\\xc3\\xa9: x\n"
        );
        assert_eq!(
            put(Format::Json, &topic, b"\n"),
            "{\"topic\":\"a\\u001b[31m\\u202eé\",\"time\":0.000,\"text\":\"\"}\n"
        );
    }
}
