//! The queue itself: what goes in comes out once, and whatever a crash leaves of it.

mod damage;
mod room;
mod several_runs;
mod times;
mod without_data;

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
        SpoolOptions { dir: self.dir(), max: Size::new(64 << 20), keeps_times: false }
    }

    fn owner(&self) -> Owner<'_> {
        Owner { link: &self.link, receiver: SpoolReceiver::Peers(&[PEER]) }
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
    assert_eq!(spool.append(&[record.into()]).unwrap(), Appended::Records(1));
}

fn read_one(spool: &mut Spool, buffer: &mut BytesMut) -> bool {
    spool.read(buffer, RecordLimit::NONE).unwrap() == Found::Record(None)
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
        let records: Vec<_> = more.iter().copied().map(Record::from).collect();
        assert_eq!(spool.append(&records).unwrap(), Appended::Records(more.len()));
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
    spool.start_sequence(at(3), &PEER, false).unwrap();
    let mut buffer = BytesMut::new();
    let limit = RecordLimit::new(4, 0);
    assert_eq!(spool.read(&mut buffer, limit).unwrap(), Found::Record(None));
    assert_eq!((spool.read(&mut buffer, limit).unwrap(), &buffer[..]), (Found::TooLong, &b"sent"[..]));
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
    let options = home.options();
    let mut second = Opening::new(&options, home.owner());
    assert!(second.attempt().unwrap().is_none() && !second.is_sender());
    assert!(second.inlet().unwrap().is_some(), "it may append");
    drop(spool);
    let other: LinkName = "other".parse().unwrap();
    for keeps_times in [false, true] {
        let options = SpoolOptions { keeps_times, ..home.options() };
        drop(Opening::new(&options, home.owner()).attempt().unwrap().unwrap());
        for owner in [
            Owner { link: &other, receiver: SpoolReceiver::Peers(&[PEER]) },
            Owner { link: &home.link, receiver: SpoolReceiver::Peers(&[[1; 32]]) },
            Owner { link: &home.link, receiver: SpoolReceiver::Peers(&[PEER, [0xac; 32]]) },
            Owner { link: &home.link, receiver: SpoolReceiver::Anyone },
            Owner { link: &home.link, receiver: SpoolReceiver::OldProgram },
        ] {
            assert_eq!(Opening::new(&options, owner).attempt().unwrap_err().exit(), Exit::Config);
            assert_eq!(Inlet::open(&options, owner).unwrap_err().exit(), Exit::Config);
        }
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
    spool.start_sequence(at(2), &PEER, true).unwrap();
    assert_eq!(read_all(&mut spool).len(), 1);
    spool.finish_sequence().unwrap();
    for record in [b"a", b"b", b"c"] {
        put(&mut spool, record);
    }
    spool.start_sequence(at(3), &PEER, true).unwrap();
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
    spool.start_sequence(at(3), &PEER, false).unwrap();
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
    spool.start_sequence(at(3), &PEER, true).unwrap();
    assert!(read_one(&mut spool, &mut BytesMut::new()));
    spool.rewind().unwrap();
    assert_eq!(recut(&mut spool), 1);
    assert_eq!((spool.sequence(), spool.sealed_before()), (None, 0));
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
fn what_a_run_may_have_sealed_is_known_after_it_whether_it_was_killed_or_not() {
    for (killed, sealed) in [(true, 3), (false, 1)] {
        let home = Home::new();
        let mut spool = home.open().unwrap();
        for record in [&b"a"[..], b"b", b"c"] {
            put(&mut spool, record);
        }
        spool.start_sequence(at(3), &PEER, true).unwrap();
        assert!(read_one(&mut spool, &mut BytesMut::new()));
        assert_eq!(spool.sealed_before(), 0, "the run itself knows");
        if !killed {
            spool.shut_down().unwrap();
        }
        drop(spool);
        assert_eq!(home.open().unwrap().sealed_before(), sealed);
    }
}
