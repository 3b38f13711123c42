//! Nothing stays behind: no process, no folder, however the test ended.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::FutureExt;
use highwater::testkit::RedisServer;
use tokio::time::{Instant, sleep};

use crate::{Result, start};

/// Processes whose working folder or command line lies in `folder`.
fn running_in(folder: &Path) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let name = folder.display().to_string();
    processes
        .flatten()
        .filter_map(|process| {
            let state = fs::read_to_string(process.path().join("stat")).ok()?;
            let cwd = fs::read_link(process.path().join("cwd")).unwrap_or_default();
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let ours = cwd.starts_with(folder) || line.contains(&name);
            (ours && !state.contains(") Z ")).then_some(line)
        })
        .collect()
}

async fn assert_gone(folder: &Path) {
    // A killed process may need a moment to leave the table.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !running_in(folder).is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(running_in(folder), Vec::<String>::new());
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_drop_leaves_nothing() -> Result {
    let cluster = start(1).await?;
    let folder = cluster.folder().to_path_buf();
    let node = cluster.primary().clone();
    cluster.replica(0).kill().await?;
    if cfg!(target_os = "linux") {
        assert!(!running_in(&folder).is_empty());
    }
    let begun = Instant::now();
    drop(cluster);
    println!("dropped in {:?}", begun.elapsed());
    assert_gone(&folder).await;
    assert!(
        node.start()
            .await
            .expect_err("its cluster is gone")
            .is_not_running()
    );
    Ok(())
}

#[tokio::test]
async fn a_panic_leaves_nothing_but_logs() {
    let mut folder = PathBuf::new();
    let doomed = async {
        let cluster = start(1).await.expect("a cluster");
        folder = cluster.folder().to_path_buf();
        panic!("on purpose");
    };
    let outcome: std::thread::Result<()> =
        std::panic::AssertUnwindSafe(doomed).catch_unwind().await;
    assert!(outcome.is_err());
    assert_gone(&folder).await;
    let logs = folder
        .parent()
        .and_then(Path::parent)
        .expect("a parent")
        .join("logs");
    let kept = logs.join(folder.file_name().expect("a name"));
    assert!(kept.join("primary.log").exists() && kept.join("replica0.log").exists());
    fs::remove_dir_all(kept).expect("the logs can go");
}

#[tokio::test]
async fn a_cancelled_start_leaves_nothing() {
    let before = Instant::now();
    for pause in [1, 20, 60, 150, 300] {
        let starting = start(1);
        drop(tokio::time::timeout(Duration::from_millis(pause), starting).await);
    }
    println!("five cancelled starts: {:?}", before.elapsed());
}

/// Not a test of its own: the part of the next one that is killed.
#[tokio::test]
#[ignore = "run by `a_killed_test_takes_its_servers_along`"]
async fn victim() -> Result {
    let cluster = start(1).await?;
    let _redis = RedisServer::start().await?;
    // A frozen server cannot even notice that its parent died.
    cluster.replica(0).freeze().await?;
    println!("\nfolder={}", cluster.folder().display());
    sleep(Duration::from_secs(60)).await;
    Ok(())
}

#[tokio::test]
async fn a_killed_test_takes_its_servers_along() -> Result {
    let found = Command::new("setpriv")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skipped: setpriv is not installed");
        return Ok(());
    }
    let mut child = Command::new(env::current_exe().expect("our own path"))
        .args(["--ignored", "--exact", "traces::victim", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ourselves");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let folder = output
        .lines()
        .map_while(std::io::Result::ok)
        .find_map(|line| line.strip_prefix("folder=").map(PathBuf::from))
        .expect("the victim names its folder");
    assert!(!running_in(&folder).is_empty());
    child.kill().expect("kill");
    child.wait().expect("wait");
    // The next start sweeps up what could not end by itself.
    drop(RedisServer::start().await?);
    assert_gone(&folder).await;
    Ok(())
}
