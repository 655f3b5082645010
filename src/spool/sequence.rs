//! The sequence that the records of a spool are sealed in: it begins with one, and ends after one.

use super::state::sequence_peer;
use super::{Spool, SpooledSequence};
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::stream::Origin;

impl Spool {
    /// The sequence that records are sealed in.
    #[must_use]
    pub(crate) fn sequence(&self) -> Option<&SpooledSequence> {
        self.state.sequence.as_ref()
    }

    /// Starts a sequence with the next record, in this stream with this peer: written down, synchronized, before anything is sealed in
    /// it.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] if the state cannot be written.
    pub(crate) fn start_sequence(&mut self, origin: Origin, peer: &Digest, wants_confirms: bool) -> Result<()> {
        let (peer, first_record) = (Some(sequence_peer(peer)), self.next);
        self.set_sequence(Some(SpooledSequence { origin, peer, first_record, wants_confirms, until: None }))
    }

    /// Decides that the sequence ends after the last record that was read: as [`Spool::start_sequence`]. Where this run
    /// does not get so far as to say it, the next one does: the records after it must not take the position of an end
    /// that was sent.
    ///
    /// # Errors
    /// As [`Spool::start_sequence`].
    pub(crate) fn end_sequence(&mut self) -> Result<()> {
        let until = Some(self.next);
        self.set_sequence(self.state.sequence.map(|sequence| SpooledSequence { until, ..sequence }))
    }

    /// The sequence is over, and all of it acknowledged: what comes next begins another one.
    ///
    /// # Errors
    /// As [`Spool::start_sequence`].
    pub(crate) fn finish_sequence(&mut self) -> Result<()> {
        let Some(SpooledSequence { until, .. }) = self.state.sequence else { return Ok(()) };
        self.acknowledge(until.unwrap_or(self.next))?;
        self.set_sequence(None)
    }

    /// Reads what is not acknowledged once more, for another sequence: as [`Spool::start_sequence`].
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub(crate) fn abandon_sequence(&mut self) -> Result<()> {
        self.set_sequence(None)?;
        self.rewind()
    }

    pub(super) fn set_sequence(&mut self, sequence: Option<SpooledSequence>) -> Result<()> {
        self.state.sequence = sequence;
        self.state_file.announce(self.state.sealed);
        self.state_file.write(&self.state)?;
        self.state_file.sync()
    }
}
