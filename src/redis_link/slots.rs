//! Which server of a cluster has which keys.

use redis::Value;
use std::collections::BTreeSet;

/// Into so many slots a cluster divides its keys.
const SLOTS: u16 = 16_384;

/// A cluster has a thousand nodes at most, by the word of its makers, and each of them gets a connection here.
const NODES_MAX: usize = 1_000;

/// Slots from `first` to `last`, and where the server is that takes writes to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    /// `None` where the server that was asked does not know its own.
    pub(super) host: Option<String>,
    pub(super) port: u16,
}

/// The slot of a key: that of its part between braces, where it has one.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS
}

/// What `CLUSTER SLOTS` answered; `None` where that says nothing of any slot, or names more nodes than there can be.
pub(super) fn ranges(answer: &Value) -> Option<Vec<Range>> {
    let Value::Array(ranges) = answer else { return None };
    let ranges: Vec<_> = ranges.iter().map(range).collect::<Option<_>>()?;
    let nodes: BTreeSet<_> = ranges.iter().map(|range| (&range.host, range.port)).collect();
    let can_be = (1..=NODES_MAX).contains(&nodes.len());
    can_be.then_some(ranges)
}

fn range(value: &Value) -> Option<Range> {
    let Value::Array(fields) = value else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = fields.as_slice() else { return None };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => Some(String::from_utf8(host.clone()).ok()?),
        _ => None,
    };
    let slot = |number: &i64| u16::try_from(*number).ok().filter(|slot| *slot < SLOTS);
    Some(Range {
        first: slot(first)?,
        last: slot(last)?,
        // A server that has not been told its name answers with nothing, or a question mark.
        host: host.filter(|host| !host.is_empty() && host != "?"),
        port: u16::try_from(*port).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are of `CLUSTER KEYSLOT` on a real server.
    #[test]
    fn a_key_has_the_slot_that_the_server_gives_it() {
        for (key, slot) in [("", 0), ("foo", 12_182), ("{foo}", 12_182), ("a{foo}b{bar}", 12_182), ("{}", 15_257)] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }

    #[test]
    fn what_is_no_map_is_refused_as_a_whole() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |last: i64, host: Value, port: i64| {
            Value::Array(vec![Value::Int(0), Value::Int(last), Value::Array(vec![host, Value::Int(port), text("id")])])
        };
        let of = |host: Option<&str>| Range { first: 0, last: 5, host: host.map(str::to_owned), port: 7 };
        assert_eq!(ranges(&Value::Array(vec![range(5, text("one"), 7)])), Some(vec![of(Some("one"))]));
        for unknown in [text(""), text("?"), Value::Nil] {
            assert_eq!(ranges(&Value::Array(vec![range(5, unknown, 7)])), Some(vec![of(None)]));
        }
        for wrong in [range(16_384, text("one"), 7), range(-1, text("one"), 7), range(5, text("one"), 65_536)] {
            assert_eq!(ranges(&Value::Array(vec![range(5, text("one"), 7), wrong])), None);
        }
        let crowd = |nodes| Value::Array((0..nodes).map(|port| range(5, text("one"), port)).collect());
        assert!(ranges(&crowd(1_000)).is_some() && ranges(&crowd(1_001)).is_none());
        for wrong in [Value::Nil, Value::Array(vec![]), Value::Array(vec![Value::Nil])] {
            assert_eq!(ranges(&wrong), None);
        }
    }
}
