//! What work with keys leaves on the stack: libraries erase a key, but not the copies of it that the compiler made there.

use std::hint::black_box;

/// How many bytes of the stack are erased: more than the work with one key fills, which the tests check.
pub(crate) const ERASED_LEN: usize = 4096;

/// Does `work`, and erases what it left on the stack.
pub(crate) fn without_traces<T>(work: impl FnOnce() -> T) -> T {
    let result = apart(work);
    erase();
    result
}

/// In a frame of its own, which begins where that of [`erase`] does: inlined, the work would leave its traces above that.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn erase() {
    black_box([0_u8; ERASED_LEN]);
}
