//! Users and groups of an image: its own `etc/passwd` and `etc/group`, read to a
//! fixed limit, never the host's.

use super::{Rootfs, RootfsError};
use crate::sandbox::Ids;
use crate::store::Store;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub ids: Ids,
    /// The home folder; `/` if the image does not know the user.
    pub home: String,
}

/// Why a user or group cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error("user `{0}` is not in the image's /etc/passwd")]
    User(String),
    #[error("group `{0}` is not in the image's /etc/group")]
    Group(String),
    #[error("`{0}` is not user[:group]")]
    Form(String),
}

/// Most bytes of `etc/passwd` and `etc/group` that are read.
pub(super) const LIMIT: u64 = 10 << 20;

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Rootfs<'_> {
    /// Resolves `user`, `uid`, `user:group`, `uid:gid` as docker's `USER` does:
    /// a number needs no entry, and is no name; a user without a group gets the one of its entry
    /// and the further groups that list it; with a group it gets that one only.
    /// The group is among the supplementary ones too, so that no process can
    /// shed it and with it a permission that is denied to the group.
    ///
    /// # Errors
    /// If a name is not known.
    pub fn account(&self, store: &Store, user: &str) -> Result<Account, RootfsError> {
        let read = |path| -> Result<String, RootfsError> {
            let bytes = self.read(store, path, LIMIT)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(resolve(user, &read("/etc/passwd")?, &read("/etc/group")?)?)
    }

    /// Resolves the value of `--chown`: as [`Rootfs::account`], but a user
    /// without a group gives its number to the group, unless it is known by name.
    ///
    /// # Errors
    /// If a name is not known.
    pub fn owner(&self, store: &Store, owner: &str) -> Result<(u32, u32), RootfsError> {
        let (user, group) = owner.split_once(':').map_or((owner, None), |(u, g)| (u, Some(g)));
        // `root` needs no file to be known, and no group is the same as an empty one.
        let group = group.filter(|group| !group.is_empty());
        // BuildKit takes no higher number for one.
        let in_range = |id: &u32| i32::try_from(*id).is_ok();
        let number = |text: &str| match text {
            "root" => Some(0),
            text => text.parse::<u32>().ok().filter(in_range),
        };
        match (number(user), group.map(number)) {
            (Some(uid), None) => return Ok((uid, uid)),
            (Some(uid), Some(Some(gid))) => return Ok((uid, gid)),
            (_, _) => (),
        }
        let Ids { uid, gid, .. } = self.account(store, owner)?.ids;
        if !in_range(&uid) {
            return Err(AccountError::User(user.to_owned()).into());
        }
        if !in_range(&gid) {
            return Err(AccountError::Group(owner.to_owned()).into());
        }
        Ok((uid, gid))
    }
}

pub(super) fn resolve(user: &str, passwd: &str, group: &str) -> Result<Account, AccountError> {
    let (who, with) = match user.split_once(':') {
        Some((who, with)) => (who, Some(with)),
        None => (user, None),
    };
    if with.is_some_and(|group| group.is_empty() || group.contains(':')) {
        return Err(AccountError::Form(user.to_owned()));
    }
    let users: Vec<User> = passwd.lines().filter_map(user_line).collect();
    let groups: Vec<Group> = group.lines().filter_map(group_line).collect();
    let who = if who.is_empty() { "0" } else { who };
    let number = id(who);
    let entry = users.iter().find(|entry| match number {
        Some(number) => entry.uid == number,
        None => entry.name == who,
    });
    let uid = entry
        .map(|entry| entry.uid)
        .or(number)
        .ok_or_else(|| AccountError::User(who.to_owned()))?;
    let home = entry.map(|entry| entry.home.clone()).filter(|home| !home.is_empty());
    let ids = match with {
        Some(name) => {
            let named = || groups.iter().find(|group| group.name == name).map(|group| group.gid);
            let gid =
                id(name).or_else(named).ok_or_else(|| AccountError::Group(name.to_owned()))?;
            Ids { uid, gid, groups: vec![gid] }
        }
        None => {
            let gid = entry.map_or(0, |entry| entry.gid);
            let listed =
                |group: &&Group| entry.is_some_and(|entry| group.members.contains(&entry.name));
            let mut further: Vec<u32> =
                groups.iter().filter(listed).map(|group| group.gid).collect();
            further.push(gid);
            further.sort_unstable();
            further.dedup();
            Ids { uid, gid, groups: further }
        }
    };
    Ok(Account { ids, home: home.unwrap_or_else(|| "/".to_owned()) })
}

/// The kernel keeps the highest number for "none".
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id != u32::MAX && text.bytes().all(|c| c.is_ascii_digit()))
}

fn user_line(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    Some(User {
        name: (*fields.first()?).to_owned(),
        uid: id(fields.get(2)?)?,
        gid: id(fields.get(3)?)?,
        home: fields.get(5).copied().unwrap_or_default().to_owned(),
    })
}

fn group_line(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let members = fields.get(3).copied().unwrap_or_default();
    Some(Group {
        name: (*fields.first()?).to_owned(),
        gid: id(fields.get(2)?)?,
        members: members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolving() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:33::/var/www:\nnine:x:9:8::/nine:\n77:x:5:6::/:\n";
        let group = "root:x:0:\nwww:x:33:\ndocker:x:70:web,nine\nextra:x:60:web\n";
        let of = |user: &str| {
            resolve(user, passwd, group).map(|a| (a.ids.uid, a.ids.gid, a.ids.groups, a.home))
        };
        assert_eq!(of("").unwrap(), (0, 0, vec![0], "/root".into()));
        assert_eq!(of("web").unwrap(), (33, 33, vec![33, 60, 70], "/var/www".into()));
        assert_eq!(of("33").unwrap(), (33, 33, vec![33, 60, 70], "/var/www".into()));
        assert_eq!(of("web:docker").unwrap(), (33, 70, vec![70], "/var/www".into()));
        assert_eq!(of("1000").unwrap(), (1000, 0, vec![0], "/".into()));
        assert_eq!(of("77").unwrap(), (77, 0, vec![0], "/".into()), "a number is no name");
        assert_eq!(of("1000:7").unwrap(), (1000, 7, vec![7], "/".into()));
        assert_eq!(of("ghost"), Err(AccountError::User("ghost".into())));
        assert_eq!(of("web:ghost"), Err(AccountError::Group("ghost".into())));
        assert_eq!(of("4294967295"), Err(AccountError::User("4294967295".into())));
        assert!(of("a:").is_err() && of("+1").is_err() && of("web:a:b").is_err());
    }
}
