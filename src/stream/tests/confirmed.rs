//! Claim: a stream that asks for confirms arrives whole, in order and once, through any network, and is confirmed no
//! further than it was written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What confirms stream 0 of the tests' senders.
fn confirmed(next: u32) -> Confirmed {
    Confirmed { stream: 0, salt: [0; 8], next }
}

use rand::RngExt;

use super::*;

/// A sender and a receiver, and a broker between them that does with their messages what it likes.
struct World {
    now: Instant,
    net: StdRng,
    /// What arrives when: at the receiver, or at the sender.
    wire: BTreeMap<(Instant, u64), (bool, Bytes)>,
    count: u64,
}

impl World {
    /// Sends through the network: lost, once or twice, late, out of order.
    fn send(&mut self, to_receiver: bool, message: &Bytes, hostile: bool) {
        let copies = if hostile { self.net.random_range(0..3) } else { 1 };
        for _ in 0..copies {
            let delay = Duration::from_millis(self.net.random_range(0..if hostile { 2000 } else { 20 }));
            self.count += 1;
            self.wire.insert((self.now + delay, self.count), (to_receiver, message.clone()));
        }
    }
}

#[test]
fn a_hostile_network_delays_and_costs_nothing_whatever_the_seed() {
    for seed in 0..2000 {
        let (master, slave) = pair(1, Suite::Gcm);
        let parts: Parts = (0_u8..20).map(|number| vec![number; usize::from(number)]).collect();
        let mut unsent = stream(&master, 0, true, 1, &parts).into_iter();
        let (mut at_receiver, mut at_sender) = (receiver(&[&slave]), receiver(&[&master]));
        // The receiver's process may end and start anew at any time: what it wrote it knows.
        let mut written = Streams::default();
        let mut output = Vec::new();
        let mut confirms = sender(&slave, FIRST_SIDE_STREAM);
        let start = Instant::now();
        let mut world = World { now: start, net: StdRng::seed_from_u64(seed), wire: BTreeMap::new(), count: 0 };
        let mut queue = RetransmitQueue::new(60, start);
        let mut all_sent = false;
        while !all_sent || queue.unconfirmed().0 > 0 {
            let hostile = world.now < start + Duration::from_secs(15);
            assert!(world.now < start + Duration::from_secs(300), "seed {seed}: not confirmed");
            while queue.has_room(40) && !all_sent {
                match unsent.next() {
                    Some(message) => {
                        queue.push(message.clone(), 1, world.now);
                        world.send(true, &message, hostile);
                    }
                    None => all_sent = true,
                }
            }
            while let Some(again) = queue.poll(world.now) {
                world.send(true, &again, hostile);
            }
            if hostile && world.net.random_bool(0.02) {
                at_receiver = receiver(&[&slave]);
                at_receiver.restore(slave.id, written.clone());
            }
            while let Some(entry) = world.wire.first_entry()
                && entry.key().0 <= world.now
            {
                let (to_receiver, message) = entry.remove();
                if to_receiver {
                    let (_, accepted, data) = receive(&mut at_receiver, &message);
                    let wanted = match accepted {
                        Ok(accepted) => {
                            assert_eq!((accepted.gap, accepted.skip), (None, 0), "seed {seed}");
                            output.extend_from_slice(&data);
                            written.apply(&accepted.progress);
                            accepted.progress.next
                        }
                        Err(refused) => refused.confirm().unwrap(),
                    };
                    if confirms.next_seq() < 1000 {
                        let confirm =
                            seal_control(&mut confirms, &Content::Side(SideContent::Confirm(vec![confirmed(wanted)])))
                                .unwrap();
                        world.send(false, &confirm, hostile);
                    }
                } else if let (
                    Opened {
                        head: PlaintextHead { content: Content::Side(SideContent::Confirm(streams)), .. }, ..
                    },
                    Ok(_),
                    _,
                ) = receive(&mut at_sender, &message)
                {
                    let Confirmed { stream, next, .. } = streams[0];
                    assert!(written.next_seq(stream).is_some_and(|wanted| next <= wanted), "seed {seed}: too much");
                    queue.confirm(next, world.now);
                }
            }
            let arrival = world.wire.first_key_value().map(|((at, _), _)| *at);
            let next = arrival.into_iter().chain(queue.deadline()).min().unwrap_or(world.now);
            world.now = next.max(world.now + Duration::from_millis(1));
        }
        assert_eq!(output, parts.concat(), "seed {seed}");
    }
}

#[test]
fn settled_is_the_word_behind_the_end_of_a_stream_that_is_whole() {
    let (master, slave) = pair(1, Suite::Gcm);
    let asking = |number| sender(&master, number).ask_for_confirms();
    let mut receiver = receiver(&[&slave]);

    let mut whole = asking(0);
    let messages = [data(&mut whole, b"one"), end(&mut whole, b"two")];
    let settled = whole.settled(&mut rng()).unwrap();
    let (opened, early, data_of) = receive(&mut receiver, &settled);
    assert_eq!((opened.head.content, opened.seq, data_of.len()), (Content::Settled, 2, 0));
    assert_eq!(early, Err(AcceptError::Ahead { next: 0 }), "before the end it settles nothing");
    for message in &messages {
        assert!(receive(&mut receiver, message).1.is_ok());
    }
    let before = format!("{receiver:?}");
    for _ in 0..2 {
        assert_eq!(receive(&mut receiver, &settled).1, Err(AcceptError::Settled));
    }
    assert_eq!(
        receive(&mut receiver, &messages[1]).1,
        Err(AcceptError::Duplicate { next: 2 }),
        "the end is still known"
    );
    assert_eq!(before, format!("{receiver:?}"), "it changes nothing");

    // The same number, taken a second time.
    let mut again = Sender::new(&master, reserved(&master, 0), [1; 8], LIMIT).unwrap();
    end(&mut again, b"other");
    assert_eq!(claim(&receiver, &again.settled(&mut rng()).unwrap()), Some(HeaderClaim::Copied));

    let open = asking(1).settled(&mut rng()).unwrap_err();
    assert!(open.to_string().contains("not closed"), "{open}");
}

#[test]
fn confirms_have_streams_of_their_own_of_which_nothing_is_kept_or_missed() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&master]);
    let mut confirms = sender(&slave, FIRST_SIDE_STREAM + 5);
    for _ in 0..3 {
        seal_control(&mut confirms, &Content::Side(SideContent::Confirm(vec![confirmed(1)]))).unwrap();
    }
    let message = seal_control(&mut confirms, &Content::Side(SideContent::Confirm(vec![confirmed(2)]))).unwrap();
    let (opened, accepted, _) = receive(&mut receiver, &message);
    assert_eq!(
        (opened.head.content, accepted.unwrap().gap),
        (Content::Side(SideContent::Confirm(vec![confirmed(2)])), None)
    );
    assert_eq!(receive(&mut receiver, &message).1, Err(AcceptError::Duplicate { next: 4 }));
    let streams = receiver.streams(slave.id).unwrap();
    assert!(streams.is_empty() && streams.missing().is_empty());

    let buffer = confirms.buffer(0);
    assert!(confirms.data(buffer, &mut rng()).is_err(), "no data among confirms");
    assert!(
        seal_control(&mut sender(&slave, 0), &Content::Side(SideContent::Confirm(vec![confirmed(2)]))).is_err(),
        "no confirms among data"
    );
}
