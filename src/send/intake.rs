//! Standard input on its way into a spool.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::cutter::Cutter;
use super::read_times::ReadTimes;
use crate::report::Reporter;
use crate::report_throttle::ReportThrottle;
use crate::space_wait::{RETRY_INTERVAL, SPACE_AGAIN};
use crate::spool::{Appended, Record, RecordStore};
use crate::stdio::Input;
use crate::text::{count, show};
use crate::{Error, Exit, Result};

/// Most bytes that are written to the spool before some are published.
const MAX_WRITTEN_PER_TURN: usize = 1 << 20;
/// Time between two attempts to take a lock that another run was asked to release.
pub(super) const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Standard input, cut into records.
pub(super) struct Intake<'a> {
    input: Input,
    cutter: Cutter,
    times: ReadTimes<'a>,
    /// What was read and not written: the beginning of a line, or anything at all while the disk is full.
    unwritten: BytesMut,
    /// Why the last attempt to write failed, if it did.
    blocked: Option<Appended>,
    /// The next record cannot be sent, so nothing more is written.
    is_refused: bool,
    disk_full: ReportThrottle,
    report: &'a Reporter,
}

impl<'a> Intake<'a> {
    pub(super) fn new(input: Input, cutter: Cutter, times: ReadTimes<'a>, report: &'a Reporter) -> Self {
        let (unwritten, disk_full) = (BytesMut::new(), ReportThrottle::once());
        Self { input, cutter, times, unwritten, blocked: None, is_refused: false, disk_full, report }
    }

    /// Standard input.
    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    /// Most bytes of a record.
    pub(super) fn max_record(&self) -> usize {
        self.cutter.max_len()
    }

    /// As [`Cutter::limit`].
    pub(super) fn limit_records(&mut self, max_record: usize) {
        self.cutter.limit(max_record);
    }

    /// The length of the first record that these bytes make, if nothing follows them.
    pub(super) fn first_record_len(&self, bytes: &[u8]) -> usize {
        self.cutter.next_len(bytes, true).unwrap_or(0)
    }

    /// Reads standard input into the spool, as long as there is any and room for it. From here on the run keeps what it is
    /// given, with or without a session and a broker, so a service manager is told that it is ready.
    ///
    /// # Errors
    /// As [`Input::read`] and [`RecordStore::append`].
    pub(super) fn read(&mut self, store: &mut dyn RecordStore, now: Instant) -> Result<()> {
        self.report.ready();
        let mut written = 0;
        while written < MAX_WRITTEN_PER_TURN {
            if !self.is_blocked() && !self.input.at_end() && self.input.is_ready()? {
                let limit = self.max_unwritten(store);
                let before = self.unwritten.len();
                self.input.read(&mut self.unwritten, limit)?;
                self.times.read(self.unwritten.len() - before);
            }
            let before = self.unwritten.len();
            if !self.write(store, now)? || self.unwritten.len() == before {
                break;
            }
            written += before - self.unwritten.len();
        }
        Ok(())
    }

    /// How much may be read before something is written: no more than one message, or than there is room for.
    fn max_unwritten(&self, store: &dyn RecordStore) -> usize {
        let begun = self.unwritten.len();
        begun + self.cutter.max_read(begun, |records| store.free_bytes(records))
    }

    /// Writes what was read, cut into records; false where there is no room for the first one.
    ///
    /// # Errors
    /// As [`Cutter::cut`] says why a record cannot be sent, once all records before that one are written.
    fn write(&mut self, store: &mut dyn RecordStore, now: Instant) -> Result<bool> {
        let (records, next) = self.cutter.cut(&self.unwritten, self.input.at_end());
        if records.is_empty() && !store.is_unfinished() {
            self.is_refused = next.is_err();
            return next.map(|()| true);
        }
        let (appended, len) = self.append(store, records)?;
        let is_written = matches!(appended, Appended::Records(_));
        self.blocked = Some(appended).filter(|_| !is_written);
        match appended {
            Appended::Records(count) => {
                self.unwritten.advance(len);
                self.times.take(len);
                self.cutter.advance(count);
                self.end_full_disk();
            }
            Appended::DiskFull => {
                let purpose = format!("write {} to", count(len as u64, "byte"));
                self.report_full_disk(&purpose, store.path(), now);
            }
            Appended::Full | Appended::Busy => {}
        }
        Ok(is_written)
    }

    /// Appends these records, which are all that was read; on a disk without room for that, fewer or shorter ones. Also returns
    /// how many bytes of what was read are in those that are written, or in those that were tried last.
    fn append<'b>(&'b self, store: &mut dyn RecordStore, all: Vec<&'b [u8]>) -> Result<(Appended, usize)> {
        let mut records = all;
        loop {
            let mut offset = 0;
            let with_times = records.iter().map(|bytes| {
                let sent = self.times.of(offset);
                offset += bytes.len();
                Record { bytes, sent }
            });
            let appended = store.append(&with_times.collect::<Vec<_>>())?;
            if let Appended::Records(count) = appended {
                return Ok((appended, records[..count].iter().map(|record| record.len()).sum()));
            }
            let fewer = if appended == Appended::DiskFull { self.fewer(&records) } else { None };
            let Some(fewer) = fewer else { return Ok((appended, offset)) };
            records = fewer;
        }
    }

    /// The records in the first half of what these are cut from, or else the first line alone; `None` if that is all there is.
    fn fewer(&self, records: &[&[u8]]) -> Option<Vec<&[u8]>> {
        let len: usize = records.iter().map(|record| record.len()).sum();
        let (half, _) = self.cutter.cut(&self.unwritten[..len / 2], false);
        if !half.is_empty() {
            return Some(half);
        }
        let first = records.first()?.len();
        let newline = self.unwritten[..first].iter().position(|byte| *byte == b'\n');
        let line = newline.map_or(first, |at| at + 1);
        (line < len).then(|| vec![&self.unwritten[..line]])
    }

    fn report_full_disk(&mut self, purpose: &str, path: &Path, now: Instant) {
        if self.disk_full.happened(now).is_some() {
            let path = show(path);
            self.report.info(format_args!("the disk is full; waiting for space to {purpose} the spool {path}"));
        }
    }

    fn end_full_disk(&mut self) {
        if self.disk_full.has_happened() {
            self.report.info(SPACE_AGAIN);
            self.disk_full.reset();
        }
    }

    /// The disk has no room for the spool itself: nothing is read before [`Intake::spool_found`].
    pub(super) fn no_room_for_spool(&mut self, path: &Path, now: Instant) {
        self.blocked = Some(Appended::DiskFull);
        self.report_full_disk("make", path, now);
    }

    /// There is a spool.
    pub(super) fn spool_found(&mut self) {
        if self.blocked == Some(Appended::DiskFull) && self.unwritten.is_empty() {
            self.blocked = None;
            self.end_full_disk();
        }
    }

    /// Reads no further, and writes what was read.
    ///
    /// # Errors
    /// As [`Intake::read`].
    pub(super) fn stop(&mut self, store: &mut dyn RecordStore, now: Instant) -> Result<()> {
        self.input.stop();
        let mut before = usize::MAX;
        // What does not all fit is written as far as it does.
        while self.write(store, now)? && (1..before).contains(&self.unwritten.len()) {
            before = self.unwritten.len();
        }
        Ok(())
    }

    /// What to poll for input, if there is room for more.
    pub(super) fn fd(&self, store: &dyn RecordStore) -> Option<BorrowedFd<'_>> {
        let has_room = !self.is_blocked() && self.max_unwritten(store) > self.unwritten.len();
        self.input.as_fd().filter(|_| has_room)
    }

    /// When to call [`Intake::read`] again, if there is no input before.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let interval = match self.blocked? {
            Appended::Busy => LOCK_RETRY_INTERVAL,
            _ => RETRY_INTERVAL,
        };
        Some(now + interval)
    }

    /// Whether something that was read cannot be written now.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Whether that is because another run appends now.
    pub(super) fn is_busy(&self) -> bool {
        self.blocked == Some(Appended::Busy)
    }

    /// The error of ending for this reason before all that was read is in the spool.
    pub(super) fn not_written(&self, what: &str) -> Error {
        let reason = match self.blocked {
            Some(Appended::Full) => "the spool is full",
            Some(Appended::DiskFull) => "the disk is full",
            Some(Appended::Busy | Appended::Records(_)) => "another sts-send keeps it locked",
            None if self.is_refused => "the run ends at this line",
            None => "the spool cannot be written",
        };
        if self.unwritten.is_empty() {
            return Error::new(Exit::TryAgain, what).because(format_args!("{reason}; nothing was lost"));
        }
        let lost = count(self.unwritten(), "byte");
        Error::new(Exit::DataLost, what).because(format!("{lost} not written to the spool, since {reason}"))
    }

    /// What was read and not written, in bytes.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten.len() as u64
    }

    /// Whether all of standard input was read, and is in the spool.
    pub(super) fn is_done(&self) -> bool {
        self.input.at_end() && self.unwritten.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;
    use crate::report::tests::Said;
    use crate::send::record_check::RecordCheck;
    use crate::spool::Record;
    use crate::stdio::Split;

    /// A spool on a disk with room for so many bytes of records, and what was written to it.
    struct SmallDisk {
        room: usize,
        written: Vec<Vec<u8>>,
    }

    impl RecordStore for SmallDisk {
        fn path(&self) -> &Path {
            Path::new("spool")
        }

        fn free_bytes(&self, _records: usize) -> usize {
            usize::MAX
        }

        fn is_unfinished(&self) -> bool {
            false
        }

        fn append(&mut self, records: &[Record<'_>]) -> Result<Appended> {
            let len: usize = records.iter().map(|record| record.bytes.len()).sum();
            if len > self.room {
                return Ok(Appended::DiskFull);
            }
            self.room -= len;
            self.written.extend(records.iter().map(|record| record.bytes.to_vec()));
            Ok(Appended::Records(records.len()))
        }
    }

    /// What is written of what was read, where the disk has this room, and what the user is told.
    fn written(split: Split, read: &[u8], room: usize) -> (Vec<Vec<u8>>, String) {
        let said = Said::default();
        let report = Reporter::to("sts-send", Level::Info, Box::new(said.clone()));
        let mut cutter = Cutter::new(split, RecordCheck::AnyBytes);
        cutter.limit(1 << 20);
        let mut intake = Intake::new(Input::stdin().unwrap(), cutter, ReadTimes::new(false, &report), &report);
        intake.unwritten.extend_from_slice(read);
        let mut disk = SmallDisk { room, written: Vec::new() };
        while intake.write(&mut disk, Instant::now()).unwrap() && intake.unwritten() > 0 {}
        (disk.written, said.take())
    }

    #[test]
    fn a_line_longer_than_half_of_what_was_read_is_written_alone_and_the_rest_waits_for_its_length() {
        let line = |len: usize| [&vec![b'x'; len - 1][..], b"\n"].concat();
        for split in [Split::Lines, Split::Each] {
            for [first, second] in [[38_000, 20_000], [700, 200], [3, 2]] {
                let read = [line(first), line(second)].concat();
                let (records, said) = written(split, &read, first + 1);
                assert_eq!(records, [line(first)]);
                assert!(said.contains(&format!("space to write {second} bytes to the spool spool")), "{said}");
                let (records, said) = written(split, &read, first - 1);
                assert!(records.is_empty());
                assert!(said.contains(&format!("space to write {first} bytes to the spool spool")), "{said}");
            }
        }
    }

    #[test]
    fn bytes_without_lines_are_written_as_far_as_there_is_room() {
        for room in [0, 1, 300, 5_000] {
            let (records, said) = written(Split::Binary, &[7; 9_000], room);
            assert_eq!(records.concat().len(), room);
            assert!(said.contains("space to write 1 byte to the spool spool"), "{said}");
        }
    }
}
