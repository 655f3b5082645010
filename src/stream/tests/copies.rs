//! Claim: whoever copies a device, and whatever of it (its directory, its spool, the running process), no header is
//! used for two messages but by two copies of one running process; and what is lost by a copy, on the way or with the
//! end of a stream, is never silent. A thief opens nothing that was received to its end, and a flood changes nothing.
//!
//! One machine, in virtual time: devices that share one session, a network that loses, repeats and reorders, and a
//! receiver that is restarted. What happens is drawn from a deck.

use std::collections::{BTreeSet, HashMap};

use rand::RngExt;

use super::*;
use crate::crypto::cipher::HEADER_LEN;
use crate::session::ReceiveKeys;

/// Long enough for the longest preamble.
const LONG_LIMIT: usize = 16 << 10;
/// How often a device tells how a stream ended, and of how many streams at once.
const MAX_TOLD: u8 = 3;
const MAX_TOLD_AT_ONCE: usize = 16;
/// Worlds for each claim. Ten times as many held as well.
const SEEDS: u64 = 40;

/// What may happen in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A device begins a stream, or sends the next message of the one that it has.
    Send,
    /// A run ends in order.
    Finish,
    /// A stream continues in another one.
    Rotate,
    /// A process is killed.
    Kill,
    /// The network hands over the next message, or one that overtakes it, or one again.
    Deliver,
    /// The network loses a message, or all that it has of a device.
    Lose,
    /// Time passes: what was lost is given up.
    Wait,
    /// The receiver is killed, and started with what it wrote down.
    Restart,
    /// A device is copied.
    Clone(Copied),
    /// Somebody reads what the receiver has on its disk, and on a device's.
    Steal,
    /// Anybody sends what comes to mind.
    Flood,
}

/// What is copied of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Directory,
    Spool,
    Process,
    /// A directory, by somebody who sends with it.
    Theft,
}

/// A stream that a device lists, to tell how it ended.
#[derive(Clone, Debug)]
struct Listed {
    ended: EndedStream,
    told: u8,
}

/// Records that outlive a run: one sequence.
#[derive(Clone, Debug, Default)]
struct SpooledRecords {
    origin: Option<Origin>,
    records: Vec<u64>,
    acknowledged: usize,
}

/// What one device has: its directory, its spool, its process.
struct CopiedDevice {
    session: Session,
    listed: Vec<Listed>,
    /// How all its streams ended, for the end of a world in which nothing is to be left in doubt.
    ends: Vec<EndedStream>,
    spool: Option<SpooledRecords>,
    process: Option<Process>,
    is_thief: bool,
}

struct Process {
    sender: Sender,
    next_record: usize,
    /// From this seq on, a copy of the process seals, too.
    copied_from: Option<u32>,
}

/// A message on its way; the text is that of its data.
#[derive(Clone)]
struct Sent {
    device: usize,
    frame: Bytes,
}

/// The receiver, with what it wrote down and reported.
struct Inbox {
    receiver: Receiver,
    journal: Streams,
    held: Vec<Bytes>,
    ended: Vec<EndedStream>,
    written: Vec<u64>,
    lost: u64,
    copies: BTreeSet<StreamId>,
    hints: u64,
    /// Streams that were closed as their order was not known: that is reported, without a range.
    closed: u64,
    /// Streams that continue another one and were accepted without their first message: where in their sequence is not
    /// known.
    unplaced: u64,
    /// The next position of each sequence.
    positions: HashMap<Origin, u64>,
}

struct World {
    rng: StdRng,
    slave: Session,
    devices: Vec<CopiedDevice>,
    wire: Vec<Sent>,
    inbox: Inbox,
    /// All that was ever sent, by header.
    headers: HashMap<[u8; HEADER_LEN], (Bytes, bool)>,
    /// How often a header was used for two messages.
    reused: usize,
    next_text: u64,
    /// What honest devices sent, and what of it a killed process without a spool did, which nobody can count.
    expected: BTreeSet<u64>,
    doubtful: BTreeSet<u64>,
}

impl Inbox {
    fn new(slave: &Session) -> Self {
        Self {
            receiver: receiver(&[slave]),
            journal: Streams::default(),
            held: Vec::new(),
            ended: Vec::new(),
            written: Vec::new(),
            lost: 0,
            copies: BTreeSet::new(),
            hints: 0,
            closed: 0,
            unplaced: 0,
            positions: HashMap::new(),
        }
    }

    fn deliver(&mut self, frame: &Bytes, is_given_up: bool) {
        let mut plaintext = BytesMut::new();
        let Ok(opened) = self.receiver.open(frame, &mut plaintext) else {
            let claim = self.receiver.claim(frame).map(|(.., claim)| claim);
            self.hints += u64::from(claim == Some(HeaderClaim::Copied));
            return;
        };
        if !is_given_up && self.receiver.awaits(&opened).is_some() {
            self.held.push(frame.clone());
            return;
        }
        let copies = self.receiver.copies(&opened);
        let has_begun = self.receiver.streams(opened.stream.session).unwrap().next_seq(opened.stream.number).is_some();
        let accepted = match self.receiver.accept(&opened) {
            Ok(accepted) => accepted,
            Err(error) => {
                self.copies.extend((error == AcceptError::SealedTwice).then_some(opened.stream));
                return;
            }
        };
        self.copies.extend(copies);
        self.ended.extend(self.receiver.lost_ends(&opened));
        self.unplaced += u64::from(opened.continues && opened.seq > 0 && !has_begun);
        let Accepted { progress, gap, skip, before, .. } = accepted;
        assert!(skip == 0 || skip == usize::MAX);
        self.note(&before, gap);
        self.journal.apply(&progress);
        assert_eq!(self.receiver.streams(opened.stream.session).unwrap(), &self.journal);
        if skip == 0
            && let Ok(text) = plaintext[..].try_into()
        {
            self.written.push(u64::from_be_bytes(text));
            let Sequence { origin, position } = progress.sequence;
            let next = self.positions.insert(origin, position).unwrap_or(0);
            assert!(next < position, "out of order, or twice");
        }
        self.release();
    }

    fn note(&mut self, before: &sequence::Before, gap: Option<Gap>) {
        for ToldStream { progress, before, gap } in &before.moved {
            self.note(before, *gap);
            self.journal.apply(progress);
            let Sequence { origin, position } = progress.sequence;
            self.positions.insert(origin, position);
        }
        for closed in before.superseded.iter().chain(before.closed.iter().map(|(closed, _)| closed)) {
            self.journal.apply(closed);
        }
        self.closed += before.closed.len() as u64;
        self.lost += before.gap.into_iter().chain(gap).map(|gap| gap.messages()).sum::<u64>();
    }

    fn release(&mut self) {
        let is_ready = |frame: &Bytes| {
            let opened = self.receiver.open(frame, &mut BytesMut::new());
            opened.is_ok_and(|opened| self.receiver.awaits(&opened).is_none())
        };
        if let Some(at) = self.held.iter().position(is_ready) {
            let frame = self.held.remove(at);
            self.deliver(&frame, false);
        }
    }

    /// A second passes, or as long as anything is held.
    fn give_up(&mut self, held: bool) {
        for ended in std::mem::take(&mut self.ended) {
            let is_held =
                self.held.iter().any(|frame| SealedHeader::parse(frame).unwrap().stream == ended.stream.number);
            if is_held {
                self.ended.push(ended);
            } else if let Some(ToldStream { progress, before, gap }) = self.receiver.close_lost_end(&ended) {
                self.note(&before, gap);
                self.journal.apply(&progress);
                let Sequence { origin, position } = progress.sequence;
                if gap.is_some() {
                    self.positions.insert(origin, position);
                }
            }
        }
        self.release();
        while held && !self.held.is_empty() {
            let of = |frame: &Bytes| SealedHeader::parse(frame).map(|header| (header.stream, header.seq)).unwrap();
            let first = (0..self.held.len()).min_by_key(|at| of(&self.held[*at])).unwrap();
            let frame = self.held.remove(first);
            self.deliver(&frame, true);
        }
    }

    fn restart(&mut self, slave: &Session) {
        self.receiver = receiver(&[slave]);
        self.receiver.restore(slave.id, self.journal.clone());
    }
}

impl World {
    fn new(seed: u64, spooled: bool) -> Self {
        let (master, slave) = pair(1, Suite::Gcm);
        let spool = spooled.then(SpooledRecords::default);
        let device = CopiedDevice {
            session: master,
            listed: Vec::new(),
            ends: Vec::new(),
            spool,
            process: None,
            is_thief: false,
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            inbox: Inbox::new(&slave),
            slave,
            devices: vec![device],
            wire: Vec::new(),
            headers: HashMap::new(),
            reused: 0,
            next_text: 0,
            expected: BTreeSet::new(),
            doubtful: BTreeSet::new(),
        }
    }

    fn step(&mut self, event: Event) {
        let at = self.rng.random_range(0..self.devices.len());
        match event {
            Event::Send => self.send(at),
            Event::Finish => self.finish(at),
            Event::Rotate => self.rotate(at),
            Event::Kill => self.kill(at),
            Event::Deliver => self.deliver(),
            Event::Lose => self.lose(at),
            Event::Wait => {
                let long = self.rng.random_bool(0.2);
                self.inbox.give_up(long);
            }
            Event::Restart => {
                self.inbox.give_up(false);
                let held = std::mem::take(&mut self.inbox.held);
                self.inbox.restart(&self.slave);
                // What was held was not acknowledged.
                self.wire.splice(..0, held.into_iter().map(|frame| Sent { device: usize::MAX, frame }));
            }
            Event::Clone(what) => self.copy(at, what),
            Event::Steal => self.steal(at),
            Event::Flood => self.flood(),
        }
    }

    /// A device takes a number, as its directory has it, and begins a stream with what that lists.
    fn begin(&mut self, at: usize, continues: Option<Continues>) -> Sender {
        let device = &mut self.devices[at];
        let (number, leaf) = device.session.send.tree.take_lowest().unwrap();
        let (session, salt) = (device.session.id, self.rng.random());
        let reserved = ReservedStream::of_data(session, number, leaf);
        let mut sender = Sender::new(&device.session, reserved, salt, LONG_LIMIT).unwrap();
        let told = device.listed.iter_mut().take(MAX_TOLD_AT_ONCE);
        let ended = told.map(|listed| (listed.told += 1, listed.ended).1).collect();
        device.listed.retain(|listed| listed.told < MAX_TOLD + 5 * u8::from(listed.ended.count.is_none()));
        device.listed.push(Listed { ended: ended_stream(&sender, None), told: 0 });
        sender.begin_with(Preamble { continues, ended, kept: false });
        sender
    }

    fn begin_if_idle(&mut self, at: usize) {
        if self.devices[at].process.is_some() {
            return;
        }
        let acknowledged = self.devices[at].spool.as_ref().map_or(0, |spool| spool.acknowledged);
        let origin = self.devices[at].spool.as_ref().and_then(|spool| spool.origin);
        let continues = origin.map(|origin| Continues { origin, position: acknowledged as u64 });
        let sender = self.begin(at, continues);
        let device = &mut self.devices[at];
        if let Some(spool) = &mut device.spool {
            spool.origin.get_or_insert(sender.origin());
        }
        device.process = Some(Process { sender, next_record: acknowledged, copied_from: None });
    }

    fn send(&mut self, at: usize) {
        self.begin_if_idle(at);
        let text = self.next_text(at);
        let device = &mut self.devices[at];
        let process = device.process.as_mut().unwrap();
        let frame = data(&mut process.sender, &text.to_be_bytes());
        if let Some(spool) = &mut device.spool
            && self.rng.random_bool(0.7)
        {
            spool.acknowledged = process.next_record;
        }
        self.sent(at, frame);
    }

    /// What a device sends next: a record, if it has a spool.
    fn next_text(&mut self, at: usize) -> u64 {
        let device = &mut self.devices[at];
        let process = device.process.as_mut().unwrap();
        let stored = device.spool.as_ref().and_then(|spool| spool.records.get(process.next_record));
        let text = stored.copied().unwrap_or(self.next_text);
        if text == self.next_text {
            self.next_text += 1;
            device.spool.iter_mut().for_each(|spool| spool.records.push(text));
        }
        process.next_record += 1;
        if !device.is_thief {
            self.expected.insert(text);
        }
        text
    }

    fn sent(&mut self, at: usize, frame: Bytes) {
        let header = *frame.first_chunk().unwrap();
        let seq = SealedHeader::parse(&frame).unwrap().seq;
        let copied_from = self.devices[at].process.as_ref().and_then(|process| process.copied_from);
        let is_copied = copied_from.is_some_and(|from| seq >= from);
        match self.headers.insert(header, (frame.clone(), is_copied)) {
            Some((other, others)) if other != frame => {
                assert!(is_copied && others, "one key and nonce for two messages");
                self.reused += 1;
            }
            _ => {}
        }
        self.wire.push(Sent { device: at, frame });
    }

    fn list(&mut self, at: usize, sender: &Sender, count: u32) {
        self.devices[at].ends.push(ended_stream(sender, Some(count)));
        let listed = &mut self.devices[at].listed;
        listed.retain(|listed| listed.ended.stream != sender.id());
        listed.push(Listed { ended: ended_stream(sender, Some(count)), told: 0 });
        listed.sort_by_key(|listed| listed.ended.stream);
    }

    fn finish(&mut self, at: usize) {
        if self.devices[at].process.is_none() {
            return;
        }
        if let Some(spool) = &self.devices[at].spool {
            let delivered = spool.acknowledged as u64;
            let Process { sender, .. } = self.devices[at].process.take().unwrap();
            let count = delivered.saturating_sub(sender.position_of(0).position);
            self.list(at, &sender, u32::try_from(count).unwrap());
            return;
        }
        let text = self.next_text(at);
        let frame = end(&mut self.devices[at].process.as_mut().unwrap().sender, &text.to_be_bytes());
        self.sent(at, frame);
        let Process { sender, .. } = self.devices[at].process.take().unwrap();
        self.list(at, &sender, sender.next_seq());
    }

    /// Its session is replaced, or its numbers are used up: what follows is in another stream.
    fn rotate(&mut self, at: usize) {
        let Some(Process { sender, next_record, .. }) = &self.devices[at].process else { return };
        if sender.next_seq() == 0 {
            return;
        }
        let (position, count, next_record) = (sender.position_of(sender.next_seq()), sender.next_seq(), *next_record);
        let mut process = self.devices[at].process.take().unwrap();
        self.list(at, &process.sender, count);
        let next = self.begin(at, Some(position));
        let continued = seal_control(&mut process.sender, &Content::Continued(next.id())).unwrap();
        self.devices[at].process = Some(process);
        self.sent(at, continued);
        self.devices[at].process = Some(Process { sender: next, next_record, copied_from: None });
    }

    fn kill(&mut self, at: usize) {
        let Some(Process { sender, .. }) = self.devices[at].process.take() else { return };
        if self.devices[at].spool.is_none() {
            let of_stream = |frame: &Bytes| SealedHeader::parse(frame).unwrap().salt == sender.salt();
            let frames = self.headers.values().map(|(frame, _)| frame).filter(|frame| of_stream(frame));
            self.doubtful.extend(frames.filter_map(|frame| text_of(&self.slave, frame)));
        }
    }

    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let at = if self.rng.random_bool(0.8) { 0 } else { self.rng.random_range(0..self.wire.len()) };
        let again = self.rng.random_bool(0.1);
        let frame = if again { self.wire[at].frame.clone() } else { self.wire.remove(at).frame };
        self.inbox.deliver(&frame, false);
    }

    fn lose(&mut self, device: usize) {
        if self.rng.random_bool(0.3) {
            self.wire.retain(|sent| sent.device != device);
        } else if !self.wire.is_empty() {
            let at = self.rng.random_range(0..self.wire.len());
            self.wire.remove(at);
        }
    }

    fn copy(&mut self, at: usize, what: Copied) {
        if self.devices.len() > 3 {
            return;
        }
        let original = &mut self.devices[at];
        let (session, listed, ends) = (original.session.clone(), original.listed.clone(), original.ends.clone());
        let is_thief = original.is_thief || what == Copied::Theft;
        let spool = original.spool.clone().filter(|_| !matches!(what, Copied::Directory | Copied::Theft));
        let process = original.process.as_mut().filter(|_| what == Copied::Process).map(|process| {
            let copied_from = *process.copied_from.get_or_insert(process.sender.next_seq());
            let sender = process.sender.snapshot();
            Process { sender, next_record: process.next_record, copied_from: Some(copied_from) }
        });
        self.devices.push(CopiedDevice { session, listed, ends, spool, process, is_thief });
    }

    /// A thief who has all that was ever sent opens nothing of what is over with the receiver's keys, and nothing at
    /// all with those of a device.
    fn steal(&mut self, at: usize) {
        let mut session = self.slave.clone();
        session.receive.reduce(&self.inbox.journal);
        let of_receiver = receiver(&[&session]);
        let device = &self.devices[at];
        let taken = ReceiveKeys { tree: device.session.send.tree.clone(), ..self.slave.receive.clone() };
        let of_device = receiver(&[&Session { receive: taken, ..self.slave.clone() }]);
        // What another copy sends under numbers that this one has not taken yet opens with what this one has.
        let lowest = device.session.send.tree.lowest().unwrap();
        for (frame, _) in self.headers.values() {
            let stream = SealedHeader::parse(frame).unwrap().stream;
            let opens = |thief: &Receiver| thief.open(frame, &mut BytesMut::new()).is_ok();
            assert!(!(self.inbox.journal.is_over(stream) && opens(&of_receiver)), "stream {stream} is over");
            assert!(stream >= lowest || !opens(&of_device), "stream {stream} was sent");
        }
    }

    /// What is not authentic changes nothing, whatever it resembles.
    fn flood(&mut self) {
        let before = format!("{:?}", self.inbox.receiver);
        let mut frames: Vec<_> = self.headers.values().map(|(frame, _)| frame.to_vec()).collect();
        frames.sort_unstable();
        for _ in 0..20 {
            let mut forged = vec![0; self.rng.random_range(0..80)];
            self.rng.fill(&mut forged[..]);
            if !frames.is_empty() && self.rng.random_bool(0.8) {
                forged = frames[self.rng.random_range(0..frames.len())].clone();
                let at = self.rng.random_range(1..forged.len());
                forged[at] ^= 1 << self.rng.random_range(0..8);
            }
            assert!(self.inbox.receiver.open(&forged, &mut BytesMut::new()).is_err());
            let _ = self.inbox.receiver.claim(&forged);
        }
        assert_eq!(before, format!("{:?}", self.inbox.receiver));
    }

    /// All that is on its way arrives, and each device that is left tells how its streams ended.
    fn settle(&mut self) {
        for at in 0..self.devices.len() {
            self.finish(at);
        }
        for round in 0..=MAX_TOLD {
            for Sent { frame, .. } in std::mem::take(&mut self.wire) {
                self.inbox.deliver(&frame, false);
            }
            self.inbox.give_up(round > 0);
            for at in (0..self.devices.len()).filter(|_| round < MAX_TOLD) {
                let told =
                    |ended: &[EndedStream]| ended.iter().map(|ended| Listed { ended: *ended, told: 0 }).collect();
                let all: Vec<_> = self.devices[at].ends.chunks(MAX_TOLD_AT_ONCE).map(told).collect();
                for listed in all {
                    self.devices[at].listed = listed;
                    self.send(at);
                    self.finish(at);
                }
                self.send(at);
                self.devices[at].spool.iter_mut().for_each(|spool| spool.acknowledged = spool.records.len());
                self.finish(at);
            }
        }
    }

    /// Whether the receiver said that there are copies, with proof or as a hint, or that it closed a stream.
    fn is_told(&self) -> bool {
        !self.inbox.copies.is_empty() || self.inbox.hints > 0 || self.inbox.closed > 0
    }

    /// What honest devices sent, and is neither written nor reported as lost, in messages; negative if more was
    /// reported.
    fn unaccounted(&self) -> i64 {
        let written: BTreeSet<_> = self.inbox.written.iter().copied().collect();
        let missing = self.expected.difference(&written).count();
        i64::try_from(missing).unwrap() - i64::try_from(self.inbox.lost).unwrap()
    }
}

/// The data of a message, whoever sealed it.
fn text_of(slave: &Session, frame: &[u8]) -> Option<u64> {
    let mut plaintext = BytesMut::new();
    let opened = receiver(&[slave]).open(frame, &mut plaintext).ok()?;
    let has_data = matches!(opened.content, Content::Data | Content::End);
    has_data.then(|| u64::from_be_bytes(plaintext[..].try_into().unwrap()))
}

/// Runs worlds with what a deck has, each event as often as it is in there.
fn worlds(deck: &[Event], spooled: bool, check: impl Fn(u64, &World)) {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, spooled);
        let steps = world.rng.random_range(5..80);
        for _ in 0..steps {
            let event = deck[world.rng.random_range(0..deck.len())];
            world.step(event);
        }
        world.settle();
        check(seed, &world);
    }
}

use Event::{Deliver, Finish, Flood, Kill, Lose, Restart, Rotate, Send, Steal, Wait};

const USUAL: [Event; 12] = [Send, Send, Send, Send, Finish, Rotate, Deliver, Deliver, Deliver, Lose, Wait, Restart];

fn with(events: &[Event]) -> Vec<Event> {
    USUAL.iter().chain(events).copied().collect()
}

fn is_once(world: &World) -> bool {
    let written: BTreeSet<_> = world.inbox.written.iter().collect();
    written.len() == world.inbox.written.len()
}

/// Nothing is lost silently, and nothing is reported that was not lost.
fn assert_exact(seed: u64, world: &World, doubtful: usize) {
    let World { inbox, reused, .. } = world;
    let unaccounted = world.unaccounted();
    // What a spool sends again in such a stream may come twice, and what is missing of that may be reported twice.
    let is_repeated = inbox.unplaced > 0 && world.devices[0].spool.is_some();
    let least = if is_repeated { i64::MIN } else { 0 };
    let is_exact = (least..=i64::try_from(doubtful).unwrap()).contains(&unaccounted);
    assert!(is_exact, "seed {seed}: {unaccounted}");
    assert!(is_once(world) || is_repeated, "seed {seed}");
    assert!(inbox.copies.is_empty() && inbox.hints == 0 && *reused == 0, "seed {seed}");
}

#[test]
fn what_one_device_sends_is_written_once_or_reported_lost_exactly() {
    for spooled in [false, true] {
        worlds(&with(&[]), spooled, |seed, world| assert_exact(seed, world, 0));
    }
}

#[test]
fn what_a_killed_process_sent_is_written_once_or_reported_lost_but_for_its_end() {
    for spooled in [false, true] {
        worlds(&with(&[Kill]), spooled, |seed, world| assert_exact(seed, world, world.doubtful.len()));
    }
}

#[test]
fn copies_of_a_directory_or_a_spool_seal_nothing_twice_and_lose_nothing_silently() {
    for what in [Copied::Directory, Copied::Spool] {
        for spooled in [false, true] {
            worlds(&with(&[Event::Clone(what)]), spooled, |seed, world| {
                assert_eq!(world.reused, 0, "seed {seed}");
                let is_told = world.is_told();
                assert!(world.unaccounted() <= 0 || is_told, "seed {seed}: {} lost silently", world.unaccounted());
                assert!(is_once(world) || is_told, "seed {seed}: twice");
            });
        }
    }
}

#[test]
fn of_two_copies_of_a_running_process_nobody_loses_anything_silently() {
    let deck: Vec<_> = with(&[Event::Clone(Copied::Process)]).into_iter().filter(|event| *event != Restart).collect();
    let reused = std::cell::Cell::new(0);
    for spooled in [false, true] {
        worlds(&deck, spooled, |seed, world| {
            let is_told = world.is_told();
            assert!(world.unaccounted() <= 0 || is_told, "seed {seed}: {} lost silently", world.unaccounted());
            reused.set(reused.get() + world.reused);
        });
    }
    assert!(reused.get() > 0, "nothing tells a process that it was copied");
}

#[test]
fn a_thief_opens_nothing_that_is_over_and_is_noticed_when_it_sends() {
    worlds(&with(&[Steal, Steal, Event::Clone(Copied::Theft)]), false, |seed, world| {
        assert_eq!(world.reused, 0, "seed {seed}");
        let is_told = world.is_told();
        assert!(world.unaccounted() <= 0 || is_told, "seed {seed}: {} lost silently", world.unaccounted());
    });
}

#[test]
fn a_flood_changes_nothing_whatever_else_happens() {
    let all = [Flood, Steal, Kill, Event::Clone(Copied::Directory), Event::Clone(Copied::Spool)];
    for spooled in [false, true] {
        worlds(&with(&all), spooled, |seed, world| assert_eq!(world.reused, 0, "seed {seed}"));
    }
}

/// Mid-confirm, on either side: what was written of one copy is not confirmed to the other as its own, if the receiver
/// can see it.
#[test]
fn what_is_sealed_twice_is_not_confirmed() {
    let (master, slave) = pair(1, Suite::Gcm);
    for wants_confirms in [true, false] {
        let mut receiver = receiver(&[&slave]);
        let mut one = sender(&master, 0);
        one = if wants_confirms { one.ask_for_confirms() } else { one };
        assert!(receive(&mut receiver, &data(&mut one, b"both")).1.is_ok());
        let mut copy = one.snapshot();
        let (ours, theirs) = (data(&mut one, b"ours"), data(&mut copy, b"theirs"));
        assert_eq!(ours[..HEADER_LEN], theirs[..HEADER_LEN]);
        assert!(receive(&mut receiver, &ours).1.is_ok());
        let again = receive(&mut receiver, &ours).1.unwrap_err();
        assert_eq!(again, AcceptError::Duplicate { next: 2 });
        let refused = receive(&mut receiver, &theirs).1.unwrap_err();
        assert_eq!((refused, refused.confirm()), (AcceptError::SealedTwice, None));
        // Also after the end of the one that was heard.
        assert!(receive(&mut receiver, &end(&mut one, b"")).1.is_ok());
        assert_eq!(receive(&mut receiver, &theirs).1, Err(AcceptError::SealedTwice));
        assert_eq!(receive(&mut receiver, &data(&mut copy, b"more")).1, Err(AcceptError::SealedTwice));
    }
}

/// The window is short, and only in memory: what is older counts as repeated.
#[test]
fn of_a_copy_that_is_far_behind_only_a_duplicate_is_seen() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut one = sender(&master, 0);
    let mut copy = one.snapshot();
    let last = u32::try_from(super::super::keys::MAX_REMEMBERED).unwrap();
    (0..=last).for_each(|_| assert!(receive(&mut receiver, &data(&mut one, b"ours")).1.is_ok()));
    let [oldest, next] = [0, 1].map(|_| receive(&mut receiver, &data(&mut copy, b"theirs")).1);
    assert_eq!((oldest, next), (Err(AcceptError::Duplicate { next: last + 1 }), Err(AcceptError::SealedTwice)));
}

/// A copy of a receiver seals other confirms under the same header; they protect no data, and a lost one is made up
/// for.
#[test]
fn of_two_copies_of_a_receiver_the_sender_hears_each_confirm_that_comes_first() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut at_sender = receiver(&[&master]);
    let mut one = sender(&slave, FIRST_SIDE_STREAM);
    let mut copy = one.snapshot();
    let confirm = |of: &mut Sender, next| {
        seal_control(of, &Content::Confirm(vec![Confirmed { stream: 0, salt: [0; 8], next }])).unwrap()
    };
    let [first, other] = [confirm(&mut one, 1), confirm(&mut copy, 5)];
    assert!(receive(&mut at_sender, &first).1.is_ok());
    assert_eq!(receive(&mut at_sender, &other).1, Err(AcceptError::Duplicate { next: 1 }));
    assert!(receive(&mut at_sender, &confirm(&mut copy, 6)).1.is_ok());
}
