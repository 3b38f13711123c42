//! What ends a server when we are killed, on systems without `setpriv`.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// `read` returns at the end of its input: when the last holder of the pipe, which is us, is gone.
const SCRIPT: &str = "trap '' HUP INT TERM; read -r _; kill -KILL \"$1\"";

/// A shell that kills one process when ours dies. Dropping it calls it off.
#[derive(Debug)]
pub(crate) struct Guardian {
    shell: Child,
}

impl Guardian {
    /// Watches over the process `pid`, a child of ours that has not been waited for.
    pub(crate) fn over(pid: u32) -> io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "testkit-guardian", &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // An interrupt typed at the terminal reaches us, and should not reach the guardian.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // Killed before its pipe is closed, else it would act.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread::sleep;
    use std::time::Duration;

    use super::Guardian;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn kills_when_the_pipe_closes() {
        let mut ward = sleeper();
        let mut guardian = Guardian::over(ward.id()).unwrap();
        drop(guardian.shell.stdin.take());
        assert!(!ward.wait().unwrap().success());
    }

    #[test]
    fn does_nothing_when_called_off() {
        let mut ward = sleeper();
        drop(Guardian::over(ward.id()).unwrap());
        sleep(Duration::from_millis(100));
        assert_eq!(ward.try_wait().unwrap(), None);
        ward.kill().unwrap();
        ward.wait().unwrap();
    }
}
