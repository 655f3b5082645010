//! Claim: a run receives from a peer that was unloaded as if it had stayed, and under no session that is gone.

mod unwritten;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::receive_log::ReceiveLog;
use super::sessions::UsableSessions;
use super::*;
use crate::cache::{Cache, PeerKey, Watch, peer_key};
use crate::config::Sealed;
use crate::files::{Dir, Guard};
use crate::handshake::session_check::{SessionPresence, SessionQuery};
use crate::identity::{Identity, PeersStore, PublicKey};
use crate::peers::Reach;
use crate::role::Role;
use crate::route::{Pattern, Route};
use crate::session::{Session, SessionId, pair};
use crate::sessions::{Answer, LinkSessions};
use crate::stream::{Progress, ReservedStream, Sender};
use crate::suite::Suite;

const NOW: u64 = 1_000;

/// A gateway with two devices, in a `known_peers` that is large enough for an index.
struct Gateway {
    home: tempfile::TempDir,
    sessions: UsableSessions,
    log: ReceiveLog,
    own: PublicKey,
    devices: [PublicKey; 2],
}

/// The keys of the gateway and its devices: made once, as that takes long.
static KEYS: LazyLock<[PublicKey; 3]> = LazyLock::new(|| {
    [1, 2, 3].map(|seed| Identity::generate_bits(&mut StdRng::seed_from_u64(seed), 2048).unwrap().public().clone())
});

impl Gateway {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let [own, one, other] = KEYS.clone();
        let devices = [one, other];
        let open = |name: &str| Dir::create(&home.path().join(name), Guard::Private).unwrap();
        let mut known = format!("# {}\n", "a remark ".repeat(8 << 10));
        for (number, device) in devices.iter().enumerate() {
            writeln!(known, "{}", device.to_line(&format!("s{number}").parse().unwrap())).unwrap();
        }
        let keys = open("keys");
        fs::write(keys.join("known_peers"), known).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options().write(true).open(keys.join("known_peers")).unwrap().set_modified(hour_ago).unwrap();

        let store = PeersStore::new(keys, Some(open("run")));
        let sealed = Sealed { role: Role::Slave, suite: Suite::Gcm, peers: Vec::new(), channel: None };
        let route = Route::Each(Pattern { listen: "plant/+/up".into(), publish: "plant/+/down".into() });
        let link = "plant".parse().unwrap();
        let peers = LinkPeers::of_device(link, own.clone(), store, &sealed, route, Reach::Senders).unwrap();
        let cache = Cache::create(&home.path().join("run"), &"plant".parse().unwrap(), "plant").unwrap();
        let mut sessions = LinkSessions::new(peers, cache);
        sessions.refresh(Instant::now()).unwrap();
        sessions.take_changes();
        let log = open_log(&sessions);
        Self { home, sessions: UsableSessions::new(sessions), log, own, devices }
    }

    fn cache(&self) -> &Cache {
        self.sessions.link.cache()
    }

    fn peer(&self, device: usize) -> PeerKey {
        peer_key(self.devices[device].fingerprint().as_bytes())
    }

    /// The file of the sessions with a device.
    fn path(&self, device: usize) -> PathBuf {
        let digits = self.peer(device).iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
        self.home.path().join("run").join(format!("plant@{digits}"))
    }

    /// A new session with a device, which is stored; returns the device's end.
    fn agree(&self, device: usize, seed: u8) -> Session {
        let (mut master, mut slave) = pair(seed, Suite::Gcm);
        let fingerprint = |key: &PublicKey| *key.fingerprint().as_bytes();
        (slave.own, slave.peer) = (fingerprint(&self.own), fingerprint(&self.devices[device]));
        slave.topics.master_to_slave = format!("plant/s{device}/up");
        slave.topics.slave_to_master = format!("plant/s{device}/down");
        (master.own, master.peer, master.topics) = (slave.peer, slave.own, slave.topics.clone());
        self.cache().store_current(&slave, NOW).unwrap();
        master
    }

    /// Looks for changes now.
    fn look(&mut self) {
        self.sessions.link.refresh(Instant::now()).unwrap();
        self.sessions.follow(&mut self.log);
    }

    fn open(&mut self, message: &[u8]) -> std::result::Result<Opened, Rejected> {
        let opened = self.sessions.receiver.open(message, &mut BytesMut::new());
        if opened.is_err() && self.sessions.load_for(message, &mut self.log).unwrap() {
            return self.sessions.receiver.open(message, &mut BytesMut::new());
        }
        opened
    }

    /// Loads a device, and receives nothing.
    fn take_forged(&mut self, session: &Session) {
        let mut forged = message(&mut sender(session, 0)).to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(self.open(&forged), Err(Rejected::NotAuthentic));
    }

    /// Takes a question.
    fn answer(&mut self, payload: &[u8]) -> Option<Answer> {
        self.sessions.answer(payload, &mut self.log).unwrap()
    }

    /// Accepts a message.
    fn accept(&mut self, message: &[u8]) -> std::result::Result<Progress, AcceptError> {
        let opened = self.open(message).unwrap();
        self.sessions.receiver.accept(&opened).map(|accepted| accepted.progress)
    }

    /// Writes down what standard output took.
    fn write(&mut self, progress: Progress) {
        let completion = Completion { progress: Some(progress), ..Completion::default() };
        let cache = self.sessions.link.cache();
        self.log.record(&[completion], cache, Instant::now()).unwrap();
        self.log.journal.mark_received(cache).unwrap();
    }

    /// Accepts a message and writes it down.
    fn receive(&mut self, message: &[u8]) -> std::result::Result<(), AcceptError> {
        let progress = self.accept(message)?;
        self.write(progress);
        Ok(())
    }

    fn unload(&mut self, device: usize) -> bool {
        let peer = self.peer(device);
        let fingerprint = *self.devices[device].fingerprint().as_bytes();
        self.sessions.unload(&[(peer, fingerprint)], &mut self.log, |_| false);
        self.loaded().iter().all(|id| self.sessions.link.peer_with(*id) != Some(peer))
    }

    /// The sessions that the receiver has.
    fn loaded(&self) -> Vec<SessionId> {
        self.sessions.receiver.sessions().copied().collect()
    }
}

/// A child that another test is starting may hold a copy of a lock until its exec.
fn open_log(sessions: &LinkSessions) -> ReceiveLog {
    ReceiveLog::open(sessions.cache(), &sessions.listed(), 1 << 16).unwrap().0
}

fn sender(session: &Session, number: u32) -> Sender {
    let leaf = session.send.tree.leaf(number).unwrap();
    Sender::new(session, ReservedStream::of_data(session.id, number, leaf), [9; 8], 1 << 10).unwrap()
}

fn message(sender: &mut Sender) -> bytes::Bytes {
    let mut buffer = sender.buffer(4);
    buffer.put_slice(b"data");
    sender.data(buffer, &mut StdRng::seed_from_u64(1)).unwrap()
}

#[test]
fn a_peer_that_was_unloaded_continues_where_it_was_written() {
    let mut gateway = Gateway::new();
    let [mut one, mut other] = [0, 1].map(|device| {
        let session = gateway.agree(device, u8::try_from(device).unwrap() + 1);
        sender(&session, 0)
    });
    gateway.look();
    assert!(gateway.loaded().is_empty(), "nothing is loaded before a peer sends");
    let [first, second, third] = [(); 3].map(|()| message(&mut one));
    assert_eq!(gateway.receive(&first), Ok(()));
    assert_eq!(gateway.receive(&message(&mut other)), Ok(()));
    let accepted = gateway.accept(&second).unwrap();
    assert!(!gateway.unload(0), "what is not written is nowhere but here");
    gateway.write(accepted);
    assert!(gateway.unload(0));
    assert_eq!(gateway.loaded().len(), 1);

    for repeated in [&first, &second] {
        assert_eq!(gateway.receive(repeated), Err(AcceptError::Duplicate { next: 2 }));
    }
    assert_eq!(gateway.receive(&third), Ok(()));
    assert_eq!(gateway.loaded().len(), 2);
}

#[test]
fn a_rotation_while_a_peer_is_unloaded_is_seen_when_it_sends_under_either_session() {
    let mut gateway = Gateway::new();
    let mut old = sender(&gateway.agree(0, 1), 0);
    gateway.look();
    assert_eq!(gateway.receive(&message(&mut old)), Ok(()));
    assert!(gateway.unload(0));
    let mut new = sender(&gateway.agree(0, 2), 0);
    let first = message(&mut new);
    assert_eq!(gateway.open(&first), Err(Rejected::UnknownSession), "before the next look");
    gateway.look();
    assert_eq!(gateway.receive(&first), Ok(()));
    assert_eq!(gateway.receive(&message(&mut old)), Ok(()));
    assert_eq!(gateway.loaded().len(), 2);
}

/// What anybody sends may load it before the next look, which then finds nothing new.
#[test]
fn a_session_that_is_seen_first_when_its_peer_is_loaded_is_followed_as_any_other() {
    let mut gateway = Gateway::new();
    let old = gateway.agree(0, 1);
    gateway.look();
    let new = gateway.agree(0, 2);
    gateway.take_forged(&old);
    assert!(!gateway.sessions.link.refresh(Instant::now()).unwrap());
    let mut sender = sender(&new, 0);
    let end = sender.end(sender.buffer(0), &mut StdRng::seed_from_u64(1)).unwrap();
    assert_eq!(gateway.receive(&end), Ok(()));
    gateway.log.erase_keys(gateway.sessions.link.cache()).unwrap();
    let watch = Watch::new(gateway.cache(), Instant::now(), SystemTime::now()).unwrap();
    let stored = watch.sessions().find(|stored| stored.session.id == new.id).unwrap();
    assert!(stored.received, "its file says that there is receive state");
    assert_eq!(stored.session.receive.tree.lowest(), Some(1), "the keys of what is over are deleted");
    assert!(gateway.sessions.has_unfollowed(), "the old one is retired now");
    gateway.look();
    assert!(!gateway.sessions.has_unfollowed());
}

#[test]
fn a_session_without_its_receive_state_is_known_as_lost_if_it_is_seen_first_when_its_peer_is_loaded() {
    let mut gateway = Gateway::new();
    let old = gateway.agree(0, 1);
    gateway.look();
    let new = gateway.agree(0, 2);
    gateway.cache().set_received(&gateway.sessions.link.listed()[0].peer, &[new.id]).unwrap();
    gateway.take_forged(&old);
    assert_eq!(gateway.open(&message(&mut sender(&new, 0))), Err(Rejected::UnknownSession));
    assert_eq!(gateway.loaded(), [old.id]);
}

#[test]
fn only_who_asks_with_the_key_has_a_session_loaded() {
    let mut gateway = Gateway::new();
    let asker = gateway.agree(0, 1);
    gateway.look();
    let question = SessionQuery::new(asker.clone(), asker.id, &mut StdRng::seed_from_u64(1));
    let mut forged = question.frame();
    *forged.last_mut().unwrap() ^= 1;
    let next = gateway.agree(0, 2);
    assert_eq!(gateway.answer(&forged), None);
    assert_eq!((gateway.loaded().len(), gateway.sessions.link.stored().count()), (0, 0));
    assert!(gateway.sessions.link.peer_with(next.id).is_some() && gateway.sessions.has_unfollowed());

    let answer = gateway.answer(&question.frame()).unwrap();
    assert_eq!(question.presence(&answer.frame), Ok(SessionPresence::Present));
    assert_eq!(gateway.loaded().len(), 2);
    assert_eq!(gateway.answer(&forged), None);
    assert_eq!(gateway.loaded().len(), 2, "it is loaded for another reason");
    assert_eq!(gateway.answer(&question.frame()), Some(answer));
}

#[test]
fn a_question_to_a_peer_that_is_loaded_is_answered_as_of_the_last_look() {
    let mut gateway = Gateway::new();
    let asker = gateway.agree(0, 1);
    gateway.look();
    let question = SessionQuery::new(asker.clone(), asker.id, &mut StdRng::seed_from_u64(1)).frame();
    assert!(gateway.answer(&question).is_some());
    fs::remove_file(gateway.path(0)).unwrap();
    assert!(gateway.answer(&question).is_some(), "before the next look");
    gateway.look();
    assert_eq!(gateway.answer(&question), None);
}

/// As after `sts-pair --end` here, and a new pairing.
#[test]
fn a_peer_whose_sessions_ended_is_heard_under_the_next_one_whether_it_asks_or_sends_first() {
    let all = ["a file that is removed", "--end", "a KILL"];
    for (end, asks) in all.into_iter().flat_map(|end| [false, true].map(|asks| (end, asks))) {
        let mut gateway = Gateway::new();
        let old = gateway.agree(0, 1);
        gateway.look();
        assert_eq!(gateway.receive(&message(&mut sender(&old, 0))), Ok(()));
        let peer = gateway.devices[0].fingerprint();
        match end {
            "--end" => assert!(gateway.cache().delete_all(peer.as_bytes()).unwrap()),
            "a KILL" => assert_eq!(gateway.cache().delete(peer.as_bytes(), &[old.id]).unwrap(), 1),
            _ => fs::remove_file(gateway.path(0)).unwrap(),
        }
        gateway.look();
        let new = gateway.agree(0, 2);
        gateway.look();
        assert!(gateway.sessions.may_be_usable(new.id) && !gateway.sessions.may_be_usable(old.id));
        if asks {
            let question = SessionQuery::new(new.clone(), new.id, &mut StdRng::seed_from_u64(1));
            let answer = gateway.answer(&question.frame()).unwrap();
            assert_eq!(question.presence(&answer.frame), Ok(SessionPresence::Present));
        }
        assert_eq!(gateway.receive(&message(&mut sender(&new, 0))), Ok(()), "{end}, {asks}");
        assert_eq!(gateway.loaded(), [new.id]);
    }
}

#[test]
fn a_file_that_is_removed_or_damaged_takes_its_sessions_along() {
    for damage in [None, Some("damaged")] {
        let mut gateway = Gateway::new();
        let mut sender = sender(&gateway.agree(0, 1), 0);
        gateway.look();
        assert_eq!(gateway.receive(&message(&mut sender)), Ok(()));
        let path = gateway.path(0);
        fs::remove_file(&path).unwrap();
        if let Some(text) = damage {
            fs::write(&path, text).unwrap();
        }
        gateway.look();
        assert_eq!(gateway.open(&message(&mut sender)), Err(Rejected::UnknownSession));
        assert!(gateway.loaded().is_empty());
    }
}

#[test]
fn who_is_forgotten_is_heard_no_more_loaded_or_not_until_it_is_trusted_again() {
    for is_loaded in [false, true] {
        let mut gateway = Gateway::new();
        let mut sender = sender(&gateway.agree(0, 1), 0);
        gateway.look();
        assert_eq!(gateway.receive(&message(&mut sender)), Ok(()));
        assert!(is_loaded || gateway.unload(0));
        let known = gateway.home.path().join("keys/known_peers");
        let before = fs::read_to_string(&known).unwrap();
        let others = before.split_inclusive('\n').filter(|line| !line.starts_with("s0 "));
        fs::write(&known, others.collect::<String>()).unwrap();
        gateway.look();
        assert_eq!(gateway.open(&message(&mut sender)), Err(Rejected::UnknownSession), "{is_loaded}");
        assert_eq!(gateway.sessions.link.listed().len(), 1, "its session is still there");
        fs::write(&known, before).unwrap();
        gateway.look();
        let next = message(&mut sender);
        assert!(gateway.open(&next).is_ok(), "{is_loaded}");
    }
}

#[test]
fn a_session_without_its_receive_state_is_not_loaded() {
    let mut gateway = Gateway::new();
    let mut sender = sender(&gateway.agree(0, 1), 0);
    gateway.look();
    let lost = gateway.sessions.link.listed()[0].id;
    gateway.sessions.set_lost([lost]);
    assert_eq!(gateway.open(&message(&mut sender)), Err(Rejected::UnknownSession));
    assert!(gateway.loaded().is_empty() && !gateway.sessions.may_be_usable(lost));
}
