//! Fresh data folders, made by `initdb` once and copied ever after.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use crate::testkit::TestkitError;
use crate::testkit::home;
use crate::testkit::process;
use crate::testkit::recipe::Recipe;
use crate::testkit::settings::Settings;
use crate::testkit::user::RunAs;

/// Changes when templates of older releases must not be used any more.
const FORMAT: &str = "1";

/// The data folder of a primary that was never started.
#[derive(Debug)]
pub(crate) struct Template {
    data: PathBuf,
    user: RunAs,
    /// Shared by all who copy; whoever repairs the template waits for it.
    _lock: File,
}

impl Template {
    /// Makes the template, or finds the one that an earlier run made.
    ///
    /// Cancelling leaves no half-made template: it gets its name when it is whole.
    pub(crate) async fn ensure(
        bin: &Path,
        user: RunAs,
        patience: Duration,
    ) -> Result<Self, TestkitError> {
        let folder = home::shared("templates")?;
        let key = format!("{}-{}-{FORMAT}", version(bin)?, user.uid());
        let data = folder.join(&key);
        let lock = folder.join(format!("{key}.lock"));
        if !is_whole(&data) {
            let _exclusive =
                locked(&lock, FlockOperation::NonBlockingLockExclusive, patience).await?;
            if !is_whole(&data) {
                make(bin, user, patience, &folder, &data).await?;
            }
        }
        let shared = locked(&lock, FlockOperation::NonBlockingLockShared, patience).await?;
        Ok(Self {
            data,
            user,
            _lock: shared,
        })
    }

    /// Copies the template to `data`; blocks for as long as the disk takes.
    pub(crate) fn copy_to(&self, data: &Path) -> Result<(), TestkitError> {
        copy_folder(&self.data, data, self.user)
    }
}

/// Runs `initdb` for a cluster with a system identifier of its own.
///
/// Cancelling kills `initdb` and leaves a part of the folder.
pub(crate) async fn initdb(
    bin: &Path,
    user: RunAs,
    patience: Duration,
    data: &Path,
) -> Result<(), TestkitError> {
    home::make_folder(data)?;
    user.own(data)?;
    let log = data.with_extension("initdb.log");
    let recipe = Recipe::new(bin.join("initdb"), user, log)
        .arg("-D")
        .arg(data)
        .args(["--no-sync", "--username=postgres", "--auth=trust"])
        .args(["--encoding=UTF8", "--locale=C"]);
    process::run(&recipe, patience).await?;
    Settings::install(data)
}

/// Copies a data folder whose server does not run, and hands the copy to `user`.
pub(crate) fn copy_folder(from: &Path, to: &Path, user: RunAs) -> Result<(), TestkitError> {
    home::make_folder(to)?;
    for entry in fs::read_dir(from).map_err(TestkitError::folder("read", from))? {
        let entry = entry.map_err(TestkitError::folder("read", from))?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry
            .file_type()
            .map_err(TestkitError::folder("look at", &source))?;
        if kind.is_dir() {
            copy_folder(&source, &copy, user)?;
        } else {
            fs::copy(&source, &copy).map_err(TestkitError::folder("copy", &source))?;
            user.own(&copy)?;
        }
    }
    // PostgreSQL refuses a data folder that others may enter.
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))
        .map_err(TestkitError::folder("close to others", to))?;
    user.own(to)
}

/// Makes the template beside its place and then moves it there in one step.
async fn make(
    bin: &Path,
    user: RunAs,
    patience: Duration,
    folder: &Path,
    data: &Path,
) -> Result<(), TestkitError> {
    drop(fs::remove_dir_all(data));
    let scratch = tempfile::Builder::new()
        .prefix("building-")
        .tempdir_in(folder)
        .map_err(TestkitError::folder("make a folder in", folder))?;
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))
        .map_err(TestkitError::folder("open to others", scratch.path()))?;
    let fresh = scratch.path().join("data");
    initdb(bin, user, patience, &fresh).await?;
    let count = count_files(&fresh).to_string();
    let whole = whole_mark(data);
    fs::write(&whole, count).map_err(TestkitError::folder("write", &whole))?;
    fs::rename(&fresh, data).map_err(TestkitError::folder("rename", &fresh))
}

/// Systems that tidy their folder for temporary files may have eaten a part of the template.
fn is_whole(data: &Path) -> bool {
    fs::read_to_string(whole_mark(data))
        .ok()
        .and_then(|count| count.parse().ok())
        .is_some_and(|count: usize| count > 0 && count == count_files(data))
}

fn whole_mark(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(".files");
    data.with_file_name(name)
}

fn count_files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| {
        entries
            .flatten()
            .map(|entry| match entry.file_type() {
                Ok(kind) if kind.is_dir() => count_files(&entry.path()),
                _ => 1,
            })
            .sum()
    })
}

async fn locked(
    path: &Path,
    how: FlockOperation,
    patience: Duration,
) -> Result<File, TestkitError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(TestkitError::folder("open", path))?;
    let deadline = Instant::now() + patience;
    while flock(&file, how).is_err() {
        if Instant::now() > deadline {
            return Err(TestkitError::Timeout {
                waiting_for: format!("another run to release {}", path.display()),
                after: patience,
                detail: String::new(),
            });
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(file)
}

/// The version as a file name, for instance `postgres-PostgreSQL-17.2`.
fn version(bin: &Path) -> Result<String, TestkitError> {
    let program = bin.join("postgres");
    let output = Command::new(&program)
        .arg("--version")
        .output()
        .map_err(|source| TestkitError::Spawn {
            command: format!("{} --version", program.display()),
            source,
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.')
        .filter(|word| !word.is_empty());
    Ok(words.collect::<Vec<_>>().join("-"))
}
