//! Counts how often attempts and keys are looked at, so that a test sees a search that grows with how many there are.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// Something whose looks are counted.
pub(crate) struct Counted<T>(Box<T>);

/// How often this thread looks at any of them while `work` is done, and what that returns.
pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = LOOKS.get();
    let done = work();
    (LOOKS.get() - before, done)
}

/// One more look.
pub(crate) fn note() {
    LOOKS.set(LOOKS.get() + 1);
}

impl<T> From<T> for Counted<T> {
    fn from(kept: T) -> Self {
        Self(Box::new(kept))
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        note();
        &self.0
    }
}

impl<T> DerefMut for Counted<T> {
    fn deref_mut(&mut self) -> &mut T {
        note();
        &mut self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
