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
pub(super) fn is_ours_alone(gid: u32) -> bool {
    is_alone(&read("/etc/passwd"), &read("/etc/group"), us(), gid)
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

fn is_alone(passwd: &str, group: &str, uid: u32, gid: u32) -> bool {
    let mut ours = Vec::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(user), Some(primary)) = (fields.next(), fields.nth(1), fields.next()) else { continue };
        if user.parse() == Ok(uid) || user == "0" {
            ours.push(name);
        } else if primary.parse() == Ok(gid) {
            return false;
        }
    }
    let fields = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let of_gid = fields.filter(|fields| fields.get(2).is_some_and(|number| number.parse() == Ok(gid)));
    let members = of_gid.filter_map(|fields| fields.get(3).copied()).flat_map(|list| list.split(','));
    members.map(str::trim).all(|member| member.is_empty() || ours.contains(&member))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nsts:x:900:900::/:/bin/false\nweb:x:33:33::/:/bin/false\n";

    #[test]
    fn a_group_with_anybody_else_is_not_ours_alone() {
        let group =
            "root:x:0:\nsts:x:900:\nsecrets:x:2000:sts,root\nshared:x:2001:sts,web\nweb:x:33:\nold:x:2002:gone\n";
        let alone = |gid| is_alone(PASSWD, group, 900, gid);
        assert!(alone(900) && alone(2000) && alone(7777));
        assert!(!alone(33) && !alone(2001) && !alone(2002));
        assert!(is_alone("", "", 900, 900), "a container without these files");
        let operator = [PASSWD, "operator:x:11:0:operator:/root:/sbin/nologin\n"].concat();
        assert!(alone(0) && !is_alone(&operator, group, 900, 0), "root's group is like any other");
        assert!(!is_alone(PASSWD, "root:x:0:web\n", 900, 0));
    }

    #[test]
    fn a_user_has_a_name_or_a_number() {
        assert_eq!(name_in(PASSWD, 900).as_deref(), Some("sts"));
        assert_eq!(name_in(PASSWD, 901), None);
        assert_eq!(user_name(4_200_000_000), "4200000000");
    }
}
