//! The cookie that a browser carries its token in.

use crate::Error;
use std::time::Duration;

/// When a browser sends the cookie along with requests from other sites.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SameSite {
    /// Never.
    Strict,
    /// When the user follows a link here.
    Lax,
    /// Always; the cookie must be [`secure`](Cookie::secure).
    None,
}

/// The cookie that a browser carries its token in. The default is as narrow as a cookie can be.
///
/// A browser keeps of two cookies of one name the one that came last, which need not be the one with the higher
/// position. So each token has a name of its own, `NAME-` and the end of its text; the layer merges all that a browser
/// sends, and a response that carries a token ends those that its request brought and that are of no more use, and no others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cookie {
    /// The beginning of its name. Defaults to `__Host-highwater`: browsers take that only from this host, over TLS and for every path, so
    /// nobody on a neighbouring subdomain can plant one.
    pub name: String,
    /// The path that it is sent to. Defaults to `/`.
    pub path: String,
    /// The domain whose hosts all get it. Defaults to none: this host alone.
    pub domain: Option<String>,
    /// How long the browser keeps it, counted anew each time that a token goes out. Defaults to the life of the token.
    pub max_age: Option<Duration>,
    /// Hides it from scripts. Defaults to true.
    pub http_only: bool,
    /// Sends it over TLS only. Defaults to true.
    pub secure: bool,
    /// Defaults to [`SameSite::Lax`]: who follows a link here sees what they wrote.
    pub same_site: SameSite,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "__Host-highwater".to_owned(),
            path: "/".to_owned(),
            domain: None,
            max_age: None,
            http_only: true,
            secure: true,
            same_site: SameSite::Lax,
        }
    }
}

impl Cookie {
    /// Refuses what a browser would.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::configuration(format!("the cookie {:?} {why}", self.name)));
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.name.is_empty() || !self.name.bytes().all(is_word) {
            return refuse("must have a name of letters, digits and a few signs");
        }
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
        if !self.path.starts_with('/') || !is_plain(&self.path) {
            return refuse("must have a path that begins with / and has no ; in it");
        }
        if self.domain.as_ref().is_some_and(|domain| domain.is_empty() || !is_plain(domain)) {
            return refuse("must have no domain, or the name of one");
        }
        let is_host = self.name.starts_with("__Host-");
        if is_host && (self.path != "/" || self.domain.is_some()) {
            return refuse("must have the path / and no domain, or another name: browsers refuse it otherwise");
        }
        let needs_secure = is_host || self.name.starts_with("__Secure-") || self.same_site == SameSite::None;
        if needs_secure && !self.secure {
            return refuse(
                "must be secure, by its name or because it goes to other sites: browsers refuse it otherwise",
            );
        }
        Ok(())
    }

    /// What a `Set-Cookie` header says for a token.
    pub(crate) fn set(&self, token: &str, life: Duration) -> String {
        self.line(&self.name_of(token), token, self.max_age.unwrap_or(life))
    }

    /// What a `Set-Cookie` header says to end the cookie `name`.
    pub(crate) fn end(&self, name: &str) -> String {
        self.line(name, "", Duration::ZERO)
    }

    /// The name that a token has.
    pub(crate) fn name_of(&self, token: &str) -> String {
        let suffix = token.get(token.len().saturating_sub(SUFFIX_BYTES)..).unwrap_or_default();
        format!("{}-{suffix}", self.name)
    }

    fn line(&self, cookie: &str, value: &str, max_age: Duration) -> String {
        let Self { name: _, path, domain, max_age: _, http_only, secure, same_site } = self;
        let mut text = format!("{cookie}={value}; Path={path}; Max-Age={}", max_age.as_secs());
        if let Some(domain) = domain {
            text.push_str("; Domain=");
            text.push_str(domain);
        }
        text.push_str(match same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        text.push_str(if *secure { "; Secure" } else { "" });
        text.push_str(if *http_only { "; HttpOnly" } else { "" });
        text
    }

    /// The names and values in a `Cookie` header that may be tokens.
    pub(crate) fn found<'a>(&'a self, header: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let pairs = header.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        pairs.filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = pair.split_at_checked(at)?;
            let suffix = name.strip_prefix(self.name.as_bytes())?.strip_prefix(b"-")?;
            let is_ours = suffix.len() == SUFFIX_BYTES
                && suffix.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
            is_ours.then_some((std::str::from_utf8(name).ok()?, value.get(1..)?))
        })
    }
}

/// Characters of a token's text in its cookie's name.
const SUFFIX_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(600);

    #[test]
    fn the_default_is_as_narrow_as_a_cookie_can_be() {
        let cookie = Cookie::default();
        cookie.check().unwrap();
        let set = "__Host-highwater-23456789=A23456789; Path=/; Max-Age=600; SameSite=Lax; Secure; HttpOnly";
        assert_eq!(cookie.set("A23456789", LIFE), set);
        let end = "__Host-highwater-12345678=; Path=/; Max-Age=0; SameSite=Lax; Secure; HttpOnly";
        assert_eq!(cookie.end("__Host-highwater-12345678"), end);
    }

    #[test]
    fn everything_can_be_set() {
        let cookie = Cookie {
            name: "hw".to_owned(),
            path: "/app".to_owned(),
            domain: Some("example.org".to_owned()),
            max_age: Some(Duration::from_secs(9)),
            http_only: false,
            secure: false,
            same_site: SameSite::Strict,
        };
        cookie.check().unwrap();
        let set = "hw-12345678=12345678; Path=/app; Max-Age=9; Domain=example.org; SameSite=Strict";
        assert_eq!(cookie.set("12345678", LIFE), set);
    }

    #[test]
    fn what_a_browser_would_refuse_is_refused_by_name() {
        let plain = || Cookie { name: "hw".to_owned(), ..Cookie::default() };
        let refused = [
            Cookie { secure: false, ..Cookie::default() },
            Cookie { path: "/app".to_owned(), ..Cookie::default() },
            Cookie { domain: Some("example.org".to_owned()), ..Cookie::default() },
            Cookie { name: "__Secure-hw".to_owned(), secure: false, ..Cookie::default() },
            Cookie { same_site: SameSite::None, secure: false, ..plain() },
            Cookie { name: "a b".to_owned(), ..plain() },
            Cookie { name: String::new(), ..plain() },
            Cookie { path: "/a; Domain=evil".to_owned(), ..plain() },
            Cookie { path: "a".to_owned(), ..plain() },
            Cookie { domain: Some("a\r\nSet-Cookie: b".to_owned()), ..plain() },
        ];
        for cookie in refused {
            let error = cookie.check().unwrap_err();
            assert!(error.is_configuration() && error.to_string().contains("cookie"), "{cookie:?}");
        }
    }

    #[test]
    fn it_is_found_among_others_and_not_in_their_names_or_values() {
        let cookie = Cookie { name: "hw".to_owned(), ..Cookie::default() };
        let found = |header: &'static [u8]| cookie.found(header).collect::<Vec<_>>();
        assert_eq!(found(b"a=1; hw-1234567_=xyz=;b=2"), [("hw-1234567_", &b"xyz="[..])]);
        assert_eq!(found(b"hw-12345678=one; hw-87654321=two").len(), 2);
        assert!(
            found(b"hw=1; xhw-12345678=1; hw-1234567=2; hw-123456789=2; a=hw-12345678=3; hw-12345678; HW-12345678=4")
                .is_empty()
        );
        assert!(found(b"hw-1234\xff678=1; hw-12;45678=1; hw-12 45678=1; =;;=;\xff=\xff").is_empty());
        assert_eq!(found(b";;  hw-12345678= ;"), [("hw-12345678", &b""[..])]);
    }
}
