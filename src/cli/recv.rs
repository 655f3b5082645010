//! The command line of sts-recv, which decrypts what the device at the other end of a link sends, and writes it to standard output.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use super::CommonArgs;
use crate::recv::{Format, Scope};
use crate::report::Reporter;
use crate::units::Seconds;
use crate::{Result, recv};

/// Decrypt what the device at the other end of a link sends, and write it to standard output
///
/// Writes byte for byte what sts-send read, and acknowledges to the broker only what standard output has accepted. A gap is
/// reported with its exact range. The manual is sts-recv(1).
#[derive(Parser)]
#[command(name = "sts-recv", version, args_override_self = false)]
#[expect(clippy::struct_excessive_bools, reason = "a flag for each, as they are on the command line")]
struct RecvArgs {
    #[command(flatten)]
    common: CommonArgs,

    /// Follow the first stream that starts, and exit at its end: with 0 only if it is complete
    #[arg(short = '1', long)]
    once: bool,

    /// Print the newest message that the broker keeps, even one received before, and exit; wait for it 10s or --timeout
    #[arg(long, conflicts_with_all = ["once", "lines", "wait"])]
    last: bool,

    /// Exit after N lines; with a `clientid`, the rest is left for the next run
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    lines: Option<u64>,

    /// With `nosec`: write payloads as they are, without adding newlines
    #[arg(short, long)]
    binary: bool,

    /// Write the name of the peer and `: ` before each line
    #[arg(long, conflicts_with = "json")]
    prefix: bool,

    /// Write the time of receipt, in UTC, before each line, and with --prefix before the name
    #[arg(long, conflicts_with = "json")]
    timestamps: bool,

    /// On a terminal, show on stderr how much was received, and how fast
    #[arg(long)]
    progress: bool,

    /// Write each line as a JSON object: peer, stream, seq, time, and text, or base64 if it is not UTF-8
    #[arg(long)]
    json: bool,

    /// Hide lengths: pad the confirms to a multiple of N bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pad: Option<u32>,

    /// If there is no session, wait for the first one; for services
    #[arg(long)]
    wait: bool,

    /// Exit if nothing is received for TIME: 90, 90s, 1h30m (0: never)
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    timeout: Seconds,
}

impl AsRef<CommonArgs> for RecvArgs {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// The options of sts-recv, from which its completions are generated.
#[must_use]
pub fn command() -> clap::Command {
    <RecvArgs as clap::CommandFactory>::command()
}

/// The whole of sts-recv; `args` begins with the name of the program.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    super::run("sts-recv", args, run)
}

fn run(args: &RecvArgs, report: &Reporter) -> Result<()> {
    let format = match (args.prefix, args.timestamps, args.json) {
        (_, _, true) => Format::Json,
        (false, false, false) => Format::Plain,
        (name, time, false) => Format::Prefix { time, name },
    };
    let scope = match (args.once, args.last) {
        (true, _) => Scope::FirstStream,
        (_, true) => Scope::Retained,
        _ => Scope::All,
    };
    let options = recv::RecvOptions {
        format,
        wait: args.wait,
        progress: args.progress,
        scope,
        lines: args.lines,
        binary: args.binary,
        timeout: args.timeout.limit(),
    };
    recv::run(&args.common.open_link(report)?.pad_to(args.pad.map(|pad| pad as usize))?, options, report)
}
