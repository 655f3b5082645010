//! Users and groups, as passwd(5) and group(5) have them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::text::quote;

/// Longest list of users or groups that is read, in bytes.
const MAX_LIST_LEN: u64 = 16 << 20;

/// The user that this process acts for.
pub(crate) fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether nobody but this user and root is in a group: then what it can read, nobody else can. Root's own group is like any
/// other: on some systems it is the group of accounts such as `operator`.
pub(super) fn is_group_of(user: u32, gid: u32) -> bool {
    let lists =
        Lists { passwd: read("/etc/passwd"), group: read("/etc/group"), name_services: read("/etc/nsswitch.conf") };
    lists.is_alone(user, gid, is_member)
}

/// Whether this process is in a group.
fn is_member(gid: u32) -> bool {
    let others = rustix::process::getgroups().unwrap_or_default();
    others.into_iter().chain([rustix::process::getegid()]).any(|group| group.as_raw() == gid)
}

/// What the system says of its users and groups.
struct Lists {
    passwd: String,
    group: String,
    /// Where else it looks users and groups up (nsswitch.conf(5)).
    name_services: String,
}

/// A user's name, else the number.
pub(crate) fn user_name(uid: u32) -> String {
    name_in(&read("/etc/passwd"), uid).unwrap_or_else(|| uid.to_string())
}

/// What root is to do about something that belongs to another user, and must stay so.
pub(crate) fn run_as(uid: u32) -> String {
    let mut args = std::env::args_os();
    let tool = args.next().unwrap_or_default();
    let tool = Path::new(&tool).file_name().unwrap_or(OsStr::new("sts-pair")).to_owned();
    let command: Vec<_> = std::iter::once(tool).chain(args).map(|arg| quote(Path::new(&arg))).collect();
    // In root's home, that user would find nothing.
    let home = std::env::var_os("HOME").is_some_and(|home| !home.is_empty());
    let without_home = if home && std::env::var_os("STS_CONFIG_DIR").is_none() { "env -u HOME " } else { "" };
    format!("run this as that user: runuser -u {} -- {without_home}{}", user_name(uid), command.join(" "))
}

/// A system's list; empty where there is none, as in a container.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    // What was read of it before an error counts.
    let _ = File::open(path).and_then(|file| file.take(MAX_LIST_LEN).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let fields = |line: &str| -> Option<(String, u32)> {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    passwd.lines().filter_map(fields).find(|(_, number)| *number == uid).map(|(name, _)| name)
}

impl Lists {
    /// Whether nobody but a user and root is in a group, where `is_member` says whether this process is.
    fn is_alone(&self, uid: u32, gid: u32, is_member: impl Fn(u32) -> bool) -> bool {
        let (mut ours, mut is_our_own) = (Vec::new(), false);
        for line in self.passwd.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(user), Some(primary)) = (fields.next(), fields.nth(1), fields.next()) else {
                continue;
            };
            if user.parse() == Ok(uid) || user == "0" {
                ours.push(name);
                is_our_own |= user.parse() == Ok(uid) && primary.parse() == Ok(gid);
            } else if primary.parse() == Ok(gid) {
                return false;
            }
        }
        let fields = self.group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let of_gid: Vec<_> = fields.filter(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(gid))).collect();
        if of_gid.is_empty() && !self.group.is_empty() {
            // Of a container, whose user and groups are numbers that its image does not list.
            return is_member(gid) && !self.are_elsewhere();
        }
        if self.are_elsewhere() && !is_our_own {
            // A directory service can give it to its own users as their primary group, of which group(5) says nothing.
            return false;
        }
        let members = of_gid.iter().filter_map(|fields| fields.get(3)).flat_map(|list| list.split(','));
        members.map(str::trim).all(|member| member.is_empty() || ours.contains(&member))
    }

    /// Whether users or groups come from elsewhere than these files, such as a directory service: then the members of a group
    /// that they do not list are not known.
    fn are_elsewhere(&self) -> bool {
        let lines = self.name_services.lines().filter_map(|line| line.split('#').next()?.split_once(':'));
        let sources = lines.filter(|(what, _)| ["passwd", "group", "initgroups"].contains(&what.trim()));
        let mut words = sources.flat_map(|(_, words)| words.split_whitespace());
        // Those of systemd are the users of its services and containers; the words in brackets are what to do next.
        words.any(|word| !["files", "systemd", "altfiles"].contains(&word) && !word.starts_with('['))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nsts:x:900:900::/:/bin/false\nweb:x:33:33::/:/bin/false\n";

    const GROUP: &str =
        "root:x:0:\nsts:x:900:\nsecrets:x:2000:sts,root\nshared:x:2001:sts,web\nweb:x:33:\nold:x:2002:gone\n";

    /// Whether a group is that of user 900 alone, whose process is in group 7777.
    fn is_alone(passwd: &str, group: &str, name_services: &str, gid: u32) -> bool {
        let [passwd, group, name_services] = [passwd, group, name_services].map(str::to_owned);
        Lists { passwd, group, name_services }.is_alone(900, gid, |group| group == 7777)
    }

    #[test]
    fn a_group_with_anybody_else_is_not_ours_alone() {
        let alone = |gid| is_alone(PASSWD, GROUP, "", gid);
        assert!(alone(900) && alone(2000));
        assert!(!alone(33) && !alone(2001) && !alone(2002));
        assert!(is_alone("", "", "", 900), "a container without these files");
        let operator = [PASSWD, "operator:x:11:0:operator:/root:/sbin/nologin\n"].concat();
        assert!(alone(0) && !is_alone(&operator, GROUP, "", 0), "root's group is like any other");
        assert!(!is_alone(PASSWD, "root:x:0:web\n", "", 0));
    }

    #[test]
    fn a_directory_service_may_know_members_of_a_group_that_no_list_names() {
        let alone = |name_services| is_alone(PASSWD, GROUP, name_services, 7777);
        assert!(alone("") && alone("group: files systemd\nhosts: dns\n") && alone("# group: ldap"));
        assert!(!is_alone(PASSWD, GROUP, "", 7778), "its members are others");
        for service in ["group: files sss", "passwd:ldap", "group: files [SUCCESS=merge] sss", " initgroups :winbind"] {
            assert!(!alone(service), "{service}");
        }
        assert!(is_alone(PASSWD, GROUP, "group: files sss", 900), "the user's own");
        assert!(
            !is_alone(PASSWD, GROUP, "passwd: files sss", 2000),
            "it may be the primary group of others, which no list says"
        );
        assert!(is_alone(PASSWD, GROUP, "passwd: files", 2000));
    }

    #[test]
    fn a_user_has_a_name_or_a_number() {
        assert_eq!(name_in(PASSWD, 900).as_deref(), Some("sts"));
        assert_eq!(name_in(PASSWD, 901), None);
        assert_eq!(user_name(4_200_000_000), "4200000000");
    }
}
