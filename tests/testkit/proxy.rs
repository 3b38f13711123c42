//! The proxy: late, deaf, mute, cut, and cut at the exact byte.

use std::net::SocketAddr;
use std::time::Duration;

use highwater::testkit::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use crate::{Result, hangs, rows, start_with_row};

/// A server that sends everything back, and reports each piece and each end.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (report, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let report = report.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 100];
                while let Ok(count) = stream.read(&mut bytes).await {
                    let _ = report.send(bytes[..count].to_vec());
                    if count == 0 || stream.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, reports)
}

async fn open(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address())
        .await
        .expect("the proxy accepts")
}

/// Sends `text` and returns what comes back; empty is the end of the connection.
async fn ask(stream: &mut TcpStream, text: &str) -> String {
    if stream.write_all(text.as_bytes()).await.is_err() {
        return String::new();
    }
    let mut bytes = [0; 100];
    let count = stream.read(&mut bytes).await.unwrap_or(0);
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[tokio::test]
async fn delays_each_way() -> Result {
    let (target, _reports) = echo().await;
    let proxy = Proxy::start(target).await?;
    let mut stream = open(&proxy).await;
    let begun = Instant::now();
    assert_eq!(ask(&mut stream, "quick").await, "quick");
    println!("round trip through the proxy: {:?}", begun.elapsed());
    proxy.delay(Duration::from_millis(150));
    let begun = Instant::now();
    assert_eq!(ask(&mut stream, "slow").await, "slow");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    proxy.heal().await?;
    assert_eq!(ask(&mut stream, "quick").await, "quick");
    Ok(())
}

#[tokio::test]
async fn cuts_severs_and_heals() -> Result {
    let (target, _reports) = echo().await;
    let proxy = Proxy::start(target).await?;
    let mut stream = open(&proxy).await;
    assert_eq!(ask(&mut stream, "one").await, "one");
    proxy.cut().await?;
    assert_eq!(ask(&mut stream, "two").await, "");
    assert!(TcpStream::connect(proxy.address()).await.is_err());
    proxy.heal().await?;
    let mut stream = open(&proxy).await;
    assert_eq!(ask(&mut stream, "three").await, "three");
    proxy.sever().await?;
    assert_eq!(ask(&mut stream, "four").await, "");
    assert_eq!(ask(&mut open(&proxy).await, "five").await, "five");
    Ok(())
}

#[tokio::test]
async fn a_blackhole_swallows_in_the_directions_asked_for() -> Result {
    let (target, mut reports) = echo().await;
    let proxy = Proxy::start(target).await?;
    let mut stream = open(&proxy).await;
    assert_eq!(ask(&mut stream, "one").await, "one");
    assert_eq!(reports.recv().await.as_deref(), Some(&b"one"[..]));

    proxy.blackhole_to_client();
    assert!(hangs(ask(&mut stream, "two")).await);
    assert_eq!(reports.recv().await.as_deref(), Some(&b"two"[..]));
    proxy.heal().await?;
    assert_eq!(
        ask(&mut stream, "three").await,
        "",
        "it has a hole, so it is closed"
    );
    assert_eq!(reports.recv().await.as_deref(), Some(&b""[..]));

    let mut stream = open(&proxy).await;
    assert_eq!(ask(&mut stream, "four").await, "four");
    assert_eq!(reports.recv().await.as_deref(), Some(&b"four"[..]));
    proxy.blackhole();
    assert!(hangs(ask(&mut stream, "five")).await);
    assert!(
        hangs(ask(&mut open(&proxy).await, "six")).await,
        "accepted and swallowed"
    );
    drop(stream);
    assert!(
        hangs(reports.recv()).await,
        "the server learns nothing, not even the end"
    );
    Ok(())
}

#[tokio::test]
async fn a_stall_keeps_what_was_sent() -> Result {
    let (target, _reports) = echo().await;
    let proxy = Proxy::start(target).await?;
    let mut stream = open(&proxy).await;
    proxy.stall();
    assert!(hangs(ask(&mut stream, "held")).await);
    proxy.heal().await?;
    let mut bytes = [0; 4];
    stream
        .read_exact(&mut bytes)
        .await
        .expect("it arrives late");
    assert_eq!(&bytes, b"held");
    Ok(())
}

#[tokio::test]
async fn changes_which_server_answers() -> Result {
    let (one, mut at_one) = echo().await;
    let (two, mut at_two) = echo().await;
    let proxy = Proxy::start(one).await?;
    let mut old = open(&proxy).await;
    assert_eq!(ask(&mut old, "a").await, "a");
    proxy.retarget(two);
    assert_eq!(ask(&mut old, "b").await, "b");
    assert_eq!(ask(&mut open(&proxy).await, "c").await, "c");
    assert_eq!(at_one.recv().await.as_deref(), Some(&b"a"[..]));
    assert_eq!(at_one.recv().await.as_deref(), Some(&b"b"[..]));
    assert_eq!(at_two.recv().await.as_deref(), Some(&b"c"[..]));
    Ok(())
}

#[tokio::test]
async fn tears_an_answer() -> Result {
    let (target, _reports) = echo().await;
    let proxy = Proxy::start(target).await?;
    let mut stream = open(&proxy).await;
    proxy.cut_after_reply_bytes(7);
    assert_eq!(ask(&mut stream, "12345").await, "12345");
    assert_eq!(ask(&mut stream, "67890").await, "67");
    assert_eq!(ask(&mut stream, "more").await, "");
    assert_eq!(proxy.traps_sprung(), 1);
    Ok(())
}

async fn client_of(proxy: &Proxy) -> Client {
    let url = proxy.postgres_url();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn loses_a_commit_or_only_the_news_of_it() -> Result {
    let cluster = start_with_row(0).await?;
    let primary = cluster.primary();
    let proxy = Proxy::start(primary.address()).await?;
    for round in 0..20 {
        let client = client_of(&proxy).await;
        client
            .batch_execute("begin; insert into t values (2)")
            .await
            .expect("insert");
        let before = rows(primary).await?;
        let applied = round % 2 == 0;
        if applied {
            proxy.cut_replies_after(b"COMMIT");
        } else {
            proxy.cut_before(b"COMMIT");
        }
        let error = client
            .batch_execute("COMMIT")
            .await
            .expect_err("no answer comes");
        assert!(error.is_closed() || error.code().is_none(), "{error}");
        assert_eq!(
            rows(primary).await?,
            before + u32::from(applied),
            "round {round}"
        );
        assert_eq!(proxy.traps_sprung(), round + 1);
    }
    Ok(())
}

#[tokio::test]
async fn stands_between_a_replica_and_its_primary() -> Result {
    let cluster = start_with_row(1).await?;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    let proxy = Proxy::start(primary.address()).await?;
    replica.follow_via(&proxy).await?;
    proxy.stall();
    primary.execute("insert into t values (2)").await?;
    assert!(hangs(replica.wait_for_catchup(primary)).await);
    assert_eq!(rows(replica).await?, 1);
    proxy.heal().await?;
    replica.wait_for_catchup(primary).await?;
    assert_eq!(rows(replica).await?, 2);
    Ok(())
}
