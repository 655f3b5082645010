//! Claim: the labels and the key schedule of sts-protocol(7), of the models in tests/model and of src/ are the same.
//!
//! A test fails if one of the three has what another lacks. That the models say what they should is what
//! tests/model/run checks.

#![expect(clippy::unwrap_used, reason = "a call that fails here fails the test, with its place")]

mod source_files;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = "man/sts-protocol.7";
const SCHEDULE: &str = "tests/model/schedule";
const VERIFPAL: [&str; 5] = ["active", "recorder", "streams", "thief-receiver", "thief-sender"];

type Labels = BTreeSet<String>;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Every label in a text: what is quoted and begins with `sts2 `.
fn labels(text: &str) -> Labels {
    let quoted = text.split("\"sts2 ").skip(1).filter_map(|rest| rest.split_once('"'));
    quoted.map(|(label, _)| format!("sts2 {label}")).collect()
}

/// The labels of the code, without those of unit tests. The two names of SPAKE2 are no labels of the key schedule.
fn labels_in_sources() -> Labels {
    let mut found = Labels::new();
    for (_, text) in source_files::below(&["src"]) {
        found.append(&mut labels(text.split("#[cfg(test)]").next().unwrap()));
    }
    found.remove("sts2 master");
    found.remove("sts2 slave");
    found
}

fn same(one: (&str, &Labels), two: (&str, &Labels)) {
    let first: Vec<_> = one.1.difference(two.1).collect();
    let second: Vec<_> = two.1.difference(one.1).collect();
    assert!(first.is_empty() && second.is_empty(), "only in {}: {first:?}, only in {}: {second:?}", one.0, two.0);
    assert!(!one.1.is_empty(), "{}: no labels", one.0);
}

/// A line with one blank where it has any number of them.
fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The literal lines of a section of the page.
fn literal(page: &str, title: &str) -> Vec<String> {
    let section = page.lines().skip_while(|line| *line != format!(".Ss {title}")).skip(1);
    let mut inside = false;
    let mut lines = Vec::new();
    for line in section.take_while(|line| !line.starts_with(".Ss ") && !line.starts_with(".Sh ")) {
        match line {
            _ if line.starts_with(".Bd -literal") => inside = true,
            ".Ed" => inside = false,
            _ if inside => lines.push(plain(line)),
            _ => {}
        }
    }
    assert!(!lines.is_empty(), "{title}: no literal lines");
    lines
}

#[test]
fn the_page_the_models_and_the_code_have_the_same_labels() {
    let page = labels(&read(PAGE));
    same((PAGE, &page), (SCHEDULE, &labels(&read(SCHEDULE))));
    same((PAGE, &page), ("src/", &labels_in_sources()));
}

#[test]
fn the_models_have_the_key_schedule_of_the_page() {
    let page = read(PAGE);
    let written: Vec<_> = ["Key schedule", "Stream keys"].iter().flat_map(|title| literal(&page, title)).collect();
    let schedule = read(SCHEDULE);
    let modelled: Vec<_> = schedule.lines().filter_map(|line| line.strip_prefix("| ")).map(plain).collect();
    for (line, model) in written.iter().zip(&modelled) {
        assert_eq!(line, model, "the page first, then {SCHEDULE}");
    }
    assert_eq!(written.len(), modelled.len(), "the page has other lines than {SCHEDULE}");
}

#[test]
fn each_line_of_the_key_schedule_has_its_labels_in_its_model() {
    let schedule = read(SCHEDULE);
    let (mut lines, mut letfuns) = (Labels::new(), Labels::new());
    let mut after_letfun = true;
    for line in schedule.lines().take_while(|line| !line.starts_with("# Labels elsewhere")).chain(["| "]) {
        if let Some(line) = line.strip_prefix("| ") {
            if after_letfun {
                assert_eq!(lines, letfuns, "before: {line}");
                (lines, letfuns) = (Labels::new(), Labels::new());
            }
            after_letfun = false;
            lines.append(&mut labels(line));
        } else if line.starts_with("letfun ") {
            after_letfun = true;
            letfuns.append(&mut labels(line));
        }
    }
    assert!(!after_letfun, "the last line of the key schedule has no letfun");
}

/// A label of a Verifpal model is a constant, `sts2_auth_master`; each must be one of the page.
#[test]
fn the_verifpal_models_have_labels_of_the_page() {
    let known: Labels = labels(&read(PAGE)).iter().map(|label| label.replace(' ', "_")).collect();
    for name in VERIFPAL {
        let text = read(&format!("tests/model/{name}.vp"));
        let words = text.lines().filter(|line| !line.starts_with("//"));
        let words = words.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        let used: Labels = words.filter(|word| word.starts_with("sts2_")).map(str::to_owned).collect();
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(!used.is_empty() && unknown.is_empty(), "{name}.vp: {unknown:?}");
    }
}

/// A key that is expanded with a label: what the page calls the key, and whether more follows the label.
struct Expansion {
    label: String,
    key: String,
    joins_more: bool,
}

fn expansions() -> Vec<Expansion> {
    let lines = read(SCHEDULE);
    let lines: Vec<_> = lines.lines().filter_map(|line| line.strip_prefix("| ")).map(plain).collect();
    let text = lines.join(" ");
    let parsed = text.split("Expand(").skip(1).filter_map(|rest| {
        let (key, rest) = rest.split_once(", \"sts2 ")?;
        let (label, rest) = rest.split_once('"')?;
        let joins_more = rest.trim_start().starts_with('|');
        Some(Expansion { label: format!("sts2_{}", label.replace(' ', "_")), key: key.to_owned(), joins_more })
    });
    parsed.collect()
}

/// The labels that make what the page calls a key; none, where that is extracted.
fn labels_of_key(key: &str) -> &'static [&'static str] {
    match key {
        "node" => &["sts2_tree_m2s", "sts2_tree_s2m", "sts2_child"],
        "leaf n" => &["sts2_child"],
        "side" => &["sts2_side_m2s", "sts2_side_s2m"],
        "key" => &["sts2_stream", "sts2_next"],
        "will key" => &["sts2_will"],
        _ => &[],
    }
}

/// What is between the parenthesis before a text and the one that closes it, parted at its own commas.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut all) = (0, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b')' if depth == 0 => {
                all.push(text[from..at].trim());
                return all;
            }
            b',' if depth == 0 => {
                all.push(text[from..at].trim());
                from = at + 1;
            }
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
    }
    panic!("no end: {text}");
}

/// The label of a MAC after its parenthesis, and whether more follows it.
fn label_of(arguments: &[&str]) -> Option<(String, bool)> {
    let joined = arguments.get(1)?;
    let parts = joined.strip_prefix("HASH(").map_or_else(|| vec![*joined], self::arguments);
    parts[0].starts_with("sts2_").then(|| (parts[0].to_owned(), parts.len() > 1))
}

/// The label with which a model makes a key, given as an expression or by its name.
fn label_of_key(model: &str, key: &str) -> Option<String> {
    let named = model.lines().filter_map(|line| line.trim().split_once(" = ")).find(|(name, _)| *name == key);
    let made = named.map_or(key, |(_, made)| made);
    label_of(&arguments(made.strip_prefix("MAC(")?)).map(|(label, _)| label)
}

/// Each key of a Verifpal model is expanded from the key that the page has, with as many labels.
#[test]
fn the_verifpal_models_have_the_key_schedule_of_the_page() {
    let expansions = expansions();
    for name in VERIFPAL {
        let text = read(&format!("tests/model/{name}.vp"));
        let text: String = text.split_inclusive('\n').filter(|line| !line.starts_with("//")).collect();
        let mut seen = 0;
        for (at, _) in text.match_indices("MAC(") {
            let arguments = arguments(&text[at + "MAC(".len()..]);
            let Some((label, joins_more)) = label_of(&arguments) else { continue };
            seen += 1;
            let of_key = label_of_key(&text, arguments[0]);
            let is_made_by = |key: &str| match of_key.as_deref() {
                Some(label) => labels_of_key(key).contains(&label),
                // One that is extracted has the name that it has on the page, and whose it is.
                None => labels_of_key(key).is_empty() && arguments[0].split('_').next() == Some(key),
            };
            let mut listed = expansions.iter().filter(|expansion| expansion.label == label).peekable();
            // What is no expansion confirms something.
            let is_right = if listed.peek().is_none() {
                of_key.as_deref() == Some("sts2_confirm") && joins_more
            } else {
                listed.any(|expansion| expansion.joins_more == joins_more && is_made_by(&expansion.key))
            };
            assert!(is_right, "{name}.vp: {label} with {} ({of_key:?}), more: {joins_more}", arguments[0]);
        }
        assert!(seen > 5, "{name}.vp: {seen}");
    }
}
