//! An eavesdropper: records every message that the broker passes on, by means of mosquitto's own client.

use std::process::Command;

use crate::broker::Broker;
use crate::process::{Process, wait_until};

pub(crate) struct Sniffer {
    subscriber: Process,
}

/// One message as the broker saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// A topic that no test uses: once the message retained there arrives, the subscription is active.
const READY: &str = "sniffer/ready";

impl Sniffer {
    /// Returns once it will see everything that is published from then on.
    pub(crate) fn start(broker: &Broker) -> Self {
        let port = broker.port().to_string();
        let ready = Command::new("mosquitto_pub").args(["-p", &port, "-r", "-t", READY, "-m", "x"]).status();
        assert!(ready.expect("mosquitto-clients is installed").success());
        let mut command = Command::new("mosquitto_sub");
        command.args(["-p", &port, "-q", "1", "-t", "#", "-F", "%t %x"]);
        let sniffer = Self { subscriber: Process::spawn(command) };
        wait_until("the sniffer to be subscribed", || !sniffer.lines().is_empty());
        sniffer
    }

    /// Everything seen so far, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lines().iter().filter(|seen| seen.topic != READY).cloned().collect()
    }

    /// The payloads seen on `topic` with this message type in their first byte (`sts-protocol(7)`, "Header").
    pub(crate) fn seen_of_type(&self, topic: &str, first_byte: u8) -> Vec<Vec<u8>> {
        let matching = |seen: &Seen| seen.topic == topic && seen.payload.first() == Some(&first_byte);
        self.seen().into_iter().filter(matching).map(|seen| seen.payload).collect()
    }

    /// Waits until `count` messages of this type were seen on `topic`.
    pub(crate) fn wait_for_type(&self, topic: &str, first_byte: u8, count: usize) -> Vec<Vec<u8>> {
        wait_until(&format!("{count} messages {first_byte:#04x} on {topic}"), || {
            self.seen_of_type(topic, first_byte).len() >= count
        });
        self.seen_of_type(topic, first_byte)
    }

    fn lines(&self) -> Vec<Seen> {
        let stdout = self.subscriber.stdout();
        let complete = stdout.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&stdout[..complete]).expect("topics of these tests are ASCII");
        text.lines().map(parse).collect()
    }
}

fn parse(line: &str) -> Seen {
    let (topic, hex) = line.split_once(' ').expect("mosquitto_sub was given this format");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("mosquitto_sub prints hex");
    Seen { topic: topic.to_owned(), payload: (0..hex.len()).step_by(2).map(byte).collect() }
}
