//! Claim: what a run of sts-recv that a damaged message came to says by its exit status, and that its error names the loss.

use std::thread;

use super::Link;
use super::old_program::Role;
use crate::broker::Broker;
use crate::device::LINK;
use crate::process::{Process, wait_until};

/// How a run ends.
#[derive(Clone, Copy)]
enum End {
    /// By a signal.
    Signal,
    /// By itself.
    BySelf,
    /// The other device ends the session.
    Kill,
}

struct Case {
    options: &'static [&'static str],
    /// Whether a text comes after the damaged message.
    has_text: bool,
    end: End,
    status: i32,
    said: &'static str,
}

const LOST: &str = "data was lost: damaged: 1 message";

const CASES: [Case; 8] = [
    Case { options: &[], has_text: true, end: End::Signal, status: 0, said: "sts-recv: damaged: 1 message" },
    Case { options: &[], has_text: true, end: End::Kill, status: 65, said: LOST },
    Case { options: &["--timeout", "10"], has_text: false, end: End::BySelf, status: 65, said: LOST },
    Case {
        options: &["-n", "2", "--timeout", "10"],
        has_text: true,
        end: End::BySelf,
        status: 75,
        said: "timed out: 1 of 2 lines were received; data was lost: damaged: 1 message",
    },
    Case { options: &["-n", "2"], has_text: true, end: End::Kill, status: 65, said: LOST },
    Case { options: &["-n", "1"], has_text: true, end: End::BySelf, status: 65, said: LOST },
    Case {
        options: &["-1", "--timeout", "10"],
        has_text: false,
        end: End::BySelf,
        status: 75,
        said: "timed out: no message was received; data was lost: damaged: 1 message",
    },
    Case {
        options: &["-1"],
        has_text: false,
        end: End::Kill,
        status: 75,
        said: "the peer ended the session: no message was received; data was lost: damaged: 1 message",
    },
];

fn ends_as_it_should(broker: &Broker, case: &Case) {
    let mut link = Link::new(broker.port(), Role::Slave, false, 62);
    let old = link.paired();
    let receiver = link.receiver(case.options);
    // Under a name of its own, as the other cases publish at the same time.
    broker.publish_as(&link.old.publish, &link.old.publish, &[0x5a; 32]);
    receiver.wait_for("dropped a damaged message");
    if case.has_text {
        old.send("text");
        receiver.wait_for_stdout(b"text\n");
    }
    let ended = match case.end {
        End::Signal => receiver.stop(),
        End::BySelf => receiver.wait(),
        End::Kill => {
            old.stop();
            receiver.wait()
        }
    };
    ended.failed(&[case.status], &[case.said]);
}

#[test]
fn a_loss_is_in_the_exit_status_or_in_the_error() {
    let broker = Broker::start();
    thread::scope(|scope| {
        for case in &CASES {
            let broker = &broker;
            scope.spawn(move || ends_as_it_should(broker, case));
        }
    });
}

#[test]
fn a_signal_does_not_hide_a_loss_though_the_run_is_quiet() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, false, 65);
    let old = link.paired();
    // With -v it would not be quiet: that it listens shows in what it writes.
    let receiver = Process::spawn(link.device.recv(&["-q", LINK]));
    wait_until("sts-recv to listen", || {
        old.send("text");
        receiver.written() > 0
    });
    broker.publish_as(&link.old.publish, &link.old.publish, &[0x5a; 32]);
    // What comes after the damaged message is written after it.
    let before = receiver.written();
    old.send("a longer text");
    wait_until("the text after it", || receiver.stdout().ends_with(b"a longer text\n") && receiver.written() > before);
    assert_eq!(receiver.stop().succeeded().stderr, "sts-recv: damaged: 1 message\n");
}
