//! Claim: the status is one line a peer, fits a terminal, and is valid JSON where that is asked for.

use std::collections::{BTreeMap, HashMap};

use super::survey::{Survey, TrustedKey};
use super::table::table;
use super::*;
use crate::Rejected;
use crate::cache::status::{LinkStatus, SessionStatus};
use crate::cache::{Counters, OpenStream, Totals};
use crate::identity::{Binding, Fingerprint};
use crate::role::Role;
use crate::session::Standing;
use crate::stream::{Gap, Ranges, StreamId};
use crate::suite::Suite;

const NOW: u64 = 1_000_000;

fn session(peer: u8, standing: Standing, age: Option<u64>) -> SessionStatus {
    SessionStatus {
        peer: [peer; 32],
        role: Role::Slave,
        suite: Suite::Gcm,
        standing,
        created: NOW - age.unwrap_or(0),
        age,
        streams_reserved: 4,
        received: Counters { messages: 1204, bytes: 65_536, last_message: Some(NOW - 61), ..Counters::default() },
        open: Vec::new(),
        missing: Ranges::default(),
    }
}

fn link(name: &str, sessions: Vec<SessionStatus>) -> LinkStatus {
    LinkStatus { sessions, ..LinkStatus::without_sessions(name.parse().unwrap()) }
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
    let mut plant = link("plant", vec![session(3, Standing::Pending, Some(5))]);
    plant.past =
        BTreeMap::from([([4; 32], Totals { messages: 7, last_message: Some(NOW - 7200), ..Totals::default() })]);
    vec![first, plant]
}

fn survey(links: Vec<LinkStatus>) -> Survey {
    let key = |peer: u8, name: &str, link: &str| {
        let binding = Binding::parse(link.split_ascii_whitespace()).unwrap();
        ([peer; 32], TrustedKey { name: name.parse().unwrap(), peer: [peer; 32], binding })
    };
    let keys =
        [key(1, "station", ""), key(3, "pump-7", "link=plant"), key(4, "pump-8", "link=plant"), key(5, "spare", "")];
    Survey { links, keys: HashMap::from(keys), unread: Vec::new() }
}

#[test]
fn the_table_is_read_at_a_glance() {
    let survey = survey(links());
    let rows = survey.rows();
    let expected = "\
LINK     PEER       KEY       AGE      SENT  RECV  LAST  GAPS  REJECT  NEXT
gateway  station    AQEBAQEB  3h12m      12  3612  1m1s     5      42  20h48m
gateway  (unknown)  AgICAgIC  future      4  1204  1m1s     0          now
plant    pump-7     AwMDAwMD  pending     4  1204  1m1s     0       0  -
plant    pump-8     BAQEBAQE  none        0     0  2h       0          -
*        spare      BQUFBQUF  none        0     0  -        0          -

gap: gateway, station, stream 3: messages 5-9 are lost
gap: gateway, station, stream 4: message 7 is lost
gap: gateway, station: 3 in all, 17 messages lost
gap: gateway, station: no messages of streams 5-6 were received
open: gateway, station, stream 3: 17 messages so far, the last 3h12m ago
open: gateway, station, stream 7: 1 message so far
rejected: gateway: 2 not authentic
rejected: gateway: 40 unknown session
";
    assert_eq!(table(&rows, NOW, false), expected);

    let coloured = table(&rows, NOW, true);
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
    let survey = survey(vec![link("plant", vec![peer])]);
    let text = table(&survey.rows(), NOW, false);
    assert!(text.ends_with("open: plant, station: 984 streams more\n") && text.lines().count() < 30, "{text}");
}

#[test]
fn usual_names_fit_a_terminal() {
    let mut link = link("gateway-12", vec![session(1, Standing::Current, Some(90_061))]);
    link.rotation = Some(7 * 86_400);
    let mut survey = survey(vec![link]);
    survey.keys.get_mut(&[1; 32]).unwrap().name = "station-07".parse().unwrap();
    let text = table(&survey.rows(), NOW, false);
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert_eq!(table(&[], NOW, true), "");
}

#[test]
fn ten_thousand_peers_are_ten_thousand_lines() {
    let peers = (0..10_000_u32).map(|number| {
        let mut peer = session(0, Standing::Current, Some(60));
        peer.peer[..4].copy_from_slice(&number.to_be_bytes());
        peer
    });
    let survey = Survey { keys: HashMap::new(), ..survey(vec![link("plant", peers.collect())]) };
    let rows = survey.rows();
    assert_eq!(table(&rows, NOW, true).lines().count(), 10_001);
    assert_eq!(json::lines(&rows).lines().count(), 10_000);
}

#[test]
fn json_says_it_all() {
    let survey = survey(links());
    let rows = survey.rows();
    let fingerprint = |peer: u8| Fingerprint::from([peer; 32]);
    let station = format!(
        r#"{{"link":"gateway","peer":"station","fingerprint":"{}","role":"slave","suite":"gcm","standing":"current","age":11520,"if_older":86400,"next":74880,"sessions":3,"streams_sent":12,"messages":3612,"bytes":196608,"repeated":0,"lost":17,"gaps":3,"last_message":999939,"last_pairing":999998,"latest_gaps":[{{"stream":3,"first":5,"last":9}},{{"stream":4,"first":7,"last":7}}],"missing_streams":[{{"first":5,"last":6}}],"open_streams":[{{"stream":3,"messages":17,"age":11520}},{{"stream":7,"messages":1,"age":null}}],"rejected":{{"not authentic":2,"unknown session":40}}}}"#,
        fingerprint(1)
    );
    let rest = r#""sessions":1,"streams_sent":4,"messages":1204,"bytes":65536,"repeated":0,"lost":0,"gaps":0,"last_message":999939,"last_pairing":LAST,"latest_gaps":[],"missing_streams":[],"open_streams":[]"#;
    let unknown = format!(
        r#"{{"link":"gateway","peer":null,"fingerprint":"{}","role":"slave","suite":"gcm","standing":"current","age":null,"if_older":86400,"next":0,{},"rejected":{{"not authentic":2,"unknown session":40}}}}"#,
        fingerprint(2),
        rest.replace("LAST", "1000000")
    );
    let pump = format!(
        r#"{{"link":"plant","peer":"pump-7","fingerprint":"{}","role":"slave","suite":"gcm","standing":"pending","age":5,"if_older":null,"next":null,{},"rejected":{{}}}}"#,
        fingerprint(3),
        rest.replace("LAST", "999995")
    );
    let nothing = r#""if_older":null,"next":null,"sessions":0,"streams_sent":0,"messages":0,"bytes":0,"repeated":0,"lost":0,"gaps":0"#;
    let unpaired = |link: &str, name: &str, peer: u8, last: &str| {
        format!(
            r#"{{"link":{link},"peer":"{name}","fingerprint":"{}","role":null,"suite":null,"standing":null,"age":null,{nothing},"last_message":{last},"last_pairing":null,"latest_gaps":[],"missing_streams":[],"open_streams":[],"rejected":{{}}}}"#,
            fingerprint(peer)
        )
    };
    let gone = unpaired(r#""plant""#, "pump-8", 4, "992800");
    let spare = unpaired("null", "spare", 5, "null");
    assert_eq!(json::lines(&rows), format!("{station}\n{unknown}\n{pump}\n{gone}\n{spare}\n"));
}

#[test]
fn metrics_have_a_series_per_peer_and_totals_never_fall() {
    let mut links = links();
    links[0].past = BTreeMap::from([([1; 32], Totals { messages: 1000, ..Totals::default() })]);
    let text = metrics::text(&survey(links)).0;
    let of = |name: &str, peer: u8| {
        format!(
            r#"link="{name}",peer="{}",fingerprint="{}""#,
            ["", "station", "", "pump-7", "pump-8", "spare"][usize::from(peer)],
            Fingerprint::from([peer; 32])
        )
    };
    for line in [
        format!("sts_received_messages_total{{{}}} 4612", of("gateway", 1)),
        format!("sts_session_created_timestamp_seconds{{{}}} 988480", of("gateway", 1)),
        format!("sts_last_message_timestamp_seconds{{{}}} 992800", of("plant", 4)),
        format!("sts_received_messages_total{{{}}} 1204", of("gateway", 2)),
        format!("sts_sessions{{{}}} 0", of("*", 5)),
        r#"sts_rejected_messages_total{link="gateway",reason="unknown session"} 40"#.to_owned(),
        r#"sts_renewal_interval_seconds{link="gateway"} 86400"#.to_owned(),
        "# TYPE sts_lost_messages_total counter".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in {text}");
    }
    let mut series: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "no series is there twice");
    // Its session is pending, so none is in use.
    assert!(!text.contains(&format!("sts_session_created_timestamp_seconds{{{}}}", of("plant", 3))));
}
