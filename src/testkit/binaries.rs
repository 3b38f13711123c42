//! Where the server programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::testkit::TestkitError;

/// Folders that hold one PostgreSQL version each, and where the programs are inside.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/usr", "pgsql-", "bin"),
];

/// Folders that a PATH may lack although servers live there.
const SYSTEM: [&str; 4] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
];

/// What is installed on this machine, so that a test can say why it was skipped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Availability {
    /// The folder of `postgres` and `initdb`.
    pub postgres: Option<PathBuf>,
    /// `redis-server`, or `valkey-server`, which speaks the same protocol.
    pub redis: Option<PathBuf>,
    /// `pgbouncer`.
    pub pgbouncer: Option<PathBuf>,
}

impl Availability {
    /// A [`Cluster`](crate::testkit::Cluster) can be started.
    #[must_use]
    pub const fn has_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    /// A [`RedisServer`](crate::testkit::RedisServer) can be started.
    #[must_use]
    pub const fn has_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// A [`PgBouncer`](crate::testkit::PgBouncer) can be started.
    #[must_use]
    pub const fn has_pgbouncer(&self) -> bool {
        self.pgbouncer.is_some()
    }
}

/// Looks for the servers without starting any.
#[must_use]
pub fn available() -> Availability {
    Availability {
        postgres: postgres_folder().ok(),
        redis: redis_server().ok(),
        pgbouncer: pgbouncer().ok(),
    }
}

/// The newest PostgreSQL: `HIGHWATER_PG_BIN`, then packages, then the PATH.
pub(crate) fn postgres_folder() -> Result<PathBuf, TestkitError> {
    let complete = |folder: &PathBuf| {
        ["postgres", "initdb", "pg_basebackup"]
            .iter()
            .all(|program| folder.join(program).is_file())
    };
    let named = env::var_os("HIGHWATER_PG_BIN").map(PathBuf::from);
    let found = match named {
        // A folder that somebody named is never silently replaced by another.
        Some(folder) => Some(folder).filter(complete),
        None => packaged().into_iter().chain(on_path()).find(complete),
    };
    found.ok_or(TestkitError::MissingBinary {
        program: "postgres",
        advice: "install the PostgreSQL server (Debian: `apt install postgresql`, macOS: `brew \
                 install postgresql@17`), or set HIGHWATER_PG_BIN to the folder that holds \
                 `postgres`, `initdb` and `pg_basebackup`",
    })
}

/// `redis-server`, or `valkey-server`.
pub(crate) fn redis_server() -> Result<PathBuf, TestkitError> {
    find("HIGHWATER_REDIS_SERVER", &["redis-server", "valkey-server"]).ok_or(
        TestkitError::MissingBinary {
            program: "redis-server",
            advice: "install Redis or Valkey (Debian: `apt install redis-server`, macOS: `brew \
                     install redis`), or set HIGHWATER_REDIS_SERVER to the program",
        },
    )
}

/// `pgbouncer`.
pub(crate) fn pgbouncer() -> Result<PathBuf, TestkitError> {
    find("HIGHWATER_PGBOUNCER", &["pgbouncer"]).ok_or(TestkitError::MissingBinary {
        program: "pgbouncer",
        advice: "install PgBouncer (Debian: `apt install pgbouncer`, macOS: `brew install \
                 pgbouncer`), or set HIGHWATER_PGBOUNCER to the program",
    })
}

fn find(variable: &str, programs: &[&str]) -> Option<PathBuf> {
    if let Some(program) = env::var_os(variable).map(PathBuf::from) {
        return Some(program).filter(|path| path.is_file());
    }
    let folders: Vec<PathBuf> = on_path().chain(SYSTEM.map(PathBuf::from)).collect();
    programs
        .iter()
        .flat_map(|program| folders.iter().map(move |folder| folder.join(program)))
        .find(|path| path.is_file())
}

fn on_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// Folders of packaged versions, newest first.
fn packaged() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = VERSIONED
        .iter()
        .flat_map(|(root, prefix, inner)| versions_in(Path::new(root), prefix, inner))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

fn versions_in(root: &Path, prefix: &str, inner: &str) -> Vec<(u32, PathBuf)> {
    let Ok(folders) = fs::read_dir(root) else {
        return Vec::new();
    };
    folders
        .flatten()
        .filter_map(|folder| {
            let name = folder.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, folder.path().join(inner)))
        })
        .collect()
}
