//! The same by itself: two devices post and reload.

use crate::{LAG, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// A device: it keeps the cookies that it is given.
struct Device {
    address: SocketAddr,
    tokens: &'static str,
    cookies: Vec<(String, String)>,
}

impl Device {
    async fn send(&mut self, method: &str, body: &str) -> Result<(String, serde_json::Value)> {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let head = format!(
            "{method} /api/posts?person=ada&tokens={} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            self.tokens,
            cookies.join("; "),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        for line in head.lines() {
            let Some(cookie) = line.strip_prefix("set-cookie: ") else { continue };
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).ok_or("no cookie")?;
            self.cookies.retain(|(own, _)| own != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let status = head.lines().next().unwrap_or_default().to_owned();
        Ok((status, serde_json::from_str(body)?))
    }

    async fn post(&mut self, text: &str) -> Result {
        let (status, body) = self.send("POST", text).await?;
        if status.contains("201") { Ok(()) } else { Err(format!("{status}: {body}").into()) }
    }

    /// Reloads, and returns whether the post is there and what is said of the answer.
    async fn sees(&mut self, text: &str) -> Result<(bool, String)> {
        let (status, body) = self.send("GET", "").await?;
        let posts = body.get("posts").and_then(|posts| posts.as_array()).ok_or_else(|| format!("{status}: {body}"))?;
        let of = |name| body.get(name).map(ToString::to_string).unwrap_or_default().replace('"', "");
        let told = format!("{} {} at {}, {} bytes behind", of("instance"), of("rung"), of("position"), of("lag_bytes"));
        Ok((posts.iter().any(|post| post == text), told))
    }
}

/// Posts and reloads, with tokens and without.
pub(crate) async fn check(address: SocketAddr) -> Result {
    let device = |tokens| Device { address, tokens, cookies: Vec::new() };
    let (mut phone, mut laptop) = (device("on"), device("on"));
    for round in 1..=3 {
        let post = format!("with tokens {round}");
        phone.post(&post).await?;
        for (name, device) in [("phone", &mut phone), ("laptop", &mut laptop)] {
            for _ in 0..4 {
                let (seen, told) = device.sees(&post).await?;
                println!("    with tokens, {name}: {told}: {}", if seen { "sees it" } else { "DOES NOT SEE IT" });
                if !seen {
                    return Err(format!("the {name} does not see what the phone wrote").into());
                }
            }
        }
        laptop.cookies.clear(); // as new again: what it knows is what the device store says
    }
    sleep(LAG + Duration::from_secs(1)).await;
    let (mut phone, mut laptop) = (device("off"), device("off"));
    let (mut missed, post) = (0, "without tokens");
    phone.post(post).await?;
    for (name, device) in [("phone", &mut phone), ("laptop", &mut laptop)] {
        for _ in 0..4 {
            let (seen, told) = device.sees(post).await?;
            println!("    without, {name}: {told}: {}", if seen { "sees it" } else { "does not see it" });
            missed += u32::from(!seen);
        }
    }
    if missed == 0 {
        return Err("without tokens everybody saw the post: the replica does not lag".into());
    }
    println!("With tokens 24 of 24 reloads saw the post; without, {missed} of 8 did not.");
    Ok(())
}
