//! Claim: a record without data keeps its number and its place like any other, so that what is sent by time can be one.

use super::*;

#[test]
fn a_record_without_data_outlives_a_run_and_a_cut() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    for record in ["one\n", "", "two\n"] {
        put(&mut spool, record.as_bytes());
    }
    assert_eq!(spool.pending(), Pending { messages: 3, bytes: 8 });
    drop(spool);
    let mut spool = home.open().unwrap();
    assert_eq!(read_all(&mut spool), [&b"one\n"[..], b"", b"two\n"]);
    spool.acknowledge(1).unwrap();
    spool.rewind().unwrap();
    assert!(matches!(spool.recut(|bytes| bytes.len().min(2), &mut 0).unwrap(), Recut::Done(_)));
    assert_eq!(read_all(&mut spool), [&b""[..], b"tw", b"o\n"]);
    assert_eq!(spool.pending().messages, 3);
}

#[test]
fn a_run_that_only_appends_leaves_one_too() {
    let home = Home::new();
    let mut spool = home.open().unwrap();
    spool.share().unwrap();
    put(&mut home.inlet(), b"");
    spool.share().unwrap();
    assert_eq!(read_all(&mut spool), [b""]);
    spool.acknowledge(1).unwrap();
    assert!(spool.is_empty());
}
