//! sts-pair: agrees a session key with the device at the other end of a link.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sts::cli::{self, CommonArgs, Reporter};
use sts::config::{Environment, PeerName};
use sts::link::Link;
use sts::{Result, pair};

/// Agree a session key with the device at the other end of a link
///
/// Runs on both devices, on one as master and on the other as slave (sts.conf(5)); either may start first.
/// Both then have a fresh session, under which sts-send and sts-recv seal and open. The manual is sts-pair(1).
#[derive(Parser)]
#[command(name = "sts-pair", version, args_override_self = false)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,

    /// Give up after so many seconds; 0 is never
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    timeout: u32,

    /// With --status: print an object of JSON a line
    #[arg(long, requires = "status")]
    json: bool,

    /// Keep a session that is younger than AGE and that the peer still has; for cron
    ///
    /// AGE is a number and its unit: 90s, 30m, 24h, 7d. Where nobody is there to agree a new session, the one there is good
    /// enough until it is twice as old.
    #[arg(long, value_name = "AGE", conflicts_with = "Action")]
    if_older: Option<pair::Age>,

    #[command(flatten)]
    action: Action,
}

/// What to do instead of pairing.
#[derive(clap::Args)]
#[group(multiple = false)]
struct Action {
    /// Print this device's public key line, and its fingerprint on stderr
    ///
    /// The key pair is made if there is none yet, which takes up to some seconds on a small machine.
    #[arg(long)]
    key: bool,

    /// Trust the public key line on stdin as the one of NAME
    ///
    /// It is the line that --key prints on the other device, and must come by a way that nobody else could alter.
    #[arg(long, value_name = "NAME")]
    trust: Option<PeerName>,

    /// Stop trusting the key of NAME, and delete all sessions with it
    #[arg(long, value_name = "NAME")]
    forget: Option<PeerName>,

    /// Print links, peers, sessions and what came under them, a line a peer; never a secret
    #[arg(long)]
    status: bool,

    /// Tell the peer that it is over, and delete all sessions with it
    #[arg(long)]
    end: bool,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::run("sts-pair", run)
}

fn run(args: &Args, report: &Reporter) -> Result<()> {
    let env = Environment::of_process();
    let timeout = (args.timeout > 0).then(|| Duration::from_secs(args.timeout.into()));
    match &args.action {
        Action { key: true, .. } => pair::keys::show(&env, report),
        Action { trust: Some(name), .. } => pair::keys::trust(&env, name, report),
        Action { forget: Some(name), .. } => pair::keys::forget(&env, name, report),
        Action { status: true, .. } => pair::status::run(&env, args.json, report),
        Action { end: true, .. } => pair::end::run(&Link::open(&args.common, report)?, timeout, report),
        _ => pair::run(&Link::open(&args.common, report)?, timeout, args.if_older, report),
    }
}
