//! Claim: each kind of journal entry is read as it was written, from its own line and from the snapshot that a later run makes.

use super::super::checked_line::put_line;
use super::super::receive_file;
use super::*;
use crate::stream::{Gap, KeptStream};

/// An entry of the kind after this one; of the first kind after none. A new kind does not build before it has its place here.
fn entry_after(previous: Option<&JournalEntry>) -> Option<JournalEntry> {
    let session = session(1).id;
    let stream = StreamId { session, number: 3 };
    Some(match previous {
        None => progress(session, 3, 7, StreamState::Open),
        Some(JournalEntry::Progress(_)) => JournalEntry::Lost(Gap { stream, first: 4, last: 5 }),
        Some(JournalEntry::Lost(_)) => {
            JournalEntry::Kept { session, stream: KeptStream { number: 3, value_end: Some(6) } }
        }
        // Of an open stream only.
        Some(JournalEntry::Kept { .. }) => JournalEntry::Will { stream, next: 2 },
        Some(JournalEntry::Will { .. }) => {
            let stream = StreamId { session, number: 9 };
            JournalEntry::Told(EndedStream { stream, salt: [9; 8], count: Some(5), continues: None })
        }
        // Of a stream of which that was told.
        Some(JournalEntry::Told(EndedStream { stream, .. })) => {
            JournalEntry::Waited { stream: *stream, time: Duration::from_secs(7) }
        }
        Some(JournalEntry::Waited { .. }) => JournalEntry::Copied { session },
        Some(JournalEntry::Copied { .. }) => JournalEntry::GivenUp { session, first: 1, last: 2 },
        Some(JournalEntry::GivenUp { .. }) => JournalEntry::Written { session, messages: 2, bytes: 30 },
        Some(JournalEntry::Written { .. }) => return None,
    })
}

/// The snapshot that the next run makes of these words.
fn snapshot_of(words: &str) -> String {
    let mut text = String::new();
    put_line(&mut text, "sts-receive-state-3 gateway");
    put_line(&mut text, words);
    rewritten(&text)
}

/// The same of a file as a whole.
fn rewritten(text: &str) -> String {
    receive_file::encode(&receive_file::parse("gateway", text.as_bytes()).unwrap(), "gateway")
}

#[test]
fn each_kind_of_entry_is_read_as_it_was_written() {
    let (mut state, mut previous) = (ReceiveState::default(), None);
    let mut snapshot = receive_file::encode(&state, "gateway");
    let mut words = format!("n {} ", hex(&session(1).id));
    receive_file::put_time(&mut words, NOW);
    while let Some(entry) = entry_after(previous.as_ref()) {
        state.apply(&entry, Some(NOW));
        let before = std::mem::replace(&mut snapshot, receive_file::encode(&state, "gateway"));
        assert_ne!(snapshot, before, "it is in no snapshot: {entry:?}");
        receive_file::put_entry(&mut words, &entry);
        assert_eq!(snapshot_of(&words), snapshot, "from its own line: {entry:?}");
        assert_eq!(rewritten(&snapshot), snapshot, "from a snapshot: {entry:?}");
        previous = Some(entry);
    }
}
