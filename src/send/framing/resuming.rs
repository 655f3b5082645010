//! Streams that outlive the process that began them: what a spool knows of them is sealed once more, and gone on from.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::CryptoRng;

use super::{Sealing, UNCONFIRMED};
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::session::Session;
use crate::spool::{Close, SpooledStream, StreamHeader};
use crate::stream::{RetransmitQueue, Sender, StreamId};

impl Sealing {
    /// The peer of the session to send under.
    pub(in crate::send) fn peer(&self) -> Result<Digest> {
        self.current().map(|session| session.peer)
    }

    /// Whether messages ask for confirms.
    pub(in crate::send) fn asks(&self) -> bool {
        self.confirms.is_some()
    }

    /// Takes up a stream that a spool knows, at its record `next`; false where its session is gone.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::reserve_stream_again`].
    pub(in crate::send) fn resume(
        &mut self,
        stream: &SpooledStream,
        next: u64,
        sealed: u64,
        now: Instant,
    ) -> Result<bool> {
        let StreamHeader { stream: StreamId { session: id, number }, salt } = stream.header;
        let peers = self.ends.accepted()?;
        let usable = |session: &Session| session.id == id && self.ends.peer_of(session, &peers).is_some();
        let Some(session) = self.watch.sessions().map(|stored| &stored.session).find(|session| usable(session)) else {
            self.stream = None;
            return Ok(false);
        };
        let session = session.clone();
        let taken = self.cache.reserve_stream_again(&session.peer, &id, number)?;
        let sender = Sender::new(&session, taken, salt, self.max_message)?;
        let mut sender = if stream.wants_confirms { sender.ask_for_confirms() } else { sender };
        sender.skip_to(stream.resume_seq(next));
        if let Some(confirms) = &mut self.confirms {
            // What closes it may have been sent, too.
            let known = stream.close.map_or(stream.seq(sealed), |(until, _)| stream.seq(until) + 1);
            confirms.window = RetransmitQueue::resumed(sender.next_seq(), known, UNCONFIRMED, now);
        }
        self.stale = self.current()?.id != id;
        self.topics = session.topics.clone();
        self.stream = Some((sender, session));
        Ok(true)
    }

    /// Takes up a fresh stream of the current session.
    pub(in crate::send) fn fresh(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<StreamHeader> {
        self.stream = None;
        let (sender, _) = self.stream(now, rng)?;
        let place = place_of(sender);
        if let Some(confirms) = &mut self.confirms {
            confirms.window = RetransmitQueue::new(0, UNCONFIRMED, now);
        }
        Ok(place)
    }

    /// Takes the number of the stream to go on in, where that is due.
    pub(in crate::send) fn next_due(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Option<StreamHeader>> {
        let Some(newest) = self.due(now)? else { return Ok(None) };
        Ok(Some(place_of(&self.take(&newest, rng)?)))
    }

    /// The first message of a stream that goes on from another, where it was not sealed yet.
    pub(in crate::send) fn open_stream(
        &mut self,
        stream: &SpooledStream,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<Bytes>> {
        let is_new = self.stream.as_ref().is_some_and(|(sender, _)| sender.next_seq() == 0);
        stream.predecessor.filter(|_| is_new).map(|predecessor| self.begin_after(predecessor, rng)).transpose()
    }

    /// Closes the stream: by an end, or where it goes on.
    pub(in crate::send) fn close(&mut self, close: &Close, now: Instant, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let (sender, _) = self.stream.as_mut().expect("only a stream is closed");
        let sealed = match close {
            Close::End => sender.end(sender.buffer(0), rng)?,
            Close::Continued(place) => sender.continued_in(place.stream, rng)?,
        };
        if let Some(confirms) = &mut self.confirms {
            confirms.window.push(sealed.clone(), now);
        }
        Ok(sealed)
    }

    pub(in crate::send) fn buffer(&self) -> BytesMut {
        self.stream.as_ref().map(|(sender, _)| sender.buffer(0)).unwrap_or_default()
    }
}

fn place_of(sender: &Sender) -> StreamHeader {
    StreamHeader { stream: sender.id(), salt: sender.salt() }
}
