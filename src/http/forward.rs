//! The middleware of a client.

use super::body::TokenBody;
use super::carrier::{HEADER, TEXTS_MAX, insert};
use super::future::ResponseFuture;
use crate::Session;
use crate::wire::Gate;
use http::{HeaderMap, HeaderName, Request, Response};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Sends a request's [`Session`] along as a token, and raises it by the token that comes back.
///
/// The session is the one in the request's extensions; a request without one goes out as it is. Wrap only clients of
/// services that hold the same keys: others have no use for the token, and it tells them how much is written here.
///
/// What is still on its way from a [device store](crate::devices) does not go along: where a call must see what the user's
/// other devices wrote, wait for [`Session::gathered`] before it.
#[derive(Clone)]
pub struct ForwardLayer(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    gate: Gate,
    header: HeaderName,
    audience: Option<Vec<u8>>,
}

impl ForwardLayer {
    /// A layer over this gate, with the token in the header [`HEADER`].
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        Self(Arc::new(Inner { gate, header: HEADER, audience: None }))
    }

    /// Puts the token into another header.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        Arc::make_mut(&mut self.0).header = name;
        self
    }

    /// Says whom the tokens are for, as the service that is called expects it. Defaults to nobody.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<Vec<u8>>) -> Self {
        Arc::make_mut(&mut self.0).audience = Some(audience.into());
        self
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner, layer: self.clone() }
    }
}

/// A client inside of a [`ForwardLayer`].
#[derive(Clone)]
pub struct Forward<S> {
    inner: S,
    layer: ForwardLayer,
}

impl<S, B, R> Service<Request<B>> for Forward<S>
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Inner { gate, header, audience } = &*self.layer.0;
        let session = request.extensions().get::<Session>().cloned();
        if let Some(token) = session.as_ref().and_then(|session| gate.write(session, audience.as_deref())) {
            insert(request.headers_mut(), header.clone(), &token);
        }
        let back = session.map(|session| Return { layer: self.layer.clone(), session });
        ResponseFuture::returning(self.inner.call(request), back)
    }
}

/// Where a token goes that comes back.
pub(crate) struct Return {
    layer: ForwardLayer,
    session: Session,
}

impl Return {
    pub(crate) fn take_in(&self, headers: &HeaderMap) {
        let Inner { gate, header, audience } = &*self.layer.0;
        for value in headers.get_all(header).iter().take(TEXTS_MAX) {
            gate.take_in(&self.session, value.as_bytes(), audience.as_deref());
        }
    }
}

impl fmt::Debug for ForwardLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { gate, header, .. } = &*self.0;
        f.debug_struct("ForwardLayer").field("gate", gate).field("header", header).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for Forward<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Debug for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Return").finish_non_exhaustive()
    }
}
