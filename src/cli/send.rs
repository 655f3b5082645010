//! The command line of sts-send, which encrypts standard input and sends it to the device at the other end of a link.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;

use super::CommonArgs;
use crate::config::PeerName;
use crate::report::Reporter;
use crate::spool;
use crate::stdio::Split;
use crate::units::{Seconds, Size};
use crate::{Result, send};

/// Encrypt standard input and send it to the device at the other end of a link
///
/// Reads standard input to its end, and exits with 0 only if every byte was acknowledged. Input is sent as soon as it is
/// available, up to its last newline. If the broker is away, sts-send waits for it. The manual is sts-send(1).
#[derive(Parser)]
#[command(name = "sts-send", version, args_override_self = false)]
#[expect(clippy::struct_excessive_bools, reason = "a flag for each, as they are on the command line")]
struct SendArgs {
    #[command(flatten)]
    common: CommonArgs,

    /// Send each line as a separate message; with `nosec`, without its newline
    #[arg(long, conflicts_with = "binary")]
    each: bool,

    /// Do not wait for newlines
    #[arg(short, long)]
    binary: bool,

    /// Wait until the receiver has written everything, and resend what the broker lost
    #[arg(long)]
    confirm: bool,

    /// Hide lengths: pad what is encrypted to a multiple of N bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pad: Option<u32>,

    /// On a terminal, show on stderr how much was sent, how fast, and how long it will take
    #[arg(long)]
    progress: bool,

    /// Say in each message when its first byte was read, for `sts-recv --json`
    #[arg(long)]
    stamp: bool,

    /// Send to the peer NAME, on a link with several peers
    #[arg(long, value_name = "NAME")]
    to: Option<PeerName>,

    /// Keep input on disk until it is acknowledged; what an earlier run left there is sent first
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,

    /// Let at most BYTES bytes wait in the spool; the number may be followed by k, M or G
    #[arg(long, value_name = "BYTES", default_value = "64M", requires = "spool")]
    spool_max: Size,

    /// Have the broker send TEXT to the receiver if this run dies, fails, or loses its connection
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    will: Option<String>,

    /// Give up after TIME without an acknowledgement: 90, 90s, 1h30m (0: never)
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    timeout: Seconds,
}

impl AsRef<CommonArgs> for SendArgs {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// The options of sts-send, from which its completions are generated.
#[must_use]
pub fn command() -> clap::Command {
    <SendArgs as clap::CommandFactory>::command()
}

/// The whole of sts-send; `args` begins with the name of the program.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    super::run("sts-send", args, run)
}

fn run(args: &SendArgs, report: &Reporter) -> Result<()> {
    let split = match (args.each, args.binary) {
        (true, _) => Split::Each,
        (_, true) => Split::Binary,
        _ => Split::Lines,
    };
    let timeout = args.timeout.limit();
    let keeps_times = args.stamp;
    let spool = args.spool.clone().map(|dir| spool::SpoolOptions { dir, max: args.spool_max, keeps_times });
    let options = send::SendOptions {
        split,
        timeout,
        confirm: args.confirm,
        spool,
        stamp: args.stamp,
        will: args.will.clone(),
        progress: args.progress,
        to: args.to.clone(),
    };
    send::run(&args.common.open_link(report)?.pad_to(args.pad.map(|pad| pad as usize))?, &options, report)
}
