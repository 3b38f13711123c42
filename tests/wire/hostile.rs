//! What an enemy sends reaches no log.

use crate::log::Log;
use crate::support::{Instance, cluster};
use highwater::Session;

#[tokio::test(start_paused = true)]
async fn no_token_and_no_secret_is_logged_at_any_level() {
    let (log, _logging) = Log::begin();
    let instance = Instance::over(&cluster()).await;
    let text = instance.rename("grace").await;
    let forged = format!("{}AAAA", &text[..text.len() - 4]);
    for text in [&text, &forged] {
        instance.gate.take_in(&Session::new(), text.as_bytes(), Some(b"tenant:secret"));
        instance.gate.take_in(&Session::new(), text.as_bytes(), None);
    }
    let logged = log.text();
    assert!(logged.contains("token_unusable"), "the events are there: {logged}");
    for secret in [&text[..], &text[8..24], &forged, "tenant:secret", &"\u{1}".repeat(8), "01010101"] {
        assert!(!logged.contains(secret), "{secret}");
    }
}
