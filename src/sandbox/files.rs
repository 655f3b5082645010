//! Files and TCP ports, by Landlock (landlock(7)).

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};

use super::{Needs, SYSTEM};

/// What is known to this list: rights that come with later kernels are not taken away before somebody has looked at them.
/// The library leaves out what the running kernel does not know.
const KNOWN: ABI = ABI::V6;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeFifo | RemoveFile
});
const TERMINAL: &str = "/dev/tty";

/// Allows these files and ports and no others; says what is confined, or why not.
pub(super) fn confine(needs: &Needs) -> Result<String, String> {
    let status = restrict(needs).map_err(|error| format!("files: {error}"))?;
    match (&status.ruleset, &status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("files: Landlock is not enabled in this kernel (landlock in lsm=)".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("files: this kernel has no Landlock (needs Linux 5.13)".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) if *effective_abi < ABI::V4 => {
            Ok("files (TCP ports need Linux 6.7)".to_owned())
        }
        _ => Ok("files, TCP ports".to_owned()),
    }
}

fn restrict(needs: &Needs) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for path in SYSTEM.iter().map(Path::new).chain(needs.read.iter().chain(&needs.look).map(|path| &**path)) {
        rules = allow(rules, path, READ)?;
    }
    for path in &needs.write {
        rules = allow(rules, path, WRITE)?;
    }
    if needs.terminal {
        rules = allow(rules, Path::new(TERMINAL), AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    for port in &needs.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    if needs.binds {
        // A port that the system chooses.
        rules = rules.add_rule(NetPort::new(0, AccessNet::BindTcp))?;
    }
    rules.restrict_self()
}

/// Allows what is at a path; nothing where that is absent.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(_) => Ok(rules),
    }
}
