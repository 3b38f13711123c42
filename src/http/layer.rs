//! The middleware of a service.

use super::audience::Audience;
use super::body::TokenBody;
use super::carrier::{Carrier, Found, HEADER, TEXTS_MAX};
use super::cookie::Cookie;
use super::future::ResponseFuture;
use crate::devices::{Devices, Visit};
use crate::wire::{Gate, Outcome};
use crate::{Error, Session, Token};
use futures_util::future::BoxFuture;
use http::header::{TE, TRAILER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Request, Response, Version, response};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// How many cookies of another audience are left to a browser: more than that are of logins that are over.
const OTHERS_MAX: usize = 4;

/// Gives each request a [`Session`] from the token that it brought, and each response a token if the session was raised.
///
/// The token is in the header [`HEADER`] and, if asked for, in a [`Cookie`]. Requests that have a session in their extensions
/// already keep it.
#[derive(Clone)]
pub struct TokenLayer(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    gate: Gate,
    carrier: Carrier,
    audience: Option<IdOf>,
    devices: Option<(Devices, IdOf)>,
}

type IdOf = Arc<dyn Fn(&Parts) -> Option<Vec<u8>> + Send + Sync>;

impl TokenLayer {
    /// A layer over this gate, with the token in the header [`HEADER`] only.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        Self(Arc::new(Inner { gate, carrier: Carrier::header(HEADER), audience: None, devices: None }))
    }

    /// Puts the token into another header.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        Arc::make_mut(&mut self.0).carrier.header = Some(name);
        self
    }

    /// Puts the token into no header. Without a [`cookie`](Self::cookie) it is nowhere then.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        Arc::make_mut(&mut self.0).carrier.header = None;
        self
    }

    /// Puts the token into a cookie as well.
    ///
    /// # Errors
    ///
    /// A cookie that a browser would refuse.
    pub fn cookie(mut self, cookie: Cookie) -> Result<Self, Error> {
        cookie.check()?;
        Arc::make_mut(&mut self.0).carrier.cookie = Some(cookie);
        Ok(self)
    }

    /// Says whom the token of a request is for, such as the tenant or the login session that an outer layer has put into its
    /// extensions. A token for anybody else is forged, and so is one for nobody; of cookies for others the last four are left
    /// as they are, since one browser may be in several tenants. Defaults to nobody. A response that changes it says so with an
    /// [`Audience`].
    #[must_use]
    pub fn audience(mut self, of: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).audience = Some(Arc::new(of));
        self
    }

    /// Lets a user's devices see what others of theirs wrote. `user` says whose request it is, by the id that an outer layer
    /// has authenticated and put into its extensions; `None` is for nobody's. The store is asked as soon as the request is
    /// here, and reads with the session wait for the answer; what is told after a write, in the head or later in the body, waits
    /// until the store has it. See [`Devices::visit`] and [`Visit::remember`].
    #[must_use]
    pub fn devices(
        mut self,
        devices: &Devices,
        user: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.0).devices = Some((devices.clone(), Arc::new(user)));
        self
    }

    /// Takes in what a request brought.
    fn arrive(&self, parts: &mut Parts) -> Departure {
        let Inner { gate, carrier, audience, devices } = &*self.0;
        let audience = audience.as_ref().and_then(|of| of(parts));
        let session = parts.extensions.get_or_insert_with(Session::new).clone();
        let was_empty = session.token().is_empty();
        let mut found = carrier.found(&parts.headers);
        let (mut brought, mut ended, mut others) = (0, Vec::new(), Vec::new());
        for Found { text, cookie } in found.by_ref().take(TEXTS_MAX) {
            let (outcome, is_taken) = gate.weigh(&session, text, audience.as_deref());
            let cookie = cookie.filter(|_| is_taken).map(str::to_owned);
            if outcome == Outcome::Forged && audience.is_some() {
                others.extend(cookie);
            } else {
                brought += 1;
                ended.extend(cookie);
            }
        }
        // Browsers send the oldest first.
        ended.extend(others.drain(..others.len().saturating_sub(OTHERS_MAX)));
        if found.next().is_some() {
            // One of the others may say more.
            gate.be_careful(&session);
        }
        drop(found);
        // A client that brought two holds neither of them as the whole, nor one that came to a session which held something.
        let held = if was_empty && brought == 1 { session.token() } else { Token::default() };
        let user = devices.as_ref().and_then(|(devices, of)| Some((devices, of(parts)?)));
        let visit = user.map(|(devices, user)| devices.visit(&session, user));
        Departure {
            layer: self.clone(),
            session,
            held,
            audience,
            ended,
            trailers: Trailers::of(parts),
            visit,
            deeds: 0,
        }
    }
}

/// Whether a response to a request may have trailers that arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trailers {
    No,
    /// If the head says which.
    Announced,
    Yes,
}

impl Trailers {
    fn of(request: &Parts) -> Self {
        if request.version >= Version::HTTP_2 {
            return Self::Yes;
        }
        let lines = request.headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
        let asked = lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("trailers"));
        if asked { Self::Announced } else { Self::No }
    }
}

impl<S> Layer<S> for TokenLayer {
    type Service = TokenService<S>;

    fn layer(&self, inner: S) -> TokenService<S> {
        TokenService { inner, layer: self.clone() }
    }
}

/// A service inside of a [`TokenLayer`].
#[derive(Clone)]
pub struct TokenService<S> {
    inner: S,
    layer: TokenLayer,
}

impl<S, B, R> Service<Request<B>> for TokenService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: http_body::Body,
{
    type Response = Response<TokenBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let departure = self.layer.arrive(&mut parts);
        ResponseFuture::departing(self.inner.call(Request::from_parts(parts, body)), departure)
    }
}

/// What a response needs to be told of its request.
pub(crate) struct Departure {
    layer: TokenLayer,
    session: Session,
    /// The token that the client holds.
    held: Token,
    audience: Option<Vec<u8>>,
    /// The cookies that it brought and needs no more.
    ended: Vec<String>,
    trailers: Trailers,
    visit: Option<Visit>,
    /// How often the session had been raised when the visit's store was told last.
    deeds: usize,
}

impl Departure {
    /// What has to be done before the client is told of what was written by now; between pieces of a body, nothing where
    /// nothing was.
    pub(crate) fn remember(&mut self, is_end: bool) -> Option<BoxFuture<'static, ()>> {
        let visit = self.visit.clone().filter(|_| is_end || self.session.deeds() != self.deeds)?;
        self.deeds = self.session.deeds();
        Some(Box::pin(async move {
            visit.remember().await;
        }))
    }

    /// Whether something is left to be done behind a body that is not made yet, and the head is told what will come.
    pub(crate) fn stays(&self, headers: &mut HeaderMap) -> bool {
        let announced = self.announce(headers);
        announced || self.visit.is_some()
    }

    /// Adds a token to the head of the response, if there is a new one.
    pub(crate) fn add(&mut self, head: &mut response::Parts) {
        // Left there for a layer around this one.
        if let Some(Audience(audience)) = head.extensions.get().cloned() {
            (self.audience, self.held) = (audience, Token::default());
        }
        // Until the primary has answered, a text that could not be read may say more than the session does. Looked at before
        // the token is.
        let is_unresolved = self.session.is_unresolved();
        if let Some(token) = self.news() {
            let Inner { gate, carrier, .. } = &*self.layer.0;
            let ended = if is_unresolved { &[] } else { &self.ended[..] };
            carrier.add(&mut head.headers, &token, gate.token_life(), ended);
        }
    }

    /// Whether a token may still be added behind the body; the head is told.
    fn announce(&self, headers: &mut HeaderMap) -> bool {
        let Some(name) = self.layer.0.carrier.header.clone() else { return false };
        if self.trailers == Trailers::Announced {
            headers.append(TRAILER, name.into());
        }
        self.trailers != Trailers::No
    }

    /// Adds a token to the trailers, if there is a new one since the head. Returns whether there was.
    pub(crate) fn add_late(&mut self, trailers: &mut HeaderMap) -> bool {
        let Some(name) = self.layer.0.carrier.header.clone().filter(|_| self.trailers != Trailers::No) else {
            return false;
        };
        let Some(token) = self.news() else { return false };
        super::carrier::insert(trailers, name, &token);
        true
    }

    /// The text of what the session holds, where that is not what the client does.
    fn news(&mut self) -> Option<String> {
        let token = self.session.token();
        if token == self.held {
            return None;
        }
        self.held = token;
        self.layer.0.gate.write(&self.session, self.audience.as_deref())
    }
}

impl fmt::Debug for TokenLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { gate, carrier, .. } = &*self.0;
        f.debug_struct("TokenLayer").field("gate", gate).field("carrier", carrier).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for TokenService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure").finish_non_exhaustive()
    }
}
