//! Claim: only the peer's own answer to this very query keeps a session, and two ends that disagree on its age end with
//! one session, whichever of them comes first.

use std::collections::VecDeque;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::message::Ready;
use crate::role::Role;
use crate::session::pair;
use crate::suite::Suite;

fn started(session: &Session, seed: u64) -> (SessionCheck, Vec<u8>, Instant) {
    let now = Instant::now();
    let mut check = SessionCheck::new(session.clone(), [], Vec::new(), &mut StdRng::seed_from_u64(seed));
    check.start(now);
    let query = check.poll(now).expect("due at once");
    (check, query, now)
}

#[test]
fn the_peer_answers_and_nobody_else_can() {
    let (master, slave) = pair(1, Suite::Gcm);
    for (asker, peer) in [(&master, &slave), (&slave, &master)] {
        let (mut check, query, now) = started(asker, 1);
        assert!(is_session_check(&query));
        assert_eq!((query_session(&query), query_session(&query[1..])), (Some(asker.id), None));
        let others = [pair(2, Suite::Gcm).0, peer.clone()];
        let (answer, session) = reply(&query, &others, &[]).unwrap();
        assert_eq!((session.id, is_session_check(&answer)), (peer.id, true));
        assert_eq!(reply(&query, &others, &[]).unwrap().0, answer, "played again, it tells nothing new");

        // Reflected, to the one who asked and to the one who answered.
        assert_eq!(reply(&query, [asker], &[]).unwrap_err(), Rejected::NotAuthentic);
        assert_eq!(check.accept(&query, now), Err(Rejected::NotAuthentic));
        assert_eq!(reply(&answer, &others, &[]).unwrap_err(), Rejected::Foreign);
        let mut swapped = query.clone();
        swapped[0] = FrameType::RdyAck.byte();
        assert_eq!(check.accept(&swapped, now), Err(Rejected::NotAuthentic));
        assert_eq!(check.accept(&answer, now), Ok(CheckEvent::Present));
    }
}

#[test]
fn other_frames_of_its_types_and_of_its_length_are_none() {
    let (_, query, _) = started(&pair(1, Suite::Gcm).0, 1);
    for frame_type in FrameType::ALL {
        let mut frame = query.clone();
        frame[0] = frame_type.byte();
        let may_be = matches!(frame_type, FrameType::RdyReq | FrameType::RdyAck);
        assert_eq!(is_session_check(&frame), may_be, "{frame_type:?}");
        assert!(!is_session_check(&frame[..Ready::LEN]) && !is_session_check(&[&frame[..], &[0]].concat()));
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (_, first, _) = started(&master, 1);
    let (mut second, _, now) = started(&master, 2);
    let (recorded, _) = reply(&first, [&slave], &[]).unwrap();
    assert_eq!(second.accept(&recorded, now), Err(Rejected::Unexpected));

    // The fresh bytes put right, and a session of the same id with other keys.
    let (mut check, query, now) = started(&master, 3);
    let mut patched = recorded.clone();
    patched[9..25].copy_from_slice(&query[9..25]);
    assert_eq!(check.accept(&patched, now), Err(Rejected::NotAuthentic));
    let stranger = Session { id: slave.id, ..pair(9, Suite::Gcm).1 };
    assert_eq!(reply(&query, [&stranger], &[]).unwrap_err(), Rejected::NotAuthentic);
    assert_eq!(reply(&query, [&pair(9, Suite::Gcm).1], &[]).unwrap_err(), Rejected::UnknownSession);
}

#[test]
fn only_who_never_had_a_session_or_lost_it_says_so() {
    let ((old, old_peers), (new, new_peers), (_, strangers)) =
        (pair(1, Suite::Gcm), pair(2, Suite::Gcm), pair(3, Suite::Gcm));
    let mut rng = StdRng::seed_from_u64(1);
    let query = SessionQuery::new(new.clone(), old.id, &mut rng);
    let says = |sessions: &[&Session], past: &[SessionId]| {
        let (answer, session) = reply(&query.frame(), sessions.iter().copied(), past).unwrap();
        assert_eq!(session.id, new.id);
        query.presence(&answer).unwrap()
    };
    assert_eq!((query.about(), query.session()), (&old.id, &new));
    assert_eq!(says(&[&new_peers, &old_peers], &[]), SessionPresence::Present);
    assert_eq!(says(&[&new_peers], &[old.id]), SessionPresence::Deleted, "it was not lost");
    assert_eq!(says(&[&new_peers], &[]), SessionPresence::Lost);
    let of_other_peer = Session { peer: strangers.own, ..old_peers.clone() };
    assert_eq!(says(&[&new_peers, &of_other_peer], &[]), SessionPresence::Lost);
    assert_eq!(reply(&query.frame(), [&old_peers], &[]).unwrap_err(), Rejected::UnknownSession);

    // What was said to another query, of another session, or the other way round.
    let (lost, _) = reply(&query.frame(), [&new_peers], &[]).unwrap();
    let (here, _) = reply(&query.frame(), [&new_peers, &old_peers], &[]).unwrap();
    let (deleted, _) = reply(&query.frame(), [&new_peers], &[old.id]).unwrap();
    let other = SessionQuery::new(new.clone(), old.id, &mut rng);
    assert_eq!([&lost, &here, &deleted].map(|answer| other.presence(answer)), [const { Err(Rejected::Unexpected) }; 3]);
    let of_itself =
        SessionQuery { about: new.id, ..SessionQuery::new(new.clone(), old.id, &mut StdRng::seed_from_u64(1)) };
    assert_eq!(of_itself.nonce, query.nonce);
    let mut patched = lost.clone();
    patched[25..33].copy_from_slice(&new.id);
    assert_eq!(of_itself.presence(&patched), Err(Rejected::NotAuthentic));
    for (one, other) in [(&lost, &here), (&here, &deleted), (&deleted, &lost)] {
        for at in 0..one.len() {
            let mixed = [&one[..at], &other[at..]].concat();
            assert_eq!(query.presence(&mixed).is_ok(), mixed == *one || mixed == *other, "{at}");
        }
    }
    // Reflected.
    let mut reflected = query.frame();
    assert!(query.presence(&reflected).is_err());
    reflected[0] = FrameType::RdyAck.byte();
    assert_eq!(query.presence(&reflected), Err(Rejected::NotAuthentic));
}

#[test]
fn a_session_that_is_gone_is_given_up_after_three_seconds() {
    let (master, _) = pair(1, Suite::Gcm);
    let mut check = SessionCheck::new(master, [], Vec::new(), &mut StdRng::seed_from_u64(1));
    let mut now = Instant::now();
    assert_eq!((check.poll(now), check.deadline(), check.is_timed_out(now)), (None, None, false), "not subscribed yet");
    let start = now;
    check.start(start);
    let mut sent = Vec::new();
    while !check.is_timed_out(now) {
        sent.extend(check.poll(now));
        check.start(now);
        assert_eq!(check.poll(now), None, "once a second");
        now = check.deadline().expect("it goes on");
    }
    assert_eq!(check.poll(now), None);
    assert_eq!((now - start, sent.len()), (REPLY_TIMEOUT, 3));
    assert!(sent.windows(2).all(|two| two[0] == two[1]), "each answer is good, however late");
}

#[test]
fn a_peer_that_asks_is_waited_for_once() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (mut check, own, start) = started(&master, 1);
    let (_, query, _) = started(&slave, 2);
    let late = start + Duration::from_millis(2_999);
    let (answer, _) = reply(&query, [&master], &[]).unwrap();
    assert_eq!(check.accept(&query, late), Ok(CheckEvent::Queried(&master, vec![own, answer.clone()])));
    assert!(!check.is_timed_out(start + REPLY_TIMEOUT));
    assert_eq!(check.accept(&query, late + REPLY_TIMEOUT / 2), Ok(CheckEvent::Queried(&master, vec![answer])));
    assert!(check.is_timed_out(late + REPLY_TIMEOUT), "a recording does not hold it up for ever");
}

proptest! {
    #[test]
    fn junk_is_rejected_and_changes_nothing(first_byte in 0x25u8..=0x26, flip in 0..SessionCheckFrame::LEN * 8, junk: Vec<u8>) {
        let (master, slave) = pair(1, Suite::Gcm);
        let (mut check, query, now) = started(&master, 1);
        let (answer, _) = reply(&query, [&slave], &[]).unwrap();
        let before = format!("{check:?}");
        for genuine in [&query, &answer] {
            let mut forged = genuine.clone();
            forged[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(check.accept(&forged, now).is_err());
            prop_assert!(reply(&forged, [&slave], &[]).is_err());
            for len in [0, 1, Ready::LEN, SessionCheckFrame::LEN - 1] {
                prop_assert!(check.accept(&genuine[..len], now).is_err());
                prop_assert!(reply(&genuine[..len], [&slave], &[]).is_err());
            }
        }
        let junk = [&[first_byte][..], &junk].concat();
        prop_assert!(check.accept(&junk, now).is_err() && reply(&junk, [&slave], &[]).is_err());
        prop_assert_eq!((before, check.deadline()), (format!("{check:?}"), Some(now + QUERY_INTERVAL)));
    }
}

/// What one run of `sts-pair --if-older` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer has the session: exit 0, nothing changed.
    Kept,
    /// A master and a slave that both want a new one were there at the same time.
    Paired,
    /// Nobody was there to agree a new one.
    Alone,
}

/// A device in virtual time: sts-pair runs from `from` until its end, and whether another tool answers while it does not.
struct Device {
    session: Session,
    from: Duration,
    listens: bool,
    check: Option<SessionCheck>,
    end: Option<(Duration, End)>,
}

const TIMEOUT: Duration = Duration::from_secs(30);

impl Device {
    fn runs(&self, at: Duration) -> bool {
        at >= self.from && self.end.is_none()
    }

    /// Would pair: as master it sends INITREQ, as slave it answers one, while it asks, too.
    fn pairs(&self, at: Duration) -> bool {
        self.runs(at) && (self.check.is_none() || self.session.role == Role::Slave)
    }
}

/// Runs both devices over a network that takes `latency`; how each run ended.
fn simulate(young: [bool; 2], from: [Duration; 2], listens: [bool; 2], latency: Duration, seed: u64) -> [End; 2] {
    const STEP: Duration = Duration::from_millis(10);
    let start = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let (master, slave) = pair(1, Suite::Gcm);
    let mut devices = [(master, 0), (slave, 1)].map(|(session, at): (Session, usize)| Device {
        check: young[at].then(|| SessionCheck::new(session.clone(), [], Vec::new(), &mut rng)),
        session,
        from: from[at],
        listens: listens[at],
        end: None,
    });
    let mut wire: VecDeque<(Duration, usize, Vec<u8>)> = VecDeque::new();
    let mut at = Duration::ZERO;
    while devices.iter().any(|device| device.end.is_none()) {
        let now = start + at;
        for (number, device) in devices.iter_mut().enumerate().filter(|(_, device)| device.runs(at)) {
            if let Some(check) = &mut device.check {
                check.start(now);
                wire.extend(check.poll(now).map(|frame| (at + latency, 1 - number, frame)));
                if check.is_timed_out(now) {
                    device.check = None;
                }
            }
            if at >= device.from + TIMEOUT {
                device.end = Some((at, End::Alone));
            }
        }
        if devices.iter().all(|device| device.pairs(at)) {
            // INITREQ is there each 8 s at the latest; here at once.
            for device in &mut devices {
                device.end = Some((at, End::Paired));
            }
        }
        while wire.front().is_some_and(|(due, ..)| *due <= at) {
            let (_, to, frame) = wire.pop_front().unwrap();
            let device = &mut devices[to];
            let mut answers = |frame| wire.push_back((at + latency, 1 - to, frame));
            if device.runs(at) {
                match device.check.as_mut().map(|check| check.accept(&frame, now)) {
                    Some(Ok(CheckEvent::Queried(_, frames))) => frames.into_iter().for_each(&mut answers),
                    Some(Ok(CheckEvent::Present)) => device.end = Some((at, End::Kept)),
                    // It wants to pair, and says so by its silence.
                    Some(Err(_)) | None => {}
                }
            } else if device.listens
                && let Ok((answer, _)) = reply(&frame, [&device.session], &[])
            {
                answers(answer);
            }
        }
        at += STEP;
    }
    devices.map(|device| device.end.unwrap().1)
}

proptest! {
    /// Both ends of one link, started within the same minute or so by clocks that differ, and of two minds about the age.
    #[test]
    fn two_ends_of_two_minds_end_with_one_session(
        young: [bool; 2],
        listens: [bool; 2],
        skew in 0u64..29_000,
        first in 0usize..2,
        latency in 1u64..400,
        seed: u64,
    ) {
        let mut from = [Duration::ZERO; 2];
        from[1 - first] = Duration::from_millis(skew);
        let ends = simulate(young, from, listens, Duration::from_millis(latency), seed);
        // Never is one paired and the other not.
        prop_assert_eq!(ends[0] == End::Paired, ends[1] == End::Paired);
        match young {
            [false, false] => prop_assert_eq!(ends, [End::Paired; 2]),
            // They were there at the same time, and neither was told before by a tool of the other: none waits for nothing.
            [true, true] if skew + latency < 2_980 && !listens[1 - first] => prop_assert_eq!(ends, [End::Kept; 2]),
            _ => {}
        }
        for at in 0..2 {
            // The end that would keep it is told so, if the peer has a tool that answers while its sts-pair does not run.
            if young[at] && listens[1 - at] && from[at] + Duration::from_secs(2) < from[1 - at] {
                prop_assert_eq!(ends[at], End::Kept);
            }
            // The end that wants a new one, and was there before, gets it: its other tools do not speak in its place.
            if !young[at] && from[at] < from[1 - at] && from[1 - at] + 2 * REPLY_TIMEOUT < from[at] + TIMEOUT {
                prop_assert_eq!(ends[at], End::Paired);
            }
        }
    }
}
