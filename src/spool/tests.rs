//! The queue itself: what goes in comes out once, and whatever a crash leaves of it.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::opening::SEND_LOCK;
use super::segments::MAX_RECORD;
use super::*;
use crate::crypto::schedule::Digest;
use crate::files;
use crate::name::LinkName;
use crate::stream::{Origin, StreamId};
use crate::units::Size;
use crate::{Error, Exit};

const PEER: Digest = [0xab; 32];

struct Home {
    home: tempfile::TempDir,
    link: LinkName,
}

impl Home {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), link: "plant".parse().unwrap() }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("spool")
    }

    fn options(&self) -> SpoolOptions {
        SpoolOptions { dir: self.dir(), max: Size::new(64 << 20) }
    }

    fn owner(&self) -> Owner<'_> {
        Owner { link: &self.link, receiver: SpoolReceiver::Peer(&PEER) }
    }

    fn open(&self) -> Result<Spool> {
        self.open_and_cut_off().map(|(spool, _)| spool)
    }

    /// As the run that sends.
    fn open_and_cut_off(&self) -> Result<(Spool, u64)> {
        Opening::new(&self.options(), self.owner()).attempt().map(|opened| opened.expect("no other run sends"))
    }

    /// As a run that only appends.
    fn inlet(&self) -> Inlet {
        Inlet::open(&self.options(), self.owner()).unwrap().expect("there is a spool")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|path| path.file_name().unwrap().len() == 16).collect();
        paths.sort();
        paths
    }
}

fn put(spool: &mut impl RecordStore, record: &[u8]) {
    assert_eq!(spool.append(&[record]).unwrap(), Appended::Records(1));
}

fn read_one(spool: &mut Spool, buffer: &mut BytesMut) -> bool {
    spool.read(buffer, usize::MAX).unwrap() == Found::Record
}

fn read_all(spool: &mut Spool) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut buffer = BytesMut::new();
    while read_one(spool, &mut buffer) {
        records.push(buffer.split().to_vec());
    }
    records
}

fn record(number: u64) -> Vec<u8> {
    format!("record {number} {}\n", "x".repeat(usize::try_from(number % 50).unwrap())).into_bytes()
}

#[test]
fn what_goes_in_comes_out_in_order_and_goes_when_it_is_acknowledged() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for number in 0..40_000 {
        put(&mut spool, &record(number));
    }
    assert!(home.segments().len() > 1);
    assert_eq!(spool.pending().messages, 40_000);
    let bytes: usize = (0..40_000).map(|number| record(number).len()).sum();
    assert_eq!(spool.pending().bytes, bytes as u64);
    let read = read_all(&mut spool);
    assert!(read.iter().zip(0..).all(|(read, number)| *read == record(number)) && read.len() == 40_000);
    let before = home.segments().len();
    spool.acknowledge(39_000).unwrap();
    assert!(home.segments().len() < before, "what is acknowledged takes no room");
    drop(spool);
    let mut spool = home.open().unwrap();
    assert_eq!(spool.next(), 39_000);
    assert_eq!(read_all(&mut spool)[0], record(39_000));
    spool.acknowledge(40_000).unwrap();
    assert!(spool.is_empty());
    spool.shut_down().unwrap();
    assert_eq!(home.segments(), [] as [PathBuf; 0]);
    drop(spool);
    // A number is never given twice.
    assert_eq!(home.open().unwrap().whole(), 40_000);
}

/// Earlier versions wrote a line as it came, in pieces, and the rest of the last one will not come.
#[test]
fn a_record_that_an_earlier_version_began_ends_before_the_next_one() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"one\n");
    drop(spool);
    let path = home.segments()[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    chunk::put(&mut bytes, 1, b"half a ", false);
    chunk::put(&mut bytes, 1, b"li", false);
    fs::write(&path, bytes).unwrap();
    for more in [&[][..], &[&b"two\n"[..], b""]] {
        let mut spool = home.open().unwrap();
        assert!(spool.pending().messages == 2);
        assert_eq!(spool.append(more).unwrap(), Appended::Records(more.len()));
        let expected = [&[&b"one\n"[..], b"half a li"], more].concat();
        assert_eq!(read_all(&mut spool), expected);
    }
}

/// Cuts into pieces of at most four bytes.
fn recut(spool: &mut Spool) -> u64 {
    match spool.recut(|bytes| bytes.len().min(4), &mut 0).unwrap() {
        Recut::Done(duplicates) => duplicates,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_waits_is_cut_anew_under_new_numbers() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for record in [&b"sent"[..], b"too long", b"", b"fits"] {
        put(&mut spool, record);
    }
    spool.start_sequence(at(3), false).unwrap();
    let mut buffer = BytesMut::new();
    assert_eq!(spool.read(&mut buffer, 4).unwrap(), Found::Record);
    assert_eq!((spool.read(&mut buffer, 4).unwrap(), &buffer[..]), (Found::TooLong, &b"sent"[..]));
    assert!(!spool.is_acknowledged());
    spool.acknowledge(1).unwrap();
    assert!(spool.is_acknowledged());
    assert_eq!(recut(&mut spool), 0, "none of what waits was read");
    assert_eq!((spool.sequence(), spool.next(), spool.pending()), (None, 4, Pending { messages: 4, bytes: 12 }));
    put(&mut spool, b"next");
    drop(spool);
    let mut spool = home.open().unwrap();
    assert_eq!(read_all(&mut spool), [&b"too "[..], b"long", b"", b"fits", b"next"]);
    drop(spool);
    // Of an earlier run nobody knows how much was sent.
    assert_eq!(recut(&mut home.open().unwrap()), 5);
}

#[test]
fn cutting_anew_happens_at_one_instant() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"too long");
    drop(spool);
    let (segment, state) = (home.segments()[0].clone(), home.dir().join("state"));
    let before = [&segment, &state].map(|path| fs::read(path).unwrap());
    recut(&mut home.open().unwrap());
    let after = [&home.segments()[0], &state].map(|path| fs::read(path).unwrap());
    let cut = home.dir().join("0000000000000001.cut");
    let expected = [vec![b"too long".to_vec()], vec![b"too ".to_vec(), b"long".to_vec()]];
    for (state_now, expected) in [(&before[1], &expected[0]), (&after[1], &expected[1])] {
        for segment in home.segments() {
            fs::remove_file(segment).unwrap();
        }
        for (path, bytes) in [(&segment, &before[0]), (&cut, &after[0]), (&state, state_now)] {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        assert_eq!(read_all(&mut home.open().unwrap()), *expected);
        assert!(!cut.exists());
    }
}

#[test]
fn one_sender_one_link_and_one_peer() {
    let home = Home::new();
    let spool = home.open().unwrap();
    assert!(Opening::new(&home.options(), home.owner()).attempt().unwrap().is_none());
    drop(spool);
    let options = home.options();
    let other: LinkName = "other".parse().unwrap();
    for owner in [
        Owner { link: &other, receiver: SpoolReceiver::Peer(&PEER) },
        Owner { link: &home.link, receiver: SpoolReceiver::Peer(&[1; 32]) },
        Owner { link: &home.link, receiver: SpoolReceiver::Anyone },
        Owner { link: &home.link, receiver: SpoolReceiver::OldProgram },
    ] {
        assert_eq!(Opening::new(&options, owner).attempt().unwrap_err().exit(), Exit::Config);
        assert_eq!(Inlet::open(&options, owner).unwrap_err().exit(), Exit::Config);
    }
    home.open().unwrap();
}

/// It holds other locks while it appends.
#[test]
fn a_spool_of_a_version_that_shares_none_is_refused() {
    let home = Home::new();
    drop(home.open().unwrap());
    let path = home.dir().join("owner");
    let older = fs::read_to_string(&path).unwrap().replace("sts-spool-4", "sts-spool-2");
    fs::write(&path, older).unwrap();
    for error in [home.open().unwrap_err(), Inlet::open(&home.options(), home.owner()).unwrap_err()] {
        assert_eq!(error.exit(), Exit::Config);
        assert!(error.hint_text().unwrap().contains("the version that made it"), "{error}");
    }
}

fn at(number: u32) -> Origin {
    Origin { stream: StreamId { session: [7; 8], number }, salt: [5; 8] }
}

/// What a stream continues that begins now.
fn position(spool: &Spool) -> (u32, u64) {
    let continues = spool.sequence().unwrap().position_of(spool.next());
    (continues.origin.stream.number, continues.position)
}

#[test]
fn a_record_has_one_position_in_every_run_until_the_sequence_is_over() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"before");
    spool.start_sequence(at(2), true).unwrap();
    assert_eq!(read_all(&mut spool).len(), 1);
    spool.finish_sequence().unwrap();
    for record in [b"a", b"b", b"c"] {
        put(&mut spool, record);
    }
    spool.start_sequence(at(3), true).unwrap();
    assert_eq!(read_all(&mut spool).len(), 3);
    spool.acknowledge(2).unwrap();
    assert_eq!((position(&spool), spool.sealed_before()), ((3, 3), 0));
    drop(spool);
    let mut spool = home.open().unwrap();
    assert_eq!((position(&spool), spool.sealed_before()), ((3, 1), 2));
    assert!(read_one(&mut spool, &mut BytesMut::new()));
    spool.rewind().unwrap();
    assert_eq!((position(&spool), read_all(&mut spool)), ((3, 1), vec![b"b".to_vec(), b"c".to_vec()]));
    spool.finish_sequence().unwrap();
    assert_eq!((spool.sequence(), spool.is_empty()), (None, true));
    drop(spool);
    assert_eq!(home.open().unwrap().sequence(), None);
}

/// An end that was sent has a position. A record that took it would be dropped by a receiver that has the end.
#[test]
fn a_sequence_that_is_to_end_takes_no_further_record_in_the_next_run() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"a");
    spool.start_sequence(at(3), false).unwrap();
    assert_eq!(read_all(&mut spool), [b"a"]);
    spool.end_sequence().unwrap();
    drop(spool);
    let mut spool = home.open().unwrap();
    put(&mut spool, b"b");
    assert_eq!(spool.sequence().unwrap().until, Some(1));
    assert_eq!((position(&spool), read_all(&mut spool)), ((3, 0), vec![b"a".to_vec()]));
    assert!(!spool.has_record());
    spool.finish_sequence().unwrap();
    assert_eq!(spool.sequence(), None);
    assert_eq!(read_all(&mut spool), [b"b"]);
}

#[test]
fn what_is_cut_anew_is_of_no_sequence() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"too long");
    spool.start_sequence(at(3), true).unwrap();
    assert!(read_one(&mut spool, &mut BytesMut::new()));
    spool.rewind().unwrap();
    assert_eq!(recut(&mut spool), 1);
    assert_eq!((spool.sequence(), spool.sealed_before()), (None, 0));
}

/// The state may forget what was sealed; no record is lost by that.
#[test]
fn after_a_power_cut_all_is_read_again() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"a");
    put(&mut spool, b"b");
    spool.start_sequence(at(3), true).unwrap();
    let synchronized = fs::read(home.dir().join("state")).unwrap();
    assert_eq!(read_all(&mut spool).len(), 2);
    drop(spool);
    fs::write(home.dir().join("state"), synchronized).unwrap();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"c");
    assert_eq!((spool.sealed_before(), spool.next()), (0, 0));
    assert_eq!(read_all(&mut spool), [b"a", b"b", b"c"]);
    spool.finish_sequence().unwrap();
    spool.start_sequence(at(4), true).unwrap();
    assert_eq!(spool.sequence().map(|sequence| sequence.first_record), Some(3));
}

#[test]
fn what_the_receiver_has_already_is_passed_over() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for number in 0..10 {
        put(&mut spool, &record(number));
    }
    spool.acknowledge(7).unwrap();
    assert_eq!(read_all(&mut spool), [record(7), record(8), record(9)]);
}

#[test]
fn a_record_that_may_have_been_sent_and_is_not_whole_is_an_error_and_nothing_is_cut() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for number in 0..5 {
        put(&mut spool, &record(number));
    }
    read_all(&mut spool);
    drop(spool);
    let path = home.segments()[0].clone();
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() - 1], &[]] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(home.open().unwrap_err().exit(), Exit::DataLost);
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(home.open().unwrap_err().exit(), Exit::DataLost);
    fs::write(&path, &whole).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(read_all(&mut home.open().unwrap()).len(), 5);
}

#[test]
fn a_segment_that_is_damaged_or_gone_in_the_middle_is_an_error() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for number in 0..40_000 {
        put(&mut spool, &record(number));
    }
    drop(spool);
    let segments = home.segments();
    assert!(segments.len() > 2);
    let path = &segments[1];
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, &bytes).unwrap();
    let read_to_end = || {
        let mut spool = home.open()?;
        let mut records = 0;
        while spool.read(&mut BytesMut::new(), usize::MAX)? == Found::Record {
            records += 1;
        }
        Ok(records)
    };
    let error: Error = read_to_end().unwrap_err();
    assert_eq!(error.exit(), Exit::DataLost);
    assert!(error.to_string().contains("at byte"), "{error}");
    fs::remove_file(path).unwrap();
    assert_eq!(read_to_end().unwrap_err().exit(), Exit::DataLost);
}

/// A record after one with such a number could not be counted.
#[test]
fn a_segment_with_a_name_that_no_run_makes_is_an_error() {
    let home = Home::new();
    drop(home.open().unwrap());
    for (first, what) in [
        (u64::MAX, "ffffffffffffffff is not the name of a segment"),
        (MAX_RECORD + 1, "8000000000000000 is not the name of a segment"),
        (MAX_RECORD, "messages from number 0 on are incomplete"),
    ] {
        let path = home.dir().join(format!("{first:016x}"));
        let mut bytes = Vec::new();
        chunk::put(&mut bytes, first, b"one\n", true);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let error = home.open().unwrap_err();
        assert_eq!(error.exit(), Exit::DataLost);
        assert!(error.to_string().ends_with(what), "{error}");
        fs::remove_file(&path).unwrap();
    }
    put(&mut home.open().unwrap(), b"one\n");
}

/// It would be sent in the place of another one.
#[test]
fn a_record_with_the_number_of_another_one_is_an_error() {
    let home = Home::new();
    drop(home.open().unwrap());
    for (first, numbers) in [(0, &[0, 5][..]), (2, &[2])] {
        let (path, mut bytes) = (home.dir().join(format!("{first:016x}")), Vec::new());
        for number in numbers {
            chunk::put(&mut bytes, *number, b"one\n", true);
        }
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let mut spool = home.open().unwrap();
    let mut buffer = BytesMut::new();
    assert!(read_one(&mut spool, &mut buffer));
    let error = spool.read(&mut buffer, usize::MAX).unwrap_err();
    assert_eq!(error.exit(), Exit::DataLost);
}

/// Writes these records, cuts or alters the file, and gives back what the next run finds.
fn after(records: &[Vec<u8>], mend: impl FnOnce(&mut Vec<u8>)) -> (Vec<Vec<u8>>, u64) {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for record in records {
        put(&mut spool, record);
    }
    drop(spool);
    let path = home.segments()[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    mend(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let (mut spool, cut_off) = home.open_and_cut_off().unwrap();
    // What comes next stands right behind what was whole.
    put(&mut spool, b"next");
    let mut found = read_all(&mut spool);
    assert_eq!(found.pop().unwrap(), b"next");
    (found, cut_off)
}

#[test]
fn cut_at_any_byte_whole_records_come_and_nothing_else() {
    let records: Vec<_> = (0..4).map(record).collect();
    let ends: Vec<usize> = (1..=4)
        .map(|count| records[..count].iter().map(|record| chunk::CHUNK_HEADER_LEN + record.len()).sum())
        .collect();
    for cut in 0..=ends[3] {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let (found, cut_off) = after(&records, |bytes| bytes.truncate(cut));
        assert_eq!(found, records[..whole]);
        let rest = cut - whole.checked_sub(1).map_or(0, |last| ends[last]);
        assert_eq!(cut_off, rest as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_altered_is_never_sent(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..6),
        at: prop::sample::Index, bit in 0u8..8, garbage in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let (found, cut_off) = after(&records, |bytes| {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        });
        prop_assert!(found.len() < records.len() && cut_off > 0);
        prop_assert_eq!(&found[..], &records[..found.len()]);
        let len = garbage.len() as u64;
        let (found, cut_off) = after(&records, |bytes| bytes.extend_from_slice(&garbage));
        prop_assert_eq!((found, cut_off), (records, len));
    }
}

#[test]
fn records_of_several_runs_come_out_in_the_order_in_which_they_went_in() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    let mut inlets = [home.inlet(), home.inlet()];
    put(&mut spool, b"0");
    assert_eq!(inlets[0].append(&[b"1"]).unwrap(), Appended::Busy, "the sender is asked to give way");
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
    assert_eq!(inlet.append(&[b"next"]).unwrap(), Appended::Busy);
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
            assert_eq!(inlet.append(&[b"next"]).unwrap(), Appended::Busy);
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
    assert_eq!(inlet.append(&[&[b'x'; 50]]).unwrap(), Appended::Full);
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
    let lines = [&b"0123456789"[..]; 7];
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
        let appended = spool.append(&[b"two"]).unwrap();
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
    assert_eq!(inlet.append(&[b"late"]).unwrap(), Appended::Busy);
    spool.share().unwrap();
    put(&mut inlet, b"late");
    put(&mut spool, b"last");
    assert_eq!(read_all(&mut spool)[201..], [b"late", b"last"]);
}

#[test]
fn what_a_run_may_have_sealed_is_known_after_it_whether_it_was_killed_or_not() {
    for (killed, sealed) in [(true, 3), (false, 1)] {
        let home = Home::new();
        let mut spool = home.open().unwrap();
        for record in [&b"a"[..], b"b", b"c"] {
            put(&mut spool, record);
        }
        spool.start_sequence(at(3), true).unwrap();
        assert!(read_one(&mut spool, &mut BytesMut::new()));
        assert_eq!(spool.sealed_before(), 0, "the run itself knows");
        if !killed {
            spool.shut_down().unwrap();
        }
        drop(spool);
        assert_eq!(home.open().unwrap().sealed_before(), sealed);
    }
}
