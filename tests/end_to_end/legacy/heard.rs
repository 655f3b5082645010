//! Claim: each tool that runs on the link hears what the old program says and acts on it: on a KILL in the middle of a long input,
//! and on a KILL that crosses ours.

use super::Link;
use super::old_program::{Logged, Role};
use crate::broker::Broker;
use crate::device::LINK;
use crate::full_disk::with_fault;
use crate::process::Process;

#[test]
fn a_kill_in_the_middle_of_a_long_input_ends_the_run_on_a_slow_disk() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 70);
    let old = link.paired();
    // What the pace allows at a time takes longer to record than its interval.
    let session_file = link.device.runtime_dir().join("gateway@sts1.new");
    let tool = link.device.send(&["-v", LINK]);
    let mut sender = with_fault("write", "delay_enter=8000", &link.device, &tool, &session_file);
    sender.wait_for("connected to");
    sender.write("one of many\n".repeat(600));
    sender.close_stdin();
    old.wait("the first texts", |seen| !seen.displayed.is_empty());
    old.send("in the middle");
    old.stop();
    sender.wait().failed(&[65], &["the other device ended the session", "not sent: "]);
    Process::spawn(link.device.send(&[LINK])).wait().failed(&[75], &["no session"]);
}

#[test]
fn a_session_that_both_devices_end_at_the_same_time_is_over() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 72);
    let old = link.paired();
    old.lose_next();
    let ending = Process::spawn(link.device.pair(&["--end", LINK]));
    // Our first KILL was lost, and a second one is to follow.
    old.wait("the loss", |seen| seen.log == [Logged::Missed]);
    // Without it, its KILL would be the same bytes as ours.
    old.send("meanwhile");
    old.stop();
    ending.wait().failed(&[0], &["deleted the session"]);
    Process::spawn(link.device.pair(&["--end", LINK])).wait().failed(&[75], &["no session"]);
}
