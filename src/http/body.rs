//! A body whose trailers have a token.

use super::future::End;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// A response's body: the inner one, and where the session was raised while it was made, the token in its trailers.
    pub struct TokenBody<B>
    where
        B: Body,
    {
        #[pin]
        inner: B,
        end: Option<End>,
        is_over: bool,
        held: Option<Held<B::Data>>,
    }
}

/// A frame of the inner body, or its end, and what has to be done before it goes on.
struct Held<D> {
    frame: Option<Frame<D>>,
    until: Option<BoxFuture<'static, ()>>,
}

impl<B: Body> TokenBody<B> {
    pub(crate) fn new(inner: B, end: Option<End>) -> Self {
        Self { inner, end, is_over: false, held: None }
    }
}

impl<B: Body + Default> Default for TokenBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B: Body> Body for TokenBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        if this.held.is_none() {
            let frame = ready!(this.inner.poll_frame(context)?);
            let is_last = frame.as_ref().is_none_or(Frame::is_trailers);
            let until = this.end.as_mut().and_then(|end| end.before_it_leaves(is_last));
            *this.held = Some(Held { frame, until });
        }
        if let Some(until) = this.held.as_mut().and_then(|held| held.until.as_mut()) {
            ready!(until.as_mut().poll(context));
        }
        let mut trailers = match this.held.take().and_then(|held| held.frame).map(Frame::into_trailers) {
            Some(Err(frame)) => return Poll::Ready(Some(Ok(frame))),
            Some(Ok(trailers)) => Some(trailers),
            None => None,
        };
        *this.is_over = true;
        match this.end.take() {
            Some(End::Leaves(mut departure)) => {
                let mut added = HeaderMap::new();
                if departure.add_late(trailers.as_mut().unwrap_or(&mut added)) && trailers.is_none() {
                    trailers = Some(added);
                }
            }
            Some(End::Returns(back)) => {
                if let Some(trailers) = &trailers {
                    back.take_in(trailers);
                }
            }
            None => {}
        }
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        // Whoever is told that it is over does not ask for trailers, and does not wait for what they wait for.
        let may_add = matches!(self.end, Some(End::Leaves(_)));
        self.is_over || (!may_add && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body> fmt::Debug for TokenBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBody").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
