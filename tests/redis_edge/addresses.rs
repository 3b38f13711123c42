//! Every form of URL either leads to the server that it names, as the user that it names, or is refused.

use crate::{MINUTE, address, entry, notice, offer, opened, refused};
use highwater::ledger::{Ledger, Subscription};
use highwater::testkit::RedisServer;
use highwater::tier::SharedTier;
use std::time::Duration;
use tokio::time::timeout;

const FORM: &str = "write redis://user:password@host:6379/0, with special characters of a password as %40 for @";
const SOCKET_FORM: &str = "write redis+unix:///path?user=app&pass=password&db=0";
const CLUSTER: &str = "give the servers of a Redis Cluster one by one, as RedisSettings::cluster";

/// What the client library would take, and drop a part of in silence.
#[tokio::test]
async fn a_url_that_says_more_than_is_used_is_refused() {
    let cannot = "the Redis URL cannot be used: ";
    for (url, why) in [
        ("localhost:6379", FORM.to_owned()),
        ("redis://app@127.0.0.1:1/", format!("it names a user and no password, and the user would be ignored: {FORM}")),
        ("redis://127.0.0.1:1/?db=3", format!("a parameter other than protocol would be ignored: {FORM}")),
        ("redis://127.0.0.1:1/?hunter2", format!("a parameter other than protocol would be ignored: {FORM}")),
        ("redis://127.0.0.1:1/0#hunter2", format!("what follows # would be ignored: {FORM}")),
        (
            "redis+unix:///tmp/redis.sock?password=hunter2",
            format!("a parameter other than protocol, db, user, pass would be ignored: {SOCKET_FORM}"),
        ),
        (
            "redis+unix://:hunter2@localhost/tmp/redis.sock",
            format!("the user and password of a socket belong into its query: {SOCKET_FORM}"),
        ),
        (
            "unix:///tmp/redis.sock?user=app",
            format!("it names a user and no password, and the user would be ignored: {FORM}"),
        ),
        ("redis://one,two:1/", format!("it names several hosts: {CLUSTER}")),
        ("redis-cluster://:hunter2@one:1", CLUSTER.to_owned()),
        (
            "redis+sentinel://:hunter2@one:1/primary",
            "Sentinel is not supported: give an address that leads to the primary".to_owned(),
        ),
    ] {
        assert_eq!(refused(url.to_owned()).await, format!("{cannot}{why}"), "{url}");
    }
    // With the client library's own word behind it.
    for (url, cause) in [
        ("redis:///0", "Missing hostname"),
        ("redis://0.0.0.0:1/", "wildcard address"),
        ("redis://127.0.0.1:1/first", "Invalid database number"),
        ("redis://127.0.0.1:1/?protocol=4", "Invalid protocol version"),
        ("redis+unix:///tmp/redis.sock?db=first", "Invalid database number"),
    ] {
        let text = refused(url.to_owned()).await;
        assert!(text.starts_with(cannot) && text.contains(cause), "{text}");
    }
    assert!(refused("redis://one:1,two:2/".to_owned()).await.starts_with(cannot));
}

#[tokio::test]
async fn a_socket_is_used_as_the_user_and_in_the_database_that_its_url_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let socket = folder.path().join("redis.sock");
    let server = RedisServer::builder()
        .config("unixsocket", socket.display())
        .config("unixsocketperm", "777")
        .user("app", "on >p@ss ~shop:* &shop:* +@all")
        .user("mute", "on >pass ~shop:* resetchannels +@all")
        .start()
        .await
        .unwrap();
    let at = format!("redis+unix://{}", socket.display());
    let (tier, ledger) = opened(format!("{at}?user=app&pass=p%40ss&db=2")).await.unwrap();
    tier.admit(vec![offer(1, entry(1))]).await.unwrap();
    let mut subscription = ledger.subscribe().await.unwrap();
    ledger.retract(&notice(2, &[2]), MINUTE, None).await.unwrap();
    subscription.next().await.expect("a message");
    let mut admin = server.connect().await.unwrap();
    let keyspace: String = redis::cmd("INFO").arg("keyspace").query_async(&mut admin).await.unwrap();
    assert!(keyspace.contains("db2:keys=3") && !keyspace.contains("db0"), "{keyspace}");
    assert!(refused(format!("{at}?user=mute&pass=pass")).await.contains("&<namespace>:*"));
    assert!(refused(format!("{at}?db=99")).await.contains("database number"));
}

/// A channel is heard in all numbered databases.
#[tokio::test]
async fn two_databases_share_nothing() {
    let server = RedisServer::start().await.unwrap();
    let (one, two) = (opened(server.url()).await.unwrap(), opened(format!("{}1", server.url())).await.unwrap());
    let mut subscription = two.1.subscribe().await.unwrap();
    one.0.admit(vec![offer(1, entry(5))]).await.unwrap();
    one.1.retract(&notice(4, &[2]), MINUTE, None).await.unwrap();
    assert_eq!(two.0.fetch(&[address(1), address(2)]).await.unwrap(), [None, None]);
    assert!(timeout(Duration::from_millis(200), subscription.next()).await.is_err(), "another log's messages");
}
