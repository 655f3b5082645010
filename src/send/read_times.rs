//! When standard input was read (`--stamp`): what a message says of its first byte.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::link::is_plausible;
use crate::report::Reporter;
use crate::stream::SentTime;

/// Most times that are kept. More come only of a line that arrives in many pieces, and of that the first one counts: that is so
/// as long as nobody reads further than one message before it is taken (`Direct::fill`, `Intake::max_unwritten`).
const MAX_TIMES: usize = 16;

/// The times at which the bytes were read that no message has taken, or nothing without `--stamp`.
pub(super) struct ReadTimes<'a> {
    is_wanted: bool,
    report: &'a Reporter,
    has_warned: bool,
    marks: TimeMarks,
}

impl<'a> ReadTimes<'a> {
    pub(super) fn new(is_wanted: bool, report: &'a Reporter) -> Self {
        Self { is_wanted, report, has_warned: false, marks: TimeMarks::default() }
    }

    /// So many bytes were read now.
    pub(super) fn read(&mut self, len: usize) {
        self.read_at(len, SystemTime::now());
    }

    /// So many bytes were read at this time. While the clock was never set, they have none.
    fn read_at(&mut self, len: usize, now: SystemTime) {
        if self.is_wanted && len > 0 {
            let is_set = is_plausible(now);
            if !is_set && !self.has_warned {
                self.has_warned = true;
                let what = "this device's clock is not set, so messages are sent without a time until it is";
                self.report.warning_with_hint(what, Some("set this device's clock"));
            }
            self.marks.push(len, is_set.then(|| SentTime::of(now)));
        }
    }

    /// When the byte was read that is this far behind the first one.
    pub(super) fn of(&self, offset: usize) -> Option<SentTime> {
        self.marks.of(offset)
    }

    /// So many of the first bytes went into messages.
    pub(super) fn take(&mut self, len: usize) {
        self.marks.take(len);
    }
}

/// Times, each of a number of bytes: those of the buffer that it goes with.
#[derive(Default)]
struct TimeMarks(VecDeque<(usize, Option<SentTime>)>);

impl TimeMarks {
    /// With too many, the bytes before these have the time of those before them: a line begins with the oldest bytes, or
    /// with the newest.
    fn push(&mut self, len: usize, sent: Option<SentTime>) {
        if self.0.len() == MAX_TIMES
            && let Some((last, _)) = self.0.pop_back()
            && let Some((before, _)) = self.0.back_mut()
        {
            *before += last;
        }
        self.0.push_back((len, sent));
    }

    fn of(&self, offset: usize) -> Option<SentTime> {
        let mut end = 0;
        let mark = self.0.iter().find(|(len, _)| {
            end += len;
            offset < end
        });
        mark.and_then(|(_, sent)| *sent)
    }

    fn take(&mut self, mut len: usize) {
        while let Some((first, _)) = self.0.front_mut() {
            if *first > len {
                *first -= len;
                return;
            }
            len -= *first;
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::report::Level;
    use crate::report::tests::Said;

    fn at(micros: u8) -> SentTime {
        SentTime::from_bytes(u64::from(micros).to_be_bytes())
    }

    #[test]
    fn a_record_has_the_time_of_its_first_byte() {
        let mut marks = TimeMarks::default();
        marks.push(3, Some(at(1)));
        marks.push(2, None);
        marks.push(4, Some(at(3)));
        let of = |marks: &TimeMarks| (0..10).map(|offset| marks.of(offset)).collect::<Vec<_>>();
        let all = [&[Some(at(1)); 3][..], &[None; 2], &[Some(at(3)); 4], &[None]].concat();
        assert_eq!(of(&marks), all);
        marks.take(2);
        assert_eq!(of(&marks)[..8], all[2..]);
        marks.take(4);
        assert_eq!((marks.of(0), marks.of(2), marks.of(3), marks.0.len()), (Some(at(3)), Some(at(3)), None, 1));
        marks.take(3);
        assert!(marks.0.is_empty());
    }

    #[test]
    fn of_a_line_in_many_pieces_the_first_and_the_last_time_stay() {
        let mut marks = TimeMarks::default();
        (0..100).for_each(|time| marks.push(1, Some(at(time))));
        assert_eq!(
            (marks.of(0), marks.of(99), marks.of(100), marks.0.len()),
            (Some(at(0)), Some(at(99)), None, MAX_TIMES)
        );
        assert!((1..99).all(|offset| marks.of(offset).is_some()));
    }

    #[test]
    fn while_the_clock_was_never_set_there_is_no_time_and_one_warning() {
        let said = Said::default();
        let report = Reporter::to("sts-send", Level::Warning, Box::new(said.clone()));
        let now = SystemTime::now();
        let mut times = ReadTimes::new(true, &report);
        for seconds in [1, 2] {
            times.read_at(1, UNIX_EPOCH + Duration::from_secs(seconds));
        }
        times.read_at(0, now);
        assert_eq!([0, 1].map(|offset| times.of(offset)), [None; 2]);
        times.read_at(1, now);
        assert_eq!(times.of(2), Some(SentTime::of(now)));
        assert_eq!(said.take().matches("clock is not set").count(), 1);
        let mut unwanted = ReadTimes::new(false, &report);
        unwanted.read_at(1, now);
        assert_eq!(unwanted.of(0), None);
    }

    proptest! {
        #[test]
        fn each_byte_keeps_its_time_while_there_are_few(
            steps in prop::collection::vec((1usize..5, any::<bool>()), 0..100),
        ) {
            let (mut marks, mut bytes) = (TimeMarks::default(), VecDeque::new());
            for (time, (len, takes)) in (0u8..).zip(steps) {
                if takes {
                    marks.take(len.min(bytes.len()));
                    bytes.drain(..len.min(bytes.len()));
                } else if marks.0.len() < MAX_TIMES {
                    marks.push(len, Some(at(time)));
                    bytes.extend(vec![Some(at(time)); len]);
                }
                let times: Vec<_> = (0..bytes.len()).map(|offset| marks.of(offset)).collect();
                prop_assert_eq!(times, Vec::from(bytes.clone()));
                prop_assert_eq!(marks.of(bytes.len()), None);
            }
        }
    }
}
