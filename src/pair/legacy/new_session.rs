//! The session that a pairing with the old program makes, on its way to the disk.

use rand::RngExt;

use crate::config::Legacy;
use crate::crypto::legacy::LegacyCipher;
use crate::legacy::{Decrypted, LegacySession, LegacySessionId, PAIR_AGAIN, Store};
use crate::link::unix_time;
use crate::role::Role;
use crate::secret::Key;
use crate::suite::Suite;
use crate::{Error, Exit, Result};

/// The session of one run, which a service makes again and again.
pub(super) struct NewSession<'a> {
    store: &'a Store,
    pub(super) legacy: Legacy,
    state: State,
}

enum State {
    /// There is none.
    Absent,
    /// It is stored as pending.
    Pending {
        id: LegacySessionId,
        /// The connection broke since then.
        was_disconnected: bool,
    },
    /// It is the current one.
    Agreed,
}

impl<'a> NewSession<'a> {
    /// For a link that is configured like this.
    pub(super) fn new(store: &'a Store, legacy: Legacy) -> Self {
        Self { store, legacy, state: State::Absent }
    }

    /// Stores a session under this key, which the other device may have as soon as it hears what is sent next.
    ///
    /// # Errors
    /// As [`Store::store_pending`].
    pub(super) fn store(&mut self, key: Key<LegacyCipher>) -> Result<()> {
        self.state = State::Pending { id: self.put(key)?, was_disconnected: false };
        Ok(())
    }

    /// Stores a session under a key that the other device may have taken in place of that of the current one.
    ///
    /// # Errors
    /// As [`Store::store_pending`].
    pub(super) fn store_other(&self, key: Key<LegacyCipher>) -> Result<()> {
        self.put(key).map(drop)
    }

    fn put(&self, key: Key<LegacyCipher>) -> Result<LegacySessionId> {
        let (id, is_cbc) = (rand::rng().random(), self.legacy.aes == Suite::Cbc);
        self.store.store_pending(LegacySession::new(id, self.legacy.role, key, is_cbc, unix_time()))?;
        Ok(id)
    }

    /// Follows a message of the session that the other device uses now: the next one of each side continues from it. After a
    /// KILL the session is gone.
    ///
    /// # Errors
    /// As [`Store::follow`].
    pub(super) fn follow(&self, payload: &[u8]) -> Result<Option<Decrypted>> {
        self.store.follow(payload)
    }

    /// Whether an sts-recv runs on the link, which writes the texts.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::is_receiving`].
    pub(super) fn is_receiving(&self) -> Result<bool> {
        self.store.cache().is_receiving()
    }

    /// The connection broke.
    pub(super) fn note_disconnection(&mut self) {
        if let State::Pending { was_disconnected, .. } = &mut self.state {
            *was_disconnected = true;
        }
    }

    /// Makes the session the current one; true if the last message of the pairing may be lost. As slave we hear that the master
    /// has it all; as master we end with what nothing answers.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where another tool has deleted the session; otherwise as [`Store::promote`].
    pub(super) fn promote(&mut self) -> Result<bool> {
        // If that fails, the other device has the session all the same: it stays pending, and is current with the first
        // message under it.
        match std::mem::replace(&mut self.state, State::Absent) {
            State::Pending { id, was_disconnected } if self.store.promote(id)? => {
                self.state = State::Agreed;
                Ok(was_disconnected && self.legacy.role == Role::Master)
            }
            _ => Err(Error::new(Exit::TryAgain, "the new session is gone")
                .because("it was deleted during the pairing")
                .hint(PAIR_AGAIN)),
        }
    }

    /// Deletes the session if it is pending.
    ///
    /// # Errors
    /// As [`Store::drop_pending`].
    pub(super) fn abandon(&mut self) -> Result<()> {
        match self.state {
            State::Pending { id, .. } => {
                self.state = State::Absent;
                self.store.drop_pending(id)
            }
            State::Absent | State::Agreed => Ok(()),
        }
    }

    /// Whether the session is the current one.
    pub(super) fn is_agreed(&self) -> bool {
        matches!(self.state, State::Agreed)
    }
}
