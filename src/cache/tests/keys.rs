//! Claim: who takes the directory opens nothing that was received before, and a later version's files are left alone.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::stream_end::{LatestStream, StreamEnd};
use super::*;
use crate::crypto::key_tree::StreamKey;
use crate::session::OpenStreamKeys;
use crate::stream::{Receiver, Sender};

/// A sender's directory and a receiver's, of one session, which is in its file.
struct Link {
    _homes: [tempfile::TempDir; 2],
    sender: Cache,
    receiver: Cache,
    /// What the receiver has in memory.
    memory: Receiver,
    journal: Journal,
    master: Session,
    slave: Session,
}

impl Link {
    fn new() -> Self {
        let ((sender_home, sender), (receiver_home, receiver)) = (cache(), cache());
        let (master, slave) = pair(1, Suite::Gcm);
        sender.store_current(&master, NOW).unwrap();
        receiver.store_current(&slave, NOW).unwrap();
        let mut memory = Receiver::new();
        memory.add(slave.clone(), Standing::Current);
        let (journal, _) = receive(&receiver).unwrap();
        Self { _homes: [sender_home, receiver_home], sender, receiver, memory, journal, master, slave }
    }

    fn begin(&self) -> Sender {
        let taken = self.sender.reserve_stream(&self.master.peer, &self.master.id).unwrap();
        Sender::new(&self.master, taken, [9; 8], 256).unwrap()
    }

    /// Receives a message, up to where it is written down.
    fn receive(&mut self, message: &[u8]) {
        let opened = self.memory.open(message, &mut BytesMut::new()).unwrap();
        let progress = self.memory.accept(&opened).unwrap().progress;
        self.journal.record_and_mark(&self.receiver, &[JournalEntry::Progress(progress)], NOW).unwrap();
    }

    /// Whether a message opens with the keys of a directory, in any of its sessions, in whichever direction.
    fn opens(&self, cache: &Cache, message: &[u8]) -> bool {
        let stored = cache.load().unwrap().into_iter().map(|stored| stored.session);
        let turned = stored.clone().map(|session| {
            let mut receive = self.slave.receive.clone();
            (receive.tree, receive.side) = (session.send.tree.clone(), session.send.side.clone());
            Session { receive, ..session }
        });
        stored.chain(turned).any(|session| {
            let mut thief = Receiver::new();
            thief.add(session, Standing::Current);
            thief.open(message, &mut BytesMut::new()).is_ok()
        })
    }
}

fn message(sender: &mut Sender, ends: bool) -> Bytes {
    let mut buffer = sender.buffer(4);
    buffer.put_slice(b"data");
    let rng = &mut StdRng::seed_from_u64(1);
    if ends { sender.end(buffer, rng) } else { sender.data(buffer, rng) }.unwrap()
}

#[test]
fn a_stolen_directory_opens_nothing_that_was_received_before() {
    let mut link = Link::new();
    let mut recorded = Vec::new();
    for _ in 0..20 {
        let mut sender = link.begin();
        let messages = [message(&mut sender, false), message(&mut sender, true)];
        assert!(!link.opens(&link.sender, &messages[0]), "what was taken is gone from the sender's directory");
        for message in &messages {
            link.receive(message);
        }
        recorded.extend(messages);
    }
    assert!(link.opens(&link.receiver, &recorded[0]), "not yet");
    assert!(link.journal.has_unerased_keys());
    link.journal.erase_keys(&link.receiver).unwrap();
    assert!(!link.journal.has_unerased_keys());
    for message in &recorded {
        assert!(!link.opens(&link.receiver, message) && !link.opens(&link.sender, message));
    }
    let mut next = link.begin();
    assert!(link.opens(&link.receiver, &message(&mut next, false)), "what is still to come opens");
}

#[test]
fn keys_that_a_killed_run_left_are_erased_by_the_next() {
    let mut link = Link::new();
    let mut open = link.begin();
    let begun = message(&mut open, false);
    link.receive(&begun);
    assert!(!link.journal.has_unerased_keys(), "the key of an open stream may wait for its end");
    let ended = message(&mut link.begin(), true);
    link.receive(&ended);
    // The run is killed: nothing is erased.
    let Link { journal, receiver, slave, .. } = &mut link;
    let state = journal.state().clone();
    let stored = receiver.load().unwrap();
    assert_eq!(stored[0].session.receive, slave.receive);
    let path = receiver.dir().join("gateway@recv");
    let before = fs::read(&path).unwrap();
    drop(std::mem::replace(journal, receive(&cache().1).unwrap().0));
    let (mut next, lost) = receive(receiver).unwrap();
    assert_eq!((next.state(), lost), (&state, Vec::new()));
    assert!(next.has_unerased_keys() && !before.is_empty());
    next.erase_keys(receiver).unwrap();
    drop(next);
    assert!(!link.opens(&link.receiver, &ended));
    assert!(link.opens(&link.receiver, &begun) && link.opens(&link.receiver, &message(&mut open, true)));
    let (again, _) = receive(&link.receiver).unwrap();
    assert!(!again.has_unerased_keys(), "once is enough");
}

/// Rewrites a session file, with its checksum.
fn rewrite(path: &Path, change: impl FnOnce(String) -> String) {
    let text = String::from_utf8(fs::read(path).unwrap()).unwrap();
    let (body, _) = text.split_at(text.rfind("sum = ").unwrap());
    let body = change(body.to_owned());
    let sum = hex(&crate::crypto::schedule::digest(&[body.as_bytes()])[..8]);
    fs::write(path, format!("{body}sum = {sum}\n")).unwrap();
}

type Change = fn(String) -> String;

#[test]
fn a_session_file_of_a_later_version_is_left_as_it_is() {
    let (_home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    let path = cache.dir().join(&cache.name(&session.peer));
    let whole = fs::read(&path).unwrap();
    let later: [Change; 4] = [
        |text| text.replace("sts-sessions-5", "sts-sessions-6"),
        |text| text.replace("\nreceived = ", "\nnew = 1\nreceived = "),
        |text| text.replace("\nstanding = ", "\nnew = 1\nstanding = "),
        |text| text.replace("\n\nstanding", "\nnew = 1\n\nstanding"),
    ];
    for change in later {
        fs::write(&path, &whole).unwrap();
        rewrite(&path, change);
        let written = fs::read(&path).unwrap();
        for err in [
            cache.load().unwrap_err(),
            cache.reserve_stream(&session.peer, &session.id).unwrap_err(),
            cache.store_current(&session, NOW).unwrap_err(),
            cache.set_received(&session.peer, &[session.id]).unwrap_err(),
        ] {
            assert_eq!(err.exit(), Exit::Protocol, "{err}");
            assert!(err.to_string().contains("later version"), "{err}");
        }
        assert_eq!(fs::read(&path).unwrap(), written);
    }
    let earlier = |text: String| text.replace("sts-sessions-5", "sts-sessions-4");
    for (change, is_whole) in [
        ((|text| text.replace("\nreceived = ", "\n+new = 1\nreceived = ")) as Change, true),
        (|text| text.replace("\nstanding = ", "\n+new = 1\nstanding = "), true),
        (|text| text + "+new = 1\n", true),
        (earlier, false),
        (|text| text.replace("\n\nstanding", "\nstreams = 1\n\nstanding"), false),
        (|text| text.replace("\nreceived = ", "\nproven = "), false),
    ] {
        fs::write(&path, &whole).unwrap();
        rewrite(&path, change);
        let expected = if is_whole { Ok(1) } else { Err(Exit::Failed) };
        assert_eq!(cache.load().map(|stored| stored.len()).map_err(|err| err.exit()), expected, "no later version");
        assert!(cache.load().is_ok_and(|stored| stored[0].session == session) || !is_whole);
    }
}

#[test]
fn a_tree_that_does_not_go_with_the_count_is_refused() {
    let (_home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    let path = cache.dir().join(&cache.name(&session.peer));
    cache.reserve_stream(&session.peer, &session.id).unwrap();
    rewrite(&path, |text| text.replace("streams = 1", "streams = 0"));
    assert_eq!(cache.load().unwrap_err().exit(), Exit::Failed);
}

#[test]
fn streams_that_were_sent_are_read_as_they_were_written_or_not_at_all() {
    let (_home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    let path = cache.dir().join(&cache.name(&session.peer));
    let whole = fs::read(&path).unwrap();
    for (latest, count) in [
        ("1:0900000000000000:-:0", Some(1)),
        ("1:0900000000000000:-:0 2:0900000000000000:7:3", Some(2)),
        ("1:0900000000000000:7:3:0100000000000000:5:0800000000000000:4", Some(1)),
        ("1:0900000000000000:7:3:0100000000000000:5:0800000000000000:4:1", None),
        ("1:0900000000000000:-:3:0100000000000000:5:0800000000000000:4", None),
        ("2:0900000000000000:-:0 1:0900000000000000:-:0", None),
        ("1:0900000000000000:-:0 1:0900000000000000:-:0", None),
    ] {
        fs::write(&path, &whole).unwrap();
        rewrite(&path, |text| text.replace("\nlatest = ", &format!("\nlatest = {latest}")));
        let read = cache.load().map(|stored| stored[0].latest.len()).map_err(|err| err.exit());
        assert_eq!(read, count.ok_or(Exit::Failed), "{latest}");
    }
}

/// A buffer that grew would have left a copy of the keys in memory that is not wiped.
#[test]
fn the_text_of_the_keys_is_written_into_one_buffer() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let few = cache.load_peer(&session(1).peer).unwrap();
    let fill: [fn(&mut PeerSessions); 7] = [
        |_| (),
        |of_peer| of_peer.deleted = vec![[0xff; 8]; 128],
        |of_peer| of_peer.sessions[0].session.topics.master_to_slave = "down/".repeat(5_000),
        |of_peer| of_peer.sessions[0].session.topics.slave_to_master = "up/".repeat(10_000),
        // Every second leaf is taken: a tree of many nodes.
        |of_peer| assert!((0..40).all(|n| of_peer.sessions[0].session.receive.tree.remove(2 * n, 2 * n))),
        |of_peer| of_peer.sessions[0].session.receive.open = (0..100).map(open_stream).collect(),
        |of_peer| of_peer.sessions[0].latest = vec![LONGEST; 100],
    ];
    let mut all = few.clone();
    for fill in fill {
        let mut one = few.clone();
        fill(&mut one);
        fill(&mut all);
        for of_peer in [&one, &all] {
            assert_eq!(session_file::encode("gateway", of_peer).capacity(), session_file::room(of_peer));
        }
    }
}

/// A stream that was sent, of which nothing takes more digits.
const LONGEST: LatestStream = LatestStream {
    number: u32::MAX,
    salt: [0xff; 8],
    end: Some(StreamEnd {
        count: u32::MAX,
        continues: Some(Continues {
            origin: Origin { stream: StreamId { session: [0xff; 8], number: u32::MAX }, salt: [0xff; 8] },
            position: u64::MAX,
        }),
    }),
    told: u8::MAX,
};

/// The keys of an open stream, and a number of it, of which nothing takes more digits.
fn open_stream(number: u32) -> (u32, OpenStreamKeys) {
    let (salt, leaf) = ([0xff; 8], session(1).receive.tree.leaf(number).unwrap());
    let key = leaf.first_key(salt);
    let key = StreamKey::new(u32::MAX, key.key().clone());
    (u32::MAX - number, OpenStreamKeys { salt, key, will: leaf.will_key() })
}
