//! What secrets are drawn from.

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

/// The system's generator, for keys and codes: a generator of our own would have its state in memory, where it could be
/// read later, and a copy of a running process would have the same one.
///
/// Panics if the system has no generator, which it would have shown at the start: a key must come from nowhere else.
pub(crate) fn system_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}
