//! sts-pair: agrees a session key with the device at the other end of a link.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sts::cli::{self, CommonArgs, Reporter};
use sts::config::{Environment, PeerName};
use sts::link::Link;
use sts::text::escape;
use sts::{Error, Exit, Result, pair};

/// Seconds after which a pairing is given up; with a code, a person walks from one device to the other.
const TIMEOUT: u32 = 30;
const TIMEOUT_WITH_CODE: u32 = 600;

/// Agree a session key with the device at the other end of a link
///
/// Runs on both devices, on one as master and on the other as slave (sts.conf(5)); either may start first.
/// Both then have a fresh session, under which sts-send and sts-recv seal and open. The manual is sts-pair(1).
#[derive(Parser)]
#[command(name = "sts-pair", version, args_override_self = false)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,

    /// Give up after so many seconds; 0 is never [default: 30, or 600 with --code]
    #[arg(long, value_name = "SECS", conflicts_with = "serve")]
    timeout: Option<u32>,

    /// Call this device NAME while enrolling by code [default: the host name]
    #[arg(long, value_name = "NAME", requires = "code")]
    name: Option<PeerName>,

    /// With --end: only the sessions with the peer NAME, on a link with several
    #[arg(long, value_name = "NAME", requires = "end")]
    to: Option<PeerName>,

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
#[expect(clippy::struct_excessive_bools, reason = "a flag for each, as they are on the command line")]
struct Action {
    /// Enrol by one-time code: pair with a device that does not know this one yet, and trust each other from then on
    ///
    /// The slave makes a code and shows it, the master asks for it; both take `$STS_CODE` where it is set.
    #[arg(long)]
    code: bool,

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

    /// On a slave: stay, and answer every pairing until SIGTERM; SIGHUP reads the configuration again
    #[arg(long)]
    serve: bool,
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
    let Action { key, trust, forget, status, .. } = &args.action;
    if let (true, Some(link)) = (*key || *status || trust.is_some() || forget.is_some(), &args.common.link) {
        return Err(Error::new(Exit::Usage, format!("`{}`", escape(link.as_encoded_bytes())))
            .because("--key, --trust, --forget and --status are for all links, and take none"));
    }
    let secs = args.timeout.unwrap_or(if args.action.code { TIMEOUT_WITH_CODE } else { TIMEOUT });
    let timeout = (secs > 0).then(|| Duration::from_secs(secs.into()));
    match &args.action {
        Action { code: true, .. } => {
            let given = pair::code::given()?;
            pair::code::run(&Link::open(&args.common, report)?, given, args.name.clone(), timeout, report)
        }
        Action { key: true, .. } => pair::keys::show(&env, report),
        Action { trust: Some(name), .. } => pair::keys::trust(&env, name, report),
        Action { forget: Some(name), .. } => pair::keys::forget(&env, name, report),
        Action { status: true, .. } => pair::status::run(&env, args.json, report),
        Action { end: true, .. } => {
            pair::end::run(&Link::open(&args.common, report)?, args.to.as_ref(), timeout, report)
        }
        Action { serve: true, .. } => pair::serve::run(|| Link::open(&args.common, report), report),
        _ => pair::run(&Link::open(&args.common, report)?, timeout, args.if_older, report),
    }
}
