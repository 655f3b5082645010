//! The receiver of a world.

use super::*;

impl Inbox {
    pub(super) fn new(slave: &Session) -> Self {
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

    pub(super) fn deliver(&mut self, frame: &Bytes, is_given_up: bool) {
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
        if !copies.is_empty() {
            self.journal.mark_copied();
        }
        self.copies.extend(copies);
        let ended = self.receiver.lost_ends(&opened);
        for ended in &ended {
            self.journal.tell(*ended);
        }
        self.ended.extend(ended);
        self.unplaced += u64::from(opened.head.continues && opened.seq > 0 && !has_begun);
        let Accepted { progress, gap, skip, others, .. } = accepted;
        assert!(skip == 0 || skip == usize::MAX);
        self.note(&others, gap);
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

    pub(super) fn note(&mut self, others: &OtherStreams, gap: Option<Gap>) {
        for ToldStream { progress, others, gap } in &others.moved {
            self.note(others, *gap);
            self.journal.apply(progress);
            let Sequence { origin, position } = progress.sequence;
            self.positions.insert(origin, position);
        }
        for closed in others.superseded.iter().chain(others.closed.iter().map(|(closed, _)| closed)) {
            self.journal.apply(closed);
        }
        self.closed += others.closed.len() as u64;
        self.lost += others.gap.into_iter().chain(gap).map(|gap| gap.messages()).sum::<u64>();
    }

    pub(super) fn release(&mut self) {
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
    pub(super) fn give_up(&mut self, held: bool) {
        for ended in std::mem::take(&mut self.ended) {
            let is_held =
                self.held.iter().any(|frame| SealedHeader::parse(frame).unwrap().stream == ended.stream.number);
            if is_held {
                self.ended.push(ended);
            } else if let Some(ToldStream { progress, others, gap }) = self.receiver.close_lost_end(&ended) {
                self.note(&others, gap);
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

    pub(super) fn restart(&mut self, slave: &Session) {
        self.receiver = receiver(&[slave]);
        self.receiver.restore(slave.id, self.journal.clone());
        self.ended = self.journal.told().map(|told| told.ended).collect();
    }
}
