//! Stream numbers of a session: taken on disk before they are used, with all that leads to their keys.

use super::{Cache, StoredSession};
use crate::crypto::schedule::Digest;
use crate::session::SessionId;
use crate::stream::{FIRST_CONFIRM_STREAM, ReservedStream};
use crate::{Error, Exit, Result};

impl Cache {
    /// Takes the session's next stream number, with its leaf. Before this returns it is written down, fsynced and renamed, and
    /// the directory fsynced, that the number is taken, and nothing that is written leads to the leaf: no process gets either
    /// again, whatever crashes.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where there is no such session; [`Exit::Failed`] where its numbers are used up, or where the file
    /// cannot be written.
    pub fn reserve_stream(&self, peer: &Digest, id: &SessionId) -> Result<ReservedStream> {
        self.change_one(peer, *id, |stored| {
            let (number, leaf) = stored.session.send.tree.take_lowest().ok_or_else(|| self.used_up())?;
            stored.streams = u64::from(number) + 1;
            Ok(ReservedStream::of_data(*id, number, leaf))
        })
    }

    /// Takes the session's next number of a side stream, as [`Cache::reserve_stream`] does for one of data.
    ///
    /// # Errors
    /// As [`Cache::reserve_stream`].
    pub fn reserve_confirm_stream(&self, peer: &Digest, id: &SessionId) -> Result<ReservedStream> {
        self.change_one(peer, *id, |stored| {
            // The last one stays free: the number after any that is used exists.
            let count = u32::try_from(stored.confirms).ok().filter(|count| *count < FIRST_CONFIRM_STREAM - 1);
            let number = FIRST_CONFIRM_STREAM + count.ok_or_else(|| self.used_up())?;
            stored.confirms += 1;
            Ok(ReservedStream::of_side(*id, number, stored.session.send.side.clone()))
        })
    }

    fn change_one<T>(
        &self,
        peer: &Digest,
        id: SessionId,
        change: impl FnOnce(&mut StoredSession) -> Result<T>,
    ) -> Result<T> {
        self.change(peer, |sessions| {
            let stored = sessions.iter_mut().find(|stored| stored.session.id == id);
            Ok((change(stored.ok_or_else(|| self.no_session())?)?, true))
        })
    }

    fn used_up(&self) -> Error {
        Error::new(Exit::Failed, format!("the session of {}", self.link))
            .because("all its stream numbers are used up")
            .hint(self.pairing_command())
    }
}
