//! Claim: each tool that runs on the link hears what the old program says and acts on it: on a KILL in the middle of a long input,
//! on what nobody receives, and on a KILL that crosses ours.

use super::Link;
use super::old_program::{Logged, Role};
use crate::broker::Broker;
use crate::device::LINK;
use crate::full_disk::with_fault;
use crate::process::Process;

const NOT_DELIVERED: &str = "no sts-recv is running";

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
fn a_service_follows_what_nobody_receives_and_says_so_once() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Master, true, 71);
    let service = Process::spawn(link.device.pair(&["-v", "--serve", LINK]));
    service.wait_for("listening on");
    link.old.seed += 1 << 41;
    let old = super::OldProgram::start(link.old.clone());
    old.wait("encryption on", |seen| seen.is_on);
    service.wait_for("paired with the master");
    old.send("unheard");
    service.wait_for(NOT_DELIVERED);
    // Nothing of what is heard now is damaged, as the service has followed it, and both take it.
    let receiver = link.receiver(&["-n", "2"]);
    old.send("heard by both");
    receiver.wait_for_stdout(b"heard by both\n");
    link.device.send_all(&[], "ours\n").succeeded();
    old.wait("our text", |seen| seen.displayed == [b"ours".to_vec()]);
    old.send("and again");
    receiver.wait().succeeded().wrote(b"heard by both\nand again\n");
    old.send("unheard again");
    old.stop();
    service.wait_for("the other device ended the session");
    Process::spawn(link.device.send(&[LINK])).wait().failed(&[75], &["no session"]);
    let ended = service.stop().succeeded();
    assert_eq!(ended.stderr.matches(NOT_DELIVERED).count(), 1, "{}", ended.stderr);
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
