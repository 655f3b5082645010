//! Lost ends: what a device says in a preamble of how its earlier streams ended (`sts-protocol(7)`, "Lost ends").

use super::ended_stream::EndedStream;
use super::id::{Origin, StreamId};
use super::opened::Opened;
use super::others::{OtherStreams, ToldStream};
use super::preamble::Continues;
use super::progress::{Gap, Progress, Sequence, StreamState};
use super::receiver::Receiver;
use super::sequence::Beginning;
use crate::crypto::key_tree::{MAX_NUMBER, Salt};

impl Receiver {
    /// The streams that this message shows to be used by two devices: they are known with other salts.
    #[must_use]
    pub(crate) fn copies(&self, opened: &Opened) -> Vec<StreamId> {
        let is_copy = |&(stream, salt): &(StreamId, Salt)| {
            let known = self.streams(stream.session).and_then(|streams| streams.salt(stream.number));
            known.is_some_and(|known| known != salt)
        };
        let by_ended = self.ended(opened).filter_map(|ended| ended.continues);
        let continued = opened.head.preamble.iter().filter_map(|preamble| preamble.continues).chain(by_ended);
        let origins = continued.map(|continues| continues.origin);
        let origins = origins.filter(|origin| self.is_of_same_peer(origin.stream, opened));
        let named = self.ended(opened).map(|ended| (ended.stream, ended.salt));
        let named = named.chain(origins.map(|origin| (origin.stream, origin.salt)));
        let mut copies: Vec<_> = named.filter(is_copy).map(|(stream, _)| stream).collect();
        copies.sort_unstable();
        copies.dedup();
        copies
    }

    /// Whether a message shows that two devices use its session.
    pub(super) fn shows_copy(&self, opened: &Opened) -> bool {
        !self.copies(opened).is_empty()
    }

    /// What this message says of how streams ended that one device sent.
    #[must_use]
    pub(crate) fn told_ends(&self, opened: &Opened) -> Vec<EndedStream> {
        let copies = self.copies(opened);
        self.ended(opened).filter(|ended| ended.count.is_some() && !is_of_copy(&copies, ended)).copied().collect()
    }

    /// Those of [`Receiver::told_ends`] that are not complete here.
    #[cfg(test)]
    pub(crate) fn lost_ends(&self, opened: &Opened) -> Vec<EndedStream> {
        let told = self.told_ends(opened).into_iter();
        told.filter(|ended| self.lost_end(ended).is_some()).collect()
    }

    /// Puts streams whose first message was given up into the sequences that this message says they continued: what is
    /// reported of them as lost is not missing again, and what is before them is lost. That is so, too, of those that
    /// began where they were not announced: otherwise new messages of a later stream would be taken for repeated ones.
    /// Where two devices use a session, each has sequences of its own.
    pub(super) fn move_told(&mut self, opened: &Opened) -> Vec<ToldStream> {
        for copy in self.copies(opened) {
            if let Some(entry) = self.entry_mut(copy.session) {
                entry.streams.mark_copied();
            }
        }
        let told = opened.head.preamble.iter().flat_map(|preamble| &preamble.ended);
        told.filter_map(|ended| {
            self.remember_told(ended, opened);
            self.move_one(ended, opened)
        })
        .collect()
    }

    /// A stream of which nothing came may still begin without its first message.
    fn remember_told(&mut self, ended: &EndedStream, opened: &Opened) {
        let is_theirs = ended.stream.number <= MAX_NUMBER && self.is_of_same_peer(ended.stream, opened);
        if !is_theirs || !self.is_older(ended.stream, opened.stream) {
            return;
        }
        if let Some(entry) = self.entry_mut(ended.stream.session) {
            entry.streams.tell(*ended);
        }
    }

    /// Where a stream of which nothing came begins, as its device told, in this run or an earlier one.
    pub(super) fn told_beginning(&self, stream: StreamId, salt: Salt) -> Option<Continues> {
        let streams = self.streams(stream.session).filter(|streams| !streams.is_copied())?;
        let ended = streams.told_of(stream.number).filter(|ended| ended.salt == salt)?;
        self.continued_by(ended)
    }

    /// What a stream that has ended continued, if that is of the same device.
    fn continued_by(&self, ended: &EndedStream) -> Option<Continues> {
        let of = |session| self.session(session).map(|session| session.peer);
        ended.continues.filter(|continues| {
            let named = continues.origin.stream;
            named != ended.stream && !named.is_side_stream() && of(named.session) == of(ended.stream.session)
        })
    }

    fn move_one(&mut self, ended: &EndedStream, opened: &Opened) -> Option<ToldStream> {
        let continues = ended.continues?;
        let entry = self.sessions.get(&ended.stream.session).filter(|entry| !entry.streams.is_copied())?;
        let known = entry.streams.known(ended.stream, ended.salt)?;
        let assumed = entry.assumed.get(&ended.stream.number).copied().or_else(|| assumed_before(ended, &known));
        let is_told_apart = assumed.map_or(known.sequence.origin.stream == ended.stream, |at| at != continues.position);
        if !is_told_apart {
            return None;
        }
        let origin = continues.origin.stream;
        let is_named = |stream| self.is_of_same_peer(stream, opened);
        if origin == ended.stream || !is_named(origin) || !is_named(ended.stream) {
            return None;
        }
        // A device tells of earlier streams. A later one may carry what the message does, which is accepted already.
        if !self.is_older(ended.stream, opened.stream) {
            return None;
        }
        let (others, sequence) = if self.is_carried_on(continues.origin, ended.stream, Some(opened.stream)) {
            // The newer stream is told, too: what that one carried is counted from where this one ended.
            assumed?;
            (OtherStreams::default(), Sequence { origin: continues.origin, position: 0 })
        } else {
            let Beginning { others, sequence, .. } = self.go_on(&continues, ended.stream);
            (others, sequence)
        };
        let carried = known.sequence.position.saturating_sub(assumed.unwrap_or(0));
        let position = continues.position.saturating_add(carried).max(sequence.position);
        let progress = Progress { sequence: Sequence { position, ..sequence }, ..known };
        if progress == known {
            return None;
        }
        others.superseded.iter().for_each(|over| self.apply_over(over));
        let entry = self.entry_mut(ended.stream.session)?;
        entry.assumed.remove(&ended.stream.number);
        entry.streams.apply(&progress);
        Some(ToldStream { progress, others, gap: None })
    }

    /// Closes a stream that has ended, if it is still not complete.
    pub(crate) fn close_lost_end(&mut self, ended: &EndedStream) -> Option<ToldStream> {
        let lost = self.lost_end(ended)?;
        lost.closed().for_each(|closed| self.apply_over(closed));
        Some(lost)
    }

    /// What is lost with a stream that has ended; `None` if it is over, or complete, or if its end is not known. Of one
    /// that was closed before its end, that is what came, or was to come, since.
    #[must_use]
    pub(crate) fn lost_end(&self, ended: &EndedStream) -> Option<ToldStream> {
        let EndedStream { stream, salt, count, .. } = *ended;
        let streams = self.streams(stream.session)?;
        let is_cut = streams.is_cut(stream.number);
        if streams.is_over(stream.number) && !is_cut || streams.salt(stream.number).is_some_and(|known| known != salt) {
            return None;
        }
        let known = streams.close_at(stream);
        // One of which nothing came begins with its end: what it carried may have come in other streams of its
        // sequence.
        let Beginning { others, wanted, sequence, .. } = if streams.has_begun(stream.number) || is_cut {
            Beginning { others: OtherStreams::default(), wanted: known.next, skip: 0, sequence: known.sequence }
        } else {
            self.beginning_of(ended)
        };
        let count = count?;
        let lost = count.saturating_sub(wanted);
        let gap = (lost > 0).then(|| Gap { stream, first: wanted, last: count - 1 });
        // What was received of it may be more than its sender knew to be delivered; and a stream without gaps is not
        // over before its sender has heard so.
        if gap.is_none() && (count < known.next || known.wants_confirms) {
            return None;
        }
        let sequence = Sequence { position: sequence.position.saturating_add(lost.into()), ..sequence };
        let progress = Progress { salt, next: count, skip: 0, state: StreamState::Superseded, sequence, ..known };
        Some(ToldStream { progress, others, gap })
    }

    fn beginning_of(&self, ended: &EndedStream) -> Beginning {
        let EndedStream { stream, salt, .. } = *ended;
        let origin = Origin { stream, salt };
        let Some(continues) = self.continued_by(ended) else { return Beginning::of_origin(origin) };
        if self.is_carried_on(continues.origin, stream, None) {
            // It carried nothing that is not of the newer stream, or was given up with the beginning of that.
            let sequence = Sequence { origin: continues.origin, position: 0 };
            return Beginning { wanted: u32::MAX, sequence, ..Beginning::of_origin(origin) };
        }
        self.go_on(&continues, stream)
    }

    /// What a message says of earlier streams of data of its sender, in sessions that are here.
    fn ended<'a>(&'a self, opened: &'a Opened) -> impl Iterator<Item = &'a EndedStream> {
        let said = opened.head.preamble.iter().flat_map(|preamble| &preamble.ended);
        said.filter(|ended| ended.stream.number <= MAX_NUMBER && self.is_of_same_peer(ended.stream, opened))
    }
}

/// Where a stream was taken to begin that an earlier run put too far on in its sequence, as it is told now: that it was only
/// assumed to begin there is not written down. One that was put too far back leaves a gap, which is reported, and no
/// message is taken for a repeated one.
fn assumed_before(ended: &EndedStream, known: &Progress) -> Option<u64> {
    let continues = ended.continues.filter(|continues| continues.origin == known.sequence.origin)?;
    // A last message that names the next stream has no position.
    let count = ended.count.filter(|count| known.state == StreamState::Ended && count.saturating_add(1) == known.next);
    let carried = u64::from(count.unwrap_or(known.next));
    known.sequence.position.checked_sub(carried).filter(|at| *at > continues.position)
}

/// Whether what is said of a stream is of one that another device sent, or of its sequence.
fn is_of_copy(copies: &[StreamId], ended: &EndedStream) -> bool {
    let origin = ended.continues.map(|continues| continues.origin.stream);
    copies.contains(&ended.stream) || origin.is_some_and(|origin| copies.contains(&origin))
}
