//! `tests/bench`: each figure of README together with the one it is compared to, measured in one run and through one
//! broker, unless the figure says otherwise.
//!
//! `bench --tools DIRECTORY [--quick] [--default-queue] [--pairings|--fleet] [OUTPUT]` measures the tools in DIRECTORY,
//! or only their pairings, or only a gateway with a hundred thousand devices, and writes the tables, the figures and
//! two plots to OUTPUT. This is a cargo example, not a cargo benchmark, so that it can also measure installed tools.

mod at_once;
mod broker;
mod confirmed;
mod devices;
mod fleet;
mod flow;
mod growth;
mod in_flight;
mod latency;
mod many_peers;
mod plot;
mod process;
mod relay;
mod report;
mod rows;
mod small;
mod stats;
mod tls;
mod under_flood;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::broker::{Broker, Queue};
use crate::devices::Bench;
use crate::report::Report;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The command line.
#[derive(Default)]
struct Options {
    tools: PathBuf,
    output: PathBuf,
    quick: bool,
    queue: Queue,
    part: BenchPart,
}

/// What to measure.
#[derive(Clone, Copy, Default)]
enum BenchPart {
    /// All but the fleet.
    #[default]
    Most,
    Pairings,
    Fleet,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { output: PathBuf::from("target/bench"), ..Self::default() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--tools" => options.tools = args.next().ok_or("--tools needs a directory")?.into(),
                "--quick" => options.quick = true,
                "--default-queue" => options.queue = Queue::Usual,
                "--pairings" => options.part = BenchPart::Pairings,
                "--fleet" => options.part = BenchPart::Fleet,
                option if option.starts_with('-') => return Err(format!("unknown option {option}").into()),
                output => options.output = output.into(),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    // A device keeps its sessions in /run, which is a file system in memory.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("sts-bench-").tempdir_in(place)?;
    process::clean_up_on_signals(dir.path().to_owned())?;
    let broker = Broker::start(dir.path(), options.queue)?;
    let bench = Bench::new(broker, &options.tools, dir.path())?;
    fs::create_dir_all(&options.output)?;

    let mut report = Report::new();
    let charts = match options.part {
        BenchPart::Most => rows::measure(&bench, options.quick, &mut report)?.into(),
        BenchPart::Pairings => rows::measure_pairings(&bench, options.quick, &mut report).map(|()| Vec::new())?,
        BenchPart::Fleet => many_peers::measure(&bench, options.quick, &mut report).map(|()| Vec::new())?,
    };

    let (day, machine) = (process::output(Command::new("date").args(["-u", "+%F"]))?, machine()?);
    let note = format!("{}; {machine}", day.trim());
    let queue = match options.queue.lines().trim_end() {
        "" => String::new(),
        lines => format!(", {}", lines.replace('\n', ", ")),
    };
    let about = format!(
        "{note}\n{}, default settings{queue}; medians; {:.0} s\n\n",
        broker::version()?,
        elapsed().as_secs_f64()
    );
    let table = about + &report.table();
    print(&format!("\n{table}"))?;
    let files = [("table.txt", &*table), ("figures.csv", report.csv())];
    let plots = charts.iter().map(|(name, chart)| (*name, chart.svg(&note))).collect::<Vec<_>>();
    for (name, content) in files.into_iter().chain(plots.iter().map(|(name, svg)| (*name, &**svg))) {
        write(&options.output, name, content)?;
    }
    print(&format!("written to {}\n", options.output.display()))
}

fn write(dir: &Path, name: &str, content: &str) -> Result<()> {
    Ok(fs::write(dir.join(name), content)?)
}

/// The processors and the system of this machine.
fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).and_then(|line| line.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let kernel = process::output(Command::new("uname").args(["-sm"]))?;
    Ok(format!("{cores} cores of {model}; {}", kernel.trim()))
}

/// A number that is unique within this run.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// When the run began, and how many milliseconds later it last reported its progress.
static START: OnceLock<Instant> = OnceLock::new();
static SAID: AtomicU64 = AtomicU64::new(0);

fn elapsed() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// Time since the last call of [`say`].
fn said_ago() -> Duration {
    elapsed().saturating_sub(Duration::from_millis(SAID.load(Ordering::Relaxed)))
}

/// Reports progress on stderr, with the time since the run began.
fn say(what: &str) {
    let since = elapsed();
    let seconds = since.as_secs();
    SAID.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    // If this fails, there is nowhere left to report it.
    let _ = writeln!(std::io::stderr(), "{seconds:4} s  {what}");
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
