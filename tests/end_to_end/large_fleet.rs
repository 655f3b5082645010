//! Claim: of a `known_peers` that is too large to be read for each device, running tools notice one more key as of a small one.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::broker::Broker;
use crate::device::LINK;
use crate::fleet::{Fleet, sensor};
use crate::process::Process;

/// Makes the file one that has an index: it is old and long.
fn make_large(fleet: &Fleet) {
    let file = fleet.gateway.config_dir().join("known_peers");
    let text = format!("# {}\n{}", "a remark ".repeat(8 << 10), fs::read_to_string(&file).unwrap());
    fleet.gateway.write("known_peers", text, 0o600);
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(file).unwrap().set_modified(hour_ago).unwrap();
}

#[test]
fn a_key_that_is_added_to_many_is_noticed_by_running_tools() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, "plant", 0..1);
    make_large(&fleet);
    let serving = fleet.serve();
    fleet.pair();
    let receiver = fleet.gateway.listen(&[]);
    receiver.wait_for("receiving from all known peers");
    fleet.sensors[0].send_all(&["--confirm"], "one\n").succeeded();

    let another = sensor(&broker, "plant", 1);
    another.trust("gateway", &fleet.gateway);
    fleet.gateway.trust("s1", &another);
    Process::spawn(another.pair(&[LINK])).wait().succeeded();
    another.send_all(&["--confirm"], "another\n").succeeded();
    Process::spawn(fleet.gateway.pair(&["--forget", "s1"])).wait().succeeded();
    another.send_all(&[], "forgotten\n").succeeded();
    fleet.sensors[0].send_all(&["--confirm"], "the end\n").succeeded();
    receiver.stop().succeeded().wrote(b"one\nanother\nthe end\n");
    serving.stop().succeeded();
}
