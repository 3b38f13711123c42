//! One message as it is heard on the bus.

use super::{Outcome, Target};
use crate::ledger::NOTICE_NAMES_MAX;
use crate::ledger::message::{Body, Message, Unreadable, heartbeat, retraction, split};

pub(super) const TARGET: Target = Target {
    name: "bus",
    read: |bytes| Box::new(|| drop(Message::decode(bytes))),
    check,
    // The frame, the head of a retraction, and all the names that it may have.
    bytes_max: 36 + 25 + NOTICE_NAMES_MAX * 16,
    outcomes: &["retraction", "heartbeat", "malformed", "other version"],
};

fn check(bytes: &[u8]) -> Outcome {
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(Unreadable::Malformed) => return "malformed",
        Err(Unreadable::OtherVersion) => return "other version",
    };
    let (outcome, body) = match &message.body {
        Body::Retraction(notice) => {
            assert!(notice.keys.len() + notice.groups.len() <= NOTICE_NAMES_MAX);
            let parts: Vec<_> = split(notice).collect();
            assert_eq!(parts.iter().flat_map(|part| part.keys.clone()).collect::<Vec<_>>(), notice.keys);
            assert_eq!(parts.iter().flat_map(|part| part.groups.clone()).collect::<Vec<_>>(), notice.groups);
            ("retraction", retraction(notice))
        }
        Body::Heartbeat { nonce, history } => ("heartbeat", heartbeat(*nonce, *history)),
    };
    assert_eq!([message.frame.encode(), body].concat(), bytes, "a message has one form");
    outcome
}
