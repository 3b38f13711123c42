//! What hit rate is given up for which freshness, and what it does to the primary: strategies side by side, on standard
//! workloads or on a trace of your own.
//!
//! ```sh
//! cargo run --release --example freshness                  # real servers, about two minutes
//! cargo run --release --example freshness -- --simulate    # in memory, in virtual time
//! cargo run --release --example freshness -- --help
//! ```
//!
//! What is compared is in `contestant.rs`, what clients do in `workload.rs`, what is measured in `figures.rs` and `count.rs`. Truth is the log of
//! versions (`log.rs`), which the checker of the tests judges; no cache is asked how fresh it was.

mod args;
mod bench;
mod contestant;
mod count;
mod figures;
mod html;
mod lag;
mod log;
mod mark;
mod memory;
mod oracle;
mod plot;
mod real;
mod report;
mod run;
mod stage;
mod summary;
mod sweep;
mod trace;
mod workload;

#[cfg(test)]
mod tests;

use args::Args;
use clap::Parser;
use indicatif::ProgressBar;
use report::{COMMAND, Report};
use std::process::ExitCode;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let args = Args::parse();
    let quoted = |word: String| if word.contains(char::is_whitespace) { format!("'{word}'") } else { word };
    let told = std::env::args().skip(1).map(quoted).collect::<Vec<_>>().join(" ");
    let command = if told.is_empty() { COMMAND.to_owned() } else { format!("{COMMAND} -- {told}") };
    let begun = args.check().and_then(|()| args.check_servers()).and_then(|()| args.plan()).and_then(|plan| {
        let report = Report::new(&args, plan.micros, command).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Ok((plan, report, runtime.map_err(|error| error.to_string())?))
    });
    let (plan, mut report, runtime) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let bar = ProgressBar::new(1);
    // Dropped at the interruption, the work ends its servers.
    let worked = runtime.block_on(async {
        tokio::select! {
            biased;
            interrupted = interrupted() => Err(interrupted),
            worked = Box::pin(bench::work(&args, plan, &mut report, &bar)) => worked,
        }
    });
    bar.finish_and_clear();
    runtime.shutdown_background();
    report.complete = worked.is_ok();
    conclude(&report, worked)
}

/// Waits until somebody asks this program to end.
async fn interrupted() -> stage::Error {
    let Ok(mut asked) = signal(SignalKind::terminate()) else { return "signals cannot be waited for".into() };
    tokio::select! {
        pressed = ctrl_c() => pressed.err().map_or_else(|| "interrupted".into(), Into::into),
        _ = asked.recv() => "asked to end".into(),
    }
}

/// Keeps what was measured, also of a run that did not come to its end, and says what is wrong with it.
fn conclude(report: &Report, worked: stage::Result) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    if let Err(error) = worked {
        eprintln!("error: {error}");
        code = ExitCode::FAILURE;
    }
    if !report.cells.is_empty() {
        match report.save() {
            Ok(()) => println!("\nin {}: report.html, figures.csv, report.json", report.out.display()),
            Err(error) => {
                eprintln!("error: the results could not be written: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    for note in report.notes() {
        println!("note: {note}");
    }
    for problem in report.problems() {
        eprintln!("BROKEN PROMISE: {problem}");
        code = ExitCode::FAILURE;
    }
    code
}
