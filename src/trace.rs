//! Every span and event that the crate emits, by its stable name. None carries a key, a value, a token or a password.

use crate::source::Fault;
use crate::{Lsn, Position};
use std::fmt::{Debug, Display};
use std::time::Duration;
use tracing::{Span, debug, debug_span, info, trace_span, warn};

/// The target of all of them: `highwater=debug` in a filter.
pub(crate) const TARGET: &str = "highwater";

/// One load of one key, from the shared tier or the source.
pub(crate) fn load(cache: &str) -> Span {
    debug_span!(target: TARGET, "load", cache)
}

/// From COMMIT to the end of its consequences.
pub(crate) fn commit() -> Span {
    debug_span!(target: TARGET, "commit")
}

/// One question to a server.
pub(crate) fn probe(node: &str) -> Span {
    trace_span!(target: TARGET, "probe", node)
}

/// Declares events: a function each, whose name is the event's.
macro_rules! events {
    ($($(#[$doc:meta])* $level:ident $name:ident($($field:ident: $type:ty => $shown:expr),*) $text:literal;)*) => {
        /// Level, name and fields of each.
        #[cfg(test)]
        const EVENTS: &[(&str, &str, &[&str])] =
            &[$((stringify!($level), stringify!($name), &[$(stringify!($field)),*])),*];

        $($(#[$doc])*
        pub(crate) fn $name($($field: $type),*) {
            $level!(target: TARGET, event = stringify!($name), $($field = $shown,)* $text);
        })*
    };
}

events! {
    /// A server is not used until it answers well again.
    warn server_out(node: &str => node, kind: &dyn Debug => debug(kind), note: &str => note) "server is taken out";
    /// A server answers well again.
    info server_back(node: &str => node) "server is back";
    /// Every entry is dropped.
    warn history_replaced(node: &str => node, timeline: u32 => timeline) "history was replaced: every entry is dropped";
    /// Another instance noticed it first.
    warn history_replaced_elsewhere(generation: u64 => generation) "another instance saw history replaced";
    /// Floors and tokens are clamped.
    warn primary_crashed(node: &str => node, top: Lsn => display(top)) "the primary crashed: floors are clamped";
    /// A server was not as far as it was believed to be.
    debug answer_below_floor(node: &str => node, tag: Lsn => display(tag)) "answer below the floor";
    /// The primary's log could not be moved.
    debug nudge_failed(fault: &Fault => display(fault)) "the log could not be moved";
    /// The bus is heard.
    info bus_live() "the bus is live";
    /// The bus is not heard.
    warn bus_deaf(why: &dyn Debug => debug(why)) "the bus is deaf";
    /// A message was missed.
    warn bus_gap(gap: &dyn Debug => debug(gap)) "messages of the bus are missing";
    /// From this position on an entry can be extended by the watermark of this log.
    info epoch_begun(lineage: &dyn Debug => debug(lineage), start: Lsn => display(start), why: &dyn Debug => debug(why)) "an epoch begins";
    /// A writer announced a commit and never settled it; what it named is retracted.
    debug announcement_abandoned() "an announcement was given up";
    /// A commit goes ahead without an announcement; its token is pinned.
    debug not_announced(error: &dyn Display => display(error)) "a write was not announced";
    /// A message that is none of ours, or of another release. Told once until the bus was deaf; all are counted.
    warn bus_unreadable(problem: &dyn Debug => debug(problem)) "a message of the bus cannot be read";
    /// A retraction that this instance cannot place yet.
    debug retraction_elsewhere(position: Position => display(position)) "retraction of another timeline";
    /// The log did not take a retraction; it is told again.
    debug retraction_deferred(error: &dyn Display => display(error)) "retraction deferred";
    /// The store was closed with retractions that the log has not taken: what they would have reached lives on.
    warn retractions_dropped(count: u64 => count) "retractions were never told";
    /// The shared tier cost a miss or an offer.
    debug shared_tier_failed(error: &dyn Display => display(error)) "the shared tier failed";
    /// A token that came in is not used. Its text is not told.
    debug token_unusable(why: &dyn Display => display(why)) "a token cannot be used";
    /// Tokens must outlive entries, or what they covered is forgotten while it can still be shown as it was before. Told once.
    warn token_life_short(kept_by: &str => kept_by, tokens: Duration => debug(tokens), entries: Duration => debug(entries)) "tokens live no longer than entries";
    /// The device store is another one than before: it was restarted, failed over, wiped, or had to evict.
    warn devices_may_have_lost() "the device store may have lost data";
    /// The device store did not answer a visit, which was treated as of one who wrote a moment ago.
    debug devices_away(error: &dyn Display => display(error)) "the device store is away";
    /// The device store did not take what a session holds; it is told again.
    debug devices_deferred(error: &dyn Display => display(error)) "a device's write is deferred";
    /// A connection to PostgreSQL broke, or the server ended it; told is the SQLSTATE, where there was one.
    debug connection_ended(code: &str => code) "a database connection ended";
    /// Markers that a retraction could not leave in the shared tier: what is refused there costs a miss later.
    debug markers_not_left(failed: i64 => failed) "markers could not be left in the shared tier";
    /// Redis cannot be reached, and is tried again until it can.
    warn redis_unreachable(node: &dyn Display => display(node), error: &dyn Display => display(error), remedy: &str => remedy) "Redis cannot be reached";
    /// The connection to Redis broke, or did not answer in time; another is opened.
    warn redis_lost(node: &dyn Display => display(node), error: &dyn Display => display(error)) "the connection to Redis is lost";
    /// Redis is connected to again.
    info redis_back(node: &dyn Display => display(node), failures: u32 => failures) "connected to Redis";
    /// Heartbeats cannot be sent, told once until they can.
    warn heartbeat_failed(error: &dyn Display => display(error), cause: &dyn Display => display(cause)) "a heartbeat cannot be sent";
    /// No subscription can be opened, told once until one is.
    warn subscription_failed(error: &dyn Display => display(error), cause: &dyn Display => display(cause)) "the bus cannot be heard";
    /// Nobody knows what became of a transaction.
    warn outcome_unknown(fault: &Fault => display(fault)) "the outcome of a commit is unknown";
}

#[cfg(test)]
mod tests {
    use super::EVENTS;

    const SPANS: &[(&str, &str, &[&str])] =
        &[("debug", "load", &["cache"]), ("debug", "commit", &[]), ("trace", "probe", &["node"])];

    /// The names are what filters and alerts are written for: whoever changes one changes the list.
    #[test]
    fn the_guide_lists_every_span_and_event_and_no_other() {
        let guide = include_str!("../docs/architecture.md");
        let row = |(level, name, fields): &(&str, &str, &[&str])| {
            let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
            format!("| {level} | `{name}` | {} |", fields.join(", ")).replace("|  |", "| |")
        };
        let ours: Vec<_> = SPANS.iter().chain(EVENTS).map(row).collect();
        let missing: Vec<_> = ours.iter().filter(|row| !guide.contains(row.as_str())).collect();
        assert!(missing.is_empty(), "{missing:#?}");
        let levels = ["| trace |", "| debug |", "| info |", "| warn |"];
        let listed = guide.lines().filter(|line| levels.iter().any(|level| line.starts_with(level))).count();
        assert_eq!(listed, ours.len(), "a name that is no more");
    }
}
