//! A web service: two instances behind a round-robin, a replica that lags, and a person with two devices.
//!
//! ```sh
//! cargo run --example axum_service --features axum,testkit              # and open the address that it prints
//! cargo run --example axum_service --features axum,testkit -- --check   # tries it by itself, and ends
//! cargo run --example axum_service --features axum,testkit -- --memory  # without servers
//! ```
//!
//! The person posts, reloads from any instance and from the other device, and sees the post; with tokens turned off, posts
//! come and go as the round-robin has it. The token travels in a cookie, and from one device to the other through the
//! device store. Nothing else connects the two instances here: if they told each other what was written, as a real service
//! would have them do, that would hide the bug most of the time, and only most.

mod check;
mod instance;
mod posts;
mod round_robin;
mod world;

use round_robin::RoundRobin;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How far the replica lags, in time.
const LAG: Duration = Duration::from_secs(4);

struct Arguments {
    in_memory: bool,
    check: bool,
    port: u16,
}

fn arguments() -> Result<Arguments> {
    let mut found = Arguments { in_memory: false, check: false, port: 8080 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--memory" => found.in_memory = true,
            "--check" => found.check = true,
            "--port" => found.port = words.next().ok_or("--port needs a number")?.parse()?,
            _ => return Err("usage: axum_service [--check] [--memory] [--port 8080]".into()),
        }
    }
    Ok(found)
}

async fn run() -> Result {
    let Arguments { in_memory, check: is_check, port } = arguments()?;
    let begun = Instant::now();
    let (instances, about, _servers) = world::instances(in_memory).await?;
    println!("{about} The replica lags by {LAG:?}. Ready after {:.1?}.", begun.elapsed());
    let page = include_str!("page.html");
    let page = page.replace("{{world}}", &escaped(&about)).replace("{{lag}}", &LAG.as_secs().to_string());
    let listener = TcpListener::bind(("127.0.0.1", if is_check { 0 } else { port })).await?;
    let address = listener.local_addr()?;
    let app = RoundRobin::new(instances, page).app();
    if is_check {
        let serving = tokio::spawn(axum::serve(listener, app).into_future());
        let checked = check::check(address).await;
        serving.abort();
        return checked;
    }
    println!("Open http://{address}/ and end it with Ctrl-C.");
    axum::serve(listener, app).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
