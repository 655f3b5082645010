//! Which runs of sts-pair may be on a link at the same time: one, and beside a service one that enrols by code.
//!
//! Those two are in no one's way: a frame that begins a pairing says whether its sender has a code, and each of them answers
//! one kind only. All that follows belongs to the one that answered.

use super::Cache;
use crate::files::{self, Lock};
use crate::{Error, Exit, Result};

/// What a run holds until it ends.
#[derive(Debug)]
pub(crate) struct PairingLocks {
    _locks: Vec<Lock>,
}

impl Cache {
    /// Takes the locks of a run that agrees on one session, with a peer that is trusted.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where another sts-pair runs.
    pub(crate) fn lock_pairing(&self) -> Result<PairingLocks> {
        let pairing = self.try_lock_pairing()?.ok_or_else(|| self.is_busy())?;
        // It alone knows whether a new session is wanted.
        Ok(PairingLocks { _locks: vec![pairing, self.lock_answers()?] })
    }

    /// Takes the locks of a service.
    ///
    /// # Errors
    /// As [`Cache::lock_pairing`].
    pub(crate) fn lock_service(&self) -> Result<PairingLocks> {
        let pairing = self.try_lock_pairing()?.ok_or_else(|| self.is_busy())?;
        // Nobody holds it for more than a look.
        Ok(PairingLocks { _locks: vec![pairing, files::lock(&self.dir, &self.service_lock())?] })
    }

    /// Takes the locks of a run that enrols by code, which may be beside a service.
    ///
    /// # Errors
    /// As [`Cache::lock_pairing`].
    pub(crate) fn lock_enrolment(&self) -> Result<PairingLocks> {
        let enrolling = files::try_lock(&self.dir, &self.enrolment_lock())?.ok_or_else(|| self.is_busy())?;
        let mut locks = vec![enrolling];
        match self.try_lock_pairing()? {
            Some(pairing) => locks.extend([pairing, self.lock_answers()?]),
            None if self.has_service() => {}
            None => return Err(self.is_busy()),
        }
        Ok(PairingLocks { _locks: locks })
    }

    /// Whether a service runs on the link.
    pub(crate) fn has_service(&self) -> bool {
        matches!(files::try_lock(&self.dir, &self.service_lock()), Ok(None))
    }

    /// Whether a device is being enrolled by code.
    pub(crate) fn is_enrolling(&self) -> bool {
        matches!(files::try_lock(&self.dir, &self.enrolment_lock()), Ok(None))
    }

    fn try_lock_pairing(&self) -> Result<Option<Lock>> {
        files::try_lock(&self.dir, &format!("{}@pair.lock", self.link))
    }

    fn service_lock(&self) -> String {
        format!("{}@serve.lock", self.link)
    }

    fn enrolment_lock(&self) -> String {
        format!("{}@enrol.lock", self.link)
    }

    fn is_busy(&self) -> Error {
        Error::new(Exit::TryAgain, format!("cannot pair {}", self.link))
            .because("another sts-pair is already running on this link")
    }
}
