//! TLS to Redis: checked, or refused.

use crate::authority::Authority;
use crate::{address, entry, offer, told};
use highwater::ledger::{Ledger, RedisLedger, Subscription};
use highwater::testkit::RedisServer;
use highwater::tier::{RedisTier, SharedTier};
use highwater::{Error, RedisLink, RedisSettings};
use std::path::Path;

async fn connect(url: String, roots: &Path) -> Result<RedisLink, Error> {
    RedisLink::connect(RedisSettings::new(url).namespace("shop").root_certificates(roots)).await
}

#[tokio::test]
async fn the_chain_and_the_name_are_checked() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (right, wrong) = (ours.roots("redis-ours").unwrap(), theirs.roots("redis-theirs").unwrap());
    let (certificate, key) = ours.certify("localhost").unwrap();
    let server = RedisServer::builder().password("hunter2").tls(&certificate, &key).start().await.unwrap();
    let at = |scheme: &str, host: &str, port: u16| format!("{scheme}://:hunter2@{host}:{port}/");
    let port = server.tls_port().unwrap();
    let link = connect(at("rediss", "localhost", port), &right).await.unwrap();
    assert!(link.is_up());
    let tier = RedisTier::open(link.clone()).await.unwrap();
    tier.admit(vec![offer(1, entry(7))]).await.unwrap();
    assert_eq!(tier.fetch(&[address(1)]).await.unwrap(), [Some(entry(7))]);
    let ledger = RedisLedger::open(link).await.unwrap();
    let mut subscription = ledger.subscribe().await.unwrap();
    ledger.retract(&crate::notice(1, &[1]), crate::MINUTE, None).await.unwrap();
    subscription.next().await.expect("a message over TLS");
    for (url, roots, word) in [
        (at("rediss", "localhost", port), &wrong, "not trusted"),
        (at("rediss", "127.0.0.1", port), &right, "not valid for name"),
    ] {
        let error = connect(url, roots).await.unwrap_err();
        assert!(error.is_configuration() && told(&error).contains(word), "{word:?} in {}", told(&error));
        assert!(!told(&error).contains("hunter2"));
    }
    // A plaintext server waits for more of what it takes for a command, as a frozen one would.
    let silent = connect(at("rediss", "localhost", server.port()), &right).await.unwrap();
    assert!(!silent.is_up());
    let plain = RedisLink::connect(RedisSettings::new(at("redis", "localhost", port))).await;
    println!("{plain:?}");
    assert!(plain.map_or_else(|error| error.is_configuration(), |link| !link.is_up()));
    let error = connect(at("redis", "localhost", server.port()), &right).await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("rediss://"), "{error}");
    let error = connect(at("rediss", "localhost", port), Path::new("/nowhere")).await.unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("root_certificates"), "{error}");
}
