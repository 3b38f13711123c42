//! A browser that has several requests under way at one time.

use crate::app::{Answer, app, send};
use crate::support::{Instance, cluster};
use axum::Router;
use axum::http::header::{COOKIE, SET_COOKIE};
use std::collections::BTreeMap;
use std::sync::Arc;

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
