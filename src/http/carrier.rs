//! Where in a message the token is.

use super::cookie::Cookie;
use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The header, and the gRPC metadata, that a token travels in unless told otherwise.
pub const HEADER: HeaderName = HeaderName::from_static("highwater-token");

/// How many tokens of one message are looked at: a header and a cookie, and what somebody added.
const TEXTS_MAX: usize = 4;

/// Where in a message the token is.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    pub(crate) header: Option<HeaderName>,
    pub(crate) cookie: Option<Cookie>,
}

impl Carrier {
    pub(crate) fn header(name: HeaderName) -> Self {
        Self { header: Some(name), cookie: None }
    }

    /// What may be tokens in a message that came in.
    pub(crate) fn texts<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
        let of_header = self.header.iter().flat_map(|name| headers.get_all(name)).map(HeaderValue::as_bytes);
        let lines = move |cookie: &'a Cookie| headers.get_all(COOKIE).iter().map(move |line| (cookie, line));
        let of_cookie = self.cookie.iter().flat_map(lines).flat_map(|(cookie, line)| cookie.values(line.as_bytes()));
        of_header.chain(of_cookie).take(TEXTS_MAX)
    }

    /// Adds a token to the head of a response.
    pub(crate) fn add(&self, headers: &mut HeaderMap, token: &str, life: Duration) {
        if let Some(name) = &self.header {
            insert(headers, name.clone(), token);
        }
        if let Some(value) = self.cookie.as_ref().and_then(|cookie| sensitive(&cookie.set(token, life))) {
            headers.append(SET_COOKIE, value);
        }
        // What is for one client must not be kept by a cache for all; a service that says otherwise has its way.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private"));
    }
}

/// Puts a token into a header, in place of any that was there.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, token: &str) {
    if let Some(value) = sensitive(token) {
        headers.insert(name, value);
    }
}

/// A value that is not shown when headers are logged, and not kept in tables that compress them.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
