//! What happens in a world.

use super::*;

impl CopiedDevice {
    fn switch(&mut self) {
        let (spool, process) = &mut self.waiting;
        std::mem::swap(&mut self.spool, spool);
        std::mem::swap(&mut self.process, process);
    }

    /// What the preamble of a stream that begins tells of the earlier ones.
    fn tell(&mut self) -> Vec<EndedStream> {
        let count = self.listed.len();
        let distance = |told: u8| if told < 3 { usize::from(told) + 1 } else { 3 << (told - 2) };
        let is_due = |at: &usize| {
            let Listed { ended, told } = &self.listed[*at];
            ended.count.is_none() || count - at >= distance(*told)
        };
        let mut due: Vec<_> = (0..count).filter(is_due).collect();
        due.sort_by_key(|at| (self.listed[*at].told, count - at));
        due.truncate(MAX_TOLD_AT_ONCE);
        due.sort_unstable();
        let told = due.iter().map(|at| (self.listed[*at].told += 1, self.listed[*at].ended).1).collect();
        self.listed.retain(|listed| listed.ended.count.is_some() || listed.told < MAX_TOLD_UNCOUNTED);
        told
    }
}

impl World {
    pub(super) fn new(seed: u64, spooled: bool) -> Self {
        let (master, slave) = pair(1, Suite::Gcm);
        let spool = spooled.then(SpooledRecords::default);
        let waiting = (spool.clone(), None);
        let device =
            CopiedDevice { session: master, listed: Vec::new(), spool, process: None, waiting, is_thief: false };
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

    pub(super) fn step(&mut self, event: Event) {
        let at = self.rng.random_range(0..self.devices.len());
        match event {
            Event::Send => self.send(at),
            Event::Finish => self.finish(at),
            Event::Rotate => self.rotate(at),
            Event::Kill => self.kill(at),
            Event::Switch => self.devices[at].switch(),
            Event::Deliver => self.deliver(),
            Event::Lose => self.lose(at),
            Event::Wait => {
                let long = self.rng.random_bool(0.2);
                self.inbox.give_up(long);
            }
            Event::Restart => {
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
    pub(super) fn begin(&mut self, at: usize, continues: Option<Continues>) -> Sender {
        let device = &mut self.devices[at];
        let (number, leaf) = device.session.send.tree.take_lowest().unwrap();
        let (session, salt) = (device.session.id, self.rng.random());
        let reserved = ReservedStream::of_data(session, number, leaf);
        let mut sender = Sender::new(&device.session, reserved, salt, LONG_LIMIT).unwrap();
        let ended = device.tell();
        device.listed.push(Listed { ended: ended_stream(&sender, None), told: 0 });
        device.listed.drain(..device.listed.len().saturating_sub(MAX_LISTED));
        sender.begin_with(Preamble { continues, ended, kept: false });
        sender
    }

    pub(super) fn begin_if_idle(&mut self, at: usize) {
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

    pub(super) fn send(&mut self, at: usize) {
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
    pub(super) fn next_text(&mut self, at: usize) -> u64 {
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

    pub(super) fn sent(&mut self, at: usize, frame: Bytes) {
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

    pub(super) fn list(&mut self, at: usize, sender: &Sender, count: u32) {
        let listed = &mut self.devices[at].listed;
        listed.retain(|listed| listed.ended.stream != sender.id());
        listed.push(Listed { ended: ended_stream(sender, Some(count)), told: 0 });
        listed.sort_by_key(|listed| listed.ended.stream);
    }

    pub(super) fn finish(&mut self, at: usize) {
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
    pub(super) fn rotate(&mut self, at: usize) {
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

    pub(super) fn kill(&mut self, at: usize) {
        let Some(Process { sender, .. }) = self.devices[at].process.take() else { return };
        if self.devices[at].spool.is_none() {
            let of_stream = |frame: &Bytes| SealedHeader::parse(frame).unwrap().salt == sender.salt();
            let frames = self.headers.values().map(|(frame, _)| frame).filter(|frame| of_stream(frame));
            self.doubtful.extend(frames.filter_map(|frame| text_of(&self.slave, frame)));
        }
    }

    pub(super) fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let at = if self.rng.random_bool(0.8) { 0 } else { self.rng.random_range(0..self.wire.len()) };
        let again = self.rng.random_bool(0.1);
        let frame = if again { self.wire[at].frame.clone() } else { self.wire.remove(at).frame };
        self.inbox.deliver(&frame, false);
    }

    pub(super) fn lose(&mut self, device: usize) {
        if self.rng.random_bool(0.3) {
            self.wire.retain(|sent| sent.device != device);
        } else if !self.wire.is_empty() {
            let at = self.rng.random_range(0..self.wire.len());
            self.wire.remove(at);
        }
    }

    pub(super) fn copy(&mut self, at: usize, what: Copied) {
        if self.devices.len() > 3 {
            return;
        }
        let original = &mut self.devices[at];
        let (session, listed) = (original.session.clone(), original.listed.clone());
        let is_thief = original.is_thief || what == Copied::Theft;
        let spool = original.spool.clone().filter(|_| !matches!(what, Copied::Directory | Copied::Theft));
        let process = original.process.as_mut().filter(|_| what == Copied::Process).map(|process| {
            let copied_from = *process.copied_from.get_or_insert(process.sender.next_seq());
            let sender = process.sender.snapshot();
            Process { sender, next_record: process.next_record, copied_from: Some(copied_from) }
        });
        self.devices.push(CopiedDevice { session, listed, spool, process, waiting: (None, None), is_thief });
    }

    /// A thief who has all that was ever sent opens nothing of what is over with the receiver's keys, and nothing at
    /// all with those of a device.
    pub(super) fn steal(&mut self, at: usize) {
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
    pub(super) fn flood(&mut self) {
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
    pub(super) fn settle(&mut self) {
        for at in (0..self.devices.len()).flat_map(|at| [at, at]) {
            self.finish(at);
            self.devices[at].switch();
        }
        self.arrive(false);
        for _ in 0..LAST_DISTANCE {
            for at in 0..self.devices.len() {
                self.send(at);
                self.devices[at].spool.iter_mut().for_each(|spool| spool.acknowledged = spool.records.len());
                self.finish(at);
                // The other spool has records to send, too.
                self.devices[at].switch();
            }
            self.arrive(true);
        }
    }

    /// All that is on its way arrives, and what is missing is given up, also what waits for it.
    fn arrive(&mut self, held: bool) {
        for Sent { frame, .. } in std::mem::take(&mut self.wire) {
            self.inbox.deliver(&frame, false);
        }
        self.inbox.give_up(held);
    }

    /// Whether the receiver said that there are copies, with proof or as a hint, or that it closed a stream.
    pub(super) fn is_told(&self) -> bool {
        !self.inbox.copies.is_empty() || self.inbox.hints > 0 || self.inbox.closed > 0
    }

    /// What honest devices sent, and is neither written nor reported as lost, in messages; negative if more was
    /// reported.
    pub(super) fn unaccounted(&self) -> i64 {
        let written: BTreeSet<_> = self.inbox.written.iter().copied().collect();
        let missing = self.expected.difference(&written).count();
        i64::try_from(missing).unwrap() - i64::try_from(self.inbox.lost).unwrap()
    }
}
