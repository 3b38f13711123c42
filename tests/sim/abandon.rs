//! A future that is dropped after so many polls, as by a client that goes away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls the future at most `polls` times; then it is dropped, and there is no result.
pub(crate) fn after<F: Future>(polls: Option<u32>, future: F) -> Abandon<F> {
    Abandon { future: Some(Box::pin(future)), polls }
}

pub(crate) struct Abandon<F> {
    future: Option<Pin<Box<F>>>,
    polls: Option<u32>,
}

impl<F: Future> Future for Abandon<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.future.as_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        match &mut self.polls {
            Some(0) => {
                self.future = None;
                Poll::Ready(None)
            }
            Some(left) => {
                *left -= 1;
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}
