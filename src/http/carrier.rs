//! Where in a message the token is.

use super::cookie::Cookie;
use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The header, and the gRPC metadata, that a token travels in unless told otherwise.
pub const HEADER: HeaderName = HeaderName::from_static("highwater-token");

/// How many tokens of one message are looked at: a client has as many as it wrote requests at one time.
pub(crate) const TEXTS_MAX: usize = 8;

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
    pub(crate) fn found<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = Found<'a>> {
        let of_header = self.header.iter().flat_map(|name| headers.get_all(name));
        let of_header = of_header.map(|value| Found { text: value.as_bytes(), cookie: None });
        let of_cookie = self.cookie.iter().flat_map(move |cookie| {
            let found = headers.get_all(COOKIE).iter().flat_map(|line| cookie.found(line.as_bytes()));
            found.map(|(name, text)| Found { text, cookie: Some(name) })
        });
        of_header.chain(of_cookie)
    }

    /// Adds a token to the head of a response, in place of the cookies `ended`.
    pub(crate) fn add(&self, headers: &mut HeaderMap, token: &str, life: Duration, ended: &[String]) {
        if let Some(name) = &self.header {
            insert(headers, name.clone(), token);
        }
        if let Some(cookie) = &self.cookie {
            let name = cookie.name_of(token);
            let ended = ended.iter().filter(|ended| **ended != name).map(|ended| cookie.end(ended));
            for line in std::iter::once(cookie.set(token, life)).chain(ended) {
                headers.extend(sensitive(&line).map(|value| (SET_COOKIE, value)));
            }
        }
        // What is for one client must not be kept by a cache for all; a service that says otherwise has its way.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private"));
    }
}

/// What may be a token, and the name of the cookie that it was in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) cookie: Option<&'a str>,
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
