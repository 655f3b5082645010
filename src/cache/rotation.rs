//! When cron agrees the next session: the last `--if-older AGE` of a link, for `sts-pair --status`.

use super::Cache;
use crate::Result;
use crate::files;

impl Cache {
    /// Notes after how many seconds a session is replaced; writes only where that is news.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where it cannot be written.
    pub(crate) fn note_rotation(&self, seconds: u64) -> Result<()> {
        if self.rotation()? == Some(seconds) {
            return Ok(());
        }
        files::replace(&self.dir, &self.lock()?, &self.rotation_file(), format!("if_older = {seconds}\n").as_bytes())
    }

    /// After how many seconds a session is replaced; `None` if `--if-older` was never given, or the file is malformed.
    ///
    /// # Errors
    /// As [`files::read_private`].
    pub(crate) fn rotation(&self) -> Result<Option<u64>> {
        let Some(bytes) = files::read_private(&self.dir, &self.rotation_file())? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).ok();
        Ok(text.and_then(|text| text.strip_prefix("if_older = ")?.strip_suffix('\n')?.parse().ok()))
    }

    fn rotation_file(&self) -> String {
        format!("{}@rotation", self.link)
    }
}
