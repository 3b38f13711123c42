//! Folders: one per user for what is shared between runs, one per cluster for what is not.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::testkit::TestkitError;
use crate::testkit::port;
use crate::testkit::process::send;
use crate::testkit::process_table::ProcessTable;
use crate::testkit::shm;

/// Logs of this many failed runs are kept; older ones are removed.
const KEPT_LOGS: usize = 20;

const OWNER: &str = "owner.lock";

/// The folder that all runs of this user share: templates, port locks, kept logs.
pub(crate) fn shared(name: &str) -> Result<PathBuf, TestkitError> {
    let uid = rustix::process::geteuid().as_raw();
    let root = env::temp_dir().join(format!("highwater-testkit-{uid}"));
    make_folder(&root)?;
    let found = fs::symlink_metadata(&root).map_err(TestkitError::folder("look at", &root))?;
    if !found.is_dir() || found.uid() != uid {
        // The name can be guessed, and whoever owns the folder could swap the servers' data.
        return Err(TestkitError::Unsuitable {
            message: format!("{} belongs to somebody else; remove it", root.display()),
        });
    }
    let folder = root.join(name);
    make_folder(&folder)?;
    Ok(folder)
}

/// The folder of one cluster or server. Dropping removes it, and keeps the logs of a failure.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
    failed: AtomicBool,
    /// Locked as long as we live: by this a later run knows that the folder is not abandoned.
    _owner: File,
}

impl Home {
    /// Makes a folder, after removing those that killed runs left behind.
    pub(crate) fn create(kind: &str) -> Result<Self, TestkitError> {
        let runs = shared("runs")?;
        sweep(&runs);
        port::sweep()?;
        let folder = tempfile::Builder::new()
            .prefix(kind)
            .tempdir_in(&runs)
            .map_err(TestkitError::folder("make a folder in", &runs))?;
        open_to_all(folder.path())?;
        Ok(Self {
            _owner: claim(folder.path())?,
            folder,
            failed: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Has the logs kept when the folder goes, and has `error` say where they will be.
    pub(crate) fn keep_logs(&self, mut error: TestkitError) -> TestkitError {
        self.failed.store(true, Ordering::Relaxed);
        if let (TestkitError::Exited { log, .. }, Ok(kept)) = (&mut error, self.kept_logs()) {
            *log = kept.join(log.file_name().unwrap_or_default());
        }
        error
    }

    /// Where the logs of this folder are kept if they are.
    fn kept_logs(&self) -> Result<PathBuf, TestkitError> {
        Ok(shared("logs")?.join(self.path().file_name().unwrap_or_default()))
    }

    fn save_logs(&self) -> Result<PathBuf, TestkitError> {
        let kept = self.kept_logs()?;
        make_folder(&kept)?;
        for file in list(self.path()) {
            if file.extension().is_some_and(|extension| extension == "log") {
                let to = kept.join(file.file_name().unwrap_or_default());
                fs::copy(&file, &to).map_err(TestkitError::folder("copy", &file))?;
            }
        }
        forget_old(&shared("logs")?);
        Ok(kept)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !thread::panicking() && !self.failed.load(Ordering::Relaxed) {
            return;
        }
        match self.save_logs() {
            Ok(kept) => eprintln!("testkit: server logs are kept in {}", kept.display()),
            Err(error) => eprintln!("testkit: server logs are lost: {error}"),
        }
    }
}

/// Makes a folder that servers of another user can pass through; an existing one is fine.
pub(crate) fn make_folder(path: &Path) -> Result<(), TestkitError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(TestkitError::folder("make", path))
}

fn open_to_all(path: &Path) -> Result<(), TestkitError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(TestkitError::folder("open to others", path))
}

/// Locks first and names after, so that no sweeper ever sees the name without the lock.
fn claim(folder: &Path) -> Result<File, TestkitError> {
    let unnamed = folder.join("owner.new");
    let file = File::create(&unnamed).map_err(TestkitError::folder("make", &unnamed))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| TestkitError::folder("lock", &unnamed)(error.into()))?;
    fs::rename(&unnamed, folder.join(OWNER)).map_err(TestkitError::folder("rename", &unnamed))?;
    Ok(file)
}

/// Removes the folders whose owner died without cleaning up, and what still runs in them.
fn sweep(runs: &Path) {
    for folder in list(runs) {
        let Ok(owner) = OpenOptions::new().write(true).open(folder.join(OWNER)) else {
            continue;
        };
        if flock(&owner, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        // Servers end with their parent, but backends that were frozen at the time cannot.
        for pid in ProcessTable::now().working_in(&folder) {
            send(pid, Signal::KILL);
        }
        for data in list(&folder) {
            shm::remove_left_by(&data);
        }
        drop(fs::remove_dir_all(&folder));
    }
}

fn forget_old(logs: &Path) {
    let mut dated: Vec<_> = list(logs)
        .into_iter()
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    dated.sort();
    let surplus = dated.len().saturating_sub(KEPT_LOGS);
    for (_, path) in dated.into_iter().take(surplus) {
        drop(fs::remove_dir_all(path));
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}
