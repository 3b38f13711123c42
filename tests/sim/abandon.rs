//! A future that is dropped after so many polls, as by a client that goes away, or when its instance dies.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use tokio_util::sync::CancellationToken;

/// Polls the future at most `polls` times, and not once after `death`; then it is dropped, and there is no result.
pub(crate) async fn after<F: Future>(polls: Option<u32>, death: &CancellationToken, future: F) -> Option<F::Output> {
    let mut left = polls;
    // In a box: what is dropped early must be dropped here.
    let mut future = Box::pin(future);
    let counted = poll_fn(|context| match (future.as_mut().poll(context), &mut left) {
        (Poll::Ready(output), _) => Poll::Ready(Some(output)),
        (Poll::Pending, Some(0)) => Poll::Ready(None),
        (Poll::Pending, Some(left)) => {
            *left -= 1;
            Poll::Pending
        }
        (Poll::Pending, None) => Poll::Pending,
    });
    let mut counted = pin!(counted);
    tokio::select! {
        biased;
        () = death.cancelled() => None,
        output = &mut counted => output,
    }
}
