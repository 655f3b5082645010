//! Claim: the files in man/examples are accepted by the programs that they are for, and use only options that the tools
//! have.

#![expect(clippy::unwrap_used, reason = "a call that fails here fails the test, with its place")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

const TOOLS: [(&str, &str); 3] = [
    ("sts-pair", env!("CARGO_BIN_EXE_sts-pair")),
    ("sts-send", env!("CARGO_BIN_EXE_sts-send")),
    ("sts-recv", env!("CARGO_BIN_EXE_sts-recv")),
];

/// The directory in which the examples expect the tools.
const INSTALLED: &str = "/usr/local/bin/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All examples: their names and texts.
fn examples() -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join("man/examples")).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn run(program: &str, args: &[&str], file: Option<&Path>) -> Output {
    let output = Command::new(program).args(args).args(file).output();
    output.unwrap_or_else(|err| panic!("{program}: {err}; tests/run installs it"))
}

/// The tools that a text starts, each with the options that the text gives it.
fn commands(text: &str) -> Vec<(&'static str, Vec<String>)> {
    // OpenRC keeps the arguments on a separate line.
    let text = text.replace("\ncommand_args=\"", " ").replace("\ncommand_args='", " ");
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(|word| word.trim_matches(['"', '\'', '`', '$', '(', ')']));
        while let Some(word) = words.next() {
            let program = word.rsplit(['/', '=']).next().unwrap_or_default();
            let Some((tool, _)) = TOOLS.iter().find(|(tool, _)| *tool == program) else { continue };
            let arguments = words.by_ref().take_while(|word| !["|", "||", "&&", "&", ";", ">", ">>"].contains(word));
            let options = arguments.filter(|word| word.starts_with('-') && word.len() > 1);
            let options = options.map(|option| option.split('=').next().unwrap_or_default().to_owned());
            found.push((*tool, options.collect()));
        }
    }
    found
}

/// The options that begin a line of a tool's `--help`.
fn options_of(executable: &str) -> BTreeSet<String> {
    let help = String::from_utf8(run(executable, &["--help"], None).stdout).unwrap();
    let heads = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = heads.flat_map(|head| head.split([' ', ',']).map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| word.starts_with('-')).collect()
}

#[test]
fn every_option_exists() {
    let mut given = 0;
    for (name, text) in examples() {
        for (tool, options) in commands(&text) {
            let (_, executable) = TOOLS.iter().find(|(known, _)| *known == tool).unwrap();
            let known = options_of(executable);
            for option in options {
                assert!(known.contains(&option), "{name}: {tool} has no {option}");
                given += 1;
            }
        }
    }
    assert!(given > 10, "only {given} options found");
}

#[test]
fn commands_are_found_where_they_stand() {
    let text = "7 * * * *  sts-pair -q --if-older 24h plant || logger -t x\nExecStart=/usr/local/bin/sts-recv %i\n\
                read | exec /x/sts-send --timeout=3 \"$1\"\ncommand=/x/sts-recv\ncommand_args=\"-q $link\"\n";
    let found: Vec<_> = commands(text).into_iter().map(|(tool, options)| (tool, options.join(" "))).collect();
    let expected = [("sts-pair", "-q --if-older"), ("sts-recv", ""), ("sts-send", "--timeout"), ("sts-recv", "-q")];
    assert_eq!(found, expected.map(|(tool, options)| (tool, options.to_owned())));
}

#[test]
fn shells_read_the_scripts() {
    let scripts: Vec<_> = examples().into_iter().filter(|(_, text)| text.starts_with("#!")).collect();
    assert_eq!(scripts.len(), 4);
    for (name, _) in scripts {
        let output = run("dash", &["-n"], Some(&root().join("man/examples").join(&name)));
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
    }
}

/// What a shell prints for a script, which must succeed.
fn shell(script: &str) -> String {
    let output = run("dash", &["-euc", script], None);
    assert!(output.status.success() && output.stderr.is_empty(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn example(name: &str) -> String {
    root().join("man/examples").join(name).display().to_string()
}

/// The files below a directory, with their paths from there.
fn files_below(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let own = name(&entry);
        if entry.is_dir() {
            found.extend(files_below(&entry).into_iter().map(|file| format!("{own}/{file}")));
        } else {
            found.insert(own);
        }
    }
    found
}

#[test]
fn alpine_packages_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    fs::create_dir_all(at("tree/target/release")).unwrap();
    for part in ["bin", "man", "LICENSE", "THIRD-PARTY-LICENSES"] {
        std::os::unix::fs::symlink(root().join(part), at("tree").join(part)).unwrap();
    }
    for (tool, _) in TOOLS {
        fs::write(at("tree/target/release").join(tool), tool).unwrap();
    }
    let (recipe, package) = (example("APKBUILD"), at("package"));
    shell(&format!("cd {}; pkgdir={}; . {recipe}; package", at("tree").display(), package.display()));
    let files = files_below(&package);
    for file in
        ["usr/bin/sts-send", "usr/share/man/man5/sts.conf.5", "etc/init.d/sts-recv", "usr/share/licenses/sts/LICENSE"]
    {
        assert!(files.contains(file), "{file}: {files:?}");
    }
    assert_eq!(files.len(), 3 * 5 + 5);
    assert!(fs::read_to_string(package.join("etc/init.d/sts-recv")).unwrap().contains("command=/usr/bin/sts-recv\n"));
    assert_eq!(shell(&format!(". {recipe}; echo $pkgver")), format!("{}\n", env!("CARGO_PKG_VERSION")));
}

/// bin/install has the only list of what packages contain.
#[test]
fn every_page_and_completion_is_installed_and_removed_again() {
    let directory = tempfile::tempdir().unwrap();
    let (tools, prefix) = (directory.path().join("tools"), directory.path().join("usr"));
    fs::create_dir(&tools).unwrap();
    for (tool, _) in TOOLS {
        fs::write(tools.join(tool), tool).unwrap();
    }
    fs::write(tools.join("sts"), "sts").unwrap();
    let install = |options: &str| {
        let command = root().join("bin/install").display().to_string();
        shell(&format!("{command} --tools {} {options} {}", tools.display(), prefix.display()));
        files_below(&prefix)
    };
    let names = |files: &BTreeSet<String>| -> Vec<String> { files.iter().map(|file| name(Path::new(file))).collect() };
    let installed = install("");
    let mut expected =
        names(&files_below(&root().join("man")).into_iter().filter(|f| !f.starts_with("examples")).collect());
    // Those of `sts`, which is not installed by default.
    expected.retain(|file| !["sts.1", "sts.bash", "sts.fish", "_sts"].contains(&file.as_str()));
    // bash looks for a file with the name of the command.
    let mut expected: Vec<_> = expected.iter().map(|file| file.trim_end_matches(".bash").to_owned()).collect();
    expected.extend(TOOLS.map(|(tool, _)| tool.to_owned()));
    expected.sort();
    let mut found = names(&installed);
    found.sort();
    assert_eq!(found, expected);
    assert!(installed.contains("share/man/man7/sts-protocol.7"), "{installed:?}");
    assert_eq!(install("--remove"), BTreeSet::new());
    assert_eq!(install("--one-file"), ["sts", "sts-pair", "sts-recv", "sts-send"].map(|f| format!("bin/{f}")).into());
    assert_eq!(install("--one-file --remove"), BTreeSet::new());
}

/// The recipe `openwrt.mk`, read by make with stand-ins for the files that it includes: its package is installed into `$ROOT`.
#[test]
fn openwrt_packages_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    for path in ["feed/net/sts/files", "feed/lang/rust", "installed/bin", "root"] {
        fs::create_dir_all(at(path)).unwrap();
    }
    fs::write(at("rules.mk"), "INSTALL_DIR=install -d\nINSTALL_BIN=install -m 755\nLN=ln -sf\n").unwrap();
    fs::write(at("package.mk"), "").unwrap();
    let rust = "define BuildPackage\nall:\n\t$(call Package/sts/install,$(ROOT))\nendef\n";
    // Each line of a recipe is one of make's.
    let rust = format!("{rust}.ONESHELL:\n.SHELLFLAGS:=-ec\n");
    fs::write(at("feed/lang/rust/rust-package.mk"), rust).unwrap();
    fs::write(at("installed/bin/sts"), "sts").unwrap();
    fs::copy(example("sts-recv.procd"), at("feed/net/sts/files/sts-recv.init")).unwrap();
    let variables = [("TOPDIR", ""), ("INCLUDE_DIR", ""), ("PKG_INSTALL_DIR", "installed"), ("ROOT", "root")];
    let mut make = Command::new("make");
    make.args(["-C", &at("feed/net/sts").display().to_string(), "-f", &example("openwrt.mk"), "all"]);
    make.args(variables.map(|(variable, path)| format!("{variable}={}", at(path).display())));
    let output = make.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let links = TOOLS.map(|(tool, _)| format!("usr/bin/{tool}"));
    for link in &links {
        assert_eq!(fs::read_link(at("root").join(link)).unwrap(), Path::new("sts"));
    }
    let files = links.into_iter().chain(["usr/bin/sts".to_owned(), "etc/init.d/sts-recv".to_owned()]);
    assert_eq!(files_below(&at("root")), files.collect());
    let version = format!("PKG_VERSION:={}\n", env!("CARGO_PKG_VERSION"));
    assert!(examples()["openwrt.mk"].contains(&version));
}

#[test]
fn the_crontab_has_lines_that_cron_takes() {
    let mut jobs = 0;
    for line in examples()["crontab"].lines() {
        let job = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(line);
        if job.is_empty() || job.starts_with('#') {
            continue;
        }
        // A `%` ends the line, crontab(5).
        assert!(!job.contains('%'), "{job}");
        if job.split_once('=').is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')) {
            continue;
        }
        let fields: Vec<_> = job.split_whitespace().collect();
        let is_time = |field: &&str| field.bytes().all(|b| b.is_ascii_digit() || b"*/,-".contains(&b));
        assert!(fields.len() > 5 && fields[..5].iter().all(is_time), "{job}");
        let check = run("dash", &["-n", "-c", &fields[5..].join(" ")], None);
        assert!(check.status.success(), "{job}: {check:?}");
        jobs += 1;
    }
    assert_eq!(jobs, 3);
}

/// The lines of a text that cron does something with.
fn lines_for_cron(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn the_crontab_is_the_one_in_the_readme_and_in_the_pages() {
    let examples = examples();
    let lines = lines_for_cron(&examples["crontab"]);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, shown) = readme.split_once("```crontab\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert_eq!(lines_for_cron(shown), lines, "README.md");

    let page = fs::read_to_string(root().join("man/sts-pair.1")).unwrap();
    let jobs =
        page.lines().filter(|line| line.contains(" sts-pair ") && line.starts_with(|c: char| c.is_ascii_digit()));
    let jobs: Vec<_> = jobs.collect();
    let job = lines.iter().find(|line| line.contains(" sts-pair ")).unwrap();
    assert_eq!(jobs, [*job], "sts-pair(1)");
}

/// The units, written to `directory`, with the path of this build's tools.
fn units(directory: &Path) -> Vec<PathBuf> {
    let build = Path::new(TOOLS[0].1).parent().unwrap().display().to_string();
    let mut units = Vec::new();
    for (name, text) in examples() {
        let path = directory.join(name);
        if !path.extension().is_some_and(|kind| kind == "service" || kind == "timer") {
            continue;
        }
        fs::write(&path, text.replace(INSTALLED, &format!("{build}/"))).unwrap();
        units.push(path);
    }
    units
}

/// What systemd reports about a unit, empty if nothing. It reports a key that it does not know, but then ignores it.
fn verify(unit: &Path) -> String {
    let output = run("systemd-analyze", &["verify", "--man=no", "--recursive-errors=no"], Some(unit));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { said } else { format!("{said}{}", output.status) }
}

#[test]
fn systemd_takes_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let units = units(directory.path());
    assert_eq!(units.len(), 6);
    for unit in &units {
        assert_eq!(verify(unit), "", "{}", unit.display());
    }
    // To show that a wrong key or a missing tool would be reported:
    let service = units.iter().find(|unit| name(unit) == "sts-recv@.service").unwrap();
    let good = fs::read_to_string(service).unwrap();
    for (from, to) in [("ProtectClock=", "ProtectClok="), ("sts-recv --wait %i", "sts-receive --wait %i")] {
        fs::write(service, good.replace(from, to)).unwrap();
        assert_ne!(verify(service), "", "{to}");
    }
}

#[test]
fn the_services_are_kept_in() {
    let directory = tempfile::tempdir().unwrap();
    let services: Vec<_> =
        units(directory.path()).into_iter().filter(|unit| unit.extension().is_some_and(|it| it == "service")).collect();
    assert_eq!(services.len(), 5);
    for service in services {
        // The threshold is on a scale of 100, which systemd prints as 0.0 to 10.0. a unit without any
        // protection has 96.
        let args = ["security", "--offline=true", "--no-pager", "--threshold=12"];
        let output = run("systemd-analyze", &args, Some(&service));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// What a peer or the broker does can have the same exit status as a mistake in the configuration.
#[test]
fn no_exit_status_and_no_number_of_failures_stops_a_service_for_good() {
    let examples = examples();
    let restarted: Vec<_> = examples.iter().filter(|(_, text)| text.contains("\nRestart=")).collect();
    assert_eq!(restarted.len(), 4);
    for (name, text) in restarted {
        for line in ["Restart=always", "RestartSec=60", "StartLimitIntervalSec=0"] {
            assert!(text.lines().any(|it| it == line), "{name}: no {line}");
        }
        assert!(!text.contains("\nRestartPreventExitStatus="), "{name}");
    }
}

/// With stand-ins for the tools: `sts-recv` fails at its end, and `sts-send` at the first time.
#[test]
fn a_line_is_handed_on_to_a_local_broker_until_that_takes_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    let lines = r#"'{"peer":"s7","text":"a\tb\t"}' '{"peer":"s8","base64":"/w=="}' '{"peer":"s9","new":1}' '{"peer":"s7","text":""}'"#;
    let send = "[ -e tried ] || { : >tried; cat >/dev/null; exit 75; }\necho \"$*\" >>sent\ncat >>sent\n";
    for (tool, script) in [("sts-recv", &*format!("printf '%s\\n' {lines}\nexit 65\n")), ("sts-send", send)] {
        fs::write(at(tool), format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(at(tool), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut bridge = Command::new("dash");
    bridge.arg(example("sts-to-mqtt")).args(["plant", "local"]).current_dir(directory.path());
    let output = bridge.env("PATH", path).env("STS_RETRY_PAUSE", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert_eq!(output.stderr, b"sts-to-mqtt: not published, as it is not UTF-8: a line of s8\n");
    let to = "-q --each -o pubtop=sts/s7 local\n";
    assert_eq!(fs::read_to_string(at("sent")).unwrap(), format!("{to}a\tb\t\n{to}\n"));
}

/// The stand-in for `sts-send` cannot publish, and sends TERM to the script, and to nothing that it has started.
#[test]
fn a_bridge_to_a_local_broker_ends_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    let receive = "echo '{\"peer\":\"s7\",\"text\":\"a\"}'\nexec sleep 600\n";
    let send = "cat >/dev/null; kill $(cat script.pid); exit 69\n";
    for (tool, script) in [("sts-recv", receive), ("sts-send", send)] {
        fs::write(at(tool), format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(at(tool), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let mut bridge = Command::new("dash");
    bridge.args(["-c", "echo $$ >script.pid; exec dash \"$0\" plant local", &example("sts-to-mqtt")]);
    bridge.current_dir(directory.path()).env("TMPDIR", directory.path()).env("PATH", path).env("STS_RETRY_PAUSE", "0");
    let mut bridge = bridge.process_group(0).spawn().unwrap();
    let status = bridge.wait().unwrap();
    let group = Pid::from_child(&bridge);
    let ended = rustix::process::test_kill_process_group(group);
    rustix::process::kill_process_group(group, Signal::KILL).ok();
    assert_eq!((status.code(), ended), (Some(143), Err(Errno::SRCH)));
    assert_eq!(files_below(directory.path()), ["script.pid", "sts-recv", "sts-send"].map(str::to_owned).into());
}

#[test]
fn the_pages_name_every_example_and_no_other() {
    let known: BTreeSet<String> = examples().into_keys().collect();
    let page = fs::read_to_string(root().join("man/sts-pair.1")).unwrap();
    let (_, listed) = page.split_once(".Pa man/examples").unwrap();
    let (listed, _) = listed.split_once(".Bd").unwrap();
    let words = listed.lines().filter_map(|line| line.strip_prefix(".Pa ")?.split_whitespace().next());
    assert_eq!(words.map(str::to_owned).collect::<BTreeSet<_>>(), known, "sts-pair(1)");

    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, table) = readme.split_once("In `man/examples`").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | ")).map(|(files, _)| files);
    let files = rows.flat_map(|files| files.split(", ").map(|file| file.trim_matches('`').to_owned()));
    assert_eq!(files.collect::<BTreeSet<_>>(), known, "README.md");
}
