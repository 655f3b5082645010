//! What a crash, a power cut or a damaged disk leaves of a queue: all whole records, or an error.

use super::*;

/// The state may forget what was sealed; no record is lost by that.
#[test]
fn after_a_power_cut_all_is_read_again() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"a");
    put(&mut spool, b"b");
    spool.start_sequence(at(3), &PEER, true).unwrap();
    let synchronized = fs::read(home.dir().join("state")).unwrap();
    assert_eq!(read_all(&mut spool).len(), 2);
    drop(spool);
    fs::write(home.dir().join("state"), synchronized).unwrap();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"c");
    assert_eq!((spool.sealed_before(), spool.next()), (0, 0));
    assert_eq!(read_all(&mut spool), [b"a", b"b", b"c"]);
    spool.finish_sequence().unwrap();
    spool.start_sequence(at(4), &PEER, true).unwrap();
    assert_eq!(spool.sequence().map(|sequence| sequence.first_record), Some(3));
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
        while matches!(spool.read(&mut BytesMut::new(), RecordLimit::NONE)?, Found::Record(_)) {
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

#[test]
fn a_file_with_another_name_is_no_segment() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    put(&mut spool, b"one");
    drop(spool);
    for name in ["cafe", "000000000000000A", "+00000000000000a", "000000000000000a.old"] {
        fs::write(home.dir().join(name), "a user's").unwrap();
    }
    let mut spool = home.open().unwrap();
    put(&mut spool, b"two");
    assert_eq!(read_all(&mut spool), [b"one", b"two"]);
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
    let error = spool.read(&mut buffer, RecordLimit::NONE).unwrap_err();
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
