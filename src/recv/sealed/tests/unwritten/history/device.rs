//! The device of a history.

use super::*;

/// Long enough for the longest preamble.
const LONG_LIMIT: usize = 16 << 10;
const MAX_TOLD_UNCOUNTED: u8 = 8;
const MAX_TOLD_AT_ONCE: usize = 16;

/// How a process sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) is_spooled: bool,
    pub(super) wants_confirms: bool,
}

/// A stream that the device lists, to tell how it ended.
struct Listed {
    session: usize,
    ended: EndedStream,
    told: u8,
    /// The receiver has written down what was told of it: it is not told again.
    is_heard: bool,
}

/// Records that outlive a run: one sequence.
#[derive(Default)]
pub(super) struct Spool {
    pub(super) origin: Option<Origin>,
    pub(super) records: Vec<u64>,
    pub(super) acknowledged: usize,
}

/// One that sends, with what it has of its stream to send again.
pub(super) struct Process {
    pub(super) sender: Sender,
    pub(super) next_record: usize,
    /// Its messages, if it asks for confirms.
    pub(super) sent: Vec<bytes::Bytes>,
}

pub(super) struct Device {
    /// Oldest first.
    pub(super) sessions: Vec<Session>,
    /// How many numbers are taken of each.
    numbers: Vec<u32>,
    /// Under which streams begin.
    current: usize,
    listed: Vec<Listed>,
    /// What each stream tells in its first message.
    tellings: HashMap<StreamId, Vec<EndedStream>>,
    pub(super) modes: [Mode; 2],
    pub(super) spools: [Spool; 2],
    pub(super) processes: [Option<Process>; 2],
    /// Streams that are over for their processes, and not confirmed.
    pub(super) unsettled: Vec<Process>,
    /// Whose turn it is.
    pub(super) turn: usize,
}

impl Device {
    pub(super) fn new(sessions: Vec<Session>, modes: [Mode; 2]) -> Self {
        let numbers = vec![0; sessions.len()];
        let (spools, processes) = (Default::default(), Default::default());
        Self {
            sessions,
            numbers,
            current: 0,
            listed: Vec::new(),
            tellings: HashMap::new(),
            modes,
            spools,
            processes,
            unsettled: Vec::new(),
            turn: 0,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.modes[self.turn]
    }

    pub(super) fn use_newest_session(&mut self) {
        self.current = self.sessions.len() - 1;
    }

    /// What the preamble of a stream that begins tells of the earlier ones.
    fn tell(&mut self) -> Vec<EndedStream> {
        let count = self.listed.len();
        let distance = |told: u8| if told < 2 { usize::from(told) + 1 } else { 6 << (told - 2).min(16) };
        let is_due = |at: &usize| {
            let Listed { ended, told, is_heard, .. } = &self.listed[*at];
            !is_heard && (ended.count.is_none() || count - at >= distance(*told))
        };
        let mut due: Vec<_> = (0..count).filter(is_due).collect();
        due.sort_by_key(|at| (self.listed[*at].told, count - at));
        due.truncate(MAX_TOLD_AT_ONCE);
        due.sort_unstable();
        let told = due.iter().map(|at| (self.listed[*at].told += 1, self.listed[*at].ended).1).collect();
        self.listed.retain(|listed| listed.ended.count.is_some() || listed.told < MAX_TOLD_UNCOUNTED);
        told
    }

    /// Takes a number, and begins a stream with what is listed.
    pub(super) fn begin(&mut self, continues: Option<Continues>, rng: &mut StdRng) -> Sender {
        let (at, session) = (self.current, &self.sessions[self.current]);
        let number = self.numbers[at];
        self.numbers[at] += 1;
        let reserved = ReservedStream::of_data(session.id, number, session.send.tree.leaf(number).unwrap());
        let mut sender = Sender::new(session, reserved, rng.random(), LONG_LIMIT).unwrap();
        if self.mode().wants_confirms {
            sender = sender.ask_for_confirms();
        }
        let ended = self.tell();
        self.tellings.insert(sender.id(), ended.clone());
        sender.begin_with(Preamble { continues, ended, kept: false });
        self.list(ended_stream(&sender, None));
        sender
    }

    /// Lists a stream, in place of what was known of it before.
    pub(super) fn list(&mut self, ended: EndedStream) {
        let session = self.sessions.iter().position(|session| session.id == ended.stream.session).unwrap();
        self.unlist(ended.stream);
        self.listed.push(Listed { session, ended, told: 0, is_heard: false });
        self.listed.sort_by_key(|listed| (listed.session, listed.ended.stream.number));
    }

    /// The first message of a stream is written, with what it tells: a device that goes away then tells nothing again. Returns the
    /// streams of which it tells how they ended.
    pub(super) fn heard(&mut self, stream: StreamId) -> Vec<StreamId> {
        let heard = self.tellings.remove(&stream).unwrap_or_default();
        let counted: Vec<_> = heard.into_iter().filter(|ended| ended.count.is_some()).collect();
        for listed in &mut self.listed {
            listed.is_heard |= counted.contains(&listed.ended);
        }
        counted.into_iter().map(|ended| ended.stream).collect()
    }

    /// A stream is confirmed to its end.
    pub(super) fn unlist(&mut self, stream: StreamId) {
        self.listed.retain(|listed| listed.ended.stream != stream);
    }

    /// The process whose turn it is stops sending.
    pub(super) fn stop(&mut self) -> Option<Process> {
        self.processes[self.turn].take()
    }
}

/// How a stream ended, with its count once that is known.
pub(super) fn ended_stream(sender: &Sender, count: Option<u32>) -> EndedStream {
    EndedStream { stream: sender.id(), salt: sender.salt(), count, continues: count.and(sender.continues()) }
}
