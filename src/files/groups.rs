//! Whether a group is this user's alone, as passwd(5) and group(5) have it: then what it can read, nobody else can.

/// Whether nobody but this user and root is in a group. Root's own group counts as root.
pub(super) fn is_ours_alone(gid: u32) -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    gid == 0 || is_alone(&read("/etc/passwd"), &read("/etc/group"), rustix::process::geteuid().as_raw(), gid)
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
    let of_gid = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.get(2).is_some_and(|number| number.parse() == Ok(gid)));
    let members = of_gid.filter_map(|fields| fields.get(3).copied()).flat_map(|list| list.split(','));
    members.map(str::trim).all(|member| member.is_empty() || ours.contains(&member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_with_anybody_else_is_not_ours_alone() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nsts:x:900:900::/:/bin/false\nweb:x:33:33::/:/bin/false\n";
        let group =
            "root:x:0:\nsts:x:900:\nsecrets:x:2000:sts,root\nshared:x:2001:sts,web\nweb:x:33:\nold:x:2002:gone\n";
        let alone = |gid| is_alone(passwd, group, 900, gid);
        assert!(alone(900) && alone(2000) && alone(7777));
        assert!(!alone(33) && !alone(2001) && !alone(2002));
        assert!(is_alone("", "", 900, 900), "a container without these files");
    }
}
