//! Claim: what is refused changes nothing, whatever it says of other streams.

use super::*;

/// A stream says how others ended and is refused all the same: of those, nothing is moved, closed or forgotten, and
/// who tells it the next time is heard.
#[test]
fn what_a_refused_message_tells_is_told_by_the_next_one() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut x, mut y, mut one, mut two, mut three, mut four] =
        [0, 1, 2, 3, 4, 5].map(|number| sender(&master, number));
    let _ = receive(&mut receiver, &data(&mut x, b"a")).1.unwrap();
    go_on(&mut y, x.id(), 3);
    let _lost = data(&mut y, b"d");
    let _ = receive(&mut receiver, &data(&mut y, b"e")).1.unwrap();
    let _ = receive(&mut receiver, &data(&mut one, b"a")).1.unwrap();
    let ended = vec![ended_stream(&y, Some(2))];
    two.begin_with(Preamble { continues: Some(one.position_of(1)), ended: ended.clone(), kept: false });
    go_on(&mut three, one.id(), 2);
    let late = data(&mut two, b"b");
    let _ = receive(&mut receiver, &data(&mut three, b"c")).1.unwrap();

    let before = format!("{receiver:?}");
    assert_eq!(receive(&mut receiver, &late).1, Err(AcceptError::Closed));
    assert_eq!(format!("{receiver:?}"), before);
    four.begin_with(Preamble { ended, ..Preamble::default() });
    let moved = receive(&mut receiver, &data(&mut four, b"")).1.unwrap().others.moved;
    let gaps: Vec<_> = moved.iter().map(|told| told.others.gap.map(|gap| (gap.stream, gap.first, gap.last))).collect();
    assert_eq!(gaps, [Some((x.id(), 1, 2))]);
}

/// A device tells of streams that it began before: else the stream that tells could find itself closed.
#[test]
fn a_stream_that_is_newer_than_the_one_that_tells_of_it_is_not_moved() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut one, mut two, mut three] = [0, 1, 2].map(|number| sender(&master, number));
    let _ = receive(&mut receiver, &data(&mut one, b"a")).1.unwrap();
    go_on(&mut three, one.id(), 2);
    let _lost = data(&mut three, b"c");
    let _ = receive(&mut receiver, &data(&mut three, b"d")).1.unwrap();
    let ended = vec![ended_stream(&three, Some(2))];
    two.begin_with(Preamble { continues: Some(one.position_of(1)), ended, kept: false });
    let accepted = receive(&mut receiver, &data(&mut two, b"b")).1.unwrap();
    assert_eq!(accepted.others.moved, []);
    assert!(receiver.streams(slave.id).unwrap().is_open(1) && receiver.streams(slave.id).unwrap().is_open(2));
}
