//! Claim: what is accepted and not written of a stream that another one closes, or puts into another sequence, is still wanted
//! by the next run, and its repetition is acknowledged no earlier than it.

mod history;
mod kill;
mod recall;
mod run_end;

use std::collections::VecDeque;

use super::super::admissions::Admissions;
use super::super::ended_sessions::EndedSessions;
use super::super::key_checks::KeyChecks;
use super::super::lost_ends::LostEnds;
use super::super::reports::Reports;
use super::*;
use crate::config::{Config, ConfigSource};
use crate::mqtt::Qos;
use crate::recv::incoming::{GivenUp, IncomingStreams};
use crate::report::{Level, Reporter};
use crate::stream::{Continues, EndedStream, Preamble, StreamId};

/// A run on a link with one device, of which a session is loaded.
struct Run<'a> {
    streams: SealedStreams<'a>,
    device: Session,
    now: Instant,
    /// Whether it follows one stream.
    once: bool,
    _home: tempfile::TempDir,
}

fn silent() -> Reporter {
    Reporter::to("sts-test", Level::Error, Box::new(std::io::sink()))
}

impl<'a> Run<'a> {
    fn new(report: &'a Reporter) -> Self {
        Self::of_sessions(report, &[1]).0
    }

    /// A run with these sessions, oldest first; also returns the device's ends of them.
    fn of_sessions(report: &'a Reporter, seeds: &[u8]) -> (Self, Vec<Session>) {
        let mut gateway = Gateway::new();
        let ends: Vec<_> = seeds.iter().map(|seed| gateway.agree(0, *seed)).collect();
        let device = ends[0].clone();
        gateway.look();
        let source = ConfigSource { link: "plant".parse().unwrap(), path: "plant.conf".into() };
        let text = "sts_mode = slave\nsubtop = plant/+/up\npubtop = plant/+/down\n";
        let config = Config::parse(&source, text, &[], &mut |_| panic!("no file is read")).unwrap().config;
        let Gateway { home, sessions, log, .. } = gateway;
        let received = ReceivedStreams {
            sessions,
            admissions: Admissions::new(false),
            checks: KeyChecks::of(&[], log.state()),
            log,
            ended: EndedSessions::default(),
            lost_ends: LostEnds::default(),
            reports: Reports::new(report, &config),
            unrecorded: Vec::new(),
            promoted: VecDeque::new(),
        };
        let streams = SealedStreams { received, plaintext: BytesMut::new(), with_metadata: false, is_complete: false };
        (Self { streams, device, now: Instant::now(), once: false, _home: home }, ends)
    }

    fn sender(&self, number: u32) -> Sender {
        sender(&self.device, number)
    }

    /// Nothing more is waited for where `was_held`.
    fn take(&mut self, payload: &bytes::Bytes, was_held: bool) -> Disposition {
        self.streams.receive_sealed(from_broker(payload), was_held, self.now).unwrap()
    }

    /// What becomes of a message that comes from the broker.
    fn receive(&mut self, payload: &bytes::Bytes) -> Disposition {
        self.streams.receive(from_broker(payload), self.now).unwrap()
    }

    fn accept(&mut self, payload: &bytes::Bytes, was_held: bool) -> Delivery {
        let Disposition::Deliver(delivery) = self.take(payload, was_held) else { panic!("it is not accepted") };
        delivery
    }

    fn write(&mut self, delivery: Delivery) {
        self.streams.record(&[delivery.completion], self.now).unwrap();
    }

    /// What is to be written down without a message.
    fn next(&mut self) -> Option<Delivery> {
        let Disposition::Deliver(delivery) = self.streams.next_released(GivenUp::Nothing, self.now).unwrap()? else {
            panic!("nothing is held")
        };
        Some(delivery)
    }

    /// Writes down all that is, without a message.
    fn write_all(&mut self) {
        while let Some(delivery) = self.next() {
            self.write(delivery);
        }
    }

    /// The next seq that a run wants which begins now, and whether nothing of the stream is accepted any more.
    fn written(&self, stream: StreamId) -> (u32, bool) {
        let streams = self.streams.received.log.state().session(stream.session).map(|(streams, _)| streams);
        streams.map_or((0, false), |streams| {
            (streams.next_seq(stream.number).unwrap_or(0), streams.is_over(stream.number))
        })
    }

    /// How many messages are written down as lost.
    fn lost(&self) -> u64 {
        self.streams.received.log.state().session(self.device.id).map_or(0, |(_, counters)| counters.lost)
    }

    /// Whether this run, in which nothing came yet, and those after it follow one stream.
    fn follow_one(&mut self, once: bool) {
        self.once = once;
        self.streams.received.admissions = Admissions::new(once);
    }

    /// The run is killed, and the next one begins and reaches the broker.
    fn restart(&mut self) {
        self.restart_without_broker();
        self.streams.subscribed(self.now);
    }

    /// The run is killed or over, and the next one begins.
    fn restart_without_broker(&mut self) {
        let received = &mut self.streams.received;
        let peer = peer_key(&self.device.own);
        received.sessions.see_anew();
        received.sessions.receiver.unload(&self.device.own);
        received.sessions.link.unload(&[peer]);
        received.sessions.load(peer, &mut received.log).unwrap();
        (received.admissions, received.lost_ends) = (Admissions::new(self.once), LostEnds::default());
        received.unrecorded.clear();
        received.log.beginnings.clear();
        received.log.wills.clear();
        received.recall_lost_ends(self.now).unwrap();
    }
}

fn from_broker(payload: &bytes::Bytes) -> Message {
    let (payload, receipt) = (payload.clone(), Receipt::of(Qos::AtLeastOnce, 1));
    Message { topic: String::new(), payload, qos: Qos::AtLeastOnce, retain: false, dup: false, receipt }
}

/// A stream that continues another one, from this position on.
fn continuing(run: &Run<'_>, number: u32, before: &Sender, position: u64) -> Sender {
    let mut sender = run.sender(number);
    let continues = Some(Continues { origin: before.origin(), position });
    sender.begin_with(Preamble { continues, ..Preamble::default() });
    sender
}

/// A stream that continues another one, from this position on; its first message is lost.
fn headless(run: &Run<'_>, number: u32, before: &Sender, position: u64) -> Sender {
    let mut sender = continuing(run, number, before, position);
    let _lost = message(&mut sender);
    sender
}

fn told(stream: &Sender, count: u32, continues: Option<Continues>) -> EndedStream {
    EndedStream { stream: stream.id(), salt: stream.salt(), count: Some(count), continues }
}

#[test]
fn a_stream_that_is_closed_is_over_once_all_that_came_of_it_is_written() {
    // The keys of a stream of which the broker keeps messages stay: what comes again is authentic.
    for kept in [false, true] {
        closed_and_over(kept);
    }
}

fn closed_and_over(kept: bool) {
    let report = silent();
    let mut run = Run::new(&report);
    let mut closed = run.sender(0);
    closed.begin_with(Preamble { kept, ..Preamble::default() });
    let first = message(&mut closed);
    let will = closed.will(0, b"gone\n", &mut StdRng::seed_from_u64(1)).unwrap();
    let waiting = [&first, &will].map(|message| run.accept(message, false));
    // Its first message would say whether it continues the other one.
    let mut later = headless(&run, 1, &run.sender(9), 0);
    let closing = run.accept(&message(&mut later), true);
    run.write(closing);
    assert_eq!((run.written(closed.id()), run.written(later.id())), ((0, false), (2, false)));
    assert!(run.next().is_none(), "the first run may be killed before it is written");
    for repeated in [&first, &will] {
        let stream = closed.id();
        assert!(matches!(run.take(repeated, false), Disposition::Repeat { stream: of, .. } if of == stream));
    }
    for delivery in waiting {
        run.write(delivery);
    }
    assert_eq!(run.written(closed.id()), (1, false));
    let closing = run.next().unwrap();
    assert_eq!(closing.stream, closed.id(), "after what still waits of it");
    run.write(closing);
    assert_eq!(run.written(closed.id()), (0, true));
    assert!(run.next().is_none());
}

#[test]
fn a_stream_is_put_into_its_sequence_once_all_that_came_of_both_is_written() {
    let report = silent();
    for goes_on in [false, true] {
        let mut run = Run::new(&report);
        let mut one = run.sender(0);
        let waiting = run.accept(&message(&mut one), false);
        let mut two = headless(&run, 1, &one, 3);
        let second = run.accept(&message(&mut two), true);
        run.write(second);
        let mut teller = run.sender(2);
        let continues = Some(Continues { origin: one.origin(), position: 3 });
        teller.begin_with(Preamble { ended: vec![told(&two, 2, continues)], ..Preamble::default() });
        let telling = run.accept(&message(&mut teller), false);
        run.write(telling);
        assert!(run.next().is_none() && run.written(one.id()) == (0, false));
        let more = goes_on.then(|| run.accept(&message(&mut two), false));
        run.write(waiting);
        let mut lost = 0;
        while let Some(delivery) = run.next() {
            lost += usize::from(delivery.completion.follows_gap());
            run.write(delivery);
        }
        if let Some(more) = more {
            run.write(more);
        }
        assert_eq!(lost, 1, "messages 1 and 2 of the sequence");
        assert!(run.written(one.id()).1);
        assert_eq!(run.written(two.id()), (2 + u32::from(goes_on), false));
        let (streams, _) = run.streams.received.log.state().session(run.device.id).unwrap();
        let of_two = streams.open(run.device.id).into_iter().find(|open| open.stream == two.id()).unwrap();
        let position = 5 + u64::from(goes_on);
        assert_eq!((of_two.sequence.origin, of_two.sequence.position), (one.origin(), position));
    }
}

/// Else it would count as placed where it is announced, though it is not there.
#[test]
fn a_stream_that_is_announced_after_it_began_without_its_first_message_is_put_into_its_sequence_when_that_is_told() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut origin = run.sender(0);
    let written = run.accept(&message(&mut origin), false);
    run.write(written);
    let mut one = continuing(&run, 1, &origin, 1);
    let first = message(&mut one);
    let buffer = one.buffer(0);
    let named = StreamId { session: run.device.id, number: 2 };
    let last = one.seal(&Content::Continued(named), None, buffer, &mut StdRng::seed_from_u64(1)).unwrap();
    let mut two = headless(&run, 2, &origin, 2);
    for late in [message(&mut two), first, last, message(&mut two)] {
        let written = run.accept(&late, true);
        run.write(written);
    }
    let mut three = continuing(&run, 3, &origin, 5);
    let ended = vec![told(&two, 3, two.continues())];
    three.begin_with(Preamble { ended, continues: three.continues(), ..Preamble::default() });
    let third = run.accept(&message(&mut three), true);
    assert!(!third.completion.follows_gap(), "all before it came");
    run.write(third);
    run.write_all();
    assert_eq!(run.lost(), 1, "the first message of the second stream");
}

#[test]
fn an_end_that_is_lost_is_over_once_all_that_came_of_the_stream_is_written() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut cut = run.sender(0);
    let waiting = run.accept(&message(&mut cut), false);
    let mut teller = run.sender(1);
    teller.begin_with(Preamble { ended: vec![told(&cut, 5, None)], ..Preamble::default() });
    let telling = run.accept(&message(&mut teller), false);
    run.write(telling);
    run.now += Duration::from_secs(5);
    assert!(run.next().is_none());
    run.write(waiting);
    let ended = run.next().unwrap();
    assert!(ended.completion.follows_gap());
    run.write(ended);
    assert!(run.written(cut.id()).1);
}

#[test]
fn a_stream_that_an_earlier_run_began_is_printed_as_its_sequence() {
    let report = silent();
    let mut run = Run::new(&report);
    let [mut one, mut two, mut three] = [0, 1, 2].map(|number| run.sender(number));
    for (sender, position) in [(&mut two, 1), (&mut three, 3)] {
        let continues = Some(Continues { origin: one.origin(), position });
        sender.begin_with(Preamble { continues, ..Preamble::default() });
    }
    for sender in [&mut one, &mut two] {
        let delivery = run.accept(&message(sender), false);
        run.write(delivery);
    }
    run.streams.received.admissions = Admissions::new(false);
    let printed = [&mut two, &mut three].map(|sender| run.accept(&message(sender), false).stream);
    assert_eq!(printed, [one.id(); 2]);
}

/// The sender's newer stream carries the sequence then, or one that may be it.
#[test]
fn a_stream_of_which_nothing_is_written_yet_is_wanted_after_a_kill_whatever_came_of_newer_ones() {
    let report = silent();
    for (is_headless, is_told) in [(false, true), (true, false), (true, true)] {
        let mut run = Run::new(&report);
        let mut origin = run.sender(0);
        let written = run.accept(&message(&mut origin), false);
        run.write(written);
        let mut unwritten = continuing(&run, 1, &origin, 1);
        let mut came: Vec<_> = (0..2).map(|_| message(&mut unwritten)).skip(usize::from(is_headless)).collect();
        let buffer = unwritten.buffer(0);
        came.push(unwritten.seal(&Content::End, None, buffer, &mut StdRng::seed_from_u64(1)).unwrap());
        let _waiting: Vec<_> = came.iter().map(|message| run.accept(message, true)).collect();
        // One of which it is told later that it continues the same, or one that says so itself.
        let mut newer = if is_told { headless(&run, 2, &origin, 3) } else { continuing(&run, 2, &origin, 3) };
        let written = run.accept(&message(&mut newer), true);
        run.write(written);
        if is_told {
            let mut teller = continuing(&run, 3, &origin, 5);
            let ended = [&unwritten, &newer].map(|of| told(of, 2, of.continues())).to_vec();
            teller.begin_with(Preamble { ended, continues: teller.continues(), ..Preamble::default() });
            let written = run.accept(&message(&mut teller), true);
            run.write(written);
            run.write_all();
        }
        run.restart();
        let repeated: Vec<_> = came.iter().map(|message| run.take(message, true)).collect();
        let data = repeated.iter().filter_map(|repeated| match repeated {
            Disposition::Deliver(delivery) => Some(delivery.data.len()),
            _ => None,
        });
        assert_eq!(data.sum::<usize>(), 4 * (came.len() - 1), "headless: {is_headless}, told: {is_told}");
    }
}

#[test]
fn a_stream_that_was_put_into_its_sequence_is_wanted_after_a_kill_though_another_one_continues_it() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut origin = run.sender(0);
    let mut unwritten = headless(&run, 1, &origin, 1);
    let written = run.accept(&message(&mut origin), false);
    run.write(written);
    let repeated = message(&mut unwritten);
    let _waiting = run.accept(&repeated, true);
    let mut teller = run.sender(2);
    teller.begin_with(Preamble { ended: vec![told(&unwritten, 2, unwritten.continues())], ..Preamble::default() });
    let mut newer = continuing(&run, 3, &origin, 3);
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    // It is written after what waits, as that is printed before all that is printed as their sequence.
    assert_eq!(run.streams.take_joined().last(), Some(&(unwritten.id(), origin.id())));
    assert_eq!(run.accept(&message(&mut newer), false).stream, origin.id());
    run.write_all();
    run.restart();
    assert_eq!(run.accept(&repeated, true).data, b"data"[..]);
}

#[test]
fn a_stream_that_is_told_to_continue_another_one_is_printed_as_its_sequence_after_what_waits_of_both() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut one = run.sender(0);
    let written = run.accept(&message(&mut one), false);
    run.write(written);
    let mut two = headless(&run, 1, &one, 1);
    let [second, more] = [(); 2].map(|()| message(&mut two));
    assert_eq!(run.accept(&second, true).stream, two.id());
    let mut three = continuing(&run, 2, &one, 3);
    let ended = vec![told(&two, 2, two.continues())];
    three.begin_with(Preamble { ended, continues: three.continues(), ..Preamble::default() });
    let third = run.accept(&message(&mut three), true);
    assert_eq!(third.stream, one.id());
    let joined = run.streams.take_joined();
    assert_eq!(joined.last(), Some(&(two.id(), one.id())));
    for repeated in [&second, &more] {
        assert!(matches!(run.take(repeated, true), Disposition::Repeat { stream, .. } if stream == one.id()));
    }
    run.write(third);
    run.write_all();
    run.restart();
    assert_eq!(run.accept(&second, true).data, b"data"[..]);
}
