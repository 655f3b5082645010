//! Several runs with one spool: what each of them appends is sent once, in order, whichever of them ends first.

use super::*;

#[test]
fn records_of_several_runs_come_out_in_the_order_in_which_they_went_in() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    let mut inlets = [home.inlet(), home.inlet()];
    put(&mut spool, b"0");
    assert_eq!(inlets[0].append(&[b"1".into()]).unwrap(), Appended::Busy, "the sender is asked to give way");
    assert!(spool.bell().unwrap().is_some());
    spool.share().unwrap();
    for round in 0..3 {
        put(&mut inlets[0], format!("{round} one").as_bytes());
        put(&mut spool, format!("{round} own").as_bytes());
        put(&mut inlets[1], format!("{round} two").as_bytes());
    }
    assert_eq!(spool.pending().messages, 9, "what came last is not noticed before the bell is heard");
    spool.share().unwrap();
    let round = |round| ["one", "own", "two"].map(|run| format!("{round} {run}").into_bytes());
    let expected = [vec![b"0".to_vec()], (0..3).flat_map(round).collect()].concat();
    assert_eq!(spool.pending(), Pending { messages: 10, bytes: 46 });
    assert_eq!(read_all(&mut spool), expected);
}

#[test]
fn a_run_appends_while_segments_come_and_go() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    let mut inlet = home.inlet();
    spool.share().unwrap();
    let long = vec![b'x'; 300_000];
    let mut expected = 0;
    for number in 0..40_u8 {
        for record in [&long[..], &[number]] {
            put(&mut inlet, record);
            put(&mut spool, record);
        }
        spool.share().unwrap();
        if number % 3 == 0 {
            let records = read_all(&mut spool);
            assert!(records.len().is_multiple_of(4) && !records.is_empty());
            expected += records.len() as u64;
            spool.acknowledge(spool.next()).unwrap();
            assert!(spool.is_empty() && home.segments().is_empty());
        }
    }
    assert_eq!((spool.next(), expected), (160, 160));
}

#[test]
fn a_sender_that_leaves_has_seen_all_or_lets_the_other_one_send() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    let mut inlet = home.inlet();
    spool.share().unwrap();
    put(&mut inlet, b"before");
    assert!(!spool.leave().unwrap(), "it was appended before the sender looked");
    assert_eq!(read_all(&mut spool), [b"before"]);
    spool.acknowledge(1).unwrap();
    assert!(spool.leave().unwrap());
    put(&mut inlet, b"after");
    let mut other = home.open().unwrap();
    assert_eq!(read_all(&mut other), [b"after"]);
    // It has left, and touches nothing.
    spool.shut_down().unwrap();
    assert_eq!(other.pending().messages, 1);
}

#[test]
fn what_a_run_that_died_had_appended_is_cut_off_by_the_next_one() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"whole");
    spool.share().unwrap();
    let path = home.segments()[0].clone();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, [&bytes[..], &bytes[..7]].concat()).unwrap();
    spool.share().unwrap();
    put(&mut home.inlet(), b"next");
    spool.share().unwrap();
    assert_eq!(read_all(&mut spool), [&b"whole"[..], b"next"]);
}

#[test]
fn no_run_appends_while_another_one_cuts_anew() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"too long");
    spool.share().unwrap();
    // It died before it gave the new segment its name.
    fs::write(home.dir().join("0000000000000001.cut"), "").unwrap();
    let mut inlet = home.inlet();
    assert_eq!(inlet.append(&[b"next".into()]).unwrap(), Appended::Busy);
    drop(spool);
    let mut spool = home.open().unwrap();
    spool.share().unwrap();
    put(&mut inlet, b"next");
    spool.share().unwrap();
    assert_eq!(recut(&mut spool), 0);
    assert_eq!(read_all(&mut spool), [&b"too "[..], b"long", b"next"]);
}

/// The sender is killed after the state says that the new segment is valid: before that has its name, after it, and
/// after each of the old ones is removed. The other run knows the last one of those as it is.
#[test]
fn a_run_appends_after_what_was_cut_anew_by_one_that_was_killed() {
    for removed in [None, Some(0), Some(1), Some(2)] {
        let home = Home::new();
        let mut spool = home.open().unwrap();
        let mut expected = Vec::new();
        while home.segments().len() < 2 {
            let record = vec![b'x'; 100_000];
            put(&mut spool, &record);
            expected.extend(record);
        }
        spool.share().unwrap();
        let mut inlet = home.inlet();
        put(&mut inlet, b"last");
        spool.share().unwrap();
        let old = home.segments();
        let kept: Vec<_> = (0..old.len()).map(|number| home.home.path().join(number.to_string())).collect();
        for (segment, kept) in old.iter().zip(&kept) {
            fs::hard_link(segment, kept).unwrap();
        }
        assert!(matches!(spool.recut(|bytes| bytes.len().min(50_000), &mut 0).unwrap(), Recut::Done(_)));
        drop(spool);
        let new = home.segments().remove(0);
        for (segment, kept) in old.iter().zip(&kept).skip(removed.unwrap_or(0)) {
            fs::rename(kept, segment).unwrap();
        }
        if removed.is_none() {
            fs::rename(&new, new.with_extension("cut")).unwrap();
            assert_eq!(inlet.append(&[b"next".into()]).unwrap(), Appended::Busy);
            home.open().unwrap();
        }
        put(&mut inlet, b"next");
        let mut spool = home.open().unwrap();
        put(&mut spool, b"own");
        expected.extend_from_slice(b"lastnextown");
        assert!(read_all(&mut spool).concat() == expected, "old segments removed: {removed:?}");
    }
}

#[test]
fn a_full_spool_is_full_for_every_run() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    spool.share().unwrap();
    let options = SpoolOptions { max: Size::new(100), ..home.options() };
    let mut inlet = Inlet::open(&options, home.owner()).unwrap().unwrap();
    put(&mut inlet, &[b'x'; 50]);
    assert_eq!(inlet.append(&[(&[b'x'; 50]).into()]).unwrap(), Appended::Full);
    spool.share().unwrap();
    assert_eq!(read_all(&mut spool).len(), 1);
    spool.acknowledge(1).unwrap();
    put(&mut inlet, &[b'x'; 50]);
}

#[test]
fn of_records_that_do_not_all_fit_the_first_ones_are_appended() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    spool.share().unwrap();
    let options = SpoolOptions { max: Size::new(100), ..home.options() };
    let mut inlet = Inlet::open(&options, home.owner()).unwrap().unwrap();
    // With their heads three of them fit.
    let lines = [b"0123456789".into(); 7];
    assert_eq!(inlet.append(&lines).unwrap(), Appended::Records(3));
    assert_eq!(inlet.append(&lines[3..]).unwrap(), Appended::Full);
    spool.share().unwrap();
    assert_eq!(read_all(&mut spool).len(), 3);
    spool.acknowledge(2).unwrap();
    assert_eq!(inlet.append(&lines[3..]).unwrap(), Appended::Records(2));
}

#[test]
fn a_run_never_waits_for_the_right_to_append() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"one");
    spool.share().unwrap();
    let dir = Dir::create(&home.dir(), files::Guard::Private).unwrap();
    let other = files::lock(&dir, "append").unwrap();
    let (done, outcome) = std::sync::mpsc::channel();
    let appends = std::thread::spawn(move || {
        let appended = spool.append(&[b"two".into()]).unwrap();
        spool.share().unwrap();
        assert!(spool.is_behind());
        assert_eq!(read_all(&mut spool), [b"one"]);
        spool.acknowledge(1).unwrap();
        assert!(!spool.leave().unwrap());
        assert_eq!(spool.recut(<[u8]>::len, &mut 0).unwrap(), Recut::Busy);
        spool.shut_down().unwrap();
        done.send(appended).unwrap();
        spool
    });
    assert_eq!(outcome.recv_timeout(std::time::Duration::from_secs(60)).unwrap(), Appended::Busy);
    let mut spool = appends.join().unwrap();
    drop(other);
    put(&mut spool, b"two");
    assert!(!spool.is_behind());
    assert_eq!(read_all(&mut spool), [b"two"]);
}

#[test]
fn a_run_that_is_to_send_lets_no_other_one_rely_on_another() {
    let home = Home::new();
    drop(home.open().unwrap());
    let dir = Dir::create(&home.dir(), files::Guard::Private).unwrap();
    let other = files::lock(&dir, "append").unwrap();
    let options = home.options();
    let mut opening = Opening::new(&options, home.owner());
    assert!(opening.attempt().unwrap().is_none() && opening.is_sender());
    drop(other);
    // Nobody else can take its place, to find out that it does not send.
    assert!(files::try_lock(&dir, SEND_LOCK).unwrap().is_none());
    assert!(opening.attempt().unwrap().is_some());
}

#[test]
fn cutting_anew_renumbers_the_record_that_a_run_is_to_stop_after() {
    for (until, expected) in [(0, 0), (1, 3), (2, 5), (3, 6)] {
        let home = Home::new();
        let mut spool = home.open().unwrap();
        for record in [&b"sent"[..], b"too long", b"fits"] {
            put(&mut spool, record);
        }
        assert!(read_one(&mut spool, &mut BytesMut::new()));
        spool.acknowledge(1).unwrap();
        let mut until = until;
        assert_eq!(spool.recut(|bytes| bytes.len().min(4), &mut until).unwrap(), Recut::Done(0));
        assert_eq!(until, expected);
    }
}

/// The price of a line must not be that of all that waits.
#[test]
fn what_others_append_is_noticed_without_a_look_at_what_waits() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    while home.segments().len() < 2 {
        put(&mut spool, &vec![b'x'; 100_000]);
    }
    spool.share().unwrap();
    let mut inlet = home.inlet();
    put(&mut inlet, b"one");
    let all = spool.whole();
    // Anybody who looked into it would complain.
    fs::set_permissions(&home.segments()[0], std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    put(&mut inlet, b"two");
    spool.share().unwrap();
    put(&mut spool, b"three");
    put(&mut inlet, b"four");
    spool.share().unwrap();
    assert_eq!(spool.whole(), all + 4);
    fs::set_permissions(&home.segments()[0], std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let read = read_all(&mut spool);
    assert_eq!(read[read.len() - 4..], [&b"one"[..], b"two", b"three", b"four"]);
    assert_eq!(spool.pending().messages, read.len() as u64);
}

#[test]
fn a_run_that_is_alone_again_takes_no_lock_for_each_record() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    let mut inlet = home.inlet();
    spool.share().unwrap();
    put(&mut inlet, b"other");
    for _ in 0..200 {
        put(&mut spool, b"own");
    }
    assert_eq!(inlet.append(&[b"late".into()]).unwrap(), Appended::Busy);
    spool.share().unwrap();
    put(&mut inlet, b"late");
    put(&mut spool, b"last");
    assert_eq!(read_all(&mut spool)[201..], [b"late", b"last"]);
}
