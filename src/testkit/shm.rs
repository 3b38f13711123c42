//! The small shared memory segment of a PostgreSQL that was killed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Removes the segment that the dead server of the data folder `data` left, if it left one.
///
/// A killed postmaster leaves its lock file, and in its seventh line the number of a System V
/// segment that only the next start in the same folder would recycle. The kernel allows a few
/// thousand of them, which a night of crash tests would use up.
pub(crate) fn remove_left_by(data: &Path) {
    let Some(segment) = fs::read_to_string(data.join("postmaster.pid"))
        .ok()
        .and_then(|text| segment_of(&text))
    else {
        return;
    };
    drop(
        Command::new("ipcrm")
            .args(["-m", &segment])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status(),
    );
}

fn segment_of(postmaster_file: &str) -> Option<String> {
    let mut fields = postmaster_file.lines().nth(6)?.split_whitespace();
    let number = fields.nth(1)?;
    number.parse::<u32>().ok()?;
    Some(number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::segment_of;

    #[test]
    fn reads_the_second_field_of_the_seventh_line() {
        let file = "12\n/data\n1700000000\n5432\n/tmp\n127.0.0.1\n  65550  17\nready\n";
        assert_eq!(segment_of(file), Some("17".to_owned()));
        assert_eq!(segment_of("12\n/data\n"), None);
    }
}
