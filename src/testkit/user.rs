//! Whom the servers run as.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::testkit::TestkitError;

/// The identity given to servers: ours, unless we are root, whom PostgreSQL refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunAs {
    /// User and group to change to; `None` leaves the identity alone.
    ids: Option<(u32, u32)>,
}

impl RunAs {
    /// Ourselves, or `postgres`, or `nobody`.
    pub(crate) fn choose() -> Result<Self, TestkitError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { ids: None });
        }
        let path = Path::new("/etc/passwd");
        let users = fs::read_to_string(path).map_err(TestkitError::folder("read", path))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| ids_of(name, &users))
            .map(|ids| Self { ids: Some(ids) })
            .ok_or_else(|| TestkitError::Unsuitable {
                message: "running as root, but there is neither a `postgres` nor a `nobody` user \
                          to run servers as; add one, or run the tests as a normal user"
                    .to_owned(),
            })
    }

    /// The number that tells templates of different users apart.
    pub(crate) fn uid(self) -> u32 {
        self.ids
            .map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid)
    }

    /// Makes `command` run under this identity.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
    }

    /// Hands a file or folder to this identity.
    pub(crate) fn own(self, path: &Path) -> Result<(), TestkitError> {
        let Some((uid, gid)) = self.ids else {
            return Ok(());
        };
        chown(path, Some(uid), Some(gid)).map_err(TestkitError::folder("change the owner of", path))
    }
}

/// The user and group numbers of `name` in the text of a passwd file.
fn ids_of(name: &str, users: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::ids_of;

    #[test]
    fn finds_the_numbers_of_a_user_by_its_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:8::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        assert_eq!(ids_of("postgres", users), Some((101, 104)));
        assert_eq!(ids_of("nobody", users), None);
    }
}
