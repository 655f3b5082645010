//! The file with the tickets for the next run: a line for each node of the broker, the newest last. What is no such line, of
//! another version of this program for one, is left out when the file is next written.

use zeroize::Zeroizing;

use super::record::Record;
use crate::Result;
use crate::files::{self, Dir, Guard, Lock};
use crate::mqtt::tls_options::TicketPlace;

/// Most nodes whose tickets are kept.
const MAX_NODES: usize = 8;

/// Takes out the record with this binding, which no other process can use then. `None` if there is none that is good at this
/// time, in seconds since 1970, or another process has the file at this moment.
///
/// # Errors
/// [`crate::Exit::NotTrusted`] or [`crate::Exit::Failed`] where the file cannot be read or changed.
pub(super) fn take(place: &TicketPlace, binding: &[u8; 32], now: u64) -> Result<Option<Record>> {
    let Some(dir) = Dir::open(&place.dir, Guard::Private)? else { return Ok(None) };
    if position(&read(&dir, place, now)?, binding).is_none() {
        return Ok(None);
    }
    let Some(lock) = try_lock(&dir, place)? else { return Ok(None) };
    let mut records = read(&dir, place, now)?;
    let Some(at) = position(&records, binding) else { return Ok(None) };
    let record = records.remove(at);
    write(&dir, &lock, place, &records)?;
    Ok(Some(record))
}

/// Puts in a record in place of the one of its node; of too many, the oldest goes. False if nothing is done: another process has
/// the file at this moment, and what that writes is as good, or there can be no such file.
///
/// # Errors
/// [`crate::Exit::Failed`] where writing fails: then the record may be in the file or not.
pub(super) fn put(place: &TicketPlace, record: Record, now: u64) -> Result<bool> {
    let open = || -> Result<_> {
        let dir = Dir::create(&place.dir, Guard::Private)?;
        let lock = try_lock(&dir, place)?;
        let records = read(&dir, place, now)?;
        Ok((dir, lock, records))
    };
    let Ok((dir, Some(lock), mut records)) = open() else { return Ok(false) };
    records.retain(|known| known.binding != record.binding);
    records.push(record);
    records.drain(..records.len().saturating_sub(MAX_NODES));
    write(&dir, &lock, place, &records).map(|()| true)
}

fn try_lock(dir: &Dir, place: &TicketPlace) -> Result<Option<Lock>> {
    files::try_lock(dir, &format!("{}.lock", place.name))
}

fn position(records: &[Record], binding: &[u8; 32]) -> Option<usize> {
    records.iter().position(|record| record.binding == *binding)
}

/// The records that are good at this time.
fn read(dir: &Dir, place: &TicketPlace, now: u64) -> Result<Vec<Record>> {
    let bytes = files::read_private(dir, &place.name)?.unwrap_or_default();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    Ok(lines.filter_map(Record::parse).filter(|record| record.is_fresh(now)).collect())
}

fn write(dir: &Dir, lock: &Lock, place: &TicketPlace, records: &[Record]) -> Result<()> {
    if records.is_empty() {
        return files::remove(dir, &place.name).map(drop);
    }
    let lines: Vec<_> = records.iter().map(Record::encode).collect();
    // So that no part of it stays where it was too short.
    let mut text = Zeroizing::new(String::with_capacity(lines.iter().map(|line| line.len()).sum()));
    for line in &lines {
        text.push_str(line);
    }
    files::replace(dir, lock, &place.name, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn of_node(node: u8, ticket: u8) -> Record {
        Record {
            binding: [node; 32],
            suite: 0x1301,
            checked: NOW,
            issued: NOW,
            lifetime: 7200,
            age_add: 0,
            secret: Zeroizing::new(vec![1; 32]),
            ticket: vec![ticket; 200],
        }
    }

    fn place(home: &tempfile::TempDir) -> TicketPlace {
        TicketPlace { dir: home.path().join("run"), name: "tickets".to_owned() }
    }

    fn taken(place: &TicketPlace, node: u8) -> Option<u8> {
        take(place, &[node; 32], NOW).unwrap().map(|record| record.ticket[0])
    }

    #[test]
    fn where_there_can_be_no_file_nothing_is_done() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("run"), "not a directory").unwrap();
        assert!(!put(&place(&home), of_node(1, 10), NOW).unwrap());
    }

    #[test]
    fn each_node_keeps_its_newest_ticket_and_gives_it_once() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home);
        assert_eq!(taken(&place, 1), None);
        for (node, ticket) in [(1, 10), (2, 20), (1, 11)] {
            put(&place, of_node(node, ticket), NOW).unwrap();
        }
        assert_eq!([3, 1, 1, 2, 2].map(|node| taken(&place, node)), [None, Some(11), None, Some(20), None]);
        assert!(!place.dir.join(&place.name).exists(), "the last one is taken");
    }

    #[test]
    fn of_too_many_nodes_the_oldest_goes() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home);
        let nodes = 1..=u8::try_from(MAX_NODES).unwrap() + 1;
        put(&place, of_node(0, 0), NOW).unwrap();
        for node in nodes.clone().chain([2]) {
            put(&place, of_node(node, node), NOW).unwrap();
        }
        assert_eq!((taken(&place, 0), taken(&place, 1)), (None, None));
        assert!(nodes.skip(1).all(|node| taken(&place, node) == Some(node)));
    }

    #[test]
    fn what_is_stale_or_of_another_version_is_dropped_without_a_word() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home);
        put(&place, of_node(1, 1), NOW).unwrap();
        let file = place.dir.join(&place.name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("sts-tls 1 x y\n{text}\u{e9}\n")).unwrap();
        put(&place, of_node(2, 2), NOW).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(take(&place, &[1; 32], NOW + 7201).unwrap().is_none());
        put(&place, Record { issued: NOW + 7201, ..of_node(3, 3) }, NOW + 7201).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);
    }

    #[test]
    fn while_another_process_has_the_file_nothing_is_taken_or_written() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home);
        put(&place, of_node(1, 1), NOW).unwrap();
        let dir = Dir::open(&place.dir, Guard::Private).unwrap().unwrap();
        let lock = try_lock(&dir, &place).unwrap().unwrap();
        assert!(!put(&place, of_node(1, 2), NOW).unwrap());
        assert_eq!(taken(&place, 1), None);
        drop(lock);
        assert_eq!(taken(&place, 1), Some(1));
    }
}
