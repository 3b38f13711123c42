//! What waiting does not mend is a configuration error that names the remedy.

use crate::{MINUTE, address, entry, notice, offer, opened, refused};
use highwater::ledger::{Ledger, Subscription};
use highwater::testkit::RedisServer;
use highwater::tier::SharedTier;
use highwater::{RedisLink, RedisSettings};

#[tokio::test]
async fn what_waiting_does_not_mend_is_a_configuration_error_with_its_remedy() {
    let server = RedisServer::builder()
        .password("hunter2")
        .user("keyless", "on >pass ~other:* &shop:* +@all")
        .user("mute", "on >pass ~shop:* resetchannels +@all")
        .user("scriptless", "on >pass ~shop:* &shop:* +@all -eval -evalsha")
        .user("writeless", "on >pass ~shop:* &shop:* +@all -hdel")
        .user("earless", "on >pass ~shop:* &shop:* +@all -subscribe")
        .user("enough", "on >pass ~shop:* &shop:* -@all +get +mget +set +del +hset +hget +hmget +hdel +time +info +eval +evalsha +publish +subscribe +select")
        .start()
        .await
        .unwrap();
    let at = server.address();
    for (url, remedy) in [
        (format!("redis://:hunter3@{at}/"), "user or password"),
        (format!("redis://nobody:hunter2@{at}/"), "user or password"),
        (format!("redis://{at}/"), "wants a password"),
        (format!("redis://:hunter2@{at}/99"), "database number"),
        (format!("redis://:hunter2@{at}/x"), "Redis URL"),
        (format!("http://:hunter2@{at}/"), "Redis URL"),
        ("hunter2".to_owned(), "Redis URL"),
        (String::new(), "Redis URL"),
        (server.url_as("keyless", "pass"), "~<namespace>:*"),
        (server.url_as("mute", "pass"), "&<namespace>:*"),
        (server.url_as("scriptless", "pass"), "+evalsha"),
        (server.url_as("writeless", "pass"), "+hdel"),
        (server.url_as("earless", "pass"), "+subscribe"),
    ] {
        let text = refused(url).await;
        assert!(text.contains(remedy), "{remedy:?} in {text:?}");
        assert!(!text.contains("hunter"), "a password in {text:?}");
    }
    opened(server.url()).await.unwrap();
    let (tier, ledger) =
        opened(format!("{}1", server.url_as("enough", "pass"))).await.expect("the rights that the remedy names");
    tier.admit(vec![offer(1, entry(1))]).await.unwrap();
    tier.fetch(&[address(1), address(2)]).await.unwrap();
    let mut subscription = ledger.subscribe().await.unwrap();
    ledger.retract(&notice(2, &[1]), MINUTE, None).await.unwrap();
    subscription.next().await.expect("a message");
}

#[tokio::test]
async fn namespaces_that_could_be_mistaken_are_refused() {
    for namespace in ["", "a:b", "a b", "a{b}", "ä", &"x".repeat(65)] {
        let settings = RedisSettings::new("redis://127.0.0.1:1/").namespace(namespace);
        let error = RedisLink::connect(settings).await.unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("namespace"), "{error}");
    }
}

#[tokio::test]
async fn zero_durations_are_refused() {
    let settings = || RedisSettings::new("redis://127.0.0.1:1/");
    let zero = std::time::Duration::ZERO;
    for settings in [settings().connect_timeout(zero), settings().response_timeout(zero)] {
        let error = RedisLink::connect(settings).await.unwrap_err();
        assert_eq!(error.to_string(), "a Redis timeout of zero lets nothing through: give some milliseconds");
        assert!(error.is_configuration());
    }
}

#[tokio::test]
async fn tls_is_not_dropped_in_silence() {
    for scheme in ["rediss", "REDISS", "valkeys"] {
        let text = refused(format!("{scheme}://:hunter2@127.0.0.1:1/#insecure")).await;
        assert!(text.contains(if cfg!(feature = "tls") { "#insecure" } else { "feature `tls`" }), "{text}");
    }
    if cfg!(not(feature = "tls")) {
        assert!(refused("rediss://127.0.0.1:1/".to_owned()).await.contains("feature `tls`"));
    }
}

#[tokio::test]
async fn a_server_without_scripts_and_a_name_that_is_taken_are_told() {
    let server = RedisServer::builder().config("rename-command", "EVALSHA \"\"").start().await.unwrap();
    assert!(refused(server.url()).await.contains("does not know a command"));
    let server = RedisServer::start().await.unwrap();
    let mut admin = server.connect().await.unwrap();
    redis::cmd("SET").arg("shop:log").arg("mine").exec_async(&mut admin).await.unwrap();
    assert!(refused(server.url()).await.contains("shop:log"));
    redis::cmd("DEL").arg("shop:log").exec_async(&mut admin).await.unwrap();
    let (_, ledger) = opened(server.url()).await.unwrap();
    redis::cmd("DEL").arg("shop:log").exec_async(&mut admin).await.unwrap();
    redis::cmd("SET").arg("shop:log").arg("mine").exec_async(&mut admin).await.unwrap();
    let error = ledger.retract(&notice(9, &[1]), MINUTE, None).await.unwrap_err();
    assert!(error.to_string().contains("shop:log"), "{error}");
    let left: i64 = redis::cmd("DBSIZE").query_async(&mut admin).await.unwrap();
    assert_eq!(left, 1, "it failed before it wrote anything");
}
