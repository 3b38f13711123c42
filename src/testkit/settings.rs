//! The configuration file that the testkit writes for each node.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::testkit::TestkitError;
use crate::testkit::user::RunAs;

/// Read by `postgresql.conf` through an include. A file of our own can be written while the server
/// is down or standing by, and nobody's `ALTER SYSTEM RESET ALL` takes `primary_conninfo` with it.
const FILE: &str = "testkit.conf";

/// What every node starts with: quick to start, honest about replication, never surprising.
const DEFAULTS: [(&str, &str); 23] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("huge_pages", "off"),
    // Files of the data folder rather than /dev/shm, so that a kill leaves nothing outside of it.
    ("dynamic_shared_memory_type", "mmap"),
    ("fsync", "off"),
    ("wal_level", "replica"),
    ("max_wal_senders", "20"),
    // Lets a replica that was down for a while catch up without a slot.
    ("wal_keep_size", "512MB"),
    // pg_rewind needs it, and it changes nothing else that a test could see.
    ("wal_log_hints", "on"),
    ("hot_standby", "on"),
    ("hot_standby_feedback", "off"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("recovery_target_timeline", "latest"),
    ("autovacuum", "off"),
    ("jit", "off"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("lc_messages", "C"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// A standby refuses to start with less of these than its primary last ran with, and the template
/// ran with the defaults of `initdb`.
const FLOORS: [(&str, u32); 3] = [
    ("max_connections", 100),
    ("max_wal_senders", 10),
    ("max_worker_processes", 8),
];

/// Parameters of one node, in the order of their names.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn defaults() -> Self {
        let values = DEFAULTS
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Self { values }
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.values.insert(key.to_owned(), value.to_owned());
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.values.remove(key);
    }

    /// Raises what a standby cannot start without.
    pub(crate) fn fit_for_standby(&mut self) {
        for (key, floor) in FLOORS {
            if let Some(value) = self.values.get_mut(key)
                && value.parse().is_ok_and(|value: u32| value < floor)
            {
                *value = floor.to_string();
            }
        }
    }

    /// Puts the include line into a fresh data folder.
    pub(crate) fn install(data: &Path) -> Result<(), TestkitError> {
        let path = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&path).map_err(TestkitError::folder("read", &path))?;
        text.push_str(&format!("\ninclude_if_exists = '{FILE}'\n"));
        fs::write(&path, text).map_err(TestkitError::folder("write", &path))
    }

    /// Writes the file; the server sees it at its next reload or start.
    pub(crate) fn write(&self, data: &Path, user: RunAs) -> Result<(), TestkitError> {
        let path = data.join(FILE);
        fs::write(&path, self.render()).map_err(TestkitError::folder("write", &path))?;
        user.own(&path)
    }

    fn render(&self) -> String {
        self.values
            .iter()
            .map(|(key, value)| format!("{key} = '{}'\n", quote(value)))
            .collect()
    }
}

fn quote(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn quotes_values_and_raises_what_a_standby_needs() {
        let mut settings = Settings {
            values: std::collections::BTreeMap::new(),
        };
        settings.set("max_connections", "20");
        settings.set("application_name", r"it's a \");
        settings.fit_for_standby();
        assert_eq!(
            settings.render(),
            "application_name = 'it''s a \\\\'\nmax_connections = '100'\n"
        );
    }
}
