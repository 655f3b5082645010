//! Stream numbers of a session: taken on disk before they are used, with all that leads to their keys.

use super::{Cache, EndOfStream, StoredSession, latest_streams};
use crate::crypto::key_tree::Salt;
use crate::crypto::schedule::Digest;
use crate::session::SessionId;
use crate::stream::{EndedStream, FIRST_SIDE_STREAM, ReservedStream, StreamId};
use crate::{Error, Exit, Result};

impl Cache {
    /// Takes the session's next stream number, with its leaf, for a stream with this salt. Before this returns it is
    /// written down, fsynced and renamed, and the directory fsynced, that the number is taken, and nothing that is
    /// written leads to the leaf: no process gets either again, whatever crashes.
    ///
    /// The same write lists the stream, and says how others ended (`ends`). Returns what the stream is to tell of
    /// earlier ones in a message of at most `max_message` bytes, too.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where there is no such session; [`Exit::Failed`] where its numbers are used up, or where the
    /// file cannot be written.
    pub(crate) fn begin_stream(
        &self,
        peer: &Digest,
        id: SessionId,
        salt: Salt,
        ends: &[EndOfStream],
        max_message: usize,
    ) -> Result<(ReservedStream, Vec<EndedStream>)> {
        self.change(peer, |sessions| {
            let stored = sessions.iter_mut().find(|stored| stored.session.id == id);
            let stored = stored.ok_or_else(|| self.no_session())?;
            let (number, leaf) = stored.session.send.tree.take_lowest().ok_or_else(|| self.used_up())?;
            stored.streams = u64::from(number) + 1;
            latest_streams::end(sessions, ends);
            let told = latest_streams::tell(sessions, StreamId { session: id, number }, max_message);
            latest_streams::begin(sessions, id, number, salt);
            Ok(((ReservedStream::of_data(id, number, leaf), told), true))
        })
    }

    /// As [`Cache::begin_stream`], of the number alone: for benchmarks and tests.
    ///
    /// # Errors
    /// As [`Cache::begin_stream`].
    pub fn reserve_stream(&self, peer: &Digest, id: &SessionId) -> Result<ReservedStream> {
        self.begin_stream(peer, *id, Salt::default(), &[], 0).map(|(reserved, _)| reserved)
    }

    /// Writes down how streams with a peer ended.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the file cannot be written.
    pub(crate) fn end_streams(&self, peer: &Digest, ends: &[EndOfStream]) -> Result<()> {
        self.change(peer, |sessions| Ok(((), latest_streams::end(sessions, ends))))
    }

    /// Takes the session's next number of a side stream, as [`Cache::begin_stream`] does for one of data.
    ///
    /// # Errors
    /// As [`Cache::begin_stream`].
    pub fn reserve_confirm_stream(&self, peer: &Digest, id: &SessionId) -> Result<ReservedStream> {
        self.change_one(peer, *id, |stored| {
            // The last one stays free: the number after any that is used exists.
            let count = u32::try_from(stored.confirms).ok().filter(|count| *count < FIRST_SIDE_STREAM - 1);
            let number = FIRST_SIDE_STREAM + count.ok_or_else(|| self.used_up())?;
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
