//! The one place where tasks are begun and ended.

use std::future::Future;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one store. They end when it is closed or its last handle is dropped.
#[derive(Debug)]
pub(crate) struct Tasks {
    /// Names are retracted outside of any runtime too.
    runtime: Handle,
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Tasks {
    /// No task yet, for the runtime that this is called on.
    pub(crate) fn new() -> Self {
        Self { runtime: Handle::current(), tracker: TaskTracker::new(), closing: CancellationToken::new() }
    }

    /// Runs a task that has an end of its own and is waited for on close.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.runtime);
    }

    /// Runs a task until the store closes.
    pub(crate) fn spawn_forever(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = task => {}
            }
        };
        self.tracker.spawn_on(task, &self.runtime);
    }

    /// Cancelled when the store closes.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Ends what runs for ever, and waits for the rest.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}
