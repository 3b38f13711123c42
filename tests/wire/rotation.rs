//! Keys are changed while instances of before and after run side by side.

use crate::support::{Instance, cluster, key};
use highwater::wire::{Keyring, Policy};

/// Every instance writes, every instance reads what was written, with the replica standing still.
async fn everybody_reads_what_anybody_wrote(instances: &[&Instance], name: &str) {
    for (number, writer) in instances.iter().enumerate() {
        let name = format!("{name} {number}");
        let text = writer.rename(&name).await;
        for reader in instances {
            assert_eq!(reader.request(&text).await.0, name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_in_order_is_noticed_by_nobody() {
    let cluster = cluster();
    cluster.pause(1, true);
    let with = async |keyring| Instance::with(&cluster, keyring, Policy::default()).await;
    let old = || Keyring::new(key(1));
    let knows_new = || old().also_opens(key(2)).unwrap();
    let signs_new = || Keyring::new(key(2)).also_opens(key(1)).unwrap();
    let new = || Keyring::new(key(2));
    let stages = [[old(), knows_new()], [knows_new(), signs_new()], [signs_new(), new()]];
    for (stage, [before, after]) in stages.into_iter().enumerate() {
        // By the last stage every token of the old key has expired: nobody signs with it any more.
        let (before, after) = (with(before).await, with(after).await);
        everybody_reads_what_anybody_wrote(&[&before, &after], &format!("stage {stage}")).await;
        for instance in [before, after] {
            let stats = instance.gate.stats();
            assert_eq!((stats.valid, stats.unknown_key, stats.careful), (2, 0, 0), "stage {stage}: {stats:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_out_of_order_costs_the_primary_a_little_and_nobody_their_writes() {
    let cluster = cluster();
    cluster.pause(1, true);
    let before = Instance::with(&cluster, Keyring::new(key(1)), Policy::default()).await;
    let after = Instance::with(&cluster, Keyring::new(key(2)), Policy::default()).await;
    everybody_reads_what_anybody_wrote(&[&before, &after], "ada").await;
    let stats = before.gate.stats();
    assert_eq!((stats.valid, stats.unknown_key, stats.careful, stats.careful_refused), (1, 1, 1, 0));
}
