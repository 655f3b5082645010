//! Whose a spool is: `owner`, made with the spool, and changed only when records begin to have times.
//!
//! A spool of a later format ([`Format`]) is left as it is; any other line than this version writes is refused.

use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};

use super::damaged::of_later_version;
use crate::crypto::schedule::Digest;
use crate::files::{self, Dir, Lock};
use crate::name::LinkName;
use crate::text::{quote, show};
use crate::{Error, Exit, Result};

const FILE_NAME: &str = "owner";
/// The format of all files of a spool, and the locks under which they are written: another number for each change with which an
/// older version would read them wrongly, or write to them at the same time. Since 3, any number of runs append; since 4, the
/// state names a sequence; in 5, a record may have a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    WithoutTimes = 4,
    WithTimes = 5,
}

const FORMAT_NAME: &str = "format = sts-spool-";
const NEWEST: u32 = Format::WithTimes as u32;

impl Format {
    /// Whether a record may have a time: an earlier version would take it for a write that was cut short, and cut it off.
    pub(super) fn keeps_times(self) -> bool {
        self == Self::WithTimes
    }

    fn line(self) -> String {
        format!("{FORMAT_NAME}{}", self as u32)
    }
}

/// To whom a spool belongs: what one link was to send is never sent on another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// The link.
    pub(crate) link: &'a LinkName,
    /// The device at its other end, or those that it may be.
    pub(crate) receiver: SpoolReceiver<'a>,
}

/// The receiver of the records of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpoolReceiver<'a> {
    /// Any reader of a link that is not encrypted.
    Anyone,
    /// The old program (`sts_version = 1`), which has no key.
    OldProgram,
    /// The peer with this fingerprint; or if there are several, whichever of these the link is with. They are sorted. A
    /// record may go to each of them, so all runs on the spool must have the same.
    Peers(&'a [Digest]),
}

/// Claims a new spool for its owner, and refuses one of any other. From now on its records may have times, if it
/// `keeps_times`.
pub(super) fn check_owner(dir: &Dir, lock: &Lock, owner: Owner<'_>, keeps_times: bool) -> Result<()> {
    let wanted = if keeps_times { Format::WithTimes } else { Format::WithoutTimes };
    match format_of(dir, owner)? {
        None => files::create(dir, lock, FILE_NAME, owner.text(wanted).as_bytes()).map(drop),
        Some(found) if found < wanted => files::replace(dir, lock, FILE_NAME, owner.text(wanted).as_bytes()),
        Some(_) => Ok(()),
    }
}

/// The format of a spool that belongs to this owner; `None` where it belongs to nobody yet.
pub(super) fn format_of(dir: &Dir, owner: Owner<'_>) -> Result<Option<Format>> {
    let Some(found) = files::read_private(dir, FILE_NAME)? else { return Ok(None) };
    let known = [Format::WithoutTimes, Format::WithTimes];
    if let Some(format) = known.into_iter().find(|format| *found == owner.text(*format).as_bytes()) {
        return Ok(Some(format));
    }
    let found = String::from_utf8_lossy(&found).into_owned();
    let format = found.lines().find_map(|line| line.strip_prefix(FORMAT_NAME)?.parse::<u32>().ok());
    if format.is_some_and(|format| format > NEWEST) {
        return Err(of_later_version(dir));
    }
    let has = |line: &str| found.lines().any(|other| other == line);
    let refused = Error::new(Exit::Config, format!("the spool {}", show(dir.path())));
    if !known.iter().any(|format| has(&format.line())) {
        let hint =
            format!("deliver what is in it with the version that made it, or: mv {0} {0}.old", quote(dir.path()));
        return Err(refused.because("it is not a spool of this version").hint(hint));
    }
    let why = if has(&owner.link_line()) {
        "it belongs to another peer of this link or to other alternatives (`peer`), or to the link with another sts_mode \
         or sts_version"
    } else {
        "it belongs to another link"
    };
    Err(refused.because(why).hint(
        "give each link and peer a spool of its own; after a change of `peer`, deliver what is in it with the previous \
         value, then remove it",
    ))
}

impl Owner<'_> {
    fn link_line(&self) -> String {
        format!("link = {}", self.link)
    }

    fn text(&self, format: Format) -> String {
        let peer = match self.receiver {
            SpoolReceiver::Anyone => "none".to_owned(),
            SpoolReceiver::OldProgram => "old program".to_owned(),
            SpoolReceiver::Peers(peers) => peers.iter().map(|peer| STANDARD.encode(peer)).collect::<Vec<_>>().join(" "),
        };
        format!("# A spool of sts-send(1).\n{}\n{}\npeer = {peer}\n", format.line(), self.link_line())
    }
}
