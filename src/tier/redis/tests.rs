use super::*;
use crate::testkit::RedisServer;
use crate::tier::envelope::{self, Contents, Expected, Limits};
use crate::{Digest, Lsn, Origin, Position, RedisSettings, Stamp, Timeline};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Numbers around what halves of 32 bits, doubles of 53 and signed ones of 63 get wrong.
fn tag() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 1 << 32, 1 << 53, 1 << 63, u64::MAX];
    let near = (prop::sample::select(edges.to_vec()), -2..=2_i64).prop_map(|(edge, by)| edge.saturating_add_signed(by));
    prop_oneof![4 => near, 1 => any::<u64>(), 3 => (1_u64 << 53)..(1 << 53) + 3]
}

fn stored() -> impl Strategy<Value = Vec<u8>> {
    let timeline = prop_oneof![8 => Just(1), 1 => Just(2), 1 => Just(u32::MAX)];
    let entry = (timeline.clone(), tag(), any::<bool>(), any::<bool>(), any::<bool>());
    let entry = entry.prop_map(|(timeline, tag, upper, absent, primary)| {
        let origin = if primary { Origin::Primary } else { Origin::Standby };
        let upper = upper.then_some(Lsn::MAX);
        let stamp = Stamp { timeline: Timeline(timeline), tag: Lsn::new(tag), origin, upper };
        let payload = (!absent).then_some(&b"value"[..]);
        let contents = Contents { stamp, filled_unix_ms: 1, expires_unix_ms: 2, groups: Vec::new(), payload };
        envelope::seal(&contents, &Expected { history: 1, key: b"k", type_fingerprint: 3 }, &Limits::default()).unwrap()
    });
    let marker = (timeline, tag()).prop_map(|(timeline, lsn)| envelope::marker(Position::new(timeline, Lsn::new(lsn))));
    let whole = prop_oneof![3 => entry, 2 => marker];
    let damaged = (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len().min(21));
        bytes.get_mut(at).into_iter().for_each(|old| *old = byte);
        bytes
    });
    let cut = (whole.clone(), any::<prop::sample::Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..100);
    prop_oneof![12 => whole, 2 => damaged, 1 => cut, 1 => noise]
}

#[tokio::test]
async fn the_admit_rule_is_the_same_in_lua() {
    let server = RedisServer::start().await.unwrap();
    let link = RedisLink::connect(RedisSettings::new(server.url())).await.unwrap();
    let tier = RedisTier::open(link.clone()).await.unwrap();
    let mut runner = TestRunner::default();
    let pairs = proptest::collection::vec((proptest::option::weighted(0.9, stored()), stored()), 4_000);
    let pairs = pairs.new_tree(&mut runner).unwrap().current();
    let (mut admitted, mut refused) = (0, 0);
    for (number, (present, incoming)) in pairs.into_iter().enumerate() {
        let address = Address { history: 1, key: Digest::of_key(&number.to_be_bytes()) };
        if let Some(present) = &present {
            let name = tier.name(&address);
            link.requests(&name, redis::pipe().set(&name, present.as_slice())).await.unwrap();
        }
        let offer = Offer { address, envelope: incoming.clone(), life: Duration::from_secs(60) };
        tier.admit(vec![offer]).await.unwrap();
        let found = tier.fetch(&[address]).await.unwrap().remove(0);
        // Over nothing everything that is an envelope is admitted.
        let by_rust = envelope::replaces(present.as_deref().unwrap_or_default(), &incoming);
        let expected = if by_rust { Some(incoming.clone()) } else { present.clone() };
        assert_eq!(found, expected, "present {present:?}, incoming {incoming:?}");
        if by_rust { admitted += 1 } else { refused += 1 }
    }
    assert!(admitted > 500 && refused > 500, "{admitted} admitted, {refused} refused");
}

#[test]
fn lives_fit_what_redis_takes() {
    assert_eq!(life_ms(Duration::ZERO), "1");
    assert_eq!(life_ms(Duration::from_millis(1_500)), "1500");
    assert!(life_ms(Duration::MAX).parse::<i64>().is_ok_and(|ms| ms < i64::MAX / 1_000));
}
