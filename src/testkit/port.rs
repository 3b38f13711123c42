//! TCP ports that stay ours while a server is down.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rustix::fs::{FlockOperation, flock};

use crate::testkit::TestkitError;
use crate::testkit::home;

/// Below the range from which systems number outgoing connections: otherwise a stranger's
/// connection could take the port of a server between its kill and its restart.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

const TRIES: u32 = 400;

/// A port on 127.0.0.1, reserved among all testkits of this user until dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    path: PathBuf,
    _lock: File,
}

impl Port {
    /// Reserves a port that nobody listens on.
    pub(crate) fn reserve() -> Result<Self, TestkitError> {
        let folder = home::shared("ports")?;
        for _ in 0..TRIES {
            let number = rand::rng().random_range(FIRST..=LAST);
            let path = folder.join(number.to_string());
            if let Some(lock) = lock(&path)? {
                let port = Self {
                    number,
                    path,
                    _lock: lock,
                };
                if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                    return Ok(port);
                }
            }
        }
        Err(TestkitError::NoFreePort { tried: TRIES })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Removes the files of runs that were killed.
pub(crate) fn sweep() -> Result<(), TestkitError> {
    let folder = home::shared("ports")?;
    let entries = fs::read_dir(&folder).map_err(TestkitError::folder("read", &folder))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if let Some(_lock) = lock(&path)? {
            drop(fs::remove_file(&path));
        }
    }
    Ok(())
}

impl Drop for Port {
    fn drop(&mut self) {
        // While the lock is still held, so that nobody else's file is removed.
        drop(fs::remove_file(&self.path));
    }
}

fn lock(path: &Path) -> Result<Option<File>, TestkitError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(TestkitError::folder("open", path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    // The file may have been removed between opening and locking; then the lock guards nothing.
    let same = match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(named)) => ours.ino() == named.ino(),
        _ => false,
    };
    Ok(same.then_some(file))
}
