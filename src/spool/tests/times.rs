//! Claim: a record keeps the time at which it was read, in every run and however it is cut, and nothing else changes.

use super::*;

/// The options of a run with `--stamp`.
fn with_times(home: &Home) -> SpoolOptions {
    SpoolOptions { keeps_times: true, ..home.options() }
}

fn open(home: &Home, options: &SpoolOptions) -> Spool {
    Opening::new(options, home.owner()).attempt().unwrap().expect("no other run sends").0
}

fn inlet(home: &Home, options: &SpoolOptions) -> Inlet {
    Inlet::open(options, home.owner()).unwrap().expect("there is a spool")
}

fn at(micros: u64) -> SentTime {
    SentTime::from_bytes(micros.to_be_bytes())
}

fn put_at(spool: &mut impl RecordStore, bytes: &[u8], sent: Option<SentTime>) {
    assert_eq!(spool.append(&[Record { bytes, sent }]).unwrap(), Appended::Records(1));
}

fn read_all(spool: &mut Spool) -> Vec<(Vec<u8>, Option<SentTime>)> {
    let (mut records, mut buffer) = (Vec::new(), BytesMut::new());
    while let Found::Record(sent) = spool.read(&mut buffer, RecordLimit::NONE).unwrap() {
        records.push((buffer.split().to_vec(), sent));
    }
    records
}

fn format(home: &Home) -> String {
    fs::read_to_string(home.dir().join("owner")).unwrap().lines().nth(1).unwrap().to_owned()
}

#[test]
fn a_record_keeps_its_time_in_the_next_run() {
    let home = Home::new();
    let mut spool = open(&home, &with_times(&home));
    let records =
        [(&b"one\n"[..], Some(at(1))), (b"two\n", None), (b"", Some(at(u64::MAX))), (b"three\n", Some(at(0)))];
    for (bytes, sent) in records {
        put_at(&mut spool, bytes, sent);
    }
    let expected = records.map(|(bytes, sent)| (bytes.to_vec(), sent));
    assert_eq!(spool.pending(), Pending { messages: 4, bytes: 14 + 3 * 8 });
    assert_eq!(read_all(&mut spool), expected);
    spool.acknowledge(1).unwrap();
    assert_eq!(spool.pending(), Pending { messages: 3, bytes: 10 + 2 * 8 });
    drop(spool);
    // This one may say nothing of times: they are there for one that does.
    let mut spool = home.open().unwrap();
    assert_eq!(spool.pending(), Pending { messages: 3, bytes: 10 + 2 * 8 });
    assert_eq!(read_all(&mut spool), expected[1..]);
    spool.acknowledge(4).unwrap();
    assert!(spool.is_empty());
}

#[test]
fn each_piece_of_a_record_has_its_time() {
    let home = Home::new();
    let mut spool = open(&home, &with_times(&home));
    put_at(&mut spool, b"abcde", Some(at(7)));
    put_at(&mut spool, b"fg", None);
    assert_eq!(spool.recut(|bytes| bytes.len().min(2), &mut 0).unwrap(), Recut::Done(0));
    let expected = [(&b"ab"[..], Some(at(7))), (b"cd", Some(at(7))), (b"e", Some(at(7))), (b"fg", None)];
    assert_eq!(read_all(&mut spool), expected.map(|(bytes, sent)| (bytes.to_vec(), sent)));
}

#[test]
fn a_time_takes_room_in_the_message_of_its_record() {
    let home = Home::new();
    let mut spool = open(&home, &with_times(&home));
    for (bytes, sent) in [(&b"1234"[..], None), (b"1234", Some(at(1))), (b"12345", None)] {
        put_at(&mut spool, bytes, sent);
    }
    let mut buffer = BytesMut::new();
    let mut read = |spool: &mut Spool, time_room| spool.read(&mut buffer, RecordLimit::new(4, time_room)).unwrap();
    assert_eq!(read(&mut spool, 1), Found::Record(None));
    assert_eq!(read(&mut spool, 1), Found::TooLong);
    assert_eq!(read(&mut spool, 0), Found::Record(Some(at(1))));
    assert_eq!(read(&mut spool, 0), Found::TooLong);
    assert_eq!(&buffer[..], b"12341234");
}

/// An earlier version would take a record with a time for a write that was cut short.
#[test]
fn only_a_spool_with_times_has_a_format_that_earlier_versions_refuse() {
    let home = Home::new();
    put_at(&mut home.open().unwrap(), b"before\n", None);
    assert_eq!(format(&home), "format = sts-spool-4");
    let without = inlet(&home, &with_times(&home));
    assert_eq!(format(&home), "format = sts-spool-4", "the run that sends decides");
    let mut spool = open(&home, &with_times(&home));
    assert_eq!(format(&home), "format = sts-spool-5");
    spool.share().unwrap();
    for mut other in [without, inlet(&home, &with_times(&home)), inlet(&home, &home.options())] {
        put_at(&mut other, b"other\n", Some(at(3)));
    }
    spool.share().unwrap();
    let times: Vec<_> = read_all(&mut spool).into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(times, [None, None, Some(at(3)), Some(at(3))]);
    drop(spool);
    drop(home.open().unwrap());
    assert_eq!(format(&home), "format = sts-spool-5", "what is there may have times");
    let path = home.dir().join("owner");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("sts-spool-5", "sts-spool-6")).unwrap();
    assert_eq!(home.open().unwrap_err().exit(), Exit::Protocol);
}

#[test]
fn what_takes_the_last_room_is_counted_with_its_time() {
    let home = Home::new();
    let mut spool = open(&home, &with_times(&home));
    spool.share().unwrap();
    let mut small = inlet(&home, &SpoolOptions { max: Size::new(2 * (20 + 8 + 10)), ..with_times(&home) });
    let record = Record { bytes: b"0123456789", sent: Some(at(1)) };
    assert_eq!(small.append(&[record; 3]).unwrap(), Appended::Records(2));
    assert_eq!(small.append(&[record]).unwrap(), Appended::Full);
}
