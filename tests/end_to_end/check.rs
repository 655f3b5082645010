//! Claim: `--check` shows the configuration as it is used, and names the step that fails.

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, Pair, settings};
use crate::process::Process;

fn check(device: &Device, options: &[&str]) -> Process {
    Process::spawn(device.pair(&[&["--check"], options, &[LINK]].concat()))
}

/// The line of a step.
fn line<'a>(text: &'a str, step: &str) -> &'a str {
    let of_step = |line: &&str| line.split_whitespace().nth(1) == Some(step);
    text.lines().find(of_step).unwrap_or_else(|| panic!("no {step} in:\n{text}"))
}

#[test]
fn each_step_of_a_link_that_works_is_a_line() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let options = ["-o", "mqtt_version=5"];
    let receiver = pair.slave.listen(&options);
    let ended = check(&pair.master, &[&options[..], &["-o", "qos=2"]].concat()).wait().succeeded();
    let text = ended.text();
    for step in ["clock", "name", "peer", "session", "connection", "login", "subscription", "publishing", "answer"] {
        assert!(line(text, step).starts_with("ok "), "{text}");
    }
    assert!(line(text, "answer").contains("gateway has the session"), "{text}");
    for (key, value, origin) in [
        ("qos", "2", "(-o qos)"),
        ("sts_mode", "master", "line 7)"),
        ("keep_alive", "60", "(default)"),
        ("ip", "127.0.0.1", "line 2)"),
    ] {
        let found = text.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap();
        assert!(found.contains(value) && found.ends_with(origin), "{found}");
    }
    // Before MQTT 5 a broker does not say that a message is not allowed; and here is nobody to answer.
    receiver.stop().succeeded();
    let ended = check(&pair.master, &[]).wait().succeeded();
    for step in ["publishing", "answer"] {
        assert!(line(ended.text(), step).starts_with("- "), "{}", ended.text());
    }
}

/// Each step has a line, whichever failed, in the manual's order.
fn has_each_step(text: &str) {
    let steps = ["clock", "name", "peer", "session", "connection", "login", "subscription", "publishing", "answer"];
    let marked = |line: &&str| ["ok ", "FAIL ", "- "].iter().any(|mark| line.starts_with(mark));
    let found: Vec<_> = text.lines().filter(marked).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(found, steps, "{text}");
}

#[test]
fn the_step_that_fails_is_named_and_decides_the_exit_status() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let bare = Device::configured(Identity::Station, &settings(&port, "master", "gcm"));
    let ended = check(&bare, &[]).wait().failed(&[77], &["no peer is trusted yet"]);
    assert!(line(ended.text(), "peer").starts_with("FAIL ") && line(ended.text(), "subscription").starts_with("ok "));
    has_each_step(ended.text());
    assert!(["session", "publishing", "answer"].iter().all(|step| line(ended.text(), step).starts_with("- ")));

    let pair = Pair::enrolled(&broker, "gcm");
    let ended = check(&pair.master, &[]).wait().failed(&[75], &["no session for gateway"]);
    assert!(line(ended.text(), "session").starts_with("FAIL "), "{}", ended.text());

    let pair = Pair::paired(&broker, "gcm");
    let ended = check(&pair.master, &["-o", "port=1"]).wait().failed(&[69], &["no connection to the broker: 127"]);
    assert!(line(ended.text(), "connection").starts_with("FAIL "), "{}", ended.text());
    has_each_step(ended.text());
    assert_eq!(ended.stderr.matches("no connection").count(), 1, "{}", ended.stderr);
    has_each_step(check(&Device::plain(&broker), &[]).wait().succeeded().text());
    let ended = check(&pair.master, &["-o", "host=no-such-host.invalid"]).wait().failed(&[69], &["cannot look up"]);
    assert!(line(ended.text(), "name").starts_with("FAIL "), "{}", ended.text());
}

#[test]
fn a_right_that_is_missing_is_named() {
    let open = Broker::start();
    let pair = Pair::paired(&open, "gcm");
    let acl = "topic readwrite s2m\ntopic read m2s\n";
    let strict = Broker::with(Options { acl: Some(acl), ..Options::default() });
    let port = format!("port={}", strict.port());
    let ended = check(&pair.master, &["-o", &port, "-o", "mqtt_version=5"]).wait().failed(&[69], &["not authorized"]);
    let text = ended.text();
    assert!(line(text, "publishing").starts_with("FAIL ") && line(text, "subscription").starts_with("ok "), "{text}");
}
