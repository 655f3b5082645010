//! Many small private files, read one after the other.

use rustix::io::{Errno, retry_on_intr};
use zeroize::Zeroizing;

use super::check::{Guard, check_file, failed};
use super::dir::Dir;
use super::stamp::{Stamp, stamp_of};
use super::whole::{open_ours, read_private};
use crate::Result;

/// Files of this length in bytes, or longer, are read by [`read_private`].
const BUFFER_LEN: usize = 16 << 10;

/// Reads files as [`read_private`] does, into one buffer: of a hundred thousand files, that is one piece of memory to fill and
/// to erase, and each file costs four system calls.
pub(crate) struct PrivateReader {
    buffer: Zeroizing<Vec<u8>>,
}

impl PrivateReader {
    /// A reader with an empty buffer.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { buffer: Zeroizing::new(vec![0; BUFFER_LEN]) }
    }

    /// The file's bytes, with its stamp, which was taken before they were read; `None` where it is absent.
    ///
    /// # Errors
    /// As [`read_private`].
    pub(crate) fn read(&mut self, dir: &Dir, name: &str) -> Result<Option<(Stamp, &[u8])>> {
        let Some(fd) = open_ours(dir, name)? else { return Ok(None) };
        let path = dir.join(name);
        let stamp = stamp_of(&check_file(dir.owner, &fd, &path, Guard::Private)?);
        if stamp.len() >= BUFFER_LEN as u64 {
            let Some(bytes) = read_private(dir, name)? else { return Ok(None) };
            self.buffer = bytes;
            return Ok(Some((stamp, &self.buffer)));
        }
        if self.buffer.len() < BUFFER_LEN {
            *self = Self::new();
        }
        let mut len = 0;
        // One that grew meanwhile is read as far as there is room: it is another version, which the next look reads.
        while len < self.buffer.len() {
            let read = retry_on_intr(|| rustix::io::read(&fd, &mut self.buffer[len..]));
            let read = read.map_err(|errno: Errno| failed("read", &path, errno))?;
            len += read;
            // Less than there was room for is all that there is.
            if read == 0 || len as u64 == stamp.len() {
                break;
            }
        }
        Ok(Some((stamp, &self.buffer[..len])))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::Exit;

    #[test]
    fn files_of_any_length_are_read_one_after_the_other() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Private).unwrap();
        let mut reader = PrivateReader::new();
        let lens = [0, 1, 5000, 3, BUFFER_LEN - 1, BUFFER_LEN, 3 * BUFFER_LEN, 7];
        for (number, len) in lens.into_iter().enumerate() {
            let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let name = format!("file{number}");
            fs::write(dir.join(&name), &bytes).unwrap();
            fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
            let (stamp, read) = reader.read(&dir, &name).unwrap().unwrap();
            assert_eq!((stamp.len(), read), (len as u64, &*bytes), "{len}");
            assert_eq!(Some(stamp), super::super::stamp(&dir, &name).unwrap());
        }
        assert!(reader.read(&dir, "absent").unwrap().is_none());
        fs::set_permissions(dir.join("file1"), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(reader.read(&dir, "file1").unwrap_err().exit(), Exit::NotTrusted);
    }
}
