use super::super::hearing::{Deaf, Timing};
use super::super::message::{self, Frame};
use super::super::{Announcement, Lineage, Notice, Retracted, Settlement};
use super::*;
use crate::sealed::Sealed;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::mpsc;

/// A log that can fall silent (heartbeats are answered, nothing is delivered) or stuck (nothing is ever answered).
#[derive(Default)]
struct Log {
    subscriber: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    silent: AtomicBool,
    stuck: AtomicBool,
    sequence: AtomicU64,
    opened: AtomicU64,
}

impl Log {
    fn publish(&self, body: &[u8]) {
        let frame = Frame {
            lineage: Lineage::from_number(1),
            sequence: self.sequence.load(SeqCst),
            generation: 0,
            watermark: crate::Lsn::ZERO,
        };
        let subscriber = self.subscriber.lock().unwrap();
        if let Some(subscriber) = subscriber.as_ref().filter(|_| !self.silent.load(SeqCst)) {
            let _ = subscriber.send([&frame.encode(), body].concat());
        }
    }

    fn retract_now(&self) {
        self.sequence.fetch_add(1, SeqCst);
        let position = crate::Position::new(1, crate::Lsn::new(5));
        self.publish(&message::retraction(&Notice { history: 1, position, keys: Vec::new(), groups: Vec::new() }));
    }
}

impl Sealed for Log {}

impl Sealed for mpsc::UnboundedReceiver<Vec<u8>> {}

impl Ledger for Log {
    type Subscription = mpsc::UnboundedReceiver<Vec<u8>>;

    async fn announce(&self, _: &Announcement) -> Result<Option<Lineage>, TierError> {
        Ok(None)
    }

    async fn withdraw(&self, _: [u8; 16]) -> Result<(), TierError> {
        Ok(())
    }

    async fn retract(&self, _: &Notice, _: Duration, _: Option<Settlement>) -> Result<Retracted, TierError> {
        Ok(Retracted::default())
    }

    async fn repair(&self, _: Lineage, _: u64) -> Result<Option<Vec<Vec<u8>>>, TierError> {
        Ok(None)
    }

    async fn beat(&self, nonce: u64, _: Pulse) -> Result<Beat, TierError> {
        if self.stuck.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        self.publish(&message::heartbeat(nonce, 1));
        Ok(Beat::default())
    }

    async fn subscribe(&self) -> Result<Self::Subscription, TierError> {
        if self.stuck.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.subscriber.lock().unwrap() = Some(sender);
        self.opened.fetch_add(1, SeqCst);
        Ok(receiver)
    }
}

impl Subscription for mpsc::UnboundedReceiver<Vec<u8>> {
    async fn next(&mut self) -> Option<Vec<u8>> {
        self.recv().await
    }
}

#[derive(Default)]
struct Owner(Vec<(Duration, Heard)>, Option<Instant>);

impl Hear for Owner {
    fn pulse(&mut self) -> Pulse {
        Pulse { generation: 0, history: 1, flush: crate::Lsn::ZERO }
    }

    fn answered(&mut self, _: Beat) {}

    fn hear(&mut self, heard: Heard) {
        if !matches!(heard, Heard::Live | Heard::Deaf(_) | Heard::Retracted(_)) {
            return;
        }
        let began = *self.1.get_or_insert_with(Instant::now);
        self.0.push((began.elapsed(), heard));
    }
}

/// Listens until the script is over, and returns what was heard, with its time since the first thing heard.
async fn heard_during(log: &Log, script: impl Future<Output = ()>) -> Vec<(Duration, Heard)> {
    let mut nonces = 0;
    let random = move || {
        nonces += 1;
        nonces
    };
    let mut hearing = Hearing::new(Timing::default(), random, Instant::now());
    let mut owner = Owner::default();
    tokio::select! {
        biased;
        () = script => {}
        never = listen(log, &mut hearing, &mut owner) => match never {},
    }
    owner.0
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_subscription_is_replaced_within_three_seconds() {
    let log = Log::default();
    let heard = heard_during(&log, async {
        seconds(10).await;
        log.silent.store(true, SeqCst);
        seconds(60).await;
        log.silent.store(false, SeqCst);
        seconds(5).await;
    });
    let heard = heard.await;
    let [(_, Heard::Live), (deaf, Heard::Deaf(Deaf::Silent)), (back, Heard::Live)] = heard.as_slice() else {
        panic!("{heard:?}");
    };
    assert!((11_900..=13_000).contains(&deaf.as_millis()), "{deaf:?}");
    assert!(back.as_secs() < 75, "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_without_an_answer_does_not_stop_the_ears() {
    let log = Log::default();
    let heard = heard_during(&log, async {
        seconds(5).await;
        log.stuck.store(true, SeqCst);
        seconds(2).await;
        log.retract_now();
        seconds(30).await;
        log.stuck.store(false, SeqCst);
        seconds(5).await;
    });
    let heard: Vec<_> = heard.await.into_iter().map(|(_, heard)| heard).collect();
    let [Heard::Live, Heard::Retracted(_), Heard::Deaf(Deaf::Silent), Heard::Live] = heard.as_slice() else {
        panic!("{heard:?}");
    };
}

#[tokio::test(start_paused = true)]
async fn an_ended_subscription_is_opened_again_without_haste() {
    let log = Log::default();
    let cut = async {
        for _ in 0..20 {
            log.subscriber.lock().unwrap().take();
            seconds(2).await;
        }
    };
    let heard = heard_during(&log, cut).await;
    let lives = heard.iter().filter(|(_, heard)| matches!(heard, Heard::Live)).count();
    assert_eq!((lives, log.opened.load(SeqCst)), (20, 20), "{heard:?}");
}
