//! The newest message of each peer, among those that the broker kept (`--last`; `sts-protocol(7)`, "The receiver").
//!
//! That the broker calls a message retained proves nothing, and neither does it that the message is the newest. What is known
//! of it is what it says itself, which is authentic, and what was received before: one that is older than that is refused.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};

use super::sessions::UsableSessions;
use crate::crypto::schedule::Digest;
use crate::link::Link;
use crate::message::{FrameType, SealedHeader};
use crate::mqtt::Message;
use crate::name::list;
use crate::peers::LinkPeers;
use crate::recv::delivery::{Completion, Delivery, Joint, LineKind, Metadata};
use crate::recv::incoming::{Disposition, GivenUp, IncomingStreams, none_retained};
use crate::report::Reporter;
use crate::sessions::{LinkSessions, SessionChanges};
use crate::stream::{HeaderClaim, Opened};
use crate::text::count;
use crate::{Error, Exit, Rejected, Result};

/// The newest retained message of each peer.
pub(in crate::recv) struct LastMessages<'a> {
    sessions: UsableSessions,
    topic: &'a str,
    /// The topic has wildcards, and there is a message for each topic that it stands for.
    many: bool,
    with_metadata: bool,
    report: &'a Reporter,
    collection: Collection,
    newest: BTreeMap<Digest, (Opened, Bytes)>,
    refused: RefusedMessages,
}

enum Collection {
    Collecting,
    /// Nothing more will come.
    Collected,
    /// What came was compared with what was received; these are still to be written.
    Judged(VecDeque<Delivery>),
}

/// The retained messages that were not good enough.
#[derive(Default)]
struct RefusedMessages {
    messages: u64,
    /// Why the last of them was not.
    why: Option<Error>,
}

impl<'a> LastMessages<'a> {
    /// The link's sessions are read, and nothing is locked or written.
    ///
    /// # Errors
    /// As [`crate::recv::run()`].
    pub(in crate::recv) fn open(
        link: &'a Link,
        peers: LinkPeers,
        with_metadata: bool,
        report: &'a Reporter,
        now: Instant,
    ) -> Result<Self> {
        let mut sessions = UsableSessions::new(LinkSessions::open(link, peers, now)?);
        sessions.adopt_all();
        if sessions.is_empty() {
            return Err(sessions.link.none_usable());
        }
        let subscribe = &link.config.subscribe;
        Ok(Self {
            sessions,
            topic: subscribe.plain(),
            many: subscribe.has_wildcard(),
            with_metadata,
            report,
            collection: Collection::Collecting,
            newest: BTreeMap::new(),
            refused: RefusedMessages::default(),
        })
    }

    /// Opens a retained message; what it says and its bytes.
    fn open_message(&self, payload: &[u8]) -> std::result::Result<(Opened, Bytes), Error> {
        let mut data = BytesMut::new();
        let opened = match FrameType::of(payload) {
            Ok(FrameType::Enc) => self.sessions.receiver.open(payload, &mut data),
            Ok(_) => Err(Rejected::Unexpected),
            Err(reason) => Err(reason),
        };
        let opened = opened.map_err(dropped)?;
        if data.is_empty() {
            return Err(unusable("the one that the broker keeps carries no data".into()));
        }
        Ok((opened, data.freeze()))
    }

    /// Why a message does not open of which the keys are gone: by what it says, it was received before.
    fn received_before(&mut self, payload: &[u8], now: Instant) -> Result<Option<Error>> {
        let Ok(header) = SealedHeader::parse(payload) else { return Ok(None) };
        self.sessions.look(now)?;
        let claim = self
            .sessions
            .receiver
            .claim(payload)
            .filter(|(.., claim)| matches!(claim, HeaderClaim::Ended { .. } | HeaderClaim::EndedBefore));
        Ok(claim.map(|(peer, stream, _)| outdated(&self.sessions.loaded_peer_name(&peer), stream.number, header.seq)))
    }

    /// Keeps a message if it is the newest of its peer; true if it is.
    fn keep(&mut self, opened: Opened, data: Bytes) -> bool {
        let known = self.newest.get(&opened.peer);
        let is_newer = known.is_none_or(|(known, _)| self.sessions.receiver.is_later(&opened, known));
        if is_newer {
            self.newest.insert(opened.peer, (opened, data));
        }
        is_newer
    }

    fn refuse(&mut self, why: Error) {
        self.refused.messages += 1;
        self.refused.why = Some(why);
    }

    /// Compares what came with what was received up to now; returns what is to be written, by name of the peer.
    fn judge(&mut self, now: Instant) -> Result<VecDeque<Delivery>> {
        self.sessions.look(now)?;
        let name_of = |opened: &Opened| self.sessions.loaded_peer_name(&opened.peer);
        let newest = self.newest.values().map(|(opened, data)| (name_of(opened), opened.clone(), data.clone()));
        let mut newest: Vec<_> = newest.collect();
        newest.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut deliveries = VecDeque::new();
        for (peer, opened, data) in newest {
            let (stream, seq) = (opened.stream.number, opened.seq);
            // A session is gone with its peer, too.
            let is_gone = self.sessions.receiver.session(opened.stream.session).is_none();
            if is_gone || self.sessions.receiver.is_outdated(&opened) {
                self.newest.remove(&opened.peer);
                self.refuse(if is_gone { dropped(Rejected::UnknownSession) } else { outdated(&peer, stream, seq) });
                continue;
            }
            let (received, sent) = (SystemTime::now(), opened.head.sent);
            let metadata = || Metadata::Sealed { peer, stream, seq, kind: LineKind::Input, received, sent };
            let metadata = self.with_metadata.then(metadata);
            deliveries.push_back(Delivery::new(opened.stream, data, Joint::Ends, metadata, Completion::default()));
        }
        Ok(deliveries)
    }
}

fn unusable(why: String) -> Error {
    Error::new(Exit::TryAgain, "no retained message").because(why)
}

fn dropped(reason: Rejected) -> Error {
    let error = unusable(format!("the one that the broker keeps was dropped: {reason}"));
    match reason {
        Rejected::UnknownSession => error.hint("its session was deleted; the sender's next message will replace it"),
        _ => error,
    }
}

fn outdated(peer: &str, stream: u32, seq: u32) -> Error {
    Error::new(Exit::TryAgain, "the retained message is older than what was received")
        .because(format!("{peer}, stream {stream}, message {seq}"))
        .hint("the sender's next message will replace it; if it does not, the broker is replaying an old message")
}

impl SessionChanges for LastMessages<'_> {}

impl IncomingStreams for LastMessages<'_> {
    fn receive(&mut self, message: Message, now: Instant) -> Result<Disposition> {
        if !message.retain || !matches!(self.collection, Collection::Collecting) {
            return Ok(Disposition::Drop(message.receipt));
        }
        if !self.many {
            self.collection = Collection::Collected;
        }
        // A peer that was forgotten is not heard any more.
        self.sessions.look_for_sessions(now)?;
        let is_newest = match self.open_message(&message.payload) {
            Ok((opened, data)) => self.keep(opened, data),
            Err(why) => {
                let why = self.received_before(&message.payload, now)?.unwrap_or(why);
                self.refuse(why);
                false
            }
        };
        Ok(if is_newest { Disposition::Hold { is_followed: true } } else { Disposition::Drop(message.receipt) })
    }

    fn reject_oversize(&mut self, len: usize, _now: Instant) {
        self.refuse(unusable(format!("a message of {len} bytes was dropped: too large")));
    }

    fn next_released(&mut self, given_up: GivenUp<'_>, now: Instant) -> Result<Option<Disposition>> {
        let is_collected = match self.collection {
            Collection::Collecting => matches!(given_up, GivenUp::All),
            Collection::Collected => true,
            Collection::Judged(_) => false,
        };
        if is_collected {
            self.collection = Collection::Judged(self.judge(now)?);
        }
        let Collection::Judged(deliveries) = &mut self.collection else { return Ok(None) };
        Ok(deliveries.pop_front().map(Disposition::Deliver))
    }

    fn is_complete(&self) -> bool {
        // A run that got nothing timed out.
        let has_result = !self.newest.is_empty() || self.refused.messages > 0;
        has_result && matches!(&self.collection, Collection::Judged(deliveries) if deliveries.is_empty())
    }

    fn verdict(&mut self, _timed_out: bool) -> Result<()> {
        if self.newest.is_empty() {
            return Err(self.refused.why.take().unwrap_or_else(|| none_retained(self.topic)));
        }
        if let Some(why) = &self.refused.why {
            self.report
                .warning(format_args!("not written: {}; {why}", count(self.refused.messages, "retained message")));
        }
        let accepted = self.sessions.link.accepted().iter();
        let silent: Vec<_> =
            accepted.filter(|peer| !self.newest.contains_key(peer.key.fingerprint().as_bytes())).collect();
        if !silent.is_empty() {
            let names = list(silent.iter().map(|peer| peer.name.as_str()));
            self.report.verbose(format_args!("no retained message of {names}"));
        }
        Ok(())
    }
}
