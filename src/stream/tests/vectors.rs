//! Claim: what a second implementation of `sts-protocol(7)` seals is read as that page says, and what is sealed here has the
//! same bytes; it was written from that page alone.

use serde_json::Value;

use super::*;
use crate::crypto::key_tree::KeyTree;
use crate::secret::{Key, KeyPurpose};
use crate::stream::content::{self, CONTINUES, PREAMBLE, PlaintextHead, WANTS_CONFIRMS};
use crate::vectors::{Fields, Scripted, load};

const FILES: [&str; 3] = ["sealed_gcm.json", "sealed_cbc.json", "sealed_ecb.json"];
/// Whether a stream of which nothing was received may begin in this part.
fn may_begin_in(part: u32, stream: u32) -> bool {
    // Each bit is a step, and each part is one.
    let way = if stream < FIRST_SIDE_STREAM { 2 * (stream + 1).ilog2() + 1 } else { 0 };
    part <= 64 && way + part <= 80
}

fn key<P: KeyPurpose>(bytes: &[u8]) -> Key<P> {
    Key::generate(bytes.len(), |key| key.copy_from_slice(bytes))
}

/// The end that receives all frames of a file, and the end that sends them.
fn ends(vectors: &Value) -> (Session, Session) {
    let (mut master, mut slave) = pair(1, Suite::from_name(vectors.text("suite")).unwrap());
    for session in [&mut master, &mut slave] {
        session.id = vectors.array("session_id");
    }
    let (tree, side) = (KeyTree::new(key(&vectors.bytes("tree"))), key(&vectors.bytes("side")));
    (slave.receive.tree, slave.receive.side) = (tree.clone(), key(&vectors.bytes("side")));
    (master.send.tree, master.send.side) = (tree, side);
    (slave, master)
}

/// What the page says of a frame, as the vector has it.
fn expect(vector: &Value, opened: &Opened, data: &[u8]) {
    let title = vector.text("title");
    match vector.text("expect") {
        "accept" => {
            let sent = vector.has("sent").then(|| vector.array("sent"));
            assert_eq!(opened.head.sent.map(SentTime::to_bytes), sent, "{title}");
            let kind = opened.head.content.kind().unwrap_or_else(|| panic!("{title} is not understood"));
            assert_eq!(u32::from(kind.code()), vector.number("kind"), "{title}");
            let content = vector.bytes("content");
            if kind.carries_data() {
                assert_eq!(data, content, "{title}");
            } else {
                let mut put = BytesMut::new();
                opened.head.content.put(&mut put);
                assert_eq!((&put[..], data), (&content[..], &[][..]), "{title}");
            }
        }
        "skip" => assert_eq!((&opened.head.content, data), (&Content::Skipped, &[][..]), "{title}"),
        "refuse" => assert_eq!((&opened.head.content, data), (&Content::Unreadable, &[][..]), "{title}"),
        other => panic!("{title}: {other}"),
    }
}

#[test]
fn frames_are_opened_and_understood_as_the_page_says() {
    for file in FILES {
        let vectors = load(file);
        let (slave, _) = ends(&vectors);
        let receiver = receiver(&[&slave]);
        for vector in vectors.list("frames") {
            let (title, mut data) = (vector.text("title"), BytesMut::new());
            let opened = receiver.open(&vector.bytes("frame"), &mut data);
            let is_will = vector.number("type") == 0x29;
            if !(is_will || may_begin_in(StreamKey::part_of(vector.number("seq")), vector.number("stream"))) {
                assert_eq!(opened, Err(Rejected::NotAuthentic), "{file}, {title}");
                continue;
            }
            let opened = opened.unwrap_or_else(|why| panic!("{file}, {title}: {why:?}"));
            assert_eq!((opened.stream.number, opened.seq), (vector.number("stream"), vector.number("seq")));
            expect(vector, &opened, &data);
        }
    }
}

/// Kind, flags, preamble and content are put together again from what was read; without padding, and without items of later
/// versions.
#[test]
fn plaintexts_are_made_as_the_page_says() {
    let vectors = load("sealed_gcm.json");
    let session = vectors.array("session_id");
    let is_ours = |vector: &&Value| {
        vector.text("expect") == "accept" && vector["pad"] == 0 && !vector.text("title").contains("item")
    };
    for vector in vectors.list("frames").iter().filter(is_ours) {
        let header = SealedHeader::parse(&vector.bytes("header")).unwrap();
        let mut data = BytesMut::from(&vector.bytes("plaintext")[..]);
        let PlaintextHead { content, wants_confirms, continues, preamble, sent } =
            content::read(session, &header, &mut data);
        let has_preamble = preamble.is_some() || sent.is_some();
        let flags = [(wants_confirms, WANTS_CONFIRMS), (continues, CONTINUES), (has_preamble, PREAMBLE)];
        let flags: u8 = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
        let mut made = BytesMut::from(&[content.kind().unwrap().code() | flags][..]);
        if has_preamble {
            preamble.unwrap_or_default().put(StreamId { session, number: header.stream }, sent, &mut made);
        }
        content.put(&mut made);
        made.put_slice(&data);
        assert_eq!(made[..], vector.bytes("plaintext"), "{}", vector.text("title"));
    }
}

/// The first frames of streams, sealed as sts-send seals them.
#[test]
fn a_sender_seals_the_frames_of_the_vectors() {
    for file in FILES {
        let vectors = load(file);
        let (_, master) = ends(&vectors);
        let mut compared = 0;
        for vector in vectors.list("frames") {
            let header = SealedHeader::parse(&vector.bytes("header")).unwrap();
            let is_comparable = header.seq == 0 || vector.has("sent");
            let is_of_sender =
                header.frame_type == FrameType::Enc && is_comparable && vector.text("expect") == "accept";
            if !is_of_sender || vector.text("title").contains("item") {
                continue;
            }
            let mut data = BytesMut::from(&vector.bytes("plaintext")[..]);
            let PlaintextHead { content, wants_confirms, preamble, sent, .. } =
                content::read(master.id, &header, &mut data);
            let reserved = reserved(&master, header.stream);
            let pad = usize::try_from(vector.number("pad")).ok().filter(|pad| *pad > 0);
            let mut sender = Sender::new(&master, reserved, header.salt, 5000).unwrap().pad_to(pad);
            if wants_confirms {
                sender = sender.ask_for_confirms();
            }
            if let Some(preamble) = preamble {
                sender.begin_with(*preamble);
            }
            sender.jump(header.seq);
            let mut buffer = sender.buffer(data.len());
            buffer.put_slice(&data);
            let mut rng = Scripted::new(vector.has("iv").then(|| vector.bytes("iv")));
            let sealed = sender.seal(&content, sent, buffer, &mut rng).unwrap();
            assert_eq!(sealed[..], vector.bytes("frame"), "{file}, {}", vector.text("title"));
            compared += 1;
        }
        assert!(compared >= 17, "{compared} of {file}");
    }
}
