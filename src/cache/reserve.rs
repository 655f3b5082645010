//! Stream numbers and blocks of a session, reserved on disk before they are used.

use super::{Cache, StoredSession};
use crate::crypto::schedule::Digest;
use crate::session::SessionId;
use crate::stream::{FIRST_CONFIRM_STREAM, ReservedStream, StreamId};
use crate::{Error, Exit, Result};

/// Most blocks of one direction of a session.
pub(super) const MAX_BLOCKS: u64 = 1 << 48;

impl Cache {
    /// Reserves the session's next stream number, which is written down, fsynced and renamed, and the directory fsynced,
    /// before this returns: no process gets it again, whatever crashes.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where there is no such session; [`Exit::Failed`] where its numbers or blocks are used up, or
    /// where the file cannot be written.
    pub fn reserve_stream(&self, peer: &Digest, id: &SessionId) -> Result<ReservedStream> {
        self.reserve_number(peer, *id, 0, |stored| &mut stored.streams)
    }

    /// Reserves the session's next number for a stream of confirms, as [`Cache::reserve_stream`] does for one of data.
    ///
    /// # Errors
    /// As [`Cache::reserve_stream`].
    pub fn reserve_confirm_stream(&self, peer: &Digest, id: &SessionId) -> Result<ReservedStream> {
        self.reserve_number(peer, *id, FIRST_CONFIRM_STREAM, |stored| &mut stored.confirms)
    }

    fn reserve_number(
        &self,
        peer: &Digest,
        id: SessionId,
        first: u32,
        reserved: impl Fn(&mut StoredSession) -> &mut u64,
    ) -> Result<ReservedStream> {
        self.change_one(peer, id, |stored| {
            // The last of each half stays free: the number after any that is used exists, and KILL carries it.
            let count = u32::try_from(*reserved(stored)).ok().filter(|count| *count < FIRST_CONFIRM_STREAM - 1);
            let count = count.ok_or_else(|| self.used_up("stream numbers"))?;
            self.add_blocks(stored, ReservedStream::BLOCKS)?;
            *reserved(stored) += 1;
            Ok(ReservedStream::new(StreamId { session: id, number: first + count }))
        })
    }

    /// A stream number that was reserved before, for the process that continues where the one that reserved it ended; its
    /// blocks are reserved anew.
    ///
    /// # Errors
    /// As [`Cache::reserve_stream`]; [`Exit::Failed`] where the number was never reserved, as in a runtime directory that is
    /// older than what names it.
    pub fn reserve_stream_again(&self, peer: &Digest, id: &SessionId, stream: u32) -> Result<ReservedStream> {
        self.change_one(peer, *id, |stored| {
            if u64::from(stream) >= stored.streams {
                return Err(Error::new(Exit::Failed, format!("stream {stream} of the session of {}", self.link))
                    .because("its number was never reserved: the runtime directory was restored or replaced")
                    .hint(self.pairing_command()));
            }
            self.add_blocks(stored, ReservedStream::BLOCKS)?;
            Ok(ReservedStream::again(StreamId { session: *id, number: stream }))
        })
    }

    /// Reserves blocks for a sender of this session that spent those it had ([`crate::stream::Sender::seal`]).
    ///
    /// # Errors
    /// As [`Cache::reserve_stream`].
    pub fn reserve_blocks(&self, peer: &Digest, id: &SessionId, blocks: u64) -> Result<()> {
        self.change_one(peer, *id, |stored| self.add_blocks(stored, blocks))
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

    fn add_blocks(&self, stored: &mut StoredSession, blocks: u64) -> Result<()> {
        let reserved = stored.blocks.checked_add(blocks).filter(|&reserved| reserved <= MAX_BLOCKS);
        stored.blocks = reserved.ok_or_else(|| self.used_up("blocks"))?;
        Ok(())
    }

    fn used_up(&self, what: &str) -> Error {
        Error::new(Exit::Failed, format!("the session of {}", self.link))
            .because(format!("all its {what} are used up"))
            .hint(self.pairing_command())
    }
}
