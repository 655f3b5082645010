//! Claim: what a frame costs a slave does not grow with the devices that it accepts, or that pair with it at the time.

use super::*;
use crate::identity::siblings;
use crate::{looks, session};

/// A slave that accepts devices of its own, and how far the latest of them has come.
struct Gateway {
    slave: Slave,
    now: Instant,
    rng: StdRng,
}

impl Gateway {
    /// One that these devices pair with.
    fn of(devices: &[Arc<Identity>]) -> Self {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let peer = |(number, device): (usize, &Arc<Identity>)| Peer {
            name: format!("d{number}").parse().unwrap(),
            key: device.public().clone(),
        };
        let trust = Trust::Pinned(devices.iter().enumerate().map(peer).collect());
        let slave = Slave::new(Party { trust, ..party(1, Suite::Gcm, &[]) }, now, &mut rng);
        Self { slave, now, rng }
    }

    /// One frame of a device, and the answer; returns how often anything was looked at.
    fn take(&mut self, frame: &[u8]) -> (usize, Option<Vec<u8>>) {
        let Self { slave, now, rng } = self;
        looks::during(|| {
            slave.key_exchange(&topics(), frame).unwrap();
            let action = match slave.accept(&topics(), frame, *now, rng).unwrap() {
                Action::Wait => slave.poll(*now, rng).unwrap().1,
                action => action,
            };
            assert!(slave.poll(*now, rng).is_none() && slave.deadline().is_some());
            match action {
                Action::Send(answer)
                | Action::MasterAuthenticated(answer)
                | Action::StorePending(_, answer)
                | Action::Promote(_, answer) => Some(answer),
                other => unreachable!("{other:?}"),
            }
        })
    }

    /// Steps 1 to 6 of a device, each frame twice, and the looks of each; then the master, with step 7.
    fn pair(&mut self, device: &Arc<Identity>) -> (Vec<usize>, Vec<u8>) {
        let party = Party { identity: device.clone(), ..party(0, Suite::Gcm, &[1]) };
        let mut master = begun(party, topics(), self.now, &mut self.rng);
        let (mut all, mut to_slave) = (Vec::new(), master.poll(self.now, &mut self.rng).unwrap());
        loop {
            let (looks, answer) = self.take(&to_slave);
            let (again, same) = self.take(&to_slave);
            assert_eq!(same, answer);
            all.extend([looks, again]);
            match master.accept(&answer.unwrap(), self.now, &mut self.rng).unwrap() {
                Action::Send(frame) => to_slave = frame,
                Action::StoreCurrent(_, master_ready) => return (all, master_ready),
                other => unreachable!("{other:?}"),
            }
        }
    }
}

/// The looks of each thing that the last of this many devices does.
fn looks_with(count: usize) -> Vec<usize> {
    let devices: Vec<_> = siblings().map(Arc::new).take(count).collect();
    let mut gateway = Gateway::of(&devices);
    let (last, others) = devices.split_last().unwrap();
    for device in others {
        gateway.pair(device);
    }
    let (mut all, master_ready) = gateway.pair(last);
    assert_eq!(gateway.slave.pending().count(), count);

    let id = gateway.slave.pending().find(|session| session.peer.key == *last.public()).unwrap().keys.id;
    let (looks, found) = looks::during(|| gateway.slave.pending_with(session::tag(id)).count());
    assert_eq!(found, 1);
    all.push(looks);
    all.push(gateway.take(&master_ready).0);
    assert_eq!(gateway.slave.pending().count(), count - 1);
    let other = gateway.slave.pending().next().map(|session| session.keys.id).unwrap();
    let (looks, proved) = looks::during(|| gateway.slave.mark_proved(other));
    assert!(proved.is_some());
    all.push(looks);
    all
}

#[test]
fn a_frame_costs_the_same_with_two_devices_and_with_fifty() {
    let few = looks_with(2);
    assert_eq!(few.len(), 9, "{few:?}");
    let (init_reqs, others) = few.split_at(2);
    assert!(others.iter().all(|looks| *looks > 0), "what is looked at is counted: {few:?}");
    assert_eq!(init_reqs, [0, 0], "and nothing is for an INITREQ");
    assert_eq!(looks_with(50), few);
}

/// Step 6 of each is sent again in its time, whichever frame it was that the slave heard last.
#[test]
fn each_of_many_devices_hears_step_6_again() {
    let devices: Vec<_> = siblings().map(Arc::new).take(8).collect();
    let mut gateway = Gateway::of(&devices);
    for device in &devices {
        gateway.pair(device);
        gateway.now += Duration::from_millis(10);
    }
    let mut repeats = Vec::new();
    let until = gateway.now + Duration::from_secs(1);
    while let Some(due) = gateway.slave.deadline()
        && due <= until
    {
        gateway.now = due;
        let (_, action) = gateway.slave.poll(due, &mut gateway.rng).expect("what is due is sent");
        repeats.push(sent(Ok(action)));
    }
    let frames = repeats.len();
    repeats.sort();
    repeats.dedup();
    assert_eq!((frames, repeats.len()), (8, 8), "once in a second each");
}
