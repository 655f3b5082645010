//! Claim: a fleet grows past one gateway without a change on any device.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, readings};
use crate::fleet::{configure_sensor, sensor};
use crate::process::{Process, wait_until};

/// A gateway with this identity for all devices below `area`.
fn gateway(broker: &Broker, identity: Identity, area: &str) -> Device {
    let port = broker.port().to_string();
    Device::configured(
        identity,
        &[
            ("host", "127.0.0.1"),
            ("port", &port),
            ("subtop", &format!("{area}/up")),
            ("pubtop", &format!("{area}/down")),
            ("clientid", &format!("gateway-{}-of-{}", identity as u8, area.replace(['/', '+'], "-"))),
            ("sts_mode", "slave"),
        ],
    )
}

fn serve(gateway: &Device) -> Process {
    let serving = Process::spawn(gateway.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    serving
}

/// What cron runs on a device.
fn pair(device: &Device) {
    Process::spawn(device.pair(&["-q", "--if-older", "24h", LINK])).wait().succeeded();
}

/// What a service runs on it instead.
fn keep(device: &Device) -> Process {
    Process::spawn(device.pair(&["-v", "--keep", "24h", LINK]))
}

/// Has a device know both gateways from the beginning; only `at` knows it, under this name.
fn enrol(device: &Device, name: &str, gateways: [&Device; 2], at: &Device) {
    for (name, gateway) in ["first", "second"].into_iter().zip(gateways) {
        device.trust(name, gateway);
    }
    let file = format!("{LINK}.conf");
    let settings = fs::read_to_string(device.config_dir().join(&file)).unwrap() + "peer = first, second\n";
    device.write(&file, settings, 0o600);
    at.trust(name, device);
}

#[test]
fn devices_move_to_a_second_gateway_with_the_topics_that_it_takes_over() {
    let broker = Broker::start();
    let first = gateway(&broker, Identity::Gateway, "plant/+/+");
    let second = gateway(&broker, Identity::Stranger, "plant/north/+");
    let devices = [("plant/north", 0), ("plant/north", 1), ("plant/south", 2)].map(|(area, number)| {
        let device = sensor(&broker, area, number);
        enrol(&device, &format!("s{number}"), [&first, &second], &first);
        device
    });
    let serving = serve(&first);
    let keeping = keep(&devices[0]);
    keeping.wait_for("paired with first");
    devices[1..].iter().for_each(pair);
    let receiver = first.listen(&[]);
    for device in &devices {
        device.send_all(&["--confirm"], "to the first\n").succeeded();
    }
    serving.stop().succeeded();

    // The keys of the devices in the north go to the second gateway.
    let printed = Process::spawn(first.pair(&["--peers=plant/north/#", LINK])).wait().succeeded();
    let names: Vec<_> = printed.text().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["s0", "s1"]);
    assert_eq!(Process::spawn(first.pair(&["--peers", LINK])).wait().succeeded().text().lines().count(), 3);
    let none = Process::spawn(first.pair(&["--peers=plant/east/#", LINK])).wait();
    none.failed(&[75], &["no peer publishes on a topic", "sts-pair --peers gateway"]);
    Process::spawn(first.pair(&["--peers=a#", LINK])).wait().failed(&[64], &["must be a whole level"]);
    Process::spawn_with(second.pair(&["--trust", "-", LINK]), printed.stdout.clone()).wait().succeeded();
    let file = first.config_dir().join(format!("{LINK}.conf"));
    let settings = fs::read_to_string(file).unwrap().replace("plant/+/+", "plant/south/+");
    first.write(&format!("{LINK}.conf"), settings, 0o600);

    let serving = [serve(&first), serve(&second)];
    let paired = || {
        let status = Process::spawn(second.pair(&["--status"])).wait().succeeded();
        names
            .iter()
            .filter(|name| {
                let row = status.text().lines().find(|row| row.contains(&format!("{name} "))).map(str::to_owned);
                !row.unwrap_or_else(|| panic!("no {name} in {}", status.text())).contains(" none ")
            })
            .count()
    };
    // Until a device has paired with the second gateway, the first one still receives what it sends.
    assert_eq!(paired(), 0);
    devices[0].send_all(&["--confirm"], "during the move\n").succeeded();
    // Nothing but what services and cron run happens on the devices, and as long as the first one has the session, they stay.
    devices.iter().skip(1).for_each(pair);
    assert_eq!(paired(), 0);
    let unknown = [&printed.stdout[..], b"s2000\n"].concat();
    Process::spawn_with(first.pair(&["--forget", "-"]), unknown)
        .wait()
        .failed(&[78], &["stdin, line 3: no peer `s2000`"]);
    assert_eq!(Process::spawn(first.pair(&["--peers", LINK])).wait().succeeded().text().lines().count(), 3);
    let forgotten = Process::spawn_with(first.pair(&["-v", "--forget", "-"]), printed.stdout).wait().succeeded();
    for said in ["2 peers are no longer trusted", "deleted the sessions of gateway with 2 peers", "gateway with s1"] {
        assert!(forgotten.stderr.contains(said), "{}", forgotten.stderr);
    }
    devices[1..].iter().for_each(pair);
    keeping.wait_for("paired with second");
    assert_eq!(paired(), names.len());
    receiver.stop().succeeded().wrote(&[&b"to the first\n".repeat(3)[..], b"during the move\n"].concat());
    let receivers = [first.listen(&[]), second.listen(&[])];
    for device in &devices {
        device.send_all(&["--confirm"], "after the move\n").succeeded();
    }
    let [at_first, at_second] = receivers.map(|receiver| receiver.stop().succeeded());
    at_first.wrote(b"after the move\n");
    at_second.wrote(&b"after the move\n".repeat(2));
    for service in serving.into_iter().chain([keeping]) {
        service.stop().succeeded();
    }
}

/// Has all devices pair with the one gateway that knows them.
fn pair_all(devices: &[Device]) {
    let pairing: Vec<_> = devices.iter().map(|device| Process::spawn(device.pair(&[LINK]))).collect();
    for device in pairing {
        device.wait().succeeded();
    }
}

/// Has one gateway know the devices in place of the other one.
fn hand_over(devices: &[Device], from: &Device, to: &Device) {
    for (number, device) in devices.iter().enumerate() {
        to.trust(&format!("s{number}"), device);
        Process::spawn(from.pair(&["--forget", &format!("s{number}")])).wait().succeeded();
    }
    pair_all(devices);
}

fn lines(receiver: &Process) -> Vec<String> {
    let mut lines: Vec<_> = String::from_utf8(receiver.stdout()).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// With confirms: what the first gateway may have written, and did not confirm, goes to the second one, too.
#[test]
fn a_running_sender_moves_to_the_gateway_with_which_the_device_pairs_and_back() {
    let broker = Broker::start();
    let gateways = [Identity::Gateway, Identity::Stranger].map(|identity| gateway(&broker, identity, "plant/+"));
    let [first, second] = &gateways;
    let options = [&["--confirm"][..], &["--confirm", "--spool", "spool"], &["--confirm", "--will", "gone"]];
    let devices: Vec<_> = (0..options.len())
        .map(|number| {
            let device = sensor(&broker, "plant", number);
            enrol(&device, &format!("s{number}"), [first, second], first);
            device
        })
        .collect();
    let serving = gateways.each_ref().map(serve);
    pair_all(&devices);
    let mut senders: Vec<_> = devices
        .iter()
        .zip(options)
        .map(|(device, options)| Process::spawn(device.send(&[&["-v", "--each"], options, &[LINK]].concat())))
        .collect();
    let mut write =
        |text: &str| senders.iter_mut().enumerate().for_each(|(n, sender)| sender.write(format!("{text} of s{n}\n")));
    let of_all = |texts: &[&str]| {
        let of = |text: &&str| (0..options.len()).map(|n| format!("{text} of s{n}")).collect::<Vec<_>>();
        texts.iter().flat_map(of).collect::<Vec<_>>()
    };
    let at_first = first.listen(&[]);
    write("1");
    wait_until("what is for the first", || lines(&at_first) == of_all(&["1"]));
    at_first.stop().succeeded();
    write("2");

    hand_over(&devices, first, second);
    let at_second = second.listen(&["--wait"]);
    wait_until("what was not confirmed", || lines(&at_second) == of_all(&["2"]));
    write("3");
    wait_until("what is for the second", || lines(&at_second) == of_all(&["2", "3"]));
    // What it has written is confirmed then.
    let at_second = at_second.stop().succeeded();

    // It comes back: what the other one received meanwhile is no loss.
    hand_over(&devices, second, first);
    let at_first = first.listen(&["--wait"]);
    write("4");
    wait_until("what is for the first again", || lines(&at_first) == of_all(&["4"]));
    for mut sender in senders {
        sender.close_stdin();
        let ended = sender.wait().succeeded();
        let told = "paired with second; resent to it, possibly duplicated: 1 message";
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
    for ended in [at_first.stop().succeeded(), at_second] {
        assert!(!ended.stderr.contains("lost") && !ended.stderr.contains("missing"), "{}", ended.stderr);
    }
    for serving in serving {
        serving.stop().succeeded();
    }
}

#[test]
fn a_device_is_listed_by_the_topics_that_it_has_now() {
    let broker = Broker::start();
    let first = gateway(&broker, Identity::Gateway, "plant/+/+");
    let device = sensor(&broker, "plant/north", 0);
    device.trust("first", &first);
    first.trust("s0", &device);
    let serving = serve(&first);
    pair(&device);
    configure_sensor(&device, &broker, "plant/south", 0);
    pair(&device);
    serving.stop().succeeded();
    let listed = |filter: &str| Process::spawn(first.pair(&[&format!("--peers={filter}"), LINK])).wait();
    assert!(listed("plant/south/#").succeeded().text().starts_with("s0 "));
    for old in ["plant/north/#", "plant/north/s0/up"] {
        listed(old).failed(&[75], &["no peer publishes on a topic"]);
    }
}

#[test]
fn a_spool_moves_with_the_device() {
    let broker = Broker::start();
    let [first, second] = [Identity::Gateway, Identity::Stranger].map(|identity| gateway(&broker, identity, "plant/+"));
    let device = [sensor(&broker, "plant", 0)];
    enrol(&device[0], "s0", [&first, &second], &first);
    let send = |options: &[&str], text: &str| {
        device[0].send_all(&[&["--each", "--confirm", "--spool", "spool"], options].concat(), text)
    };
    // There is no session yet, as after a restart.
    send(&[], "before the first session\n").failed(&[75], &["no session", "left in the spool"]);
    let serving = [serve(&first), serve(&second)];
    pair_all(&device);
    let at_first = first.listen(&[]);
    send(&[], "to the first\n").succeeded();
    at_first.stop().succeeded().wrote(b"before the first session\nto the first\n");
    send(&["--timeout", "1"], "left\n").failed(&[75], &["left in the spool"]);

    hand_over(&device, &first, &second);
    let at_second = second.listen(&[]);
    send(&[], "to the second\n").succeeded();
    // A record may go to each of the peers that the configuration named, so it must name the same ones now.
    for options in [["-o", "peer=first"], ["-o", "peer=second"], ["--to", "second"]] {
        send(&options, "to one of them\n").failed(&[78], &["other alternatives (`peer`)"]);
    }
    send(&["-o", "peer=second, first"], "empty\n").succeeded();

    hand_over(&device, &second, &first);
    at_second.stop().succeeded().wrote(b"left\nto the second\nempty\n");
    let at_first = first.listen(&[]);
    send(&[], "back\n").succeeded();
    let ended = at_first.stop().succeeded();
    assert!(!ended.stderr.contains("lost") && !ended.stderr.contains("missing"), "{}", ended.stderr);
    ended.wrote(b"back\n");
    for serving in serving {
        serving.stop().succeeded();
    }
}

/// The spool outlives the sessions, which tell no more with whom its sequence was begun.
#[test]
fn a_spool_moves_with_a_device_that_is_restarted_and_killed() {
    let broker = Broker::start();
    let gateways = [Identity::Gateway, Identity::Stranger].map(|identity| gateway(&broker, identity, "plant/+"));
    let [first, second] = &gateways;
    let device = sensor(&broker, "plant", 0);
    enrol(&device, "s0", [first, second], first);
    second.trust("s0", &device);
    let options = ["--each", "--confirm", "--spool", "spool"];
    // Some of it is confirmed by this gateway, and one is left. The sequence has no end.
    let append = |lines: &str| {
        device.send_all(&options, lines).failed(&[75], &["in the spool", "another sts-send is sending"]);
    };
    let restart_and_send = |gateway: &Device, delivered: &str, only_here: &str, left: &str| {
        device.lose_runtime_files();
        let serving = serve(gateway);
        Process::spawn(device.pair(&[LINK])).wait().succeeded();
        serving.stop().succeeded();
        let at_gateway = gateway.listen(&[]);
        let sending = Process::spawn(device.send(&[&options[..], &[LINK]].concat()));
        // What is left for the other gateway was published for this one, too.
        wait_until("what was left", || at_gateway.stdout().ends_with(delivered.as_bytes()));
        append(only_here);
        wait_until("what came then", || at_gateway.stdout().ends_with(only_here.as_bytes()));
        let ended = at_gateway.stop().succeeded();
        assert!(!ended.stderr.contains("lost") && !ended.stderr.contains("missing"), "{}", ended.stderr);
        append(left);
        sending.signal(Signal::KILL);
        sending.wait();
    };
    device.send_all(&options, "1\n2\n").failed(&[75], &["no session", "left in the spool"]);
    restart_and_send(first, "1\n2\n", "3\n", "4\n");
    restart_and_send(second, "4\n", "5\n", "6\n");
    restart_and_send(first, "6\n", "7\n", "8\n");
}

/// A device with a link to each of two readers, of which only the first one has paired.
fn two_readers(broker: &Broker) -> (Device, [Device; 2]) {
    let device = sensor(broker, READERS[0], 0);
    let own = fs::read_to_string(device.config_dir().join(format!("{LINK}.conf"))).unwrap();
    let other = own.replace(READERS[0], READERS[1]).replace("clientid = s0", "clientid = s0-2");
    device.write(&format!("{}.conf", READERS[1]), other, 0o600);
    let readers = [(Identity::Gateway, 0), (Identity::Stranger, 1)]
        .map(|(identity, at)| gateway(broker, identity, &format!("{}/+", READERS[at])));
    for ((reader, name), link) in readers.iter().zip(READERS).zip([LINK, READERS[1]]) {
        reader.trust("s0", &device);
        let key = Process::spawn(reader.pair(&["--key"])).wait().succeeded().stdout;
        Process::spawn_with(device.pair(&["--trust", name, link]), key).wait().succeeded();
    }
    pair_with(&device, &readers[0], LINK);
    (device, readers)
}

const READERS: [&str; 2] = ["logger", "dashboard"];

fn pair_with(device: &Device, reader: &Device, link: &str) {
    let serving = serve(reader);
    Process::spawn(device.pair(&[link])).wait().succeeded();
    serving.stop().succeeded();
}

/// What sts.conf(5) says, in bash.
fn send_to_both(device: &Device, lines: &[u8]) -> Process {
    let send = device.send(&[]);
    let mut shell = Command::new("bash");
    shell.envs(send.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SEND", send.get_program());
    let script =
        r#"tee -p >("$SEND" --confirm --spool to-dashboard dashboard) | "$SEND" --confirm --spool to-logger gateway"#;
    shell.args(["-o", "pipefail", "-c", script]).current_dir(device.path());
    Process::spawn_with(shell, lines)
}

#[test]
fn one_reading_goes_to_two_readers_by_a_link_for_each() {
    let broker = Broker::start();
    let (device, [logger, dashboard]) = two_readers(&broker);
    let (at_logger, lines) = (logger.listen(&[]), readings(20));
    // The dashboard has not paired yet.
    let sending = send_to_both(&device, &lines);
    at_logger.wait_for_stdout(&lines);
    sending.wait();
    pair_with(&device, &dashboard, READERS[1]);
    // It is away.
    let sending = send_to_both(&device, &lines);
    at_logger.wait_for_stdout(&lines.repeat(2));
    let at_dashboard = dashboard.listen(&["--wait"]);
    at_dashboard.wait_for_stdout(&lines.repeat(2));
    sending.wait().succeeded();
    // Both are there.
    send_to_both(&device, &lines).wait().succeeded();
    for receiver in [at_logger, at_dashboard] {
        receiver.wait_for_stdout(&lines.repeat(3));
        receiver.stop().succeeded();
    }
}
