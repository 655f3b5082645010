//! Claim: what goes on is seen from outside: on a terminal, and by a monitoring system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, Pair};
use crate::process::{Process, wait_until};

/// A terminal of 80 columns and 24 lines, in a tmux server of its own, which ends with it.
pub(crate) struct Terminal {
    socket: String,
}

impl Terminal {
    /// Runs a shell command there.
    pub(crate) fn run(device: &Device, command: &str) -> Self {
        let socket = device.path().join("tmux").display().to_string();
        let terminal = Self { socket };
        let mut tmux = device.shell(&["tmux", "-f", "/dev/null", "-S", &terminal.socket]);
        tmux.args(["new-session", "-d", "-x", "80", "-y", "24", &format!("{command}; sleep 1000")]);
        Process::spawn(tmux).wait().succeeded();
        terminal
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").args(["-S", &self.socket]).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    pub(crate) fn type_keys(&self, keys: &str) {
        self.tmux(&["send-keys", keys]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        Command::new("tmux").args(["-S", &self.socket, "kill-server"]).stderr(Stdio::null()).status().ok();
    }
}

fn status(device: &Device, args: &[&str]) -> String {
    Process::spawn(device.pair(&[&["--status"], args].concat())).wait().succeeded().text().to_owned()
}

#[test]
fn a_key_that_has_not_paired_is_shown_and_one_link_can_be_chosen() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.trust("stranger", &Device::with(Identity::Stranger));
    let all = status(&pair.slave, &[]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = all.lines().map(words).collect();
    assert_eq!((lines[1][0].as_str(), lines[1][1].as_str(), lines[1][6].as_str()), ("gateway", "station", "-"));
    assert_eq!((lines[2][0].as_str(), lines[2][1].as_str(), lines[2][3].as_str()), ("*", "stranger", "none"));
    // All but the age, in which a second may have passed.
    let names = |table: &str| table.lines().map(|line| words(line)[..3].join(" ")).collect::<Vec<_>>();
    assert_eq!(names(&status(&pair.slave, &[LINK])), names(&all));
    assert!(status(&pair.slave, &["--json"]).contains(r#"{"link":null,"peer":"stranger""#));

    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--confirm"], "one\n").succeeded();
    receiver.stop().succeeded();
    let json = status(&pair.slave, &["--json", "./elsewhere/gateway.conf"]);
    let last = json.split(r#""last_message":"#).nth(1).unwrap().split(',').next().unwrap();
    assert!(last.parse::<u64>().is_ok_and(|at| at > 1_700_000_000), "{json}");
}

#[test]
fn a_table_on_a_terminal_is_drawn_again_in_its_place() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let terminal = Terminal::run(&pair.slave, "sts-pair --status --watch");
    wait_until("a table", || terminal.screen().contains("station"));
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--each", "--confirm"], "1\n2\n3\n4\n5\n6\n7\n").succeeded();
    receiver.stop().succeeded();
    let shows_all = || {
        let screen = terminal.screen();
        screen.lines().any(|line| line.contains("station") && line.split_whitespace().nth(5) == Some("7"))
    };
    wait_until("what was received", shows_all);
    assert_eq!(terminal.screen().matches("LINK").count(), 1, "{}", terminal.screen());
    terminal.type_keys("C-c");

    // Not on a terminal: one table after the other.
    let mut watch = Process::spawn(pair.slave.pair(&["--status", "--json", "--watch"]));
    wait_until("two of them", || String::from_utf8(watch.stdout()).unwrap().lines().count() >= 2);
    assert!(watch.is_running());
    watch.signal(Signal::INT);
    watch.wait().succeeded();
}

#[test]
fn metrics_are_what_prometheus_reads_and_a_file_is_replaced_as_a_whole() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--each", "--confirm"], "one\ntwo\nthree\n").succeeded();
    receiver.stop().succeeded();
    let spool = pair.slave.path().join("spool");
    fs::create_dir(&spool).unwrap();
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(spool.join("0000000000000000"), [0; 77]).unwrap();
    let file = pair.slave.path().join("sts.prom");
    let options = [&format!("--metrics={}", file.display()), "--spool", spool.to_str().unwrap()];
    for _ in 0..2 {
        Process::spawn(pair.slave.pair(&options)).wait().succeeded().wrote(b"");
    }
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    for line in [
        r#"sts_received_messages_total{link="gateway",peer="station",fingerprint="SHA256:"#.to_owned(),
        format!("sts_spool_bytes{{spool=\"{}\"}} 77", spool.display()),
    ] {
        assert!(text.lines().any(|it| it.starts_with(&line)), "no {line} in {text}");
    }
    let printed = Process::spawn(pair.slave.pair(&["--metrics"])).wait().succeeded();
    let without_spool = text.lines().filter(|line| !line.contains("sts_spool")).map(|line| format!("{line}\n"));
    assert_eq!(printed.text(), without_spool.collect::<String>());
    check_with_promtool(&text);
}

/// Where Prometheus is installed, its own checker has the last word.
fn check_with_promtool(text: &str) {
    let program = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut promtool = Command::new(program);
    promtool.args(["check", "metrics"]);
    if promtool.stdin(Stdio::null()).output().is_ok() {
        let checked = Process::spawn_with(promtool, text).wait().succeeded();
        assert_eq!((checked.text(), checked.stderr.as_str()), ("", ""));
    }
}

#[test]
fn a_run_tells_how_far_it_has_come_on_a_terminal_and_at_a_signal() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--timestamps"]);
    receiver.wait_for("receiving from station");
    let terminal = Terminal::run(&pair.master, "(echo one; echo two; sleep 1000) | sts-send --progress gateway");
    wait_until("a line", || terminal.screen().contains("8B, 2 lines, "));
    wait_until("all of it acknowledged", || terminal.screen().contains("0 messages (0B) unacknowledged"));

    let mut sender = Process::spawn(pair.master.send(&["-v", LINK]));
    sender.write("three\n");
    receiver.signal(Signal::USR1);
    receiver.wait_for("/s");
    sender.wait_for("sending to gateway");
    sender.wait_until_acknowledged(6);
    assert!(!sender.stderr().contains("line"), "{}", sender.stderr());
    sender.wait().succeeded();
    drop(terminal);
    let ended = receiver.stop().succeeded();
    let (stamp, line) = ended.text().lines().last().unwrap().split_once(' ').unwrap();
    assert_eq!((stamp.len(), line), (24, "three"), "{ended:?}");
}

/// What a service manager hears, one message each.
struct Notices {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Notices {
    /// A socket for a tool of this device.
    fn listen(device: &Device) -> Self {
        let socket = UnixDatagram::bind(device.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, heard: Vec::new() }
    }

    fn wait_for(&mut self, wanted: &str) {
        wait_until(wanted, || {
            let mut text = [0; 512];
            while let Ok(len) = self.socket.recv(&mut text) {
                self.heard.push(String::from_utf8(text[..len].to_vec()).unwrap());
            }
            self.heard.iter().any(|notice| notice.starts_with(wanted))
        });
    }

    fn has(&self, notice: &str) -> bool {
        self.heard.iter().any(|heard| heard == notice)
    }
}

#[test]
fn a_service_manager_hears_what_the_broker_refuses() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let denying = Broker::with(Options { deny_subscriptions: true, ..Options::default() });
    let mut notices = Notices::listen(&pair.master);
    let port = format!("port={}", denying.port());
    let mut command = pair.master.send(&["--spool", "spool", "--confirm", "-o", &port, LINK]);
    command.env("NOTIFY_SOCKET", pair.master.path().join("notify"));
    let run = Process::spawn(command);
    notices.wait_for("STATUS=connected to 127.0.0.1:");
    notices.wait_for("STATUS=trying again: the broker refused the subscription");
    run.stop();
}

/// sts-pair has nothing to say of its progress, and no tool can at its very start.
#[test]
fn a_question_about_progress_ends_no_tool() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let serving = Process::spawn(pair.slave.pair(&["--serve", "-v", LINK]));
    serving.wait_for("listening on");
    serving.signal(Signal::USR1);
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    serving.stop().succeeded();
}

/// Its socket was opened before the sandbox, which is in force here.
#[test]
fn a_service_manager_hears_that_a_run_is_ready_once_the_broker_accepts_it() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    let device = &pair.slave;
    for mut command in
        [device.recv(&["--wait", LINK]), device.pair(&["--serve", LINK]), device.send(&["--confirm", LINK])]
    {
        let mut notices = Notices::listen(device);
        command.env("NOTIFY_SOCKET", device.path().join("notify"));
        let run = Process::spawn(command);
        notices.wait_for("STATUS=not connected: 127.0.0.1:");
        assert!(!notices.has("READY=1"), "{:?}", notices.heard);
        broker.start_again();
        notices.wait_for("STATUS=connected to 127.0.0.1:");
        notices.wait_for("READY=1");
        run.stop();
        broker.stop();
        fs::remove_file(device.path().join("notify")).unwrap();
    }
}

/// With a spool, a sender keeps its input from the start, so a manager that waited for the broker would end a sender
/// that works.
#[test]
fn a_sender_with_a_spool_is_ready_before_there_is_a_broker_or_a_session_or_its_turn() {
    let mut broker = Broker::start();
    let (pair, enrolled) = (Pair::paired(&broker, "gcm"), Pair::enrolled(&broker, "gcm"));
    broker.stop();
    let send = |device: &Device, said: &str| {
        let mut notices = Notices::listen(device);
        let mut command = device.send(&["--spool", "spool", LINK]);
        command.env("NOTIFY_SOCKET", device.path().join("notify"));
        let run = Process::spawn(command);
        run.wait_for(said);
        notices.wait_for("READY=1");
        assert!(!notices.heard.iter().any(|notice| notice.starts_with("STATUS=connected")), "{:?}", notices.heard);
        fs::remove_file(device.path().join("notify")).unwrap();
        run
    };
    let without_broker = send(&pair.master, "waiting for the broker");
    let beside_another = send(&pair.master, "");
    let without_session = send(&enrolled.master, "meanwhile, input waits in the spool");
    for run in [beside_another, without_broker, without_session] {
        run.stop();
    }
}
