//! Claim: only the peer's own answer to this very question keeps a session, and two ends that disagree on its age end with
//! one session, whoever comes first.

use std::collections::VecDeque;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::message::Ready;
use crate::session::pair;
use crate::suite::Suite;

fn asking(session: &Session, seed: u64) -> (Asking, Vec<u8>, Instant) {
    let now = Instant::now();
    let mut asking = Asking::new(session.clone(), [], Vec::new(), &mut StdRng::seed_from_u64(seed));
    asking.begin(now);
    let question = asking.poll(now).expect("due at once");
    (asking, question, now)
}

#[test]
fn the_peer_answers_and_nobody_else_can() {
    let (master, slave) = pair(1, Suite::Gcm);
    for (asker, peer) in [(&master, &slave), (&slave, &master)] {
        let (mut asking, question, now) = asking(asker, 1);
        assert!(is_about(&question));
        assert_eq!((asked_under(&question), asked_under(&question[1..])), (Some(asker.id), None));
        let others = [pair(2, Suite::Gcm).0, peer.clone()];
        let (reply, about) = answer(&question, &others, &[]).unwrap();
        assert_eq!((about.id, is_about(&reply)), (peer.id, true));
        assert_eq!(answer(&question, &others, &[]).unwrap().0, reply, "played again, it tells nothing new");

        // Reflected, to the one who asked and to the one who answered.
        assert_eq!(answer(&question, [asker], &[]).unwrap_err(), Rejected::NotAuthentic);
        assert_eq!(asking.accept(&question, now), Err(Rejected::NotAuthentic));
        assert_eq!(answer(&reply, &others, &[]).unwrap_err(), Rejected::Foreign);
        let mut swapped = question.clone();
        swapped[0] = FrameType::RdyAck.byte();
        assert_eq!(asking.accept(&swapped, now), Err(Rejected::NotAuthentic));
        assert_eq!(asking.accept(&reply, now), Ok(Heard::Answered));
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (_, first, _) = asking(&master, 1);
    let (mut second, _, now) = asking(&master, 2);
    let (recorded, _) = answer(&first, [&slave], &[]).unwrap();
    assert_eq!(second.accept(&recorded, now), Err(Rejected::Unexpected));

    // The fresh bytes put right, and a session of the same id with other keys.
    let (mut asking, question, now) = asking(&master, 3);
    let mut patched = recorded.clone();
    patched[9..25].copy_from_slice(&question[9..25]);
    assert_eq!(asking.accept(&patched, now), Err(Rejected::NotAuthentic));
    let stranger = Session { id: slave.id, ..pair(9, Suite::Gcm).1 };
    assert_eq!(answer(&question, [&stranger], &[]).unwrap_err(), Rejected::NotAuthentic);
    assert_eq!(answer(&question, [&pair(9, Suite::Gcm).1], &[]).unwrap_err(), Rejected::UnknownSession);
}

#[test]
fn only_who_never_had_a_session_or_lost_it_says_so() {
    let ((old, old_peers), (new, new_peers), (_, strangers)) =
        (pair(1, Suite::Gcm), pair(2, Suite::Gcm), pair(3, Suite::Gcm));
    let mut rng = StdRng::seed_from_u64(1);
    let question = Question::new(new.clone(), old.id, &mut rng);
    let says = |sessions: &[&Session], past: &[SessionId]| {
        let (reply, under) = answer(&question.frame(), sessions.iter().copied(), past).unwrap();
        assert_eq!(under.id, new.id);
        question.answered(&reply).unwrap()
    };
    assert!(says(&[&new_peers, &old_peers], &[]));
    assert!(says(&[&new_peers], &[old.id]), "it was deleted, not lost");
    assert!(!says(&[&new_peers], &[]));
    assert!(!says(&[&new_peers, &Session { peer: strangers.own, ..old_peers.clone() }], &[]), "another peer's");
    assert_eq!(answer(&question.frame(), [&old_peers], &[]).unwrap_err(), Rejected::UnknownSession);

    // What was said to another question, of another session, or the other way round.
    let (lost, _) = answer(&question.frame(), [&new_peers], &[]).unwrap();
    let (here, _) = answer(&question.frame(), [&new_peers, &old_peers], &[]).unwrap();
    assert_eq!(Question::new(new.clone(), old.id, &mut rng).answered(&lost), Err(Rejected::Unexpected));
    let of_itself = Question { about: new.id, ..Question::new(new.clone(), old.id, &mut StdRng::seed_from_u64(1)) };
    assert_eq!(of_itself.fresh, question.fresh);
    let mut patched = lost.clone();
    patched[25..33].copy_from_slice(&new.id);
    assert_eq!(of_itself.answered(&patched), Err(Rejected::NotAuthentic));
    for at in 0..lost.len() {
        let mixed = [&lost[..at], &here[at..]].concat();
        assert_eq!(question.answered(&mixed).is_ok(), mixed == lost || mixed == here, "{at}");
    }
    // Reflected.
    let mut reflected = question.frame();
    assert!(question.answered(&reflected).is_err());
    reflected[0] = FrameType::RdyAck.byte();
    assert_eq!(question.answered(&reflected), Err(Rejected::NotAuthentic));
}

#[test]
fn a_session_that_is_gone_is_given_up_after_three_seconds() {
    let (master, _) = pair(1, Suite::Gcm);
    let mut asking = Asking::new(master, [], Vec::new(), &mut StdRng::seed_from_u64(1));
    let mut now = Instant::now();
    assert_eq!((asking.poll(now), asking.deadline(), asking.is_over(now)), (None, None, false), "not subscribed yet");
    let start = now;
    asking.begin(start);
    let mut sent = Vec::new();
    while !asking.is_over(now) {
        sent.extend(asking.poll(now));
        asking.begin(now);
        now = asking.deadline().expect("it goes on");
    }
    assert_eq!((now - start, sent.len()), (PATIENCE, 3));
    assert!(sent.windows(2).all(|two| two[0] == two[1]), "each answer is good, however late");
}

#[test]
fn a_peer_that_asks_is_waited_for_once() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (mut asking, own, start) = asking(&master, 1);
    let (_, question, _) = super::tests::asking(&slave, 2);
    let late = start + Duration::from_millis(2_999);
    let (reply, _) = answer(&question, [&master], &[]).unwrap();
    assert_eq!(asking.accept(&question, late), Ok(Heard::Asked(&master, vec![own, reply.clone()])));
    assert!(!asking.is_over(start + PATIENCE));
    assert_eq!(asking.accept(&question, late + PATIENCE / 2), Ok(Heard::Asked(&master, vec![reply])));
    assert!(asking.is_over(late + PATIENCE), "a recording does not hold it up for ever");
}

proptest! {
    #[test]
    fn junk_is_rejected_and_changes_nothing(kind in 0x25u8..=0x26, flip in 0..Presence::LEN * 8, junk: Vec<u8>) {
        let (master, slave) = pair(1, Suite::Gcm);
        let (mut asking, question, now) = asking(&master, 1);
        let (reply, _) = answer(&question, [&slave], &[]).unwrap();
        let before = format!("{asking:?}");
        for genuine in [&question, &reply] {
            let mut forged = genuine.clone();
            forged[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(asking.accept(&forged, now).is_err());
            prop_assert!(answer(&forged, [&slave], &[]).is_err());
            for len in [0, 1, Ready::LEN, Presence::LEN - 1] {
                prop_assert!(asking.accept(&genuine[..len], now).is_err());
                prop_assert!(answer(&genuine[..len], [&slave], &[]).is_err());
            }
        }
        let junk = [&[kind][..], &junk].concat();
        prop_assert!(asking.accept(&junk, now).is_err() && answer(&junk, [&slave], &[]).is_err());
        prop_assert_eq!((before, asking.deadline()), (format!("{asking:?}"), Some(now + EVERY)));
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
    asking: Option<Asking>,
    end: Option<(Duration, End)>,
}

const TIMEOUT: Duration = Duration::from_secs(30);

impl Device {
    fn runs(&self, at: Duration) -> bool {
        at >= self.from && self.end.is_none()
    }

    /// Would pair: as master it sends INITREQ, as slave it answers one, while it asks, too.
    fn pairs(&self, at: Duration) -> bool {
        self.runs(at) && (self.asking.is_none() || self.session.role == Role::Slave)
    }
}

/// Runs both devices over a network that takes `latency`; how each run ended.
fn simulate(young: [bool; 2], from: [Duration; 2], listens: [bool; 2], latency: Duration, seed: u64) -> [End; 2] {
    const STEP: Duration = Duration::from_millis(10);
    let start = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let (master, slave) = pair(1, Suite::Gcm);
    let mut devices = [(master, 0), (slave, 1)].map(|(session, at): (Session, usize)| Device {
        asking: young[at].then(|| Asking::new(session.clone(), [], Vec::new(), &mut rng)),
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
            if let Some(asking) = &mut device.asking {
                asking.begin(now);
                wire.extend(asking.poll(now).map(|frame| (at + latency, 1 - number, frame)));
                if asking.is_over(now) {
                    device.asking = None;
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
                match device.asking.as_mut().map(|asking| asking.accept(&frame, now)) {
                    Some(Ok(Heard::Asked(_, frames))) => frames.into_iter().for_each(&mut answers),
                    Some(Ok(Heard::Answered)) => device.end = Some((at, End::Kept)),
                    // It wants to pair, and says so by its silence.
                    Some(Err(_)) | None => {}
                }
            } else if device.listens
                && let Ok((reply, _)) = answer(&frame, [&device.session], &[])
            {
                answers(reply);
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
            // Whoever would keep it hears so, if the peer has a tool that answers while its sts-pair does not run.
            if young[at] && listens[1 - at] && from[at] + Duration::from_secs(2) < from[1 - at] {
                prop_assert_eq!(ends[at], End::Kept);
            }
            // Whoever wants a new one, and was there before, gets it: its other tools do not speak in its place.
            if !young[at] && from[at] < from[1 - at] && from[1 - at] + 2 * PATIENCE < from[at] + TIMEOUT {
                prop_assert_eq!(ends[at], End::Paired);
            }
        }
    }
}
