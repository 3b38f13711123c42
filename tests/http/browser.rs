//! A browser that has several requests under way at one time.

use crate::app::{Answer, app, routes, send};
use crate::support::{Instance, cluster, key};
use axum::Router;
use axum::http::header::{COOKIE, SET_COOKIE};
use highwater::http::{Cookie, TokenLayer};
use highwater::wire::{Keyring, Policy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The cookies that a browser keeps: of one name, the one that came last.
#[derive(Default)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    async fn send(&self, app: &Router, method: &str, path: &str) -> Answer {
        let cookies: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        send(app, method, path, &[(COOKIE, &cookies.join("; "))]).await
    }

    fn take_in(&mut self, answer: &Answer) {
        for line in answer.headers.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (name, rest) = line.split_once('=').unwrap();
            let (value, attributes) = rest.split_once(';').unwrap();
            if attributes.contains("Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_writes_at_one_time_the_answer_that_comes_last_does_not_hide_the_other() {
    let cluster = cluster();
    let (writer, reader) = (Arc::new(Instance::over(&cluster).await), Arc::new(Instance::over(&cluster).await));
    let (write, read) = (app(&writer), app(&reader));
    cluster.pause(1, true);
    let mut browser = Browser::default();
    browser.take_in(&browser.send(&write, "POST", "/rename/first").await);
    assert_eq!(browser.0.len(), 1);
    for round in 0..3 {
        // Both leave with the same cookies; the older one's answer comes last.
        let old = browser.send(&write, "POST", "/rename/old").await;
        let new = browser.send(&write, "POST", &format!("/rename/new-{round}")).await;
        browser.take_in(&new);
        browser.take_in(&old);
        assert_eq!(browser.0.len(), 2, "what the first request brought is gone, and neither answer ends the other's");
        let seen = browser.send(&read, "GET", "/name").await;
        assert_eq!(seen.body, format!("new-{round}"));
        browser.take_in(&seen);
        assert_eq!(browser.0.len(), 1, "merged");
    }
    assert_eq!(reader.gate.stats().careful, 0);
}

/// While keys change out of order: one instance cannot read what the other wrote, and must not take it away.
#[tokio::test(start_paused = true)]
async fn a_cookie_that_an_instance_cannot_read_is_ended_only_by_what_covers_it() {
    for careful_per_second_max in [0, 50] {
        let cluster = cluster();
        let with = async |keyring, careful_per_second_max| {
            Arc::new(Instance::with(&cluster, keyring, Policy { careful_per_second_max, ..Policy::default() }).await)
        };
        let old = with(Keyring::new(key(1)), careful_per_second_max).await;
        let new = with(Keyring::new(key(2)).also_opens(key(1)).unwrap(), 0).await;
        let mut browser = Browser::default();
        // Two at one time, the later write at the instance that signs with the new key. The replica has the first one only.
        let first = browser.send(&app(&old), "POST", "/rename/old").await;
        sleep(Duration::from_secs(1)).await;
        cluster.pause(1, true);
        let second = browser.send(&app(&new), "POST", "/rename/new").await;
        browser.take_in(&first);
        browser.take_in(&second);
        assert_eq!(browser.0.len(), 2);
        // It reads nothing, so the primary has not answered by its end.
        let merged = browser.send(&app(&old), "GET", "/health").await;
        browser.take_in(&merged);
        assert_eq!(old.gate.stats().unknown_key, 1);
        let reader = with(Keyring::new(key(2)).also_opens(key(1)).unwrap(), 0).await;
        let seen = browser.send(&app(&reader), "GET", "/name").await;
        assert_eq!(seen.body, "new", "with room for {careful_per_second_max}");
        browser.take_in(&seen);
        assert_eq!(browser.0.len(), 1);
    }
}

/// What one tenant takes for forged may be what the browser wrote in another one.
#[tokio::test(start_paused = true)]
async fn a_browser_is_in_several_tenants_of_one_host() {
    let cluster = cluster();
    let (writer, reader) = (Arc::new(Instance::over(&cluster).await), Arc::new(Instance::over(&cluster).await));
    let of_tenant = |instance: &Arc<Instance>, tenant: u8| {
        let layer = TokenLayer::new(instance.gate.clone()).cookie(Cookie::default()).unwrap();
        routes(Arc::clone(instance)).layer(layer.audience(move |_| Some(vec![tenant])))
    };
    cluster.pause(1, true);
    let mut browser = Browser::default();
    browser.take_in(&browser.send(&of_tenant(&writer, 1), "POST", "/rename/grace").await);
    for tenant in 2..=5 {
        browser.take_in(&browser.send(&of_tenant(&writer, tenant), "GET", "/name").await);
        browser.take_in(&browser.send(&of_tenant(&writer, tenant), "POST", "/rename/grace").await);
        assert_eq!(browser.0.len(), usize::from(tenant), "the others' are left");
    }
    assert_eq!(browser.send(&of_tenant(&reader, 1), "GET", "/name").await.body, "grace");
    assert!(reader.gate.stats().valid == 1 && reader.gate.stats().careful == 0);
    for login in 6..40 {
        browser.take_in(&browser.send(&of_tenant(&writer, login), "POST", "/rename/grace").await);
        assert!(browser.0.len() <= 6, "{} after {login}", browser.0.len());
    }
}

#[tokio::test(start_paused = true)]
async fn once_care_is_over_a_cookie_that_nobody_can_read_is_gone() {
    let cluster = cluster();
    let lost = Instance::with(&cluster, Keyring::new(key(9)), Policy::default()).await;
    let instance = Arc::new(Instance::over(&cluster).await);
    cluster.pause(1, true);
    let mut browser = Browser::default();
    browser.take_in(&browser.send(&app(&Arc::new(lost)), "POST", "/rename/grace").await);
    for _ in 0..3 {
        let seen = browser.send(&app(&instance), "GET", "/name").await;
        assert_eq!(seen.body, "grace");
        browser.take_in(&seen);
        assert_eq!(browser.0.len(), 1);
    }
    assert_eq!((instance.gate.stats().careful, instance.gate.stats().valid), (1, 2), "once");
}
