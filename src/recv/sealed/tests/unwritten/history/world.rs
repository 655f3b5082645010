//! What happens in a history.

use super::device::{Process, ended_stream};
use super::*;

/// After so many streams, a device has told of all that it listed.
const LAST_DISTANCE: usize = 48;
/// Longer than anything is waited for.
const LONG: Duration = Duration::from_secs(100);

/// What waits for standard output, of a chain.
enum Waiting {
    Delivery(Box<Delivery>),
    /// Acknowledged after what came of its chain before.
    Repeat(Receipt),
}

pub(super) struct World<'a> {
    run: Run<'a>,
    pub(super) rng: StdRng,
    device: Device,
    /// What the broker has, by packet identifier; and which of it was handed over on this connection.
    broker: BTreeMap<u16, (bytes::Bytes, bool)>,
    next_packet: u16,
    queue: Vec<(StreamId, Waiting)>,
    /// What was sent at each position of each sequence.
    texts: HashMap<(Origin, u64), u64>,
    /// Where each stream begins.
    bases: HashMap<StreamId, Continues>,
    outcome: Outcome,
}

/// What became of each text.
#[derive(Default)]
struct Outcome {
    expected: BTreeSet<u64>,
    /// What a process without a spool sent that was killed: nobody can count its end.
    doubtful: BTreeSet<u64>,
    written: BTreeSet<u64>,
    lost: BTreeSet<u64>,
    /// What was reported as lost twice.
    repeated: BTreeSet<u64>,
    /// What was reported as lost after it was written.
    denied: BTreeSet<u64>,
    /// What was written, or reported as lost, of streams that were not in their sequence, as their first message is lost.
    unplaced: HashMap<u64, StreamId>,
    /// Of which streams the receiver was told what they continue.
    told: BTreeSet<StreamId>,
}

impl<'a> World<'a> {
    pub(super) fn new(report: &'a Reporter, seed: u64, modes: [Mode; 2]) -> Self {
        let (mut run, sessions) = Run::of_sessions(report, &[1, 2]);
        // For the seq of each message that is written.
        run.streams.with_metadata = true;
        Self {
            run,
            rng: StdRng::seed_from_u64(seed),
            device: Device::new(sessions, modes),
            broker: BTreeMap::new(),
            next_packet: 1,
            queue: Vec::new(),
            texts: HashMap::new(),
            bases: HashMap::new(),
            outcome: Outcome::default(),
        }
    }

    pub(super) fn step(&mut self, event: Event) {
        match event {
            Event::Send => self.send(),
            Event::Finish => self.finish(),
            Event::Rotate => self.rotate(),
            Event::KillSender => self.kill_sender(),
            Event::Switch => self.device.turn ^= 1,
            Event::Resend => self.resend(),
            Event::Deliver => self.deliver(),
            Event::Lose => self.lose(),
            Event::Write => self.write(),
            Event::Wait => {
                self.run.now += if self.rng.random_bool(0.3) { LONG } else { Duration::from_secs(2) };
                self.release();
            }
            Event::Kill => self.kill(),
        }
    }

    fn publish(&mut self, frame: bytes::Bytes) {
        self.broker.insert(self.next_packet, (frame, false));
        self.next_packet += 1;
    }

    fn begin_if_idle(&mut self) {
        let turn = self.device.turn;
        if self.device.processes[turn].is_some() {
            return;
        }
        let is_spooled = self.device.mode().is_spooled;
        let acknowledged = self.device.spools[turn].acknowledged;
        let continues = self.device.spools[turn].origin.filter(|_| is_spooled);
        let continues = continues.map(|origin| Continues { origin, position: acknowledged as u64 });
        let sender = self.device.begin(continues, &mut self.rng);
        self.note(&sender);
        if is_spooled {
            self.device.spools[turn].origin.get_or_insert(sender.origin());
        }
        self.device.processes[turn] = Some(Process { sender, next_record: acknowledged, sent: Vec::new() });
    }

    fn note(&mut self, sender: &Sender) {
        self.bases.insert(sender.id(), sender.position_of(0));
    }

    /// The next text of the process whose turn it is, which it seals next.
    fn next_text(&mut self) -> u64 {
        let turn = self.device.turn;
        let is_spooled = self.device.mode().is_spooled;
        let process = self.device.processes[turn].as_mut().unwrap();
        let spool = &mut self.device.spools[turn];
        let new = self.texts.len() as u64 + 1;
        let text = spool.records.get(process.next_record).copied().filter(|_| is_spooled).unwrap_or(new);
        if is_spooled && text == new {
            spool.records.push(text);
        }
        process.next_record += 1;
        let Continues { origin, position } = process.sender.position_of(process.sender.next_seq());
        let before = self.texts.insert((origin, position), text);
        assert!(before.is_none_or(|before| before == text));
        self.outcome.expected.insert(text);
        text
    }

    fn send(&mut self) {
        self.begin_if_idle();
        let text = self.next_text();
        self.seal(&Content::Data, &text.to_be_bytes());
        if !self.device.mode().wants_confirms && self.rng.random_bool(0.7) {
            let Device { turn, spools, processes, .. } = &mut self.device;
            let before = processes[*turn].as_ref().unwrap().next_record - 1;
            spools[*turn].acknowledged = spools[*turn].acknowledged.max(before);
        }
    }

    fn seal(&mut self, content: &Content, data: &[u8]) {
        let process = self.device.processes[self.device.turn].as_mut().unwrap();
        let mut buffer = process.sender.buffer(data.len());
        buffer.put_slice(data);
        let frame = process.sender.seal(content, None, buffer, &mut self.rng).unwrap();
        if self.device.modes[self.device.turn].wants_confirms {
            process.sent.push(frame.clone());
        }
        self.publish(frame);
    }

    fn finish(&mut self) {
        let turn = self.device.turn;
        if self.device.processes[turn].is_none() {
            return;
        }
        if self.device.mode().is_spooled {
            self.note_confirmed();
            let process = self.device.stop().unwrap();
            let delivered = self.device.spools[turn].acknowledged as u64;
            let count = delivered.saturating_sub(process.sender.position_of(0).position);
            self.device.list(ended_stream(&process.sender, Some(u32::try_from(count).unwrap())));
            return;
        }
        let text = self.next_text();
        self.seal(&Content::End, &text.to_be_bytes());
        self.retire();
    }

    /// The stream of the process is over; if it asks for confirms, it is sent again until it is confirmed.
    fn retire(&mut self) {
        let process = self.device.stop().unwrap();
        if self.device.mode().wants_confirms {
            self.device.unsettled.push(process);
        } else {
            self.device.list(ended_stream(&process.sender, Some(process.sender.next_seq())));
        }
    }

    /// Takes note of what is confirmed.
    fn note_confirmed(&mut self) {
        let (run, device) = (&self.run, &mut self.device);
        for turn in 0..2 {
            let Some(process) = device.processes[turn].as_ref().filter(|_| device.modes[turn].wants_confirms) else {
                continue;
            };
            let base = process.sender.position_of(0).position;
            let confirmed = usize::try_from(base).unwrap() + run.written(process.sender.id()).0 as usize;
            let spool = &mut device.spools[turn];
            spool.acknowledged = spool.acknowledged.max(confirmed.min(spool.records.len()));
        }
        let (settled, unsettled): (Vec<_>, Vec<_>) =
            std::mem::take(&mut device.unsettled).into_iter().partition(|process| is_confirmed(run, process));
        for process in settled {
            device.unlist(process.sender.id());
        }
        device.unsettled = unsettled;
    }

    /// Its session is replaced, or its numbers are used up: what follows is in another stream.
    fn rotate(&mut self) {
        let turn = self.device.turn;
        let Some(process) = &self.device.processes[turn] else { return };
        let wants_confirms = self.device.mode().wants_confirms;
        let (seq, next_record) = (process.sender.next_seq(), process.next_record);
        if seq == 0 || (wants_confirms && !is_confirmed(&self.run, process)) {
            return;
        }
        let position = process.sender.position_of(seq);
        let ended = ended_stream(&process.sender, Some(seq));
        self.device.list(ended);
        if self.rng.random_bool(0.3) {
            self.device.use_newest_session();
        }
        let next = self.device.begin(Some(position), &mut self.rng);
        self.note(&next);
        let named = next.id();
        self.seal(&Content::Continued(named), b"");
        let process = self.device.stop().unwrap();
        if wants_confirms {
            self.device.unsettled.push(process);
        }
        self.device.processes[turn] = Some(Process { sender: next, next_record, sent: Vec::new() });
    }

    fn kill_sender(&mut self) {
        let is_spooled = self.device.mode().is_spooled;
        let Some(Process { sender, .. }) = self.device.stop() else { return };
        if !is_spooled {
            let Continues { origin, position } = sender.position_of(0);
            let of_stream =
                (0..sender.next_seq()).filter_map(|seq| self.texts.get(&(origin, position + u64::from(seq))));
            self.outcome.doubtful.extend(of_stream);
        }
    }

    /// What is not confirmed is sent again.
    fn resend(&mut self) {
        self.note_confirmed();
        let active = self.device.processes.iter().flatten();
        let again: Vec<_> = active
            .chain(&self.device.unsettled)
            .flat_map(|process| process.sent.iter().skip(self.run.written(process.sender.id()).0 as usize).cloned())
            .collect();
        for frame in again {
            self.publish(frame);
        }
    }

    fn deliver(&mut self) {
        let fresh: Vec<u16> = self.broker.iter().filter(|(_, (_, given))| !given).map(|(id, _)| *id).collect();
        if fresh.is_empty() {
            return;
        }
        let at = if self.rng.random_bool(0.8) { 0 } else { self.rng.random_range(0..fresh.len()) };
        if self.rng.random_bool(0.1) {
            self.publish(self.broker[&fresh[at]].0.clone());
        }
        self.hand_over(fresh[at]);
    }

    fn hand_over(&mut self, packet: u16) {
        let (payload, given) = self.broker.get_mut(&packet).unwrap();
        *given = true;
        let (receipt, payload, qos) = (Receipt::of(Qos::AtLeastOnce, packet), payload.clone(), Qos::AtLeastOnce);
        let message = Message { topic: String::new(), payload, qos, retain: false, dup: false, receipt };
        let disposition = self.run.streams.receive(message, self.run.now).unwrap();
        self.dispose(disposition);
        self.release();
    }

    /// As [`RecvRun::dispose`](crate::recv::run::RecvRun) does with a printer.
    fn dispose(&mut self, disposition: Disposition) {
        for (from, to) in self.run.streams.take_joined() {
            for (chain, _) in self.queue.iter_mut().filter(|(chain, _)| *chain == from) {
                *chain = to;
            }
        }
        match disposition {
            Disposition::Deliver(delivery) => {
                self.queue.push((delivery.stream, Waiting::Delivery(Box::new(delivery.detached()))));
            }
            Disposition::Repeat { stream, receipt } => self.queue.push((stream, Waiting::Repeat(receipt))),
            Disposition::Drop(receipt) => self.acknowledge(&receipt),
            Disposition::Hold { .. } => {}
            Disposition::Answer { .. } | Disposition::Leave(_) => panic!("nothing asks, and nothing is left"),
        }
    }

    fn release(&mut self) {
        while let Some(disposition) = self.run.streams.next_released(GivenUp::Nothing, self.run.now).unwrap() {
            self.dispose(disposition);
        }
    }

    fn acknowledge(&mut self, receipt: &Receipt) {
        self.broker.retain(|packet, _| Receipt::of(Qos::AtLeastOnce, *packet) != *receipt);
    }

    fn lose(&mut self) {
        let fresh: Vec<u16> = self.broker.iter().filter(|(_, (_, given))| !given).map(|(id, _)| *id).collect();
        if !fresh.is_empty() {
            self.broker.remove(&fresh[self.rng.random_range(0..fresh.len())]);
        }
    }

    /// Standard output takes the oldest of what waits of a chain.
    fn write(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let chain = self.queue[self.rng.random_range(0..self.queue.len())].0;
        let at = self.queue.iter().position(|(of, _)| *of == chain).unwrap();
        match self.queue.remove(at).1 {
            Waiting::Repeat(receipt) => self.acknowledge(&receipt),
            Waiting::Delivery(mut delivery) => {
                let receipt = delivery.completion.receipt.take();
                self.note_outcome(&delivery);
                self.run.write(*delivery);
                if let Some(receipt) = receipt {
                    self.acknowledge(&receipt);
                }
                self.release();
            }
        }
    }

    /// Takes note of what is written with a delivery, and of what is reported as lost.
    fn note_outcome(&mut self, delivery: &Delivery) {
        let progress = delivery.completion.progress;
        if let (Some(Metadata::Sealed { seq: 0, .. }), Some(progress)) = (&delivery.metadata, progress) {
            self.outcome.told.extend(self.device.heard(progress.stream));
        }
        let entries: Vec<_> = delivery.completion.entries().collect();
        let is_unplaced = |stream: StreamId| {
            let own = |entry: &JournalEntry| matches!(entry, JournalEntry::Progress(of) if of.stream == stream && of.sequence.origin.stream == stream);
            self.bases[&stream].origin.stream != stream && entries.iter().any(own)
        };
        let gaps =
            entries.iter().filter_map(|entry| if let JournalEntry::Lost(gap) = entry { Some(*gap) } else { None });
        let gaps: Vec<_> = gaps.map(|gap| (gap, is_unplaced(gap.stream))).collect();
        if let (Ok(text), Some(progress)) = (delivery.data[..].try_into(), progress) {
            let text = u64::from_be_bytes(text);
            if is_unplaced(progress.stream) {
                self.outcome.unplaced.insert(text, progress.stream);
            }
            self.outcome.written.insert(text);
        }
        for (gap, is_unplaced) in gaps {
            self.note_lost(gap, is_unplaced);
        }
    }

    /// Takes note of a gap. A stream without its first message is not in its sequence before a later one told what it continues:
    /// until then, what is missing of it may have come in another stream, as a spool sends it again, and what came of it, or
    /// is missing, is a gap before those that continue it.
    fn note_lost(&mut self, gap: crate::stream::Gap, is_unplaced: bool) {
        let Continues { origin, position } = self.bases[&gap.stream];
        let Outcome { written, lost, repeated, denied, unplaced, told, .. } = &mut self.outcome;
        for seq in gap.first..=gap.last {
            let Some(text) = self.texts.get(&(origin, position + u64::from(seq))) else { continue };
            let is_excused = is_unplaced || unplaced.get(text).is_some_and(|stream| !told.contains(stream));
            if written.contains(text) && !is_excused {
                denied.insert(*text);
            }
            if !lost.insert(*text) && !is_excused {
                repeated.insert(*text);
            }
            if is_unplaced {
                unplaced.insert(*text, gap.stream);
            }
        }
    }

    fn kill(&mut self) {
        self.queue.clear();
        for (_, given) in self.broker.values_mut() {
            *given = false;
        }
        self.run.restart();
    }

    /// All that is on its way arrives and is written, and the device tells how its streams ended.
    pub(super) fn settle(&mut self) {
        for _ in 0..2 {
            self.finish();
            self.device.turn ^= 1;
        }
        self.arrive();
        for round in 0..LAST_DISTANCE {
            if round > 2 && self.silent().is_empty() {
                return;
            }
            for _ in 0..2 {
                self.send();
                self.arrive();
                let turn = self.device.turn;
                if !self.device.mode().wants_confirms {
                    self.device.spools[turn].acknowledged = self.device.spools[turn].records.len();
                }
                self.finish();
                self.arrive();
                self.device.turn ^= 1;
            }
        }
    }

    fn arrive(&mut self) {
        loop {
            let fresh: Vec<u16> = self.broker.iter().filter(|(_, (_, given))| !given).map(|(id, _)| *id).collect();
            for packet in fresh {
                self.hand_over(packet);
            }
            for wait in [2, 100] {
                self.run.now += Duration::from_secs(wait);
                self.release();
                while !self.queue.is_empty() {
                    self.write();
                }
            }
            self.resend();
            if self.broker.is_empty() {
                return;
            }
        }
    }

    /// What was reported as lost after it was written.
    pub(super) fn denied(&self) -> Vec<u64> {
        self.outcome.denied.iter().copied().collect()
    }

    /// What was reported as lost more than once.
    pub(super) fn repeated(&self) -> Vec<u64> {
        self.outcome.repeated.iter().copied().collect()
    }

    /// What was sent, and is neither written nor reported as lost.
    pub(super) fn silent(&self) -> Vec<u64> {
        let Outcome { expected, doubtful, written, lost, .. } = &self.outcome;
        let is_silent = |text: &&u64| !written.contains(text) && !lost.contains(text) && !doubtful.contains(text);
        expected.iter().filter(is_silent).copied().collect()
    }
}

fn is_confirmed(run: &Run<'_>, process: &Process) -> bool {
    let (next, is_over) = run.written(process.sender.id());
    next >= process.sender.next_seq() || is_over
}
