//! A response on its way.

use super::body::TokenBody;
use super::forward::Return;
use super::layer::Departure;
use futures_util::future::BoxFuture;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The response of a [`TokenService`](super::TokenService) or a [`Forward`](super::Forward).
    pub struct ResponseFuture<F>
    where
        F: Future,
    {
        #[pin]
        inner: F,
        end: Option<End>,
        // What `inner` gave, and what has to be done before it goes on.
        response: Option<F::Output>,
        until: Option<BoxFuture<'static, ()>>,
    }
}

/// What is done with a response.
#[derive(Debug)]
pub(crate) enum End {
    /// It leaves the service.
    Leaves(Departure),
    /// It comes back to the client.
    Returns(Return),
}

impl End {
    /// What has to be done before what was made by now leaves: the head, a piece of the body, or the last of it.
    pub(crate) fn before_it_leaves(&mut self, is_end: bool) -> Option<BoxFuture<'static, ()>> {
        match self {
            Self::Leaves(departure) => departure.remember(is_end),
            Self::Returns(_) => None,
        }
    }
}

impl<F: Future> ResponseFuture<F> {
    pub(crate) fn departing(inner: F, departure: Departure) -> Self {
        Self { inner, end: Some(End::Leaves(departure)), response: None, until: None }
    }

    pub(crate) fn returning(inner: F, back: Option<Return>) -> Self {
        Self { inner, end: back.map(End::Returns), response: None, until: None }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<TokenBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.response.is_none() {
            let response = ready!(this.inner.poll(context));
            if response.is_ok() {
                *this.until = this.end.as_mut().and_then(|end| end.before_it_leaves(true));
            }
            *this.response = Some(response);
        }
        if let Some(until) = this.until {
            ready!(until.as_mut().poll(context));
        }
        *this.until = None;
        let Some(response) = this.response.take() else { return Poll::Pending };
        let (mut parts, body) = response?.into_parts();
        let mut end = this.end.take();
        // A body whose length is known was made before its head: nothing is raised while it is sent, and it has no trailers.
        let is_made = body.size_hint().exact().is_some();
        match &mut end {
            Some(End::Leaves(departure)) => {
                departure.add(&mut parts);
                if is_made || !departure.stays(&mut parts.headers) {
                    end = None;
                }
            }
            Some(End::Returns(back)) => back.take_in(&parts.headers),
            None => {}
        }
        Poll::Ready(Ok(Response::from_parts(parts, TokenBody::new(body, end))))
    }
}

impl<F: Future> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
