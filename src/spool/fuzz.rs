//! A spool that a crash, a broken disk or a hand left: it opens and gives what was put in, or says that it is damaged.

use std::fs;
use std::path::Path;

use bytes::BytesMut;

use super::{
    Appended, Found, Opening, Owner, Record, RecordLimit, RecordStore, Spool, SpoolOptions, SpoolReceiver, chunk,
};
use crate::crypto::schedule::digest;
use crate::fuzz::input::{FuzzInput, check_text, forge};
use crate::stream::SentTime;
use crate::units::Size;

/// Where the state and its slots are, and the first segment.
const STATE: &str = "state";
const SECOND_SLOT: usize = 4096;
const SEGMENT: &str = "0000000000000000";
/// Longest record that is read as a whole.
const MAX_LEN: usize = 300;

/// Records go in, the files are changed, and what comes out is looked at.
pub(crate) fn spool(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let home = tempfile::tempdir().expect("there is room for a directory");
    let dir = home.path().join("spool");
    let mut records = Vec::new();
    {
        let Some(mut spool) = open(&dir) else { unreachable!("a new spool opens") };
        for _ in 0..input.below(5) {
            let record = input.take(1 + usize::from(input.peek().first().copied().unwrap_or(0)));
            if !record.is_empty() && matches!(spool.append(&[of(record)]), Ok(Appended::Records(1))) {
                records.push(record.to_vec());
            }
        }
        for _ in 0..input.below(3) {
            let _ = spool.read(&mut BytesMut::new(), RecordLimit::new(MAX_LEN, 0));
        }
        spool.sync().expect("the disk works");
    }
    let is_forged = damage(&dir, &mut input);
    let Some(mut spool) = open(&dir) else { return };
    let mut read = Vec::new();
    let mut buffer = BytesMut::new();
    while let Ok(Found::Record(_)) = spool.read(&mut buffer, RecordLimit::new(MAX_LEN, 0)) {
        read.push(buffer.split().to_vec());
    }
    if !is_forged {
        // Without the key of the sums nobody changes a record: those that are there are the oldest ones.
        assert!(records.starts_with(&read), "{read:?} came out of {records:?}");
    }
    let _ = spool.append(&[b"one more".into()]);
    let _ = spool.rewind();
    while let Ok(Found::Record(_)) = spool.read(&mut buffer, RecordLimit::new(MAX_LEN, 0)) {}
}

/// These bytes as a record: some have a time.
fn of(bytes: &[u8]) -> Record<'_> {
    let sent = (bytes.len() % 2 == 1).then(|| SentTime::from_bytes([bytes[0]; SentTime::LEN]));
    Record { bytes, sent }
}

/// Opens the spool as the run that sends; `None` where it says that it cannot.
fn open(dir: &Path) -> Option<Spool> {
    let link = "link".parse().expect("it is a name");
    let options = SpoolOptions { dir: dir.to_path_buf(), max: Size::new(1 << 20), keeps_times: true };
    match Opening::new(&options, Owner { link: &link, receiver: SpoolReceiver::Anyone }).attempt() {
        Ok(opened) => opened.map(|(spool, _)| spool),
        Err(error) => {
            check_text(&error.to_string());
            None
        }
    }
}

/// Changes the files; true if the sums are right for what they hold then.
fn damage(dir: &Path, input: &mut FuzzInput<'_>) -> bool {
    let change = |name: &str, change: &mut dyn FnMut(Vec<u8>) -> Vec<u8>| {
        let path = dir.join(name);
        let bytes = fs::read(&path).unwrap_or_default();
        fs::write(&path, change(bytes)).expect("there is room for a file");
    };
    let mut is_forged = false;
    for _ in 0..input.below(4) {
        match input.below(6) {
            0 => change(STATE, &mut |bytes| forge(&bytes, input)),
            1 => change(SEGMENT, &mut |bytes| forge(&bytes, input)),
            2 => change("owner", &mut |bytes| forge(&bytes, input)),
            3 => {
                let slot = input.below(2) * SECOND_SLOT;
                let body: [u8; 72] = input.array();
                change(STATE, &mut |mut bytes| {
                    bytes.resize(bytes.len().max(slot + 8 + body.len()), 0);
                    bytes[slot..slot + 8].copy_from_slice(&digest(&[&body])[..8]);
                    bytes[slot + 8..slot + 8 + body.len()].copy_from_slice(&body);
                    bytes
                });
                is_forged = true;
            }
            4 => {
                let (record, ends) = (u64::from(input.small_number()), input.flag());
                let data = input.chunk();
                change(SEGMENT, &mut |mut bytes| {
                    chunk::put(&mut bytes, record, of(data), ends);
                    bytes
                });
                is_forged = true;
            }
            _ => {
                let first = if input.flag() { u64::MAX - u64::from(input.byte()) } else { input.byte().into() };
                let (ends, data) = (input.flag(), input.chunk());
                change(&format!("{first:016x}"), &mut |mut bytes| {
                    chunk::put(&mut bytes, first, of(data), ends);
                    bytes
                });
                is_forged = true;
            }
        }
    }
    is_forged
}
