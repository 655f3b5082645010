//! Claim: what cannot work is refused with the right exit status, the reason, and a hint that says what to do about it.

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, M2S, Pair, S2M, settings};
use crate::process::{Ended, Process};
use crate::sniffer::Sniffer;

/// A port on which nothing listens: refusals that do not need a broker come before the connection.
const NO_BROKER: &str = "1";

fn each_tool(device: &Device) -> [Ended; 3] {
    [device.pair(&[LINK]), device.send(&[LINK]), device.recv(&[LINK])].map(|command| Process::spawn(command).wait())
}

#[test]
fn no_configuration() {
    let device = Device::with(Identity::Station);
    for ended in each_tool(&device) {
        let path = device.config_dir().join("gateway.conf");
        ended.failed(&[78], &["there is no", path.to_str().unwrap()]);
    }
}

#[test]
fn unreadable_configuration() {
    // Root can read every file, but cannot read a directory as one.
    let device = Device::with(Identity::Station);
    std::fs::create_dir(device.config_dir().join("gateway.conf")).unwrap();
    for ended in each_tool(&device) {
        ended.failed(&[78], &["gateway.conf"]);
    }
}

#[test]
fn wrong_lines_in_the_configuration() {
    let cases = [
        (("usrname", "me"), &["line 9", "usrname", "username"][..]),
        (("port", "1883"), &["line 9", "port"]),
        (("qos", "3"), &["line 9", "qos"]),
        (("keep_alive", "often"), &["line 9", "keep_alive"]),
    ];
    for (line, said) in cases {
        let lines = [settings(NO_BROKER, "master", "gcm"), vec![line]].concat();
        let device = Device::configured(Identity::Station, &lines);
        for ended in each_tool(&device) {
            ended.failed(&[78], &["gateway.conf"]).failed(&[78], said);
        }
    }
}

#[test]
fn wrong_combinations_in_the_configuration() {
    for (mode, suite) in [("master", "null"), ("nosec", "gcm"), ("both", "gcm"), ("slave", "des")] {
        let device = Device::configured(Identity::Station, &settings(NO_BROKER, mode, suite));
        for ended in each_tool(&device) {
            ended.failed(&[78], &[]);
        }
    }
    let device = Device::configured(Identity::Station, &settings(NO_BROKER, "master", "gcm"));
    let one_topic = ["-o", "subtop=both", "-o", "pubtop=both", LINK];
    Process::spawn(device.send(&one_topic)).wait().failed(&[78], &["subtop", "pubtop"]);
}

#[test]
fn no_secret_on_the_command_line() {
    let device = Device::configured(Identity::Station, &settings(NO_BROKER, "master", "gcm"));
    for option in ["password=hunter2", "url=mqtt://me:hunter2@localhost"] {
        let ended = Process::spawn(device.send(&["-o", option, LINK])).wait().failed(&[64, 78], &["sts-send: hint: "]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}

#[test]
fn usage() {
    let device = Device::configured(Identity::Station, &settings(NO_BROKER, "master", "gcm"));
    Process::spawn(device.send(&["--no-such-option"])).wait().failed(&[64], &["--no-such-option"]);
    Process::spawn(device.recv(&["-n", "many", LINK])).wait().failed(&[64], &["many"]);
    Process::spawn(device.recv(&["-n", "0", LINK])).wait().failed(&[64], &["'0'"]);
    Process::spawn(device.pair(&["--metrics", LINK])).wait().failed(&[64], &[LINK, "take no LINK"]);
    Process::spawn(device.pair(&["--status", "gatway"])).wait().failed(&[78], &["no link `gatway`"]);
    for command in [device.pair(&["--version"]), device.send(&["-V"]), device.recv(&["-V"])] {
        let ended = Process::spawn(command).wait().succeeded();
        assert!(ended.text().contains(env!("CARGO_PKG_VERSION")), "{ended:?}");
    }
}

#[test]
fn the_options_of_mosquittos_clients_lead_to_ours() {
    let device = Device::configured(Identity::Station, &settings(NO_BROKER, "master", "gcm"));
    let habit = ["-h", "broker", "-t", "plant/up", "-m", "21.5"];
    let said = ["-o host=HOST", "-o pubtop=TOPIC", "echo MESSAGE | sts-send LINK"];
    Process::spawn(device.send(&habit)).wait().failed(&[64], &said).wrote(b"");
    Process::spawn(device.send(&habit[2..])).wait().failed(&[64], &said[1..]);
    Process::spawn(device.recv(&["-t", "plant/up", "-C", "1"])).wait().failed(&[64], &["-o subtop=TOPIC", "-n N"]);
    Process::spawn(device.pair(&["-h", "broker"])).wait().failed(&[64], &["-o host=HOST"]).wrote(b"");
    Process::spawn(device.send(&[LINK, "-h"])).wait().succeeded();
}

#[test]
fn what_other_programs_take_as_arguments_leads_to_what_is_done_here() {
    let device = Device::configured(Identity::Station, &settings(NO_BROKER, "master", "gcm"));
    for (command, said) in [
        (device.send(&[LINK, "hello"]), "echo TEXT | sts-send LINK"),
        (device.recv(&[LINK, "out.txt"]), "sts-recv LINK > FILE"),
        (device.recv(&[LINK, "-o", "out.txt"]), "output goes to stdout"),
        (device.pair(&["trust", "gateway"]), "actions are options, such as --status and --trust"),
    ] {
        Process::spawn(command).wait().failed(&[64], &[said]);
    }
    Process::spawn(device.pair(&["status"])).wait().failed(&[78], &["did you mean --status?"]);
    let ended = Process::spawn(device.send(&["-x", LINK])).wait().failed(&[64], &["'-x'"]);
    assert!(!ended.stderr.contains("as a value"), "{}", ended.stderr);
    let mut command = device.send(&["readings.csv"]);
    command.current_dir(device.path());
    std::fs::write(device.path().join("readings.csv"), "21.5\n").unwrap();
    Process::spawn(command).wait().failed(&[78], &["sts-send LINK < readings.csv"]);
}

#[test]
fn times_have_one_form_in_all_options() {
    let broker = Broker::start();
    let device = Device::configured(Identity::Station, &settings(&broker.port().to_string(), "nosec", "null"));
    for time in ["1", "1s", "0m1s"] {
        Process::spawn(device.recv(&["--timeout", time, LINK])).wait().succeeded();
        Process::spawn_with(device.send(&["--timeout", time, LINK]), "x\n").wait().succeeded();
        Process::spawn(device.pair(&["--timeout", time, LINK])).wait().failed(&[64], &["not encrypted"]);
        Process::spawn(device.pair(&["--if-older", time, LINK])).wait().failed(&[64], &["not encrypted"]);
    }
    for time in ["5x", "1h30", "1 s"] {
        let option = format!("--timeout={time}");
        for command in [device.recv(&[&option]), device.send(&[&option]), device.pair(&[&option])] {
            Process::spawn(command).wait().failed(&[64], &[time, "1h30m"]);
        }
        Process::spawn(device.pair(&["--if-older", time])).wait().failed(&[64], &[time]);
    }
}

#[test]
fn a_directory_as_stdin_is_refused_before_a_stream_is_taken() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--timeout", "5"]);
    let mut command = pair.master.send(&[LINK]);
    command.stdin(std::fs::File::open("/").unwrap()).stderr(std::process::Stdio::piped());
    Process::started(command).wait().failed(&[1], &["stdin", "directory"]);
    pair.master.send_all(&[], "next\n").succeeded();
    receiver.wait().succeeded().wrote(b"next\n");
}

#[test]
fn no_session() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let directory = pair.master.runtime_dir();
    let said = ["no session", "run sts-pair gateway", directory.to_str().unwrap()];
    pair.master.send_all(&[], "hello\n").failed(&[75], &said);
    let directory = pair.slave.runtime_dir();
    let said = ["no session", "run sts-pair gateway", directory.to_str().unwrap()];
    Process::spawn(pair.slave.recv(&[LINK])).wait().failed(&[75], &said);
}

#[test]
fn a_session_for_other_topics_or_another_suite_is_no_session() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for option in ["pubtop=elsewhere", "subtop=elsewhere", "aes=cbc"] {
        pair.master.send_all(&["-o", option], "hello\n").failed(&[75], &["no session"]);
    }
}

#[test]
fn nobody_trusted_yet() {
    let broker = Broker::start();
    let device = Device::configured(Identity::Station, &settings(&broker.port().to_string(), "master", "gcm"));
    Process::spawn(device.pair(&["--timeout", "1", LINK])).wait().failed(&[77, 78], &["--trust"]);
}

#[test]
fn two_trusted_and_none_named() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    pair.master.trust("other", &Device::with(Identity::Stranger));
    Process::spawn(pair.master.pair(&["--timeout", "1", LINK])).wait().failed(&[78], &["peer = "]);
    let slave = Process::spawn(pair.slave.pair(&[LINK]));
    Process::spawn(pair.master.pair(&["-o", "peer=gateway", LINK])).wait().succeeded();
    slave.wait().succeeded();
}

#[test]
fn a_mistyped_name_leads_to_the_nearest_one() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let meant = "did you mean `gateway`?";
    pair.master.send_all(&["--to", "gatewya"], "x\n").failed(&[64], &[meant]);
    for command in [
        pair.master.pair(&["-o", "peer=gatway", "--timeout", "1", LINK]),
        pair.master.recv(&["-o", "peer=gatway", LINK]),
        pair.master.send(&["-o", "peer=gatway", LINK]),
    ] {
        Process::spawn(command).wait().failed(&[77], &["peer = gatway", meant]);
    }
    Process::spawn(pair.master.pair(&["--end", "--to", "Gateway", LINK])).wait().failed(&[64], &[meant]);
    Process::spawn(pair.master.pair(&["--forget", "gatway"])).wait().failed(&[78], &[meant]);
    for command in [pair.master.send(&["gatway"]), pair.master.recv(&["gatway"]), pair.master.pair(&["gatway"])] {
        Process::spawn(command).wait().failed(&[78], &[meant]);
    }
    let path = pair.master.config_dir().join(LINK);
    Process::spawn(pair.master.send(&[path.to_str().unwrap()]))
        .wait()
        .failed(&[78], &["did you mean ", "gateway.conf?"]);
}

#[test]
fn unknown_peer_is_shown_with_its_fingerprint_and_the_remedy() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    Process::spawn(pair.slave.pair(&["--forget", "station"])).wait().succeeded();
    pair.slave.trust("somebody-else", &Device::with(Identity::Stranger));

    let slave = Process::spawn(pair.slave.pair(&["--timeout", "10", LINK]));
    let master = Process::spawn(pair.master.pair(&["--timeout", "10", LINK]));
    slave.wait().failed(&[75, 77], &["SHA256:", "sts-pair --trust"]);
    master.wait().failed(&[75, 77], &[]);
    assert!(pair.master.runtime_files().iter().all(|(_, content)| !String::from_utf8_lossy(content).contains("gcm")));
}

#[test]
fn both_ends_master() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let same_role = ["--timeout", "10", "-o", "sts_mode=master", LINK];
    let one = Process::spawn(pair.master.pair(&same_role));
    let other = Process::spawn(pair.slave.pair(&same_role));
    one.wait().failed(&[75, 76], &["master"]);
    other.wait().failed(&[75, 76], &["master"]);
}

#[test]
fn both_ends_slave() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    for option in ["--", "--code"] {
        let as_slave =
            |device: &Device| Process::spawn(device.pair(&["--timeout", "1", "-o", "sts_mode=slave", option, LINK]));
        let ends = [as_slave(&pair.master), as_slave(&pair.slave)];
        for (ended, heard) in ends.map(Process::wait).into_iter().zip([S2M, M2S]) {
            let other = format!("sts_mode = master, pubtop = {heard}");
            ended.failed(&[75], &[" asked to pair on ", "this device is the slave", &other]);
        }
    }
}

#[test]
fn suites_differ() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = Process::spawn(pair.slave.pair(&["--timeout", "10", "-o", "aes=cbc", LINK]));
    let master = Process::spawn(pair.master.pair(&["--timeout", "10", LINK]));
    slave.wait().failed(&[75, 76], &["gcm", "cbc"]);
    master.wait().failed(&[75, 76], &["suite"]);
}

#[test]
fn wrong_password() {
    let broker = Broker::with(Options { login: Some(("station", "right")), ..Options::default() });
    let port = broker.port().to_string();
    let login = vec![("username", "station"), ("password", "hunter2")];
    let device = Device::configured(Identity::Station, &[settings(&port, "nosec", "null"), login].concat());
    for ended in [Process::spawn_with(device.send(&[LINK]), "x\n"), Process::spawn(device.recv(&[LINK]))] {
        let ended = ended.wait().failed(&[69], &["password"]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    device
        .configure(&[settings(&port, "nosec", "null"), vec![("username", "station"), ("password", "right")]].concat());
    Process::spawn_with(device.send(&[LINK]), "x\n").wait().succeeded();
}

#[test]
fn a_subscription_that_the_broker_denies_names_the_topic() {
    let broker = Broker::with(Options { deny_subscriptions: true, ..Options::default() });
    let pair = Pair::enrolled(&broker, "gcm");
    Process::spawn(pair.master.pair(&["--timeout", "60", LINK])).wait().failed(&[69], &[S2M]);
    Process::spawn(pair.slave.pair(&["--timeout", "60", LINK])).wait().failed(&[69], &[M2S]);
    Process::spawn(pair.slave.recv(&["-o", "sts_mode=nosec", "-o", "aes=null", LINK])).wait().failed(&[69], &[M2S]);
}

#[test]
fn what_is_undelivered_is_counted_in_bytes_of_the_input() {
    let broker = Broker::start();
    let unreachable = format!("port={NO_BROKER}");
    let nosec = ["-o", "sts_mode=nosec", "-o", "aes=null", "-o", &unreachable];
    for suite in ["gcm", "cbc"] {
        let pair = Pair::paired(&broker, suite);
        for options in [&["-o", &unreachable][..], &["--confirm", "-o", &unreachable], &["--confirm"], &nosec] {
            let send =
                |options: &[&str], input: &str| pair.master.send_all(&[&["--timeout", "1"], options].concat(), input);
            send(options, "hi\n").failed(&[69, 75], &["1 message (3 bytes)"]);
            send(&[options, &["--each"]].concat(), "a\nbcd\n").failed(&[69, 75], &["2 messages (6 bytes)"]);
        }
    }
}

#[test]
fn a_message_that_the_broker_closes_on_is_not_sent_for_ever() {
    let broker = Broker::with(Options { max_packet_size: Some(20_000), ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    pair.master.send_all(&[], "x".repeat(40_000) + "\n").failed(&[65, 69], &["max_message"]);
    pair.carries(&["-o", "max_message=10000"], &vec![b'x'; 40_000]);
}

#[test]
fn a_message_that_the_broker_drops_is_reported_at_the_other_end() {
    // This mosquitto acknowledges what it drops: the sender cannot notice this, but the receiver must.
    let broker = Broker::with(Options { message_size_limit: Some(20_000), ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    sender.write("before\n");
    receiver.wait_for_stdout(b"before\n");
    sender.write("x".repeat(40_000) + "\nafter\n");
    sender.close_stdin();
    sender.wait();
    receiver.wait().failed(&[65], &["gap"]).wrote(b"before\nafter\n");
}

#[test]
fn nothing_is_published_without_a_session() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    pair.master.send_all(&[], "in the clear?\n").failed(&[75], &[]);
    broker.publish("marker", b"x");
    sniffer.wait_for_type("marker", b'x', 1);
    assert_eq!(sniffer.seen().len(), 1);
}

/// A frame of version 3, and text that begins with the same byte.
#[test]
fn a_peer_of_a_later_version_is_named_as_such() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = Process::spawn(pair.slave.pair(&["--serve", "-v", LINK]));
    slave.wait_for("listening on");
    broker.publish(M2S, b"1 reading of a device without this protocol");
    broker.publish(M2S, &[&[0x31][..], &[0x80; 1300]].concat());
    broker.publish(M2S, &[&[0x31][..], &[0x81; 1300]].concat());
    slave.wait_for("speaks a later version of the protocol (unverified)");
    slave.wait_for("install the same version of sts on both devices");
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    slave.wait_for("paired with station");
    let ended = slave.stop().succeeded();
    assert_eq!(ended.stderr.matches("later version").count(), 1, "once a minute: {}", ended.stderr);
}
