//! Opening a spool to send from it, which may have to wait for another run.

use super::Spool;
use super::inlet::Inlet;
use super::owner::{Owner, check_owner};
use super::store::SpoolOptions;
use super::tail::Tail;
use crate::Result;
use crate::files::{self, Lock};

/// Held by the run that sends.
pub(super) const SEND_LOCK: &str = "lock";

/// A spool that is to be opened to send from it.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    options: &'a SpoolOptions,
    owner: Owner<'a>,
    /// Held from the first attempt on at which no other run sent: a run that leaves its records to the run that sends
    /// relies on that one to send them.
    sending: Option<Lock>,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(options: &'a SpoolOptions, owner: Owner<'a>) -> Self {
        Self { options, owner, sending: None }
    }

    /// Opens the spool, made with mode 0700 where it is absent; `None` where another run sends, or appends at this
    /// moment. Returns how many bytes of a write that did not finish were cut off, too.
    ///
    /// # Errors
    /// [`crate::Exit::Config`] where it belongs to another link or peer; [`crate::Exit::DataLost`] where it is damaged;
    /// [`crate::Exit::NotTrusted`] as in [`crate::files::Dir::create`].
    pub(crate) fn attempt(&mut self) -> Result<Option<(Spool, u64)>> {
        let dir = self.options.create_dir()?;
        let sending = match self.sending.take() {
            Some(sending) => sending,
            None => match files::try_lock(&dir, SEND_LOCK)? {
                Some(sending) => sending,
                None => return Ok(None),
            },
        };
        check_owner(&dir, &sending, self.owner, self.options.keeps_times)?;
        let Some(appending) = Tail::lock(&dir)? else {
            self.sending = Some(sending);
            return Ok(None);
        };
        Spool::open(dir, sending, appending, self.options.max.bytes()).map(Some)
    }

    /// What to append to until then: as [`Inlet::open`].
    pub(crate) fn inlet(&self) -> Result<Option<Inlet>> {
        Inlet::open(self.options, self.owner)
    }

    /// Whether it is this run that sends, once it can open the spool.
    pub(crate) fn is_sender(&self) -> bool {
        self.sending.is_some()
    }
}
