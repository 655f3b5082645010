//! What a tool arranges for its process before it does anything else.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps secrets out of core dumps, and keeps SIGXFSZ and SIGUSR1 from ending the tool.
///
/// Other processes of the same user can no longer read this one's memory either (`PR_SET_DUMPABLE`); root can. None of this can
/// fail but where a sandbox forbids it, and then what that forbids is its decision.
pub(super) fn prepare() {
    // The limit is not read first: rustix cannot return that getrlimit(2) failed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // With a handler, write(2) fails with EFBIG (setrlimit(2), RLIMIT_FSIZE) and its caller says what could not be written.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
    // It asks a run for its progress, and may arrive before the run can answer.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGUSR1, std::sync::Arc::default());
}
