//! What the receiver has confirmed, and what is sent again until it has (`--confirm`).

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::session_query::ReceiverSession;
use super::{ActiveStream, OutgoingStream, SealedStream, SealingState};
use crate::crypto::key_tree::Salt;
use crate::message::FrameType;
use crate::mqtt::Message;
use crate::send::outgoing::{ConfirmedStream, OutgoingMessage, Reply};
use crate::session::SessionId;
use crate::spool::Pending;
use crate::stream::{
    AcceptError, Accepted, Content, MAX_UNCONFIRMED, Opened, Receiver, RetransmitQueue, Sender, SideContent, StreamId,
};
use crate::{Rejected, Result};

/// The messages that the receiver has not confirmed. Where no confirms are asked for, there never are any.
pub(super) struct Confirms {
    asked_for: bool,
    queue: RetransmitQueue,
    /// The receiver has confirmed messages of an earlier stream of this run, with all the data in it that is not in the
    /// queue.
    confirmed_earlier: bool,
    /// The message that the broker is to keep, the newest with input.
    retained: Option<Bytes>,
    /// Opens the confirms: they arrive in a stream of the receiver's own.
    pub(super) receiver: Receiver,
    /// What the receiver has said of the session.
    pub(super) session: ReceiverSession,
}

/// What the receiver says of a stream.
enum News {
    /// All of it below this seq is written.
    Confirmed(u32),
    /// The receiver has another stream of this number, which a copy of this device sends.
    Copied,
    /// This message of it is not understood.
    Refused(u32),
}

impl Confirms {
    pub(super) fn new(asked_for: bool, now: Instant) -> Self {
        let (queue, receiver) = (RetransmitQueue::new(MAX_UNCONFIRMED, now), Receiver::new());
        let session = ReceiverSession::default();
        Self { asked_for, queue, confirmed_earlier: false, retained: None, receiver, session }
    }

    pub(super) fn are_asked_for(&self) -> bool {
        self.asked_for
    }

    /// Makes the messages of a stream ask for confirms, if they are to.
    pub(super) fn ask_in(&self, sender: Sender) -> Sender {
        if self.asked_for { sender.ask_for_confirms() } else { sender }
    }

    /// A new stream begins, of which nothing was sent.
    pub(super) fn restart(&mut self, now: Instant) {
        self.confirmed_earlier |= self.queue.first() > 0;
        self.queue.restart(now);
    }

    /// A message of the stream, in sequence, with so many bytes of data, is sent for the first time.
    pub(super) fn sent(&mut self, sealed: &Bytes, data_len: usize, now: Instant) {
        if self.asked_for {
            self.queue.push(sealed.clone(), data_len, now);
        }
    }

    /// What was sent last is the message that the broker is to keep.
    pub(super) fn retained(&mut self, sealed: &Bytes) {
        self.retained = self.asked_for.then(|| sealed.clone());
    }

    pub(super) fn have_room(&self, size: usize) -> bool {
        self.queue.has_room(size)
    }

    pub(super) fn unconfirmed(&self) -> Pending {
        let (messages, bytes) = self.queue.unconfirmed();
        Pending { messages: messages as u64, bytes: bytes as u64 }
    }

    /// Whether all data is confirmed, and something else is not: the receiver has confirmed messages, of this stream or
    /// an earlier one, and those that it has not confirmed carry no data.
    pub(super) fn have_all_data(&self) -> bool {
        self.queue.is_without_data() && (self.queue.first() > 0 || self.confirmed_earlier)
    }

    /// The seq of the oldest message that is not confirmed, or of the next one.
    pub(super) fn first_unconfirmed(&self) -> u32 {
        self.queue.first()
    }

    /// The next message to send again, if one is due.
    pub(super) fn retransmit(&mut self, now: Instant) -> Option<OutgoingMessage> {
        let sealed = self.queue.poll(now)?;
        let is_newest_data = self.retained.as_ref() == Some(&sealed);
        Some(OutgoingMessage::Repeated { payload: sealed, is_newest_data })
    }

    /// Everything unconfirmed is due now.
    pub(super) fn retransmit_all(&mut self, now: Instant) {
        self.queue.resend_all(now);
    }

    /// Gives away what is not confirmed, oldest first.
    pub(super) fn take_unconfirmed(&mut self, now: Instant) -> impl Iterator<Item = Bytes> + use<> {
        self.queue.take_unconfirmed(now)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.deadline()
    }

    /// Takes a payload from the receiver's topic. Returns what it says of `stream`, if that is news.
    ///
    /// # Errors
    /// What is wrong with the payload; nothing changed then.
    fn receive(
        &mut self,
        payload: &[u8],
        (stream, salt): (StreamId, Salt),
        now: Instant,
    ) -> std::result::Result<Option<News>, Rejected> {
        let Some(opened) = self.open(payload, stream.session)? else { return Ok(None) };
        let Content::Side(said) = &opened.head.content else { return Ok(None) };
        match said {
            SideContent::Confirm(streams) => {
                // Gaps between confirms are no loss, as each says all that the ones before it did; a repeat says
                // nothing.
                let _: Accepted = self.receiver.accept(&opened).map_err(AcceptError::rejected)?;
                Ok(match streams.iter().find(|confirmed| confirmed.stream == stream.number) {
                    Some(confirmed) if confirmed.salt != salt => Some(News::Copied),
                    Some(confirmed) if self.queue.confirm(confirmed.next, now) => {
                        Some(News::Confirmed(self.queue.first()))
                    }
                    Some(_) | None => None,
                })
            }
            SideContent::Refused { stream: number, .. } | SideContent::Sack { stream: number, .. }
                if *number != stream.number =>
            {
                Ok(None)
            }
            SideContent::Refused { salt: other, seq, .. } => {
                Ok(Some(if *other == salt { News::Refused(*seq) } else { News::Copied }))
            }
            SideContent::Sack { salt: other, ranges, .. } => self.receive_sack(&opened, *other == salt, ranges, now),
        }
    }

    /// A message that is sealed under this session.
    fn open(&self, payload: &[u8], session: SessionId) -> std::result::Result<Option<Opened>, Rejected> {
        if FrameType::of(payload)? != FrameType::Enc {
            return Ok(None);
        }
        let opened = self.receiver.open(payload, &mut BytesMut::new())?;
        Ok(Some(opened).filter(|opened| opened.stream.session == session))
    }

    /// The receiver has these messages, and lacks some before them.
    fn receive_sack(
        &mut self,
        opened: &Opened,
        is_own: bool,
        ranges: &[(u32, u32)],
        now: Instant,
    ) -> std::result::Result<Option<News>, Rejected> {
        let _: Accepted = self.receiver.accept(opened).map_err(AcceptError::rejected)?;
        if !is_own {
            return Ok(Some(News::Copied));
        }
        self.queue.sack(ranges, now)?;
        Ok(None)
    }
}

impl ConfirmedStream for SealedStream {
    fn is_confirmed(&self) -> bool {
        self.confirms.are_asked_for()
    }

    fn unconfirmed(&self) -> Pending {
        self.confirms.unconfirmed()
    }

    fn receiver(&self) -> String {
        let of_stream = self.state.stream().map(|stream| stream.session.peer);
        let peer = of_stream.or_else(|| self.sessions.current().ok().map(|session| session.peer));
        peer.map_or_else(|| "the other device".to_owned(), |peer| self.sessions.loaded_peer_name(&peer))
    }

    fn confirm_topic(&self) -> Option<&str> {
        self.is_confirmed().then(|| self.sessions.peers.route.listen(&self.topics))
    }

    fn answer_topic(&self) -> Option<&str> {
        self.confirms.session.open_query.as_ref().map(|open| self.sessions.listen_topic(open.session()))
    }

    fn ignore_silence(&mut self, now: Instant) {
        self.confirms.queue.restart_timer(now);
    }

    fn receive(&mut self, Message { payload, .. }: &Message, now: Instant) -> Result<Reply> {
        // A run that asks for nothing subscribes to nothing: what comes all the same is a broker's doing, and draws no
        // answer.
        if !self.is_confirmed() {
            return Ok(Reply::Nothing);
        }
        if let Some(reply) = self.receive_session_query(payload, now)? {
            return Ok(reply);
        }
        if let Some(reply) = self.receive_kill(payload, now)? {
            return Ok(reply);
        }
        let Some(ActiveStream { sender, session, .. }) = self.state.stream() else { return Ok(Reply::Nothing) };
        Ok(match self.confirms.receive(payload, (sender.id(), sender.salt()), now) {
            Ok(Some(News::Confirmed(seq))) => {
                self.confirms.session.open_query = None;
                self.confirms.prove(session.id, &self.sessions)?;
                Reply::Confirmed(sender.position_of(seq).position)
            }
            Ok(Some(News::Refused(seq))) => Reply::Refused(seq),
            Ok(Some(News::Copied)) => Reply::Copied,
            Ok(None) => Reply::Nothing,
            Err(rejected) => Reply::Rejected(rejected),
        })
    }

    fn query(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        self.query_session(now, rng)
    }

    fn is_orphaned(&mut self, now: Instant) -> Result<bool> {
        Ok(self.is_session_deleted(now)? && self.sessions.current().is_err())
    }

    fn is_session_ended(&self) -> bool {
        self.is_ended()
    }

    fn reseal(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<u64>> {
        if !self.space.may_write(now) {
            return Ok(None);
        }
        if let Some(stream) = self.state.stream() {
            self.ended.settled(stream);
        }
        let resealed = self.reseal_unconfirmed(now, rng);
        self.space.unless_full(resealed, now)
    }

    fn is_written(&self) -> bool {
        self.state.stream().is_some_and(|stream| stream.sender.is_closed()) && self.confirms.have_all_data()
    }

    fn seal_early_end(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        match self.state.take() {
            SealingState::Switching { next, .. } => {
                self.confirms.restart(now);
                self.enter(next);
                self.seal_next(&Content::End, None, self.buffer(), now, rng).map(Some)
            }
            unchanged => {
                self.state = unchanged;
                Ok(None)
            }
        }
    }

    fn seal_settled(&mut self, rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        if !self.confirms.are_asked_for() {
            return Ok(None);
        }
        match self.state.take() {
            SealingState::Open(stream) if stream.sender.is_closed() => {
                self.ended.settled(&stream);
                stream.sender.settled(rng).map(Some)
            }
            // What an earlier run closed has nothing more to say.
            unchanged => {
                self.state = unchanged;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::session::{Standing, pair};
    use crate::stream::{Confirmed, FIRST_SIDE_STREAM, ReservedStream};
    use crate::suite::Suite;

    #[test]
    fn a_receiver_of_another_version_says_what_it_cannot_read() {
        let ((master, slave), now, rng) = (pair(1, Suite::Gcm), Instant::now(), &mut StdRng::seed_from_u64(1));
        let mut confirms = Confirms::new(true, now);
        confirms.receiver.add(master.clone(), Standing::Current);
        let side = ReservedStream::of_side(slave.id, FIRST_SIDE_STREAM, slave.send.side.clone());
        let mut sender = Sender::new(&slave, side, [1; 8], 256).unwrap();
        let (stream, salt) = (StreamId { session: master.id, number: 4 }, [2; 8]);
        for (number, expected) in [(4, Some(9)), (5, None)] {
            let content = Content::Side(SideContent::Refused { stream: number, salt, seq: 9 });
            let refused = sender.seal(&content, None, sender.buffer(0), rng).unwrap();
            let news = confirms.receive(&refused, (stream, salt), now).unwrap();
            assert_eq!(
                news.map(|news| matches!(news, News::Refused(seq) if Some(seq) == expected)),
                expected.map(|_| true)
            );
        }
    }

    /// The copy's stream has the number of ours. What is said of it is not said of ours.
    #[test]
    fn what_is_said_of_a_copys_stream_confirms_nothing() {
        let ((master, slave), now, rng) = (pair(1, Suite::Gcm), Instant::now(), &mut StdRng::seed_from_u64(1));
        let mut confirms = Confirms::new(true, now);
        confirms.receiver.add(master.clone(), Standing::Current);
        confirms.sent(&Bytes::from_static(b"message"), 0, now);
        let side = ReservedStream::of_side(slave.id, FIRST_SIDE_STREAM, slave.send.side.clone());
        let mut sender = Sender::new(&slave, side, [1; 8], 256).unwrap();
        let (stream, ours, theirs) = (StreamId { session: master.id, number: 4 }, [2; 8], [3; 8]);
        for content in [
            SideContent::Confirm(vec![Confirmed { stream: 4, salt: theirs, next: 1 }]),
            SideContent::Refused { stream: 4, salt: theirs, seq: 0 },
        ] {
            let sealed = sender.seal(&Content::Side(content), None, sender.buffer(0), rng).unwrap();
            assert!(matches!(confirms.receive(&sealed, (stream, ours), now), Ok(Some(News::Copied))));
            assert_eq!(confirms.unconfirmed().messages, 1);
        }
        let confirm = Content::Side(SideContent::Confirm(vec![Confirmed { stream: 4, salt: ours, next: 1 }]));
        let sealed = sender.seal(&confirm, None, sender.buffer(0), rng).unwrap();
        assert!(matches!(confirms.receive(&sealed, (stream, ours), now), Ok(Some(News::Confirmed(1)))));
        assert_eq!(confirms.unconfirmed().messages, 0);
    }

    /// The receiver may have left after the last line that it wanted: then nothing after that is confirmed, however many
    /// messages that are.
    #[test]
    fn all_data_is_confirmed_once_nothing_that_is_not_carries_any() {
        let now = Instant::now();
        let sent = |data_lens: &[usize]| {
            let mut confirms = Confirms::new(true, now);
            for data_len in data_lens {
                confirms.sent(&Bytes::from_static(b"message"), *data_len, now);
            }
            confirms
        };
        let mut confirms = sent(&[5, 0, 0]);
        assert!(!confirms.have_all_data());
        confirms.queue.confirm(1, now);
        assert!(confirms.have_all_data(), "two messages without data are not confirmed");
        confirms.queue.confirm(3, now);
        assert!(!confirms.have_all_data(), "nothing waits for a confirm");
        assert!(!sent(&[0, 0]).have_all_data(), "the receiver has confirmed nothing yet");
    }

    #[test]
    fn of_what_is_sent_again_the_broker_keeps_the_newest_input_only() {
        let now = Instant::now();
        for (asked_for, expected) in [(true, vec![false, true, false]), (false, vec![])] {
            let mut confirms = Confirms::new(asked_for, now);
            for (sealed, is_input) in [("older", true), ("newest", true), ("end", false)] {
                let sealed = Bytes::from_static(sealed.as_bytes());
                confirms.sent(&sealed, 0, now);
                if is_input {
                    confirms.retained(&sealed);
                }
            }
            confirms.retransmit_all(now);
            let sent: Vec<_> = std::iter::from_fn(|| confirms.retransmit(now)).collect();
            let kept: Vec<_> = sent.iter().map(OutgoingMessage::is_value).collect();
            assert_eq!(kept, expected);
        }
    }
}
