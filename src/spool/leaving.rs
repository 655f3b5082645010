//! How a run leaves its spool: to another run, or to the next one.

use super::Spool;
use super::tail::AppendTurn;
use crate::Result;

impl Spool {
    /// Leaves the spool if nothing waits in it, whatever other runs appended up to now; false if something does, or
    /// while one of them appends. After that another run may send from it.
    ///
    /// # Errors
    /// As [`Spool::shut_down`].
    pub(crate) fn leave(&mut self) -> Result<bool> {
        let Some(turn) = self.tail.begin(&self.state)? else { return Ok(false) };
        if !self.is_empty() {
            self.tail.end(turn)?;
            return Ok(false);
        }
        self.store(&turn)?;
        // Released before the right to append: a run that appends after this finds that no run sends, and sends itself.
        self.sending = None;
        Ok(true)
    }

    /// At the end of a run that did not leave: removes the segments if nothing waits and no other run appends now, and
    /// otherwise lets what waits survive a power cut.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] if the disk fails.
    pub(crate) fn shut_down(&mut self) -> Result<()> {
        if self.sending.is_none() {
            return Ok(());
        }
        let Some(turn) = self.tail.begin(&self.state)? else { return self.sync_all() };
        self.store(&turn)?;
        self.tail.end(turn)
    }

    fn sync_all(&mut self) -> Result<()> {
        self.tail.segments.sync()?;
        if self.state_file.says_sealed(self.state.sealed + 1) {
            self.state_file.announce(self.state.sealed);
            self.state_file.write(&self.state)?;
        }
        self.state_file.sync()
    }

    fn store(&mut self, turn: &AppendTurn) -> Result<()> {
        self.sync_all()?;
        self.remove_read(turn, 0)?;
        self.backlog.store(&self.tail.dir, &turn.lock)
    }
}
