//! How a program is started, kept so that it can be started again and shown in errors.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::testkit::TestkitError;
use crate::testkit::spawner;
use crate::testkit::user::RunAs;

/// The end of a log that an error shows.
const TAIL_BYTES: u64 = 4_000;

/// A command line with an identity and a log file.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    program: PathBuf,
    args: Vec<OsString>,
    user: RunAs,
    log: PathBuf,
}

impl Recipe {
    pub(crate) fn new(program: PathBuf, user: RunAs, log: PathBuf) -> Self {
        Self {
            program,
            args: Vec::new(),
            user,
            log,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The command as one could type it.
    pub(crate) fn line(&self) -> String {
        let mut line = self.program.display().to_string();
        for arg in &self.args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }

    /// The command, ready to be spawned, with its output appended to the log.
    pub(crate) fn command(&self) -> Result<Command, TestkitError> {
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let out = open().map_err(TestkitError::folder("open", &self.log))?;
        let err = out
            .try_clone()
            .map_err(TestkitError::folder("open", &self.log))?;
        let mut command = spawner::dying_with_us(&self.program);
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Ours may be a folder that the other user cannot enter.
            .current_dir("/")
            // An interrupt typed at the terminal is ours to handle, not the servers'.
            .process_group(0);
        for (key, _) in std::env::vars_os() {
            // PGDATA, PGPORT, PGOPTIONS and their like would change what the programs do.
            if key.to_string_lossy().starts_with("PG") {
                command.env_remove(key);
            }
        }
        self.user.apply(&mut command);
        Ok(command)
    }

    /// The last lines that the program wrote.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
