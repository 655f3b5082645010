//! The hostile broker's state: sessions, messages in flight and delayed ones. MQTT 3.1.1, exact topics only.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error, QoS};

use super::broker::{Connection, Filter, Input, Output};
use super::mischief::{Answer, Fate, Mischief};

/// Most unacknowledged messages to a client.
const WINDOW: usize = 20;

pub(super) struct Hub {
    inbox: Receiver<Input>,
    lines: HashMap<Connection, Line>,
    clients: HashMap<String, Client>,
    agenda: BTreeMap<(Instant, u64), Due>,
    order: u64,
    silent_until: Option<Instant>,
    mischief: Mischief,
    filter: Filter,
}

/// One connection.
struct Line {
    outputs: Sender<Output>,
    client: Option<String>,
    input: BytesMut,
}

/// One client's session.
#[derive(Default)]
struct Client {
    line: Option<Connection>,
    durable: bool,
    subscriptions: HashMap<String, QoS>,
    queue: VecDeque<Publish>,
    /// Messages to the client that are not completed; `true` once PUBREC has arrived.
    flights: BTreeMap<u16, (Publish, bool)>,
    next_id: u16,
    /// Packet ids of messages from the client at QoS 2, between PUBLISH and PUBREL.
    held: HashSet<u16>,
}

/// An event that was delayed.
enum Due {
    Bytes(Connection, Vec<u8>),
    Packet(Connection, Packet),
    Route(Publish),
    Cut(Connection),
}

impl Hub {
    pub(super) fn new(inbox: Receiver<Input>) -> Self {
        Self {
            inbox,
            lines: HashMap::new(),
            clients: HashMap::new(),
            agenda: BTreeMap::new(),
            order: 0,
            silent_until: None,
            mischief: Mischief::none(),
            filter: Box::new(|_, _| Fate::Pass),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
                let due = entry.remove();
                self.due(due);
            }
            let next = self.agenda.first_key_value().map(|((at, _), _)| at.saturating_duration_since(now));
            match self.inbox.recv_timeout(next.unwrap_or(Duration::from_secs(3600))) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn put_off(&mut self, wait: Duration, due: Due) {
        self.order += 1;
        self.agenda.insert((Instant::now() + wait, self.order), due);
    }

    fn due(&mut self, due: Due) {
        match due {
            Due::Bytes(line, bytes) => self.bytes(line, &bytes),
            Due::Packet(line, packet) => self.send(line, &packet),
            Due::Route(publish) => self.pass_on(&publish),
            Due::Cut(line) => self.cut(line),
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Accepted(line, outputs) => {
                let new = Line { outputs, client: None, input: BytesMut::new() };
                self.lines.insert(line, new);
            }
            Input::Bytes(line, bytes) => {
                if let Some(silence) = self.mischief.silence() {
                    let until = Instant::now() + silence;
                    self.silent_until = Some(self.silent_until.map_or(until, |old| old.max(until)));
                }
                match self.silent_until {
                    // Also just after that time: what was delayed until then goes first.
                    Some(until) if until > Instant::now() || self.puts_off(line) => {
                        self.order += 1;
                        self.agenda.insert((until, self.order), Due::Bytes(line, bytes));
                    }
                    _ => self.bytes(line, &bytes),
                }
            }
            Input::Gone(line) => self.gone(line),
            Input::Mischief(mischief) => self.mischief = *mischief,
            Input::Filter(filter) => self.filter = filter,
            Input::Forget => {
                self.clients.retain(|_, client| client.line.is_some());
                self.agenda.retain(|_, due| !matches!(due, Due::Route(_)));
            }
            Input::Stop => unreachable!("the loop takes it"),
        }
    }

    fn puts_off(&self, line: Connection) -> bool {
        self.agenda.values().any(|due| matches!(due, Due::Bytes(of, _) if *of == line))
    }

    fn bytes(&mut self, line: Connection, bytes: &[u8]) {
        let Some(of) = self.lines.get_mut(&line) else { return };
        of.input.extend_from_slice(bytes);
        while let Some(of) = self.lines.get_mut(&line) {
            match Packet::read(&mut of.input, usize::MAX) {
                Ok(packet) => self.packet(line, packet),
                Err(Error::InsufficientBytes(_)) => return,
                Err(error) => panic!("a client sent no MQTT: {error}"),
            }
        }
    }

    fn packet(&mut self, line: Connection, packet: Packet) {
        if let Packet::Connect(connect) = packet {
            return self.connect(line, &connect);
        }
        let Some(id) = self.lines[&line].client.clone() else { panic!("{packet:?} before CONNECT") };
        let Some(client) = self.clients.get_mut(&id) else { return self.cut(line) };
        match packet {
            Packet::Publish(publish) => {
                let (qos, pkid) = (publish.qos, publish.pkid);
                let is_new = qos != QoS::ExactlyOnce || client.held.insert(pkid);
                if is_new && !self.route(publish) {
                    self.clients.get_mut(&id).expect("it sent this").held.remove(&pkid);
                    return;
                }
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.answer(line, &Packet::PubAck(PubAck::new(pkid))),
                    QoS::ExactlyOnce => self.answer(line, &Packet::PubRec(PubRec::new(pkid))),
                }
            }
            Packet::PubRel(rel) => {
                client.held.remove(&rel.pkid);
                self.answer(line, &Packet::PubComp(PubComp::new(rel.pkid)));
            }
            Packet::PubAck(PubAck { pkid }) | Packet::PubComp(PubComp { pkid }) => {
                client.flights.remove(&pkid);
                self.deliver(&id);
            }
            Packet::PubRec(ack) => {
                if let Some((_, released)) = client.flights.get_mut(&ack.pkid) {
                    *released = true;
                }
                self.send(line, &Packet::PubRel(PubRel::new(ack.pkid)));
            }
            Packet::Subscribe(subscribe) => {
                let granted = subscribe.filters.iter().map(|filter| SubscribeReasonCode::Success(filter.qos)).collect();
                client.subscriptions.extend(subscribe.filters.into_iter().map(|filter| (filter.path, filter.qos)));
                self.answer(line, &Packet::SubAck(SubAck::new(subscribe.pkid, granted)));
            }
            Packet::PingReq => self.send(line, &Packet::PingResp),
            Packet::Disconnect => self.gone(line),
            other => panic!("not expected: {other:?}"),
        }
    }

    fn connect(&mut self, line: Connection, connect: &Connect) {
        let id = connect.client_id.clone();
        if let Some(old) = self.clients.get(&id).and_then(|client| client.line) {
            self.cut(old);
        }
        let known = self.clients.get(&id).is_some_and(|client| client.durable) && !connect.clean_session;
        let present = known && !self.mischief.forgets();
        if !present {
            self.clients.insert(id.clone(), Client::default());
        }
        let client = self.clients.get_mut(&id).expect("it is there now");
        (client.line, client.durable) = (Some(line), !connect.clean_session);
        let again: Vec<Packet> = client
            .flights
            .iter()
            .map(|(pkid, (publish, released))| match released {
                true => Packet::PubRel(PubRel::new(*pkid)),
                false => Packet::Publish(Publish { dup: true, ..publish.clone() }),
            })
            .collect();
        self.lines.get_mut(&line).expect("it sent this").client = Some(id.clone());
        self.send(line, &Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, present)));
        for packet in &again {
            self.send(line, packet);
        }
        self.deliver(&id);
    }

    /// Decides about a message from a client: first the test, then chance. False if there is no answer to it.
    fn route(&mut self, publish: Publish) -> bool {
        let mut fate = (self.filter)(&publish.topic, &publish.payload);
        if fate == Fate::Pass {
            fate = self.mischief.fate();
        }
        match fate {
            Fate::Pass => self.pass_on(&publish),
            Fate::Drop => {}
            Fate::Swallow => return false,
            Fate::Late(wait) => self.put_off(wait, Due::Route(publish)),
            Fate::Twice(wait) => {
                self.pass_on(&publish);
                self.put_off(wait, Due::Route(publish));
            }
        }
        true
    }

    fn pass_on(&mut self, publish: &Publish) {
        let mut to = Vec::new();
        for (id, client) in &mut self.clients {
            if let Some(granted) = client.subscriptions.get(&publish.topic) {
                let qos = if (*granted as u8) < publish.qos as u8 { *granted } else { publish.qos };
                client.queue.push_back(Publish { qos, dup: false, pkid: 0, ..publish.clone() });
                to.push(id.clone());
            }
        }
        for id in to {
            self.deliver(&id);
        }
    }

    /// Sends a client what fits into its window.
    fn deliver(&mut self, id: &str) {
        while let Some(client) = self.clients.get_mut(id)
            && let Some(line) = client.line
            && client.flights.len() < WINDOW
            && let Some(mut publish) = client.queue.pop_front()
        {
            if publish.qos != QoS::AtMostOnce {
                client.next_id = client.next_id % 1000 + 1;
                publish.pkid = client.next_id;
                client.flights.insert(publish.pkid, (publish.clone(), false));
            }
            self.send(line, &Packet::Publish(publish));
        }
    }

    fn answer(&mut self, line: Connection, packet: &Packet) {
        match self.mischief.answer() {
            Answer::Now => self.send(line, packet),
            Answer::Late(wait) => self.put_off(wait, Due::Packet(line, packet.clone())),
            Answer::Twice(wait) => {
                self.send(line, packet);
                self.put_off(wait, Due::Packet(line, packet.clone()));
            }
            Answer::Never(wait) => self.put_off(wait, Due::Cut(line)),
        }
    }

    fn send(&mut self, line: Connection, packet: &Packet) {
        if !self.lines.contains_key(&line) {
            return;
        }
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        let half = bytes.len() / 2;
        if self.mischief.cuts() {
            self.lines[&line].outputs.send(Output::Bytes(bytes[..half].to_vec())).ok();
            return self.cut(line);
        }
        self.lines[&line].outputs.send(Output::Bytes(bytes.to_vec())).ok();
    }

    fn cut(&mut self, line: Connection) {
        if let Some(of) = self.lines.get(&line) {
            of.outputs.send(Output::Cut).ok();
        }
        self.gone(line);
    }

    /// A connection ended: deletes its session if that was to end with it.
    fn gone(&mut self, line: Connection) {
        let Some(Line { client: Some(id), .. }) = self.lines.remove(&line) else { return };
        if let Some(client) = self.clients.get_mut(&id).filter(|client| client.line == Some(line)) {
            client.line = None;
            if !client.durable {
                self.clients.remove(&id);
            }
        }
    }
}
