//! Claim: the manual pages agree with the code on options, keys, exit statuses, messages and cited sections.
//!
//! Every comparison goes both ways: a test fails if a page lacks something that the code has, or the reverse.

#![expect(clippy::unwrap_used, reason = "a call that fails here fails the test, with its place")]

mod source_files;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sts::Exit;
use sts::message::{FrameType, InitAck, InitReq, MAX_AUTH_LEN, Ready, SessionCheckFrame};
use sts::stream::Kind;
use sts::suite::Suite;

const TOOLS: [(&str, &str); 3] = [
    ("sts-pair", env!("CARGO_BIN_EXE_sts-pair")),
    ("sts-send", env!("CARGO_BIN_EXE_sts-send")),
    ("sts-recv", env!("CARGO_BIN_EXE_sts-recv")),
];

/// Macros that end the arguments of the macro before them; only those that the heads of our lists use.
const CALLABLE: [&str; 9] = ["Ar", "Cm", "Fl", "Ns", "Op", "Oo", "Oc", "Sy", "Ta"];

type Words = BTreeSet<String>;

fn page(name: &str) -> String {
    let path = root().join("man").join(name);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of one section of a page, from its heading to the next one of the same or a higher level.
fn section<'a>(page: &'a str, title: &str) -> Vec<&'a str> {
    let mut lines = page.lines().skip_while(|line| heading(line) != Some(title));
    let own = lines.next().unwrap_or_else(|| panic!("no section {title}"));
    let ends = |line: &&str| line.starts_with(".Sh ") || (own.starts_with(".Ss ") && line.starts_with(".Ss "));
    lines.take_while(|line| !ends(line)).collect()
}

fn heading(line: &str) -> Option<&str> {
    line.strip_prefix(".Sh ").or_else(|| line.strip_prefix(".Ss "))
}

/// The arguments of every `name` macro on a line of mdoc, without punctuation: `-timeout` in `.It Fl -timeout Ar SECS`.
fn arguments(line: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for word in line.trim_start_matches('.').split_whitespace() {
        if CALLABLE.contains(&word) || word == "It" {
            inside = word == name;
        } else if inside && word.chars().any(char::is_alphanumeric) {
            found.push(word.to_owned());
        }
    }
    found
}

fn options_in<'a>(lines: impl IntoIterator<Item = &'a str>) -> Words {
    lines.into_iter().flat_map(|line| arguments(line, "Fl")).map(|flag| format!("-{flag}")).collect()
}

/// The options of a page, each with all its spellings.
fn described_options(page: &str) -> Vec<Words> {
    let items = section(page, "DESCRIPTION").into_iter().filter(|line| line.starts_with(".It Fl "));
    items.map(|item| options_in([item])).collect()
}

/// The options that a tool's `--help` lists, each on a line that begins with a dash.
fn listed_options(help: &str) -> Words {
    let heads = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let spellings = heads.flat_map(|head| {
        // A description may follow on the same line, after two spaces.
        let head = head.split_once("  ").map_or(head, |(head, _)| head);
        head.split([' ', ',', '=', '[']).filter(|word| word.starts_with('-')).map(str::to_owned).collect::<Vec<_>>()
    });
    spellings.collect()
}

fn same(what: &str, code: &Words, page: &Words) {
    let lacks: Vec<_> = code.difference(page).collect();
    let invents: Vec<_> = page.difference(code).collect();
    assert!(lacks.is_empty() && invents.is_empty(), "{what}: the page lacks {lacks:?}, only the page has {invents:?}");
    assert!(!code.is_empty(), "{what}: nothing to compare");
}

fn words(list: &[&str]) -> Words {
    list.iter().map(|&word| word.to_owned()).collect()
}

/// Every text between `open` and `close` in `text`.
fn between<'a>(text: &'a str, open: &str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close)).map(|(inner, _)| inner)
}

#[test]
fn every_option_is_in_its_page_and_the_reverse() {
    for (tool, executable) in TOOLS {
        let help = Command::new(executable).arg("--help").output().unwrap();
        assert!(help.status.success(), "{tool} --help: {}", String::from_utf8_lossy(&help.stderr));
        let listed = listed_options(&String::from_utf8(help.stdout).unwrap());
        let described = described_options(&page(&format!("{tool}.1"))).into_iter().flatten().collect();
        same(&format!("{tool} --help"), &listed, &described);
    }
}

#[test]
fn every_option_is_in_the_synopsis_and_the_reverse() {
    for (tool, _) in TOOLS {
        let text = page(&format!("{tool}.1"));
        let shown = options_in(section(&text, "SYNOPSIS"));
        let described = described_options(&text);
        for spellings in &described {
            assert!(!spellings.is_disjoint(&shown), "{tool}: no {spellings:?} in the synopsis");
        }
        for option in shown {
            assert!(described.iter().any(|spellings| spellings.contains(&option)), "{tool}: {option} is not described");
        }
    }
}

#[test]
fn every_key_is_in_its_page_and_the_reverse() {
    let text = page("sts.conf.5");
    let items = section(&text, "DESCRIPTION").into_iter().filter(|line| line.starts_with(".It Cm "));
    let described = items.flat_map(|item| arguments(item, "Cm")).collect();
    let known = sts::config::key_names().map(str::to_owned).collect();
    same("sts.conf(5)", &known, &described);
}

#[test]
fn limits_of_the_configuration_are_the_codes() {
    let text = page("sts.conf.5");
    let range = format!("{} to {} bytes", sts::config::MIN_MESSAGE, sts::config::MAX_MESSAGE);
    assert!(text.contains(&range), "no {range:?} in sts.conf(5)");
}

const ALL_EXITS: [Exit; 8] = [
    Exit::Failed,
    Exit::Usage,
    Exit::DataLost,
    Exit::Unavailable,
    Exit::TryAgain,
    Exit::Protocol,
    Exit::NotTrusted,
    Exit::Config,
];

/// A word that must be in a page's text about an exit status. The compiler asks for one when a status is added.
fn meaning(exit: Exit) -> &'static str {
    match exit {
        Exit::Failed => "otherwise",
        Exit::Usage => "command line",
        Exit::DataLost => "lost",
        Exit::Unavailable => "broker",
        Exit::TryAgain => "Timed out",
        Exit::Protocol => "version or suite",
        Exit::NotTrusted => "Not trusted",
        Exit::Config => "configuration",
    }
}

#[test]
fn every_exit_status_is_in_each_page_and_the_reverse() {
    for (tool, _) in TOOLS {
        let text = page(&format!("{tool}.1"));
        let rows = section(&text, "EXIT STATUS").join("\n");
        let rows: Vec<_> = rows.split(".It ").skip(1).filter_map(|row| row.split_once('\n')).collect();
        let known = ALL_EXITS.iter().map(|&exit| (exit as u8).to_string()).chain(["0".to_owned()]).collect();
        same(&format!("{tool}, EXIT STATUS"), &known, &rows.iter().map(|(status, _)| (*status).to_owned()).collect());
        for exit in ALL_EXITS {
            let status = (exit as u8).to_string();
            let row = rows.iter().find(|(number, _)| *number == status).map(|(_, row)| *row);
            assert!(row.is_some_and(|row| row.contains(meaning(exit))), "{tool}: {status} is not {exit:?}: {row:?}");
        }
    }
}

#[test]
fn every_exit_status_is_in_the_readme_and_the_reverse() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let described = rows.map(|(first, _)| first).filter(|first| first.parse::<u8>().is_ok()).map(str::to_owned);
    let known = ALL_EXITS.iter().map(|&exit| (exit as u8).to_string()).chain(["0".to_owned()]);
    same("README.md, exit status", &known.collect(), &described.collect());
}

/// The cells of each row of a table in a section of sts-protocol(7), without the table's head.
fn table(title: &str) -> Vec<Vec<String>> {
    let text = page("sts-protocol.7");
    let rows = section(&text, title).into_iter().filter_map(|line| line.strip_prefix(".It "));
    let cells = rows.map(|row| row.split(" Ta ").map(str::to_owned).collect::<Vec<_>>());
    cells.filter(|row| row.len() > 1 && !row[0].starts_with("Sy ")).collect()
}

#[test]
fn every_message_type_is_in_the_protocol_and_the_reverse() {
    let known = FrameType::ALL.iter().map(|frame_type| {
        let length = match frame_type {
            FrameType::InitReq => format!("{} or {}", InitReq::LEN, InitReq::CODED_LEN),
            FrameType::InitAck => format!("{} or {}", InitAck::LEN, InitAck::CODED_LEN),
            FrameType::RdyReq | FrameType::RdyAck => format!("{} or {}", Ready::LEN, SessionCheckFrame::LEN),
            FrameType::AuthReq | FrameType::AuthAck => format!("at most {MAX_AUTH_LEN}"),
            FrameType::Enc | FrameType::Kill | FrameType::Will => "varies".to_owned(),
        };
        format!("{:#04x} {} {length}", frame_type.byte(), frame_type.name())
    });
    let described = table("Messages").iter().map(|row| row[..3].join(" ")).collect();
    same("sts-protocol(7), Messages", &known.collect(), &described);
}

#[test]
fn every_kind_is_in_the_protocol_and_the_reverse() {
    let known = Kind::ALL.iter().map(|kind| format!("{} {}", kind.code(), kind.name())).collect();
    let described = table("Kinds").iter().map(|row| row[..2].join(" ")).collect();
    same("sts-protocol(7), Kinds", &known, &described);
}

#[test]
fn the_kinds_of_later_versions_begin_after_the_last_one() {
    let text = page("sts-protocol.7");
    let first_free = Kind::ALL.iter().map(|kind| kind.code()).max().unwrap() + 1;
    for said in [format!("kind is from {first_free} to 15"), format!("(kinds {first_free} to 15)")] {
        assert_eq!(text.matches(&said).count(), 1, "sts-protocol(7), Later versions: {said}");
    }
}

#[test]
fn every_suite_is_in_the_protocol_and_the_reverse() {
    let known = Suite::ALL.iter().map(|suite| format!("{suite} {} {}", suite.code(), suite.key_len())).collect();
    let described = table("Suites").iter().map(|row| row[..3].join(" ")).collect();
    same("sts-protocol(7), Suites", &known, &described);
}

#[test]
fn every_field_of_the_status_is_in_its_page_and_the_reverse() {
    let source = fs::read_to_string(root().join("src/pair/status/json.rs")).unwrap();
    let adders = ["string", "number", "value", "list", "object"].map(|adder| format!("object.{adder}(\""));
    let known = adders.iter().flat_map(|adder| between(&source, adder, '"')).map(str::to_owned).collect();
    same("sts-pair(1), --json", &known, &listed_below("sts-pair.1", "-json"));
}

#[test]
fn every_metric_is_in_its_page_and_the_reverse() {
    let source = fs::read_to_string(root().join("src/pair/status/metrics.rs")).unwrap();
    let (code, _tests) = source.split_once("#[cfg(test)]").unwrap();
    let known = between(code, "\"sts_", '"').map(|name| format!("sts_{name}")).collect();
    same("sts-pair(1), --metrics", &known, &listed_below("sts-pair.1", "-metrics"));
}

/// The words in the heads of the list within the description of an option.
fn listed_below(name: &str, option: &str) -> Words {
    let text = page(name);
    let lines = section(&text, "DESCRIPTION").into_iter();
    let is_option = |line: &&str| line.starts_with(".It Fl ");
    let own = lines.skip_while(|line| !is_option(line) || !arguments(line, "Fl").iter().any(|flag| flag == option));
    let items = own.skip(1).take_while(|line| !is_option(line)).filter(|line| line.starts_with(".It Cm "));
    items.flat_map(|item| arguments(item, "Cm")).collect()
}

#[test]
fn what_the_code_cites_of_the_protocol_is_there() {
    let text = page("sts-protocol.7");
    let headings: Vec<_> = text.lines().filter_map(heading).map(str::to_lowercase).collect();
    let steps: Vec<_> = between(&text, ".It Step ", ' ').collect();
    assert_eq!(steps, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let mut cited = 0;
    for (path, source) in
        source_files::below(&["src", "bin", "tests"]).iter().filter(|(path, _)| !path.ends_with("manual.rs"))
    {
        for rest in source.split("sts-protocol(7)").skip(1) {
            let rest = rest.trim_start_matches(['`', ',', ' ']);
            let line = rest.lines().next().unwrap_or_default();
            let found = if let Some(title) = line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                headings.contains(&title.0.to_lowercase())
            } else if let Some(step) = line.strip_prefix("step ") {
                steps.contains(&step.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default())
            } else {
                continue;
            };
            assert!(found, "{}: sts-protocol(7) has no {line}", path.display());
            cited += 1;
        }
    }
    assert!(cited > 0, "the code cites nothing");
}

#[test]
fn pages_name_only_pages_that_are_there() {
    let files = fs::read_dir(root().join("man")).unwrap().map(|entry| entry.unwrap().path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|section| section.len() == 1);
    let ours: Vec<_> = files.filter(is_page).filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
    for name in &ours {
        let name = name.to_str().unwrap();
        for line in page(name).lines().filter(|line| line.starts_with(".Xr sts")) {
            let words: Vec<_> = line.split(' ').collect();
            let target = format!("{}.{}", words[1], words[2]);
            assert!(ours.iter().any(|page| *page == *target), "{name} names {target}");
        }
    }
    assert_eq!(ours.len(), 6);
}

#[test]
fn help_is_read_as_clap_writes_it() {
    let help = "Usage: x [OPTIONS]\n\nOptions:\n  -o <KEY=VALUE>\n          Set one - or another\n\n  -1, --once\n          Once\n\n      --timeout <SECS>  Give up --soon\n  -V, --version  Print version\n";
    assert_eq!(listed_options(help), words(&["-o", "-1", "--once", "--timeout", "-V", "--version"]));
}

#[test]
fn mdoc_is_read_as_mandoc_reads_it() {
    assert_eq!(options_in([".It Fl n Ar N , Fl -lines Ar N"]), words(&["-n", "--lines"]));
    assert_eq!(
        options_in([".Fl h | -help | V", ".Op Fl o Ar KEY Ns = Ns Ar VALUE"]),
        words(&["-h", "--help", "-V", "-o"])
    );
    assert_eq!(arguments(".It Cm ip , host , url", "Cm"), ["ip", "host", "url"]);
}
