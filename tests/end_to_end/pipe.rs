//! Claim: the output of sts-recv is byte for byte the input of sts-send, which exits with 0 only after all of it is
//! acknowledged.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, M2S, Pair, readings};
use crate::process::{Process, assert_same};
use crate::sniffer::Sniffer;

/// First byte of an ENC message, `sts-protocol(7)`, "Header".
const ENC: u8 = 0x27;

fn two_hundred_thousand_lines(suite: &str) {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, suite);
    pair.carries(&[], &readings(200_000));
}

#[test]
fn two_hundred_thousand_lines_in_gcm() {
    two_hundred_thousand_lines("gcm");
}

#[test]
fn two_hundred_thousand_lines_in_cbc() {
    two_hundred_thousand_lines("cbc");
}

#[test]
fn two_hundred_thousand_lines_in_ecb() {
    two_hundred_thousand_lines("ecb");
}

#[test]
fn fifty_megabytes_of_noise() {
    // The receiver of a debug build may be too slow for the broker's default queue.
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let mut noise = vec![0; 50_000_000];
    File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    pair.carries(&["-b"], &noise);
}

#[test]
fn a_tar_file() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let tar = Command::new("tar").args(["c", "-C", env!("CARGO_MANIFEST_DIR"), "src", "bin", "Cargo.lock"]).output();
    let tar = tar.unwrap();
    assert!(tar.status.success());
    pair.carries(&[], &tar.stdout);
}

#[test]
fn awkward_input() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let ten_megabyte_line = [vec![b'x'; 10_000_000], b"\nafter it\n".to_vec()].concat();
    let inputs: [(&str, &[u8]); 8] = [
        ("nothing", b""),
        ("one newline", b"\n"),
        ("empty lines", b"\n\n\n\nx\n\n"),
        ("no newline at the end", b"first\nlast"),
        ("NUL bytes", b"a\0b\n\0\n\0\0\0"),
        ("invalid UTF-8", b"\xff\xfe\xc3\x28\n\xf0\x28\x8c\x28\n"),
        ("carriage returns", b"a\r\nb\rc\n\r"),
        ("a line of ten megabytes", &ten_megabyte_line),
    ];
    for (what, input) in inputs {
        for args in [&[][..], &["-b"], &["--each"]] {
            let receiver = pair.slave.listen(&["--once"]);
            let sent = pair.master.send_all(args, input);
            let got = receiver.wait();
            let said = format!("{what}, {args:?}: {}{}", sent.stderr, got.stderr);
            assert_eq!((sent.status, got.status), (0, 0), "{said}");
            assert_same(&got.stdout, input, &said);
        }
    }
}

#[test]
fn every_quality_of_service() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let input = readings(5_000);
    for qos in ["qos=0", "qos=1", "qos=2"] {
        let receiver = pair.slave.listen(&["--once", "-o", qos]);
        pair.master.send_all(&["-o", qos], input.clone()).succeeded();
        receiver.wait().succeeded().wrote(&input);
    }
}

#[test]
fn both_directions_at_once() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let (up, down) = (readings(20_000), readings(30_000));
    let at_slave = pair.slave.listen(&["--once"]);
    let at_master = pair.master.listen(&["--once"]);
    let from_master = Process::spawn_with(pair.master.send(&[LINK]), up.clone());
    let from_slave = Process::spawn_with(pair.slave.send(&[LINK]), down.clone());
    from_master.wait().succeeded();
    from_slave.wait().succeeded();
    at_slave.wait().succeeded().wrote(&up);
    at_master.wait().succeeded().wrote(&down);
}

#[test]
fn at_qos_0_nothing_has_to_wake_the_sender_at_the_end() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // Without a keep-alive, a sender would wait for ever if it waited for anything after its last write to the socket.
    for args in [&["--each", "-o", "qos=0", "-o", "keep_alive=0"][..], &["-o", "qos=0", "-o", "keep_alive=0"]] {
        for _ in 0..5 {
            pair.master.send_all(args, readings(2000)).succeeded();
        }
    }
}

#[test]
fn an_idle_sensors_line_leaves_at_once() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    for line in ["one\n", "two\n"] {
        let before = receiver.stdout();
        sender.write(line);
        receiver.wait_for_stdout(&[&before, line.as_bytes()].concat());
    }
    sender.write("half a li");
    sender.wait_until_read();
    sender.write("ne\nthe rest, without its newline");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"one\ntwo\nhalf a line\nthe rest, without its newline");
}

#[test]
fn each_is_one_message_a_line() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    pair.carries(&["--each"], &readings(50));
    let messages = sniffer.wait_for_type(M2S, ENC, 50).len();
    // The end of the stream may be in the message of the last line.
    assert!(messages == 50 || messages == 51, "{messages} messages");
}

#[test]
fn lines_of_two_senders_are_not_torn() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["-n", "4000"]);
    let line = |letter: &str| letter.repeat(199) + "\n";
    let senders = ["a", "b"].map(|letter| {
        Process::spawn_with(pair.master.send(&["-o", "max_message=1000", LINK]), line(letter).repeat(2000))
    });
    for sender in senders {
        sender.wait().succeeded();
    }
    let got = receiver.wait().succeeded();
    let mut lines: Vec<_> = got.text().split_inclusive('\n').collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 4000);
    assert!(lines[..2000].iter().all(|text| *text == line("a")) && lines[2000..].iter().all(|text| *text == line("b")));
}

#[test]
fn the_broker_queues_while_the_receiver_is_down() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    pair.master.send_all(&[], "while you were out\n").succeeded();
    let receiver = Process::spawn(pair.slave.recv(&["--once", LINK]));
    receiver.wait().succeeded().wrote(b"while you were out\n");
}

#[test]
fn a_terminal_as_stdin_is_said_and_works() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let send = pair.master.send(&[LINK]);
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("{} {LINK}", send.get_program().to_str().unwrap()), "/dev/null"]);
    terminal.current_dir(pair.master.path());
    terminal.env("STS_CONFIG_DIR", pair.master.config_dir()).env("STS_RUNTIME_DIR", pair.master.runtime_dir());
    // script(1) shows both outputs of the tool on its own stdout; ^D at the start of a line ends the input.
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut terminal = Process::started(terminal);
    terminal.write("typed by hand\n\x04");
    receiver.wait().succeeded().wrote(b"typed by hand\n");
    let ended = terminal.wait().succeeded();
    assert!(String::from_utf8_lossy(&ended.stdout).contains("terminal"), "{ended:?}");
}
