//! What groups and named users may do with a file or directory: by its mode, and by its access control list, if it has one
//! (acl(5)). With a list, the group bits of the mode are only the most that the list grants to anyone but the owner: a file that
//! one service may read, as systemd's credentials are, has the mode of one that a group may read.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::users;

/// The attribute that holds the list (xattr(7)).
const NAME: &str = "system.posix_acl_access";

/// Longest list that is read, in bytes; the file systems of Linux allow fewer entries.
const MAX_LIST_LEN: usize = 64 << 10;

/// How the list begins (`linux/posix_acl_xattr.h`): its version. Then entries: tag, permissions, number of a user or group.
const VERSION: u32 = 2;
const HEADER_LEN: usize = 4;
const ENTRY_LEN: usize = 8;

/// Permissions, as in the lowest three bits of a mode.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;

/// Somebody to whom something is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grantee {
    User(u32),
    Group(u32),
    /// The list cannot be read, so that it may be any user.
    Unknown,
}

/// What a file or directory grants to others than its owner and everybody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grants(Vec<(Grantee, u32)>);

impl Grants {
    /// Those of an open file or directory.
    pub(super) fn of(fd: impl AsFd, stat: &Stat) -> Self {
        Self::read(stat, |list| match rustix::fs::fgetxattr(&fd, NAME, &mut *list) {
            // A descriptor by which nothing can be read, as that of a directory that is only passed through.
            Err(Errno::BADF) => rustix::fs::getxattr(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()), NAME, list),
            len => len,
        })
    }

    /// Those of what a path leads to.
    pub(super) fn at(path: &Path, stat: &Stat) -> Self {
        Self::read(stat, |list| rustix::fs::getxattr(path, NAME, list))
    }

    fn read(stat: &Stat, read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> Self {
        // Without group bits a list grants nothing either: most files of ours cost no further system call.
        if stat.st_mode & 0o070 == 0 {
            return Self(Vec::new());
        }
        let mut list = vec![0; MAX_LIST_LEN];
        match read(&mut list) {
            Ok(len) => Self::parse(stat.st_gid, &list[..len]),
            // No list, or a file system or kernel that has none.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Self::by_mode(stat),
            Err(_) => Self::unknown(),
        }
    }

    /// Those of a file or directory without a list.
    pub(super) fn by_mode(stat: &Stat) -> Self {
        Self(vec![(Grantee::Group(stat.st_gid), stat.st_mode >> 3 & 7)])
    }

    fn unknown() -> Self {
        Self(vec![(Grantee::Unknown, 7)])
    }

    /// Those of a list, of a file that belongs to the group `owner`.
    fn parse(owner: u32, list: &[u8]) -> Self {
        let (mut grants, mut mask) = (Vec::new(), 7);
        let Some((version, entries)) = list.split_first_chunk::<HEADER_LEN>() else { return Self::unknown() };
        let (entries, []) = entries.as_chunks::<ENTRY_LEN>() else { return Self::unknown() };
        if u32::from_le_bytes(*version) != VERSION {
            return Self::unknown();
        }
        for [tag0, tag1, permissions0, permissions1, id @ ..] in entries {
            let permissions = u32::from(u16::from_le_bytes([*permissions0, *permissions1])) & 7;
            let id = u32::from_le_bytes(*id);
            match u16::from_le_bytes([*tag0, *tag1]) {
                0x02 => grants.push((Grantee::User(id), permissions)),
                0x04 => grants.push((Grantee::Group(owner), permissions)),
                0x08 => grants.push((Grantee::Group(id), permissions)),
                0x10 => mask = permissions,
                // The owner, and everybody else: the mode has the same.
                0x01 | 0x20 => {}
                _ => return Self::unknown(),
            }
        }
        for (_, permissions) in &mut grants {
            *permissions &= mask;
        }
        Self(grants)
    }

    /// Whether anybody but this user and root is granted one of these permissions.
    pub(super) fn reach_others(&self, permissions: u32, user: u32) -> bool {
        self.0.iter().filter(|(_, granted)| granted & permissions != 0).any(|(grantee, _)| match *grantee {
            Grantee::User(named) => named != user && named != 0,
            Grantee::Group(group) => !users::is_group_of(user, group),
            Grantee::Unknown => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use proptest::prelude::*;
    use rustix::fs::XattrFlags;

    use super::*;
    use crate::files::users::us;

    /// A list of these entries: tag, permissions, number.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |(tag, permissions, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [VERSION.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
    }

    /// As setfacl(1) makes it for a file that one user may read, with the mode 0440.
    fn for_user(user: u32) -> Vec<u8> {
        list(&[(0x01, 4, u32::MAX), (0x02, 4, user), (0x04, 0, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)])
    }

    #[test]
    fn a_list_grants_what_its_mask_leaves() {
        let parse = |entries: &[(u16, u16, u32)]| Grants::parse(50, &list(entries)).0;
        let (user, group) = (Grantee::User, Grantee::Group);
        assert_eq!(parse(&[(0x02, 6, 900), (0x10, 4, 0)]), [(user(900), 4)]);
        assert_eq!(parse(&[(0x04, 6, 0), (0x08, 7, 51), (0x10, 2, 0)]), [(group(50), 2), (group(51), 2)]);
        assert_eq!(parse(&[(0x01, 7, 0), (0x04, 5, 0), (0x20, 7, 0)]), [(group(50), 5)], "without a mask");
        let of_900 = Grants::parse(0, &for_user(900));
        assert!(!of_900.reach_others(READ, 900) && of_900.reach_others(READ, 901));
        assert!(!of_900.reach_others(WRITE, 901));
        assert!(!Grants::parse(0, &for_user(0)).reach_others(READ, 900), "root reads it in any case");
    }

    #[test]
    fn a_list_that_is_not_understood_may_grant_anything_to_anyone() {
        let whole = for_user(900);
        let mut newer = whole.clone();
        newer[0] = 3;
        let cut = (0..whole.len()).filter(|len| len % ENTRY_LEN != HEADER_LEN).map(|len| whole[..len].to_vec());
        for list in cut.chain([newer, list(&[(0x40, 0, 0)])]) {
            assert_eq!(Grants::parse(0, &list), Grants::unknown(), "{list:?}");
        }
        assert!(Grants::unknown().reach_others(READ, 900) && Grants::unknown().reach_others(WRITE, 0));
    }

    /// Only a privileged user's file system may refuse the list: then there is nothing to read.
    #[test]
    fn the_list_of_a_file_or_directory_is_found_however_it_was_opened() {
        use rustix::fs::{Mode, OFlags};
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "").unwrap();
        for (path, flags) in [(&*path, OFlags::RDONLY), (home.path(), OFlags::PATH), (home.path(), OFlags::RDONLY)] {
            let fd = rustix::fs::open(path, flags, Mode::empty()).unwrap();
            let grants = |list: Option<Vec<u8>>| {
                if let Some(list) = list
                    && rustix::fs::setxattr(path, NAME, &list, XattrFlags::empty()).is_err()
                {
                    return None;
                }
                let stat = rustix::fs::fstat(&fd).unwrap();
                let grants = Grants::of(&fd, &stat);
                assert_eq!(grants, Grants::at(path, &stat));
                Some((stat.st_mode & 0o070, grants))
            };
            let Some((mode, to_other)) = grants(Some(for_user(us() + 1))) else { return };
            assert!(mode == 0o040 && to_other.reach_others(READ, us()), "{}", path.display());
            let (mode, to_us) = grants(Some(for_user(us()))).unwrap();
            assert!(mode == 0o040 && !to_us.reach_others(READ, us()), "{}", path.display());
            rustix::fs::removexattr(path, NAME).unwrap();
            assert!(grants(None).is_some());
        }
        let file = File::open(&path).unwrap();
        let mut stat = rustix::fs::fstat(&file).unwrap();
        stat.st_mode |= 0o060;
        assert_eq!(Grants::of(&file, &stat), Grants::by_mode(&stat));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_may_grant_anything(bytes: Vec<u8>, entries: Vec<(u16, u16, u32)>, owner: u32) {
            let Grants(grants) = Grants::parse(owner, &bytes);
            prop_assert!(grants == Grants::unknown().0 || bytes.len() % ENTRY_LEN == HEADER_LEN);
            let known = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20];
            let entries: Vec<_> =
                entries.into_iter().map(|(tag, permissions, id)| (known[usize::from(tag) % 6], permissions, id)).collect();
            let Grants(grants) = Grants::parse(owner, &list(&entries));
            let granted = entries.iter().filter(|(tag, ..)| [0x02, 0x04, 0x08].contains(tag)).count();
            prop_assert_eq!(grants.len(), granted);
            prop_assert!(grants.iter().all(|(_, permissions)| *permissions <= 7));
        }
    }
}
