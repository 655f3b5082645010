//! The file with the tickets for the next run: each line is one that is written as it was read, or none.

use super::record::{MAX_TICKET_LEN, Record};

pub(crate) fn tickets(data: &[u8]) {
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let Some(record) = Record::parse(line) else { continue };
        assert!((1..=MAX_TICKET_LEN).contains(&record.ticket.len()));
        let now = record.issued;
        assert!(!record.is_fresh(now) || record.checked <= now);
        assert!(!record.is_fresh(now.wrapping_sub(1)) || now == 0, "a clock that was set back");
        let written = record.encode();
        let again = Record::parse(written.as_bytes()).expect("it was just written");
        assert!(again == record && again.encode() == written);
    }
}
