//! sts-send: encrypts standard input to the device at the other end of a link.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sts::cli::{self, CommonArgs, Reporter};
use sts::config::PeerName;
use sts::link::Link;
use sts::spool::{self, Size};
use sts::stdio::Split;
use sts::{Result, send};

/// Encrypt standard input to the device at the other end of a link
///
/// Reads to the end of input and exits 0 only if every byte was acknowledged. What is there is sent at once, cut at the
/// last newline. A broker that is away is waited for. The manual is sts-send(1).
#[derive(Parser)]
#[command(name = "sts-send", version, args_override_self = false)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,

    /// Send one message a line
    #[arg(long, conflicts_with = "binary")]
    each: bool,

    /// Do not wait for newlines
    #[arg(short, long)]
    binary: bool,

    /// Wait until the receiver has written everything; send again what the broker lost
    #[arg(long)]
    confirm: bool,

    /// Send to the peer NAME, on a link with several
    #[arg(long, value_name = "NAME")]
    to: Option<PeerName>,

    /// Keep input on the disk until it is acknowledged; what an earlier run left there goes first
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,

    /// Let at most so many bytes wait in the spool; k, M or G may follow the number
    #[arg(long, value_name = "BYTES", default_value = "64M", requires = "spool")]
    spool_max: Size,

    /// Give up when nothing was acknowledged for so many seconds; 0 is never
    #[arg(long, value_name = "SECS", default_value_t = 0)]
    timeout: u32,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::run("sts-send", run)
}

fn run(args: &Args, report: &Reporter) -> Result<()> {
    let cut = match (args.each, args.binary) {
        (true, _) => Split::Each,
        (_, true) => Split::Binary,
        _ => Split::Lines,
    };
    let timeout = (args.timeout > 0).then(|| Duration::from_secs(args.timeout.into()));
    let spool = args.spool.clone().map(|dir| spool::SpoolOptions { dir, max: args.spool_max });
    let options = send::Options { cut, timeout, confirm: args.confirm, spool, to: args.to.clone() };
    send::run(&Link::open(&args.common, report)?, options, report)
}
