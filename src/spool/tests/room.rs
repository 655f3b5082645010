//! What waits is counted, and makes room once it is acknowledged: in the spool, on the disk, and for a person to know.

use std::io::Read as _;

use super::super::chunk::CHUNK_HEADER_LEN;
use super::*;

const MAX_LEN: u64 = 10_000;
const DAY: u64 = 24 * 60 * 60;

fn small(home: &Home) -> Spool {
    let options = SpoolOptions { max: Size::new(MAX_LEN), ..home.options() };
    Opening::new(&options, home.owner()).attempt().unwrap().expect("no other run sends").0
}

#[test]
fn what_is_acknowledged_makes_room_for_as_much() {
    let home = Home::new();
    let mut spool = small(&home);
    let mut expected = spool.free_bytes(0);
    let records = [&b"one"[..], b"fifteen", b"", &[b'x'; 4_000]];
    for record in records {
        put(&mut spool, record);
        expected -= CHUNK_HEADER_LEN + record.len();
        assert_eq!(spool.free_bytes(0), expected);
    }
    // They share a buffer, as records of one message do.
    let mut buffer = BytesMut::new();
    assert!(records.iter().all(|_| read_one(&mut spool, &mut buffer)));
    for (below, record) in (1..).zip(records) {
        let before = spool.pending();
        assert!(before.has_data());
        spool.acknowledge(below).unwrap();
        expected += CHUNK_HEADER_LEN + record.len();
        assert_eq!(spool.free_bytes(0), expected);
        let rest = Pending { messages: before.messages - 1, bytes: before.bytes - record.len() as u64 };
        assert_eq!(spool.pending(), rest);
    }
    assert!(!spool.pending().has_data() && spool.is_empty());
}

#[test]
fn a_person_hears_once_a_day_of_what_waits_for_a_day_or_fills_half_the_spool() {
    let home = Home::new();
    let mut spool = small(&home);
    assert_eq!(spool.due_warning(false, 0), None);
    assert_eq!(spool.due_warning(false, DAY), None, "nothing waits");
    put(&mut spool, &[b'x'; 4_000]);
    assert_eq!(spool.due_warning(false, 2 * DAY), None);
    assert_eq!(spool.due_warning(false, 3 * DAY), Some("nothing was delivered for a day"));
    assert_eq!(spool.due_warning(false, 3 * DAY + 1), None);
    spool.acknowledge(1).unwrap();
    put(&mut spool, &[b'x'; 4_000]);
    put(&mut spool, &[b'x'; 1_000]);
    assert_eq!(spool.due_warning(true, 4 * DAY), None, "it will not be half full for long");
    assert_eq!(spool.due_warning(false, 4 * DAY), Some("it is half full"));
    assert_eq!(spool.due_warning(false, 4 * DAY + 1), None);
    spool.acknowledge(3).unwrap();
    assert_eq!(spool.due_warning(false, 6 * DAY), None, "nothing waits");
    put(&mut spool, b"");
    assert_eq!(spool.due_warning(false, 7 * DAY), None, "no data waits");
    assert_eq!(spool.due_warning(false, 9 * DAY), None, "no data waits");
}

#[test]
fn the_size_on_the_disk_is_that_of_the_records() {
    let home = Home::new();
    assert_eq!(size_on_disk(&home.dir()).unwrap(), 0);
    let mut spool = home.open().unwrap();
    let record = vec![b'x'; 100_000];
    for _ in 0..40 {
        put(&mut spool, &record);
    }
    assert!(home.segments().len() > 1);
    assert_eq!(size_on_disk(&home.dir()).unwrap(), 40 * (100_000 + CHUNK_HEADER_LEN as u64));
}

/// A file that is open takes its room on the disk after it is removed.
#[test]
fn a_segment_that_is_removed_is_closed_and_the_next_one_is_read_on() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    let record = |number: u8| [b'x', number].repeat(50_000);
    for number in 0..40 {
        put(&mut spool, &record(number));
    }
    let segments = home.segments();
    let first_of = |at: usize| u64::from_str_radix(segments[at].file_name().unwrap().to_str().unwrap(), 16).unwrap();
    let mut number = 0;
    // To the end of the first one, then to the middle of the third.
    for (next, acknowledged) in [(first_of(1), first_of(1)), (first_of(2) + 2, first_of(2))] {
        let mut buffer = BytesMut::new();
        while spool.next() < next {
            assert!(read_one(&mut spool, &mut buffer));
            assert_eq!(buffer.split(), record(number));
            number += 1;
        }
        spool.acknowledge(acknowledged).unwrap();
        // Where a system says which files are open.
        let open = fs::read_dir("/proc/self/fd").into_iter().flatten();
        let open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let removed: Vec<_> = open.filter(|path| path.starts_with(home.dir()) && !path.exists()).collect();
        assert_eq!(removed, [] as [PathBuf; 0]);
    }
    assert_eq!(home.segments()[0], segments[2]);
    let rest = read_all(&mut spool);
    assert!(rest.iter().zip(number..40).all(|(read, number)| *read == record(number)));
    assert_eq!(rest.len(), usize::from(40 - number));
}

#[test]
fn much_that_waits_is_cut_anew_as_a_whole() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for number in 0..3_000_u32 {
        put(&mut spool, &number.to_be_bytes().repeat(250));
    }
    assert_eq!(spool.recut(|bytes| bytes.len().min(600), &mut 0).unwrap(), Recut::Done(0));
    let cut = read_all(&mut spool);
    assert!(cut.iter().map(Vec::len).eq([600, 400].repeat(3_000)));
    assert!(cut.concat().chunks(1_000).zip(0_u32..).all(|(whole, number)| *whole == number.to_be_bytes().repeat(250)));
}

/// What it may have sealed is sent again, possibly for the second time.
#[test]
fn a_killed_run_leaves_few_records_that_it_may_have_sealed() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for number in 0..1_000 {
        put(&mut spool, &record(number));
    }
    assert!((0..300).all(|_| read_one(&mut spool, &mut BytesMut::new())));
    drop(spool);
    let sealed = home.open().unwrap().sealed_before();
    assert!((300..=300 + MAX_ANNOUNCED).contains(&sealed), "{sealed}");
}

#[test]
fn a_run_that_appends_wakes_the_one_that_sends() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    let mut bell = fs::File::from(spool.bell().unwrap().expect("a named pipe can be made"));
    let mut rang = || bell.read(&mut [0; 16]).is_ok_and(|len| len > 0);
    let mut inlet = home.inlet();
    assert!(!rang());
    assert_eq!(inlet.append(&[b"one".into()]).unwrap(), Appended::Busy);
    assert!(rang() && !rang(), "the sender is asked to give way");
    spool.share().unwrap();
    put(&mut inlet, b"one");
    assert!(rang() && !rang(), "there is something to send");
}
