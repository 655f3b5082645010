//! Claim: sessions come, go and take each other's place, and no message is lost or repeated by it.

use super::*;
use crate::crypto::key_tree::KeyTree;
use crate::secret::Key;

#[test]
fn a_run_goes_on_within_a_message() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut first = receiver(&[&slave]);
    let sent = stream(&master, 0, false, 1, &[b"one\n".to_vec(), b"two\nthree\n".to_vec()]);
    let (.., accepted, _) = receive(&mut first, &sent[0]);
    let mut marked = Streams::default();
    marked.apply(&accepted.unwrap().progress);
    let (.., accepted, _) = receive(&mut first, &sent[1]);
    marked.apply(&accepted.unwrap().progress.partly(4));

    let mut second = receiver(&[&slave]);
    assert!(second.restore(slave.id, marked));
    assert!(matches!(receive(&mut second, &sent[0]).1, Err(AcceptError::Duplicate { next: 1 })));
    let (_, accepted, plaintext) = receive(&mut second, &sent[1]);
    let accepted = accepted.unwrap();
    assert_eq!(&plaintext[accepted.skip..], b"three\n");
    assert_eq!((accepted.progress.skip, accepted.progress.state), (0, StreamState::Ended));
}

#[test]
fn the_first_message_under_pending_promotes_it() {
    let ((_, old), (master, new)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let mut receiver = Receiver::new();
    receiver.add(old.clone(), Standing::Current);
    receiver.add(new.clone(), Standing::Pending);
    let mut sender = sender(&master, 0);
    assert!(receiver.finished(&old.peer).is_empty());
    assert!(receive(&mut receiver, &data(&mut sender, b"")).1.unwrap().promoted);
    assert!(!receive(&mut receiver, &data(&mut sender, b"")).1.unwrap().promoted);
    assert_eq!(receiver.finished(&old.peer), [old.id]);
    assert_eq!(receiver.ended_by(new.id), [new.id, old.id]);
    assert_eq!(receiver.ended_by(old.id), [old.id]);
}

#[test]
fn a_pending_session_that_is_late_opens_and_takes_nothing_over() {
    let ends = [1, 2, 3].map(|seed| pair(seed, Suite::Gcm));
    let mut receiver = Receiver::new();
    receiver.update(ends.iter().rev().map(|(_, slave)| (slave.clone(), Standing::Pending)));
    let mut promoted = |index: usize, stream| {
        receive(&mut receiver, &data(&mut sender(&ends[index].0, stream), b"")).1.unwrap().promoted
    };
    assert!(promoted(1, 0), "the second one of three");
    assert!(!promoted(0, 0) && !promoted(1, 1), "the first one is late");
    assert!(promoted(2, 0), "the third one is the next");
    assert!(!promoted(1, 2));
}

#[test]
fn an_old_session_is_finished_when_its_streams_are() {
    let ((old_master, old), (master, new)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let mut receiver = Receiver::new();
    receiver.update([(new.clone(), Standing::Current), (old.clone(), Standing::Retired)]);
    let _ = receive(&mut receiver, &end(&mut sender(&master, 0), b""));
    let _ = receive(&mut receiver, &end(&mut sender(&old_master, 1), b""));
    assert!(receiver.finished(&old.peer).is_empty(), "stream 0 may still be on its way");
    let mut last = sender(&old_master, 0);
    let _ = receive(&mut receiver, &data(&mut last, b""));
    assert!(receiver.finished(&old.peer).is_empty());
    let _ = receive(&mut receiver, &end(&mut last, b""));
    assert_eq!(receiver.finished(&old.peer), [old.id]);
}

#[test]
fn no_session_is_finished_before_something_came_under_a_newer_one() {
    let ((old_master, old), (master, new)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    for (standing, is_finished) in [(Standing::Retired, true), (Standing::Current, false), (Standing::Pending, false)] {
        let mut receiver = Receiver::new();
        receiver.update([(new.clone(), Standing::Current), (old.clone(), standing)]);
        assert!(receive(&mut receiver, &end(&mut sender(&old_master, 0), b"")).1.is_ok());
        receiver.update([(new.clone(), Standing::Current), (old.clone(), standing)]);
        assert!(receiver.finished(&old.peer).is_empty(), "{standing:?}");
        assert!(receive(&mut receiver, &end(&mut sender(&master, 0), b"")).1.is_ok());
        receiver.update([(new.clone(), Standing::Current), (old.clone(), standing)]);
        assert_eq!(receiver.finished(&old.peer), if is_finished { vec![old.id] } else { vec![] }, "{standing:?}");
    }
}

#[test]
fn a_session_that_comes_back_is_not_replayed() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let message = data(&mut sender(&master, 0), b"once");
    let (opened, accepted, _) = receive(&mut receiver, &message);
    assert!(accepted.is_ok());
    receiver.update([]);
    assert_eq!(receiver.open(&message, &mut BytesMut::new()), Err(Rejected::UnknownSession));
    assert_eq!(receiver.accept(&opened), Err(AcceptError::Gone));
    receiver.add(slave, Standing::Retired);
    assert!(matches!(receive(&mut receiver, &message).1, Err(AcceptError::Duplicate { .. })));
    // What cannot come back is forgotten: else each session that ever was would stay in memory.
    for (may_return, is_new) in [(true, false), (false, true)] {
        receiver.update([]);
        receiver.forget_removed(|id| id == master.id && may_return);
        receiver.add(pair(1, Suite::Gcm).1, Standing::Retired);
        assert_eq!(receive(&mut receiver, &message).1.is_ok(), is_new);
    }
}

#[test]
fn sessions_with_one_tag_are_all_tried() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (mut other_master, mut other) = pair(2, Suite::Cbc);
    other.id = [1, 2, 3, 0, 0, 0, 0, 0];
    other_master.id = other.id;
    let mut receiver = receiver(&[&slave, &other]);
    for session in [&master, &other_master] {
        let (opened, accepted, _) = receive(&mut receiver, &data(&mut sender(session, 0), b""));
        assert_eq!((opened.stream.session, accepted.is_ok()), (session.id, true));
    }
}

#[test]
fn ten_thousand_peers() {
    let ends = |i: u32| {
        let (mut master, mut slave) = pair(1, Suite::Gcm);
        for session in [&mut master, &mut slave] {
            session.id[..4].copy_from_slice(&i.to_be_bytes());
            session.peer[..4].copy_from_slice(&i.to_be_bytes());
        }
        master.send.tree = KeyTree::new(Key::generate(32, |key| key[..4].copy_from_slice(&i.to_be_bytes())));
        slave.receive.tree = master.send.tree.clone();
        (master, slave)
    };
    let sessions = (0..10_000).map(|i| (ends(i).1, Standing::Current));
    let mut receiver = Receiver::new();
    receiver.update(sessions.clone());
    for i in [0, 77, 9_999] {
        let (master, slave) = ends(i);
        let (opened, accepted, _) = receive(&mut receiver, &data(&mut sender(&master, 0), b""));
        assert_eq!((opened.stream.session, opened.peer, accepted.is_ok()), (slave.id, slave.peer, true));
    }
    receiver.update(sessions.take(1));
    assert_eq!(receiver.sessions().collect::<Vec<_>>(), [&ends(0).1.id]);
    assert_eq!(receiver.peers().collect::<Vec<_>>(), [&ends(0).1.peer]);
}

/// As for a peer that sends after it was silent for so long that others took its room.
#[test]
fn what_was_unloaded_is_restored_as_it_was_written_down_and_in_no_other_way() {
    let [(old_master, old), (master, slave)] = [1, 2].map(|seed| pair(seed, Suite::Gcm));
    let mut other = pair(3, Suite::Gcm).1;
    other.peer = [7; 32];
    let mut receiver = Receiver::new();
    let both = || vec![(slave.clone(), Standing::Current), (old.clone(), Standing::Retired)];
    receiver.update_peer(&slave.peer, both());
    receiver.update_peer(&other.peer, vec![(other.clone(), Standing::Current)]);
    let mut sender = sender(&master, 0);
    let [first, second, third] = ["one", "two", "three"].map(|text| data(&mut sender, text.as_bytes()));
    assert!(receive(&mut receiver, &first).1.is_ok());
    let written = receiver.streams(slave.id).unwrap().clone();
    assert!(receive(&mut receiver, &second).1.is_ok());

    receiver.unload(&slave.peer);
    assert_eq!(receiver.sessions().collect::<Vec<_>>(), [&other.id]);
    let open = |receiver: &Receiver| receiver.open(&second, &mut BytesMut::new()).map(|opened| opened.seq);
    assert_eq!(open(&receiver), Err(Rejected::UnknownSession));
    receiver.update_peer(&slave.peer, both());
    assert!(receiver.streams(slave.id).unwrap().is_empty(), "nothing is remembered but on disk");
    receiver.restore(slave.id, written);
    assert_eq!(receiver.of_peer(&slave.peer), [slave.id, old.id]);
    assert_eq!(receive(&mut receiver, &first).1.unwrap_err(), AcceptError::Duplicate { next: 1 });
    for message in [&second, &third] {
        assert_eq!(receive(&mut receiver, message).1.unwrap().gap, None);
    }
    let late = data(&mut super::sender(&old_master, 0), b"late");
    assert!(receive(&mut receiver, &late).1.is_ok());

    receiver.update_peer(&slave.peer, vec![(slave.clone(), Standing::Current)]);
    assert_eq!((receiver.of_peer(&slave.peer), receiver.sessions().count()), (&[slave.id][..], 2));
    assert_eq!(receive(&mut receiver, &third).1.unwrap_err(), AcceptError::Duplicate { next: 3 });
    receiver.update_peer(&slave.peer, Vec::new());
    assert_eq!(receiver.sessions().collect::<Vec<_>>(), [&other.id]);
}

#[test]
fn a_stream_leads_only_to_streams_of_its_own_sender() {
    let [mine, newer, mut theirs] = [1, 2, 3].map(|seed| pair(seed, Suite::Gcm));
    theirs.1.peer = [7; 32];
    let unknown = pair(4, Suite::Gcm).0.id;
    let mut receiver = Receiver::new();
    for session in [&mine.1, &newer.1, &theirs.1] {
        receiver.add(session.clone(), Standing::Current);
    }
    let own = |session, number| StreamId { session, number };
    for (next, leads) in [
        (own(newer.0.id, 0), true),
        (own(mine.0.id, 8), true),
        (own(mine.0.id, 7), false),
        (own(mine.0.id, FIRST_SIDE_STREAM), false),
        (own(theirs.0.id, 0), false),
        (own(unknown, 0), false),
    ] {
        let continued = seal_control(&mut sender(&mine.0, 7), &Content::Continued(next)).unwrap();
        let opened = receiver.open(&continued, &mut BytesMut::new()).unwrap();
        assert_eq!(receiver.successor(&opened), leads.then_some(next), "{next:?}");
        let mut after = sender(&mine.0, 7);
        go_on(&mut after, next, 1);
        let opened = receiver.open(&data(&mut after, b""), &mut BytesMut::new()).unwrap();
        let named = Continues { origin: origin(next), position: 1 };
        assert_eq!(receiver.continued(&opened), leads.then_some(named), "{next:?}");
    }
}
