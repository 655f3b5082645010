//! Claim: a full disk costs time and no text: sts-recv keeps what it cannot record, and writes it once it can, or when it is stopped.

use super::Link;
use super::old_program::Role;
use crate::broker::Broker;
use crate::full_disk::{stop, without_space};

/// The session file as it is written, before it has its name.
const SESSION_FILE: &str = "gateway@sts1.new";

#[test]
fn what_was_received_is_written_once_there_is_space() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 60);
    let old = link.paired();
    let receiver = without_space(&link.device, SESSION_FILE, "2..3");
    for text in ["one", "two, without space", "three"] {
        old.send(text);
    }
    receiver.wait_for_stdout(b"one\ntwo, without space\nthree\n");
    let said = receiver.stderr();
    assert_eq!(said.matches("the disk is full; waiting for space to record what was received").count(), 1, "{said}");
    assert_eq!(said.matches("there is space on the disk again").count(), 1, "{said}");
    stop(receiver).succeeded();
    // Nothing of the chain is lost.
    let receiver = link.receiver(&["-n", "1"]);
    old.send("four");
    receiver.wait().succeeded().wrote(b"four\n");
}

#[test]
fn a_run_that_is_stopped_without_space_writes_what_it_received() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 61);
    let old = link.paired();
    let receiver = without_space(&link.device, SESSION_FILE, "1+");
    old.send("the text");
    receiver.wait_for("the disk is full");
    assert_eq!(receiver.written(), 0);
    stop(receiver).failed(&[0], &["received and not recorded: the next one may be damaged"]).wrote(b"the text\n");
}
