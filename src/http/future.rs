//! A response on its way.

use super::body::TokenBody;
use super::forward::Return;
use super::layer::Departure;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The response of a [`TokenService`](super::TokenService) or a [`Forward`](super::Forward).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        end: Option<End>,
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

impl<F> ResponseFuture<F> {
    pub(crate) fn departing(inner: F, departure: Departure) -> Self {
        Self { inner, end: Some(End::Leaves(departure)) }
    }

    pub(crate) fn returning(inner: F, back: Option<Return>) -> Self {
        Self { inner, end: back.map(End::Returns) }
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
        let (mut parts, body) = ready!(this.inner.poll(context))?.into_parts();
        let mut end = this.end.take();
        // A body whose length is known was made before its head: nothing is raised while it is sent, and it has no trailers.
        let is_made = body.size_hint().exact().is_some();
        match &mut end {
            Some(End::Leaves(departure)) => {
                departure.add(&mut parts.headers);
                if is_made || !departure.announce(&mut parts.headers) {
                    end = None;
                }
            }
            Some(End::Returns(back)) => back.take_in(&parts.headers),
            None => {}
        }
        Poll::Ready(Ok(Response::from_parts(parts, TokenBody::new(body, end))))
    }
}
