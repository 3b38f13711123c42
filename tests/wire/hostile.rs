//! What an enemy sends reaches no log, and what is compared in constant time is compared by a library that says so.

use crate::support::{Instance, cluster};
use highwater::Session;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn no_token_and_no_secret_is_logged_at_any_level() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let instance = Instance::over(&cluster()).await;
    let text = instance.rename("grace").await;
    let forged = format!("{}AAAA", &text[..text.len() - 4]);
    for text in [&text, &forged] {
        instance.gate.take_in(&Session::new(), text.as_bytes(), Some(b"tenant:secret"));
        instance.gate.take_in(&Session::new(), text.as_bytes(), None);
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("token_unusable"), "the events are there: {logged}");
    for secret in [&text[..], &text[8..24], &forged, "tenant:secret", &"\u{1}".repeat(8), "01010101"] {
        assert!(!logged.contains(secret), "{secret}");
    }
}
