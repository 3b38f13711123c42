//! Futures that are dropped half-way.

use std::future::{Future, poll_fn};
use std::task::Poll;

/// Polls a future at most `polls` times and drops it then.
pub(crate) async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Some(Box::pin(future));
    let mut left = polls;
    let outcome = poll_fn(|context| {
        left -= 1;
        match future.as_mut().map(|future| future.as_mut().poll(context)) {
            Some(Poll::Ready(output)) => Poll::Ready(Some(output)),
            _ if left == 0 => Poll::Ready(None),
            _ => Poll::Pending,
        }
    })
    .await;
    drop(future);
    outcome
}
