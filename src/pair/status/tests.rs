//! Claim: the status is one line a peer, fits a terminal, and is valid JSON where that is asked for.

use super::table::table;
use super::*;
use crate::Rejected;
use crate::cache::Counters;
use crate::role::Role;
use crate::stream::{Ranges, StreamId};
use crate::suite::Suite;

fn session(peer: u8, standing: Standing, age: Option<u64>) -> SessionStatus {
    SessionStatus {
        peer: [peer; 32],
        role: Role::Slave,
        suite: Suite::Gcm,
        standing,
        age,
        streams_reserved: 4,
        received: Counters { messages: 1204, bytes: 65_536, ..Counters::default() },
        open: Vec::new(),
        missing: Ranges::default(),
    }
}

fn link(name: &str, sessions: Vec<SessionStatus>) -> LinkStatus {
    LinkStatus { link: name.parse().unwrap(), sessions, rotation: None, rejected: Vec::new(), broken: Vec::new() }
}

fn with_losses() -> SessionStatus {
    let mut session = session(1, Standing::Retired, Some(90_000));
    session.received.gaps = 3;
    session.received.lost = 17;
    session.received.latest.push_back(Gap { stream: StreamId { session: [1; 8], number: 3 }, first: 5, last: 9 });
    session.received.latest.push_back(Gap { stream: StreamId { session: [1; 8], number: 4 }, first: 7, last: 7 });
    session.missing.insert(5, 6);
    let stream = |number| StreamId { session: [1; 8], number };
    session.open.push(OpenStream { stream: stream(3), messages: 17, age: Some(11_520) });
    session.open.push(OpenStream { stream: stream(7), messages: 1, age: None });
    session
}

/// Two peers of one link, one of them forgotten, and one of another.
fn links() -> Vec<LinkStatus> {
    let mut first = link(
        "gateway",
        vec![
            session(1, Standing::Pending, Some(2)),
            session(1, Standing::Current, Some(11_520)),
            with_losses(),
            session(2, Standing::Current, None),
        ],
    );
    first.rotation = Some(86_400);
    first.rejected = vec![(Rejected::NotAuthentic, 2), (Rejected::UnknownSession, 40)];
    vec![first, link("plant", vec![session(3, Standing::Pending, Some(5))])]
}

fn names() -> HashMap<Digest, PeerName> {
    [(1, "station"), (3, "pump-7")].map(|(peer, name)| ([peer; 32], name.parse().unwrap())).into()
}

#[test]
fn the_table_is_read_at_a_glance() {
    let (links, names) = (links(), names());
    let rows: Vec<_> = links.iter().flat_map(|link| rows(link, &names)).collect();
    let expected = "\
LINK     PEER       KEY       AGE      SUITE  SENT  RECV  GAPS  REJECT  NEXT
gateway  station    AQEBAQEB  3h12m    gcm      12  3612     5      42  20h48m
gateway  (unknown)  AgICAgIC  future   gcm       4  1204     0          now
plant    pump-7     AwMDAwMD  pending  gcm       4  1204     0       0  -

gap: gateway, station, stream 3: messages 5-9 are lost
gap: gateway, station, stream 4: message 7 is lost
gap: gateway, station: 3 in all, 17 messages lost
gap: gateway, station: no messages of streams 5-6 were received
open: gateway, station, stream 3: 17 messages so far, the last 3h12m ago
open: gateway, station, stream 7: 1 message so far
rejected: gateway: 2 not authentic
rejected: gateway: 40 unknown session
";
    assert_eq!(table(&rows, false), expected);

    let coloured = table(&rows, true);
    assert!(coloured.starts_with("\x1b[1mLINK\x1b[0m"), "{coloured:?}");
    assert_eq!(coloured.matches("\x1b[31m").count(), 2, "what was lost, and what was dropped");
    let mut plain = coloured;
    for paint in ["\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"] {
        plain = plain.replace(paint, "");
    }
    let trimmed: Vec<_> = plain.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, expected.lines().collect::<Vec<_>>(), "colours move nothing");
}

#[test]
fn a_thousand_open_streams_are_a_few_lines() {
    let mut peer = session(1, Standing::Current, Some(60));
    let stream = |number| StreamId { session: [1; 8], number };
    peer.open = (0..1000).map(|number| OpenStream { stream: stream(number), messages: 1, age: Some(5) }).collect();
    let (link, names) = (link("plant", vec![peer]), names());
    let text = table(&rows(&link, &names), false);
    assert!(text.ends_with("open: plant, station: 984 streams more\n") && text.lines().count() < 30, "{text}");
}

#[test]
fn usual_names_fit_a_terminal() {
    let mut link = link("gateway-12", vec![session(1, Standing::Current, Some(90_061))]);
    link.rotation = Some(7 * 86_400);
    let names = HashMap::from([([1; 32], "station-07".parse().unwrap())]);
    let text = table(&rows(&link, &names), false);
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert_eq!(table(&[], true), "");
}

#[test]
fn ten_thousand_peers_are_ten_thousand_lines() {
    let peers = (0..10_000_u32).map(|number| {
        let mut peer = session(0, Standing::Current, Some(60));
        peer.peer[..4].copy_from_slice(&number.to_be_bytes());
        peer
    });
    let link = link("plant", peers.collect());
    let names = names();
    let rows = rows(&link, &names);
    assert_eq!(table(&rows, true).lines().count(), 10_001);
    assert_eq!(json::lines(&rows).lines().count(), 10_000);
}

#[test]
fn json_says_it_all() {
    let (links, names) = (links(), names());
    let rows: Vec<_> = links.iter().flat_map(|link| rows(link, &names)).collect();
    let fingerprint = |peer: u8| Fingerprint::from([peer; 32]);
    let station = format!(
        r#"{{"link":"gateway","peer":"station","fingerprint":"{}","role":"slave","suite":"gcm","standing":"current","age":11520,"if_older":86400,"next":74880,"sessions":3,"streams_sent":12,"messages":3612,"bytes":196608,"repeated":0,"lost":17,"gaps":3,"latest_gaps":[{{"stream":3,"first":5,"last":9}},{{"stream":4,"first":7,"last":7}}],"missing_streams":[{{"first":5,"last":6}}],"open_streams":[{{"stream":3,"messages":17,"age":11520}},{{"stream":7,"messages":1,"age":null}}],"rejected":{{"not authentic":2,"unknown session":40}}}}"#,
        fingerprint(1)
    );
    let rest = r#""sessions":1,"streams_sent":4,"messages":1204,"bytes":65536,"repeated":0,"lost":0,"gaps":0,"latest_gaps":[],"missing_streams":[],"open_streams":[]"#;
    let unknown = format!(
        r#"{{"link":"gateway","peer":null,"fingerprint":"{}","role":"slave","suite":"gcm","standing":"current","age":null,"if_older":86400,"next":0,{rest},"rejected":{{"not authentic":2,"unknown session":40}}}}"#,
        fingerprint(2)
    );
    let pump = format!(
        r#"{{"link":"plant","peer":"pump-7","fingerprint":"{}","role":"slave","suite":"gcm","standing":"pending","age":5,"if_older":null,"next":null,{rest},"rejected":{{}}}}"#,
        fingerprint(3)
    );
    assert_eq!(json::lines(&rows), format!("{station}\n{unknown}\n{pump}\n"));
}
