//! Drives [`Hearing`] over a ledger: the only task that reads the bus.

use super::hearing::{Effect, Heard, Hearing};
use super::{Beat, Ledger, Pulse, Subscription};
use crate::tier::TierError;
use crate::trace;
use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use tokio::time::{Instant, sleep_until};

/// The owner of what is heard.
pub(crate) trait Hear: Send {
    /// What the next heartbeat says.
    fn pulse(&mut self) -> Pulse;

    /// Takes what the log answered to a heartbeat. Must not wait, as [`hear`](Self::hear).
    fn answered(&mut self, beat: Beat);

    /// Takes what was heard, in order. It runs between two messages, so it must not wait: what takes time (reading a
    /// position of the primary for a new epoch) is handed to somebody else.
    fn hear(&mut self, heard: Heard);
}

type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, TierError>> + Send + 'a>>;

/// Listens until it is dropped, which at any moment loses nothing but the subscription.
///
/// At most one subscription is open, one is being opened and one heartbeat is under way; a heartbeat that is still
/// unanswered when the next is due is dropped in its favour. The queue of an open subscription is bounded by time: once
/// it is longer than the deaf time takes to read, our heartbeats in it come too late, and it is dropped.
pub(crate) async fn listen<L, R, H>(ledger: &L, hearing: &mut Hearing<R>, owner: &mut H) -> Infallible
where
    L: Ledger,
    R: FnMut() -> u64 + Send,
    H: Hear,
{
    let mut subscription: Option<L::Subscription> = None;
    let mut opening: Option<Doing<'_, L::Subscription>> = None;
    let mut beat: Option<Doing<'_, Beat>> = None;
    let mut repair: Option<Doing<'_, Option<Vec<Vec<u8>>>>> = None;
    let (mut beats, mut openings) =
        (Complaint::new(trace::heartbeat_failed), Complaint::new(trace::subscription_failed));
    loop {
        hearing.tick(Instant::now());
        while let Some(effect) = hearing.next_effect() {
            match effect {
                Effect::Reopen => {
                    (subscription, repair) = (None, None);
                    opening = Some(Box::pin(ledger.subscribe()));
                }
                Effect::SendBeat(nonce) => beat = Some(Box::pin(ledger.beat(nonce, owner.pulse()))),
                Effect::Repair { lineage, after } => repair = Some(Box::pin(ledger.repair(lineage, after))),
                Effect::Tell(heard) => owner.hear(heard),
            }
        }
        // Messages come after the answers: a flood of them must not keep our own heartbeat from being sent.
        tokio::select! {
            biased;
            answer = done(&mut beat) => {
                beats.about(&answer);
                hearing.beat_answered(answer.as_ref().ok(), Instant::now());
                if let Ok(beat) = answer {
                    owner.answered(beat);
                }
            }
            answer = done(&mut repair) => hearing.repaired(answer.ok().flatten().as_deref()),
            opened = done(&mut opening) => {
                openings.about(&opened);
                match opened {
                    Ok(opened) => {
                        subscription = Some(opened);
                        hearing.subscribed(Instant::now());
                    }
                    Err(_) => hearing.not_subscribed(Instant::now()),
                }
            }
            message = next(&mut subscription) => match message {
                Some(bytes) => hearing.message(&bytes, Instant::now()),
                None => {
                    subscription = None;
                    hearing.ended(Instant::now());
                }
            },
            () = sleep_until(hearing.wake_at()) => {}
        }
    }
}

/// The outcome of what is under way, once: afterwards, or where nothing is, it never comes.
async fn done<T>(doing: &mut Option<Doing<'_, T>>) -> Result<T, TierError> {
    let outcome = match doing {
        Some(future) => future.await,
        None => std::future::pending().await,
    };
    *doing = None;
    outcome
}

async fn next<S: Subscription>(subscription: &mut Option<S>) -> Option<Vec<u8>> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// A failure that is told once until it is over, for it is tried again about every second.
struct Complaint {
    tell: fn(&dyn Display, &dyn Display),
    made: bool,
}

impl Complaint {
    fn new(tell: fn(&dyn Display, &dyn Display)) -> Self {
        Self { tell, made: false }
    }

    fn about<T>(&mut self, outcome: &Result<T, TierError>) {
        if let Err(error) = outcome
            && !self.made
        {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            (self.tell)(error, &cause.unwrap_or_default());
        }
        self.made = outcome.is_err();
    }
}

#[cfg(test)]
mod tests;
