//! Claim: on a link with `sts_version = 1`, the tools and the old program (simulated) pair, talk and part in both roles and modes,
//! whatever is lost, crosses or is refused; nothing that could be read is not.

mod crashes;
mod exit_status;
mod full_disk;
mod heard;
mod misread;
mod nosec;
mod old_program;
mod refused;
mod replaced;
mod spool;
mod traffic;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use self::old_program::{OldProgram, Role, Settings};
use crate::broker::Broker;
use crate::device::{Device, LINK};
use crate::process::Process;

/// Our device and what the old program at its other end is configured with.
struct Link {
    device: Device,
    old: Settings,
    /// How many keys of ours the old program did not take.
    refused: usize,
}

impl Link {
    /// On topics of its own; the old program is in this role.
    fn new(port: u16, role: Role, is_cbc: bool, seed: u64) -> Self {
        Self::with_topics(port, role, is_cbc, seed, 0)
    }

    /// As [`Link::new`], on topics of at least this many bytes.
    fn with_topics(port: u16, role: Role, is_cbc: bool, seed: u64, len: usize) -> Self {
        static LINKS: AtomicU64 = AtomicU64::new(0);
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let [m2s, s2m] = ["m2s", "s2m"].map(|way| format!("{:/<len$}", format!("{way}{number}")));
        let (publish, listen) = if role == Role::Master { (m2s, s2m) } else { (s2m, m2s) };
        let device = Device::bare();
        let (port_text, ours) = (port.to_string(), if role == Role::Master { "slave" } else { "master" });
        device.configure(&[
            ("mqtt_version", "4"),
            ("ip", "127.0.0.1"),
            ("port", &port_text),
            ("username", "user"),
            ("password", "word"),
            ("subtop", &publish),
            ("pubtop", &listen),
            ("clientid", &format!("ours-{number}")),
            ("sts_mode", ours),
            ("aes", if is_cbc { "cbc" } else { "ecb" }),
            ("sts_version", "1"),
        ]);
        Self { device, old: Settings { port, role, is_cbc, publish, listen, seed: seed << 16 | number }, refused: 0 }
    }

    /// Pairs; the slave begins.
    fn paired(&mut self) -> OldProgram {
        self.old.seed += 1 << 40;
        let args = ["-v", LINK];
        if self.old.role == Role::Slave {
            let old = OldProgram::start(self.old.clone());
            let ended = Process::spawn(self.device.pair(&args)).wait().succeeded();
            self.refused += ended.stderr.matches("sent RDYREQ").count() - 1;
            old.wait("encryption on", |seen| seen.is_on);
            return old;
        }
        let pairing = Process::spawn(self.device.pair(&args));
        pairing.wait_for("listening on");
        let old = OldProgram::start(self.old.clone());
        pairing.wait().succeeded();
        old.wait("encryption on", |seen| seen.is_on);
        old
    }

    /// The client id of this device, with which it receives.
    fn client_id(&self) -> String {
        let config = fs::read_to_string(self.device.config_dir().join("gateway.conf")).unwrap();
        let line = config.lines().find_map(|line| line.strip_prefix("clientid")).expect("it has one");
        line.trim_start_matches([' ', '=']).to_owned()
    }

    fn receiver(&self, args: &[&str]) -> Process {
        let receiver = Process::spawn(self.device.recv(&[&["-v"], args, &[LINK]].concat()));
        receiver.wait_for("listening on");
        receiver
    }

    /// A sender that hears the old program, too.
    fn sender(&self) -> Process {
        let sender = Process::spawn(self.device.send(&["-v", LINK]));
        sender.wait_for("connected to");
        sender
    }
}

const BOTH: [(Role, bool); 4] =
    [(Role::Master, true), (Role::Slave, true), (Role::Master, false), (Role::Slave, false)];

/// Does this in both roles and modes, all at once.
fn in_all_ways(seed: u64, test: impl Fn(&mut Link) + Sync) {
    let broker = Broker::start();
    thread::scope(|scope| {
        for (role, is_cbc) in BOTH {
            let (test, port) = (&test, broker.port());
            scope.spawn(move || test(&mut Link::new(port, role, is_cbc, seed)));
        }
    });
}

#[test]
fn texts_of_any_length_cross_in_both_directions_until_the_old_program_ends_the_session() {
    in_all_ways(1, |link| {
        let old = link.paired();
        let receiver = link.receiver(&[]);
        let mut sender = link.sender();
        let (long, longer) = ("é".repeat(502), "0123456789".repeat(350));
        let lines = ["a", "", "twelve bytes", "12:30 lunch", "KILL:", "Größe: 3 m²", &long, &longer, "end"];
        let longest = 1004;
        for line in lines {
            sender.write(format!("{line}\n"));
        }
        let expected: Vec<Vec<u8>> = lines
            .iter()
            .flat_map(|line| if line.is_empty() { vec![&[][..]] } else { line.as_bytes().chunks(longest).collect() })
            .map(<[u8]>::to_vec)
            .collect();
        old.wait("all texts", |seen| seen.displayed.len() >= expected.len());
        assert_eq!(old.seen().displayed, expected);
        let theirs = ["one", "two words", "KILL: is a text", "Grüße", &"y".repeat(1000)];
        let mut printed = String::new();
        for text in theirs {
            old.send(text);
            printed.extend([text, "\n"]);
            receiver.wait_for_stdout(printed.as_bytes());
        }
        old.stop();
        receiver.wait().failed(&[0], &["the other device ended the session"]).wrote(printed.as_bytes());
        // Whichever of the two takes the KILL first.
        sender.wait().failed(&[75], &["ended", "run sts-pair here, then `start` on the other device"]);
        // Nothing is left of it.
        Process::spawn(link.device.send(&[LINK])).wait().failed(&[75], &["no session"]);
        Process::spawn(link.device.pair(&["--end", LINK])).wait().failed(&[75], &["no session"]);
    });
}

#[test]
fn the_longest_text_depends_on_the_length_of_the_topic() {
    let broker = Broker::start();
    thread::scope(|scope| {
        for ((len, longest), (role, is_cbc)) in [(11, 1004), (12, 988), (27, 988), (28, 972)].into_iter().zip(BOTH) {
            let port = broker.port();
            scope.spawn(move || {
                let mut link = Link::with_topics(port, role, is_cbc, 12, len);
                assert_eq!((link.old.publish.len(), link.old.listen.len()), (len, len));
                let old = link.paired();
                let receiver = link.receiver(&["-n", "1"]);
                let lines = [longest, longest + 1].map(|len| "x".repeat(len));
                link.device.send_all(&[], format!("{}\n{}\n", lines[0], lines[1])).succeeded();
                // One more byte in a message, and the old program would have ended the session.
                old.wait("all texts", |seen| seen.displayed.len() == 3);
                assert_eq!(old.seen().displayed.iter().map(Vec::len).collect::<Vec<_>>(), [longest, longest, 1]);
                // With the blank of its shell.
                let theirs = "y".repeat(longest - 1);
                old.send(&theirs);
                receiver.wait().succeeded().wrote(format!("{theirs}\n").as_bytes());
                assert_eq!(old.seen().ended, None);
            });
        }
    });
}

#[test]
fn we_end_a_session_though_the_old_program_is_out_of_step() {
    in_all_ways(2, |link| {
        let old = link.paired();
        link.device.send_all(&[], "one\n").succeeded();
        old.wait("the text", |seen| seen.displayed.len() == 1);
        // Nothing tells us that this one is lost.
        old.lose_next();
        link.device.send_all(&[], "lost\n").succeeded();
        Process::spawn(link.device.pair(&["--end", LINK])).wait().failed(&[0], &["deleted the session"]);
        old.wait("its end", |seen| seen.ended == Some("disconnected"));
        // And the next session begins where any does.
        let old = link.paired();
        link.device.send_all(&[], "again\n").succeeded();
        old.wait("the text", |seen| seen.displayed == [b"again".to_vec()]);
    });
}

#[test]
fn we_end_a_session_though_the_old_program_said_something_that_nobody_here_received() {
    in_all_ways(9, |link| {
        let old = link.paired();
        // The slave takes nothing before its pause is over, and with nothing received there is nobody to hear this.
        old.send("unheard");
        Process::spawn(link.device.pair(&["--end", LINK])).wait().failed(&[0], &["deleted the session"]);
        old.wait("its end", |seen| seen.ended == Some("disconnected"));
    });
}

#[test]
fn a_text_that_was_made_before_many_of_ours_is_read() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 10);
    let old = link.paired();
    let receiver = link.receiver(&["-n", "2"]);
    old.send_delayed("made before all of them");
    let lines = "one of many\n".repeat(50);
    // A line of many messages, too.
    link.device.send_all(&[], format!("{lines}{}\n", "x".repeat(60_000))).succeeded();
    old.wait("our texts", |seen| seen.displayed.len() > 50 + 60_000 / 1004);
    old.arrive();
    receiver.wait_for_stdout(b"made before all of them\n");
    old.send("after them");
    receiver.wait().succeeded().wrote(b"made before all of them\nafter them\n");
}

#[test]
fn sts_recv_ends_when_the_session_was_ended_here() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 11);
    let _old = link.paired();
    let receiver = link.receiver(&[]);
    let mut sender = link.sender();
    Process::spawn(link.device.pair(&["--end", LINK])).wait().succeeded();
    receiver.wait().failed(&[0], &["the session has ended"]);
    sender.write("nobody reads this\n");
    sender.wait().failed(&[65], &["no session for gateway", "not sent: 18 bytes"]);
}

#[test]
fn a_lost_message_is_said_and_the_next_ones_are_read() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 3);
    let old = link.paired();
    let receiver = link.receiver(&["-b"]);
    old.send("one");
    receiver.wait_for_stdout(b"one \n");
    old.send_lost("this one is lost");
    old.send("0123456789ab and then the rest of it");
    receiver.wait_for(
        "a message before it was lost, so its first 12 bytes cannot be read; the rest is:  and then the rest of it",
    );
    // A stranger's blocks are no text either, and of other lengths nothing comes.
    broker.publish(&link.old.publish, &[0x5a; 32]);
    receiver.wait_for("dropped a damaged message: 32 bytes");
    broker.publish(&link.old.publish, &[0x5a; 31]);
    receiver.wait_for("dropped a message of a pairing, or from another sender");
    // The stranger's block is what we continue from, and the old program has never seen it: one of ours pays for that.
    link.device.send_all(&[], "garbled for the old program\n").succeeded();
    old.wait("a message", |seen| seen.displayed.len() == 1);
    old.send("read again");
    receiver.wait_for_stdout(b"one \nread again \n");
    link.device.send_all(&[], "and there\n").succeeded();
    old.wait("a message", |seen| seen.displayed.len() == 2);
    assert_eq!(old.seen().displayed[1], b"and there");
    let status = Process::spawn(link.device.pair(&["--status"])).wait().succeeded();
    for part in
        ["old program: gateway: cbc", "damaged: gateway: 2 messages", "weak: gateway: sts_version = 1 proves neither"]
    {
        assert!(status.text().contains(part), "{}", status.text());
    }
    let status = Process::spawn(link.device.pair(&["--status", "--json"])).wait().succeeded();
    assert!(
        status.text().contains(r#""messages":2,"messages_sent":2,"damaged":2,"last_message":1"#),
        "{}",
        status.text()
    );
    let metrics = Process::spawn(link.device.pair(&["--metrics"])).wait().succeeded();
    assert!(metrics.text().contains("\nsts_legacy_damaged_messages_total{link=\"gateway\"} 2\n"), "{}", metrics.text());
    old.stop();
    receiver.wait().failed(&[65], &["data was lost: damaged: 2 messages"]);
}

#[test]
fn a_service_pairs_again_and_again_and_the_first_text_after_it_is_not_lost() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Master, true, 5);
    let service = Process::spawn(link.device.pair(&["-v", "--serve", LINK]));
    service.wait_for("listening on");
    let receiver = Process::spawn(link.device.recv(&["-v", "--wait", "-n", "1", LINK]));
    receiver.wait_for("waiting for the first session");
    link.old.seed += 1 << 41;
    let first = OldProgram::start(link.old.clone());
    first.wait("encryption on", |seen| seen.is_on);
    // A master may send at once.
    first.send("at once");
    receiver.wait().succeeded().wrote(b"at once\n");
    link.old.seed += 1 << 41;
    let second = OldProgram::start(link.old.clone());
    second.wait("encryption on", |seen| seen.is_on);
    service.wait_for_times("paired with the master", 2);
    link.device.send_all(&[], "under the second key\n").succeeded();
    second.wait("the text", |seen| seen.displayed == [b"under the second key".to_vec()]);
    service.stop().succeeded();
    // Young enough; and that is all that can be asked.
    Process::spawn(link.device.pair(&["-v", "--if-older", "1h", LINK])).wait().failed(&[0], &["young enough"]);
    let old_enough = ["--if-older", "1s", "--timeout", "1", LINK];
    thread::sleep(Duration::from_millis(2100));
    Process::spawn(link.device.pair(&old_enough)).wait().failed(&[75], &["no master asked to pair"]);
}

#[test]
#[expect(clippy::print_stderr, reason = "it says what this machine cannot try")]
fn a_service_names_what_a_later_configuration_cannot_have() {
    let broker = Broker::start();
    let link = Link::new(broker.port(), Role::Master, true, 8);
    let service = Process::spawn(link.device.pair(&["-v", "--serve", LINK]));
    service.wait_for("listening on");
    if !service.stderr().contains("sandbox: files, TCP ports") {
        eprintln!("not tried: this kernel does not have all of Landlock");
        return;
    }
    let before = fs::read_to_string(link.device.config_dir().join("gateway.conf")).unwrap();
    let later = before.replace(&format!("= {}\n", broker.port()), "= 9\n");
    assert_ne!(before, later);
    link.device.write("gateway.conf", later, 0o600);
    service.signal(Signal::HUP);
    service.wait_for("the new configuration needs TCP port 9: this run gave up access to it");
    service.wait_for("keeping the previous configuration");
    service.wait_for_times("listening on", 2);
    link.device.write("gateway.conf", before, 0o600);
    service.signal(Signal::HUP);
    service.wait_for("configuration reloaded");
    service.stop().succeeded();
}

#[test]
fn a_line_that_cannot_be_sent_is_named_and_nothing_of_it_is_sent() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 6);
    let old = link.paired();
    let long = "x".repeat(3000);
    link.device.send_all(&[], format!("good\n{long}\0\nnever\n")).failed(&[65], &["line 2 cannot be sent", "NUL"]);
    link.device.send_all(&["-o", "max_message=2999"], format!("{long}\n")).failed(&[65], &["longer than 2999 bytes"]);
    link.device.send_all(&["-o", "max_message=3000"], format!("{long}\n")).succeeded();
    link.device.send_all(&[], "no newline").succeeded();
    old.wait("the texts", |seen| seen.displayed.len() == 5);
    let displayed = old.seen().displayed;
    assert_eq!((&displayed[0][..], &displayed[4][..]), (&b"good"[..], &b"no newline"[..]));
    assert_eq!(displayed[1..4].concat(), long.as_bytes());
}
