//! The command line of sts-pair, which agrees on a session key with the device at the other end of a link.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use super::CommonArgs;
use crate::config::{Environment, PeerName};
use crate::pair::PeersArgument;
use crate::pair::peers::{ALL, Listing};
use crate::pair::status::StatusFormat;
use crate::report::Reporter;
use crate::text::escape;
use crate::units::{Age, Seconds};
use crate::{Error, Exit, Result, pair};

/// When a pairing is given up; with a code, a person has to walk from one device to the other.
const TIMEOUT: Seconds = Seconds::new(30);
const TIMEOUT_WITH_CODE: Seconds = Seconds::new(600);

/// Standard output in place of a file.
const STDOUT: &str = "-";

/// Agree on a session key with the device at the other end of a link
///
/// Run it on both devices, on one as master and on the other as slave (sts.conf(5)); either may start first. Both then have
/// a new session, under which sts-send encrypts and sts-recv decrypts. The manual is sts-pair(1).
#[derive(Parser)]
#[command(name = "sts-pair", version, args_override_self = false)]
struct PairArgs {
    #[command(flatten)]
    common: CommonArgs,

    /// Give up after TIME: 90, 90s, 1h30m (0: never) [default: 30s, or 10m with --code]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["serve", "keep"])]
    timeout: Option<Seconds>,

    /// With --code: the name under which the other device knows this one [default: the host name]
    #[arg(long, value_name = "NAME", requires = "code")]
    name: Option<PeerName>,

    /// With --end: end only the sessions with the peer NAME, on a link with several peers
    #[arg(long, value_name = "NAME", requires = "end")]
    to: Option<PeerName>,

    /// With --status: print one JSON object per line
    #[arg(long, requires = "status")]
    json: bool,

    /// With --status: print it every two seconds until SIGINT; on a terminal, each replaces the one before
    #[arg(long, requires = "status")]
    watch: bool,

    /// With --metrics: add the size of the spool DIR of sts-send; may be repeated
    #[arg(long, value_name = "DIR", requires = "metrics")]
    spool: Vec<PathBuf>,

    /// Keep the session if it is younger than AGE and the peer still has it; for cron
    ///
    /// AGE is a time: 90s, 30m, 24h, 7d. If the peer is not there to agree on a new session, the existing one
    /// is good enough until it is twice as old.
    #[arg(long, value_name = "AGE", conflicts_with = "PairMode")]
    if_older: Option<Age>,

    #[command(flatten)]
    mode: PairMode,
}

/// What to do instead of pairing.
#[derive(clap::Args)]
#[group(multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "a flag for each, as they are on the command line")]
struct PairMode {
    /// Enrol by one-time code: pair with a device that does not know this one yet, and trust each other from then on
    ///
    /// The slave generates a code and prints it, and the master asks for it. If `$STS_CODE` is set, both take the code from
    /// there.
    #[arg(long)]
    code: bool,

    /// Print this device's public key line, and its fingerprint on stderr
    ///
    /// If there is no key pair yet, it is generated, which may take some seconds on a small machine.
    #[arg(long)]
    key: bool,

    /// Read a public key line from stdin and trust it as NAME's, for LINK only or for all links
    ///
    /// It is the line that --key prints on the other device. It must come over a channel on which nobody else could have
    /// altered it. If NAME is `-`, stdin is a list of peers, one per line, each with its name before its key line; either
    /// all of them are trusted or none.
    #[arg(long, value_name = "NAME")]
    trust: Option<PeersArgument>,

    /// Stop trusting the key of NAME, and delete all sessions with it
    ///
    /// If NAME is `-`, stdin is a list of names, one per line, such as --peers prints them before each key; either all of
    /// these peers are forgotten or none.
    #[arg(long, value_name = "NAME")]
    forget: Option<PeersArgument>,

    /// Print the keys of the peers of LINK as --trust - reads them, or only of those that publish on topics matching FILTER
    #[arg(long, value_name = "FILTER", num_args = 0..=1, require_equals = true, default_missing_value = ALL)]
    peers: Option<Listing>,

    /// Print peers, sessions and what was received under them, of LINK or of all links, one line per peer; never a secret
    #[arg(long)]
    status: bool,

    /// Print metrics of all links for Prometheus, or write them to FILE, which is replaced as a whole
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = STDOUT)]
    metrics: Option<PathBuf>,

    /// Tell the peer that the session has ended, and delete all sessions with it
    #[arg(long)]
    end: bool,

    /// Print the configuration as it is used, and check each step of using it: names, connection, topics, clock, session
    #[arg(long)]
    check: bool,

    /// On a master: keep running, and agree on a new session when it is older than AGE or the peer has lost it, until SIGTERM
    #[arg(long, value_name = "AGE")]
    keep: Option<Age>,

    /// On a slave: keep running and answer every pairing until SIGTERM; SIGHUP reloads the configuration
    #[arg(long)]
    serve: bool,
}

impl AsRef<CommonArgs> for PairArgs {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// The options of sts-pair, from which its completions are generated.
#[must_use]
pub fn command() -> clap::Command {
    <PairArgs as clap::CommandFactory>::command()
}

/// The whole of sts-pair; `args` begins with the name of the program.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    super::run("sts-pair", args, run)
}

fn show_status(env: &Environment, args: &PairArgs, report: &Reporter) -> Result<()> {
    let format = if args.json { StatusFormat::Json } else { StatusFormat::Table };
    let show = if args.watch { pair::status::watch } else { pair::status::run };
    show(env, args.common.link.as_deref(), format, report)
}

fn run(args: &PairArgs, report: &Reporter) -> Result<()> {
    let env = Environment::of_process();
    let PairMode { key, forget, metrics, .. } = &args.mode;
    if let (true, Some(link)) = (*key || forget.is_some() || metrics.is_some(), &args.common.link) {
        return Err(Error::new(Exit::Usage, format!("`{}`", escape(link.as_encoded_bytes())))
            .because("--key, --forget and --metrics apply to all links, and take no LINK"));
    }
    let timeout = args.timeout.unwrap_or(if args.mode.code { TIMEOUT_WITH_CODE } else { TIMEOUT }).limit();
    match &args.mode {
        PairMode { code: true, .. } => {
            let given = pair::given_code()?;
            pair::enrol::run(&args.common.open_link(report)?, given, args.name.clone(), timeout, report)
        }
        PairMode { key: true, .. } => pair::keys::show(&env, report),
        PairMode { trust: Some(who), .. } => {
            let link = args.common.link.as_ref().map(|_| args.common.open_link(report)).transpose()?;
            pair::keys::trust(&env, who, link.as_ref(), report)
        }
        PairMode { forget: Some(who), .. } => pair::keys::forget(&env, who, report),
        PairMode { peers: Some(listing), .. } => pair::peers::list(&args.common.open_link(report)?, listing, report),
        PairMode { status: true, .. } => show_status(&env, args, report),
        PairMode { metrics: Some(file), .. } => {
            let file = Some(file.as_path()).filter(|file| *file != Path::new(STDOUT));
            pair::status::metrics::run(&env, file, &args.spool, report)
        }
        PairMode { end: true, .. } => {
            let options = pair::end::EndOptions { to: args.to.as_ref(), timeout };
            pair::end::run(&args.common.open_link(report)?, options, report)
        }
        PairMode { check: true, .. } => pair::check::run(&args.common.link_options(), timeout, report),
        PairMode { keep: Some(age), .. } => pair::keep::run(|| args.common.open_link(report), *age, report),
        PairMode { serve: true, .. } => pair::serve::run(|| args.common.open_link(report), report),
        _ => {
            let options = pair::once::OnceOptions { timeout, if_older: args.if_older };
            pair::once::run(&args.common.open_link(report)?, options, report)
        }
    }
}
