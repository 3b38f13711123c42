//! Keys are changed while instances of before and after run side by side.

use crate::support::{Instance, cluster, key};
use highwater::wire::{Gate, Keyring, Outcome, Policy, WireStats};
use highwater::{Rung, Session};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

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

/// How often the key changes, and how long tokens live: as many keys as a keyring holds cover a life, with one that is to
/// sign next.
const EVERY: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(60);
const RUN: Duration = Duration::from_secs(300);

/// The gate that an instance has in this step of the rotation: it signs with one key, opens those of a life before and the
/// next one.
fn gate_of(instance: &Instance, step: u8) -> Gate {
    let kept = (LIFE.as_secs() / EVERY.as_secs()) as u8 + 2;
    let others = (step.saturating_sub(kept)..step).chain([step + 1]);
    let keyring = others.fold(Keyring::new(key(step)), |ring, id| ring.also_opens(key(id)).unwrap());
    Gate::builder(keyring.life(LIFE)).store(&instance.store).clock(instance.wall.read()).build()
}

fn refused(stats: &WireStats) -> u64 {
    stats.unknown_key + stats.forged + stats.expired + stats.malformed + stats.unknown_form + stats.careful
}

#[tokio::test(start_paused = true)]
async fn keys_that_change_every_few_seconds_under_load_refuse_nobody() {
    let cluster = cluster();
    let instances = [Instance::over(&cluster).await, Instance::over(&cluster).await];
    let gates = Arc::new(Mutex::new([gate_of(&instances[0], 1), gate_of(&instances[1], 1)]));
    let begun = Instant::now();
    let clients = (0..16_u64).map(|number| {
        let gates = Arc::clone(&gates);
        let instances = &instances;
        async move {
            // Tokens of all ages, the oldest as old as they live.
            let (mut held, mut requests) = (VecDeque::new(), 0_u64);
            while begun.elapsed() < RUN {
                let at = ((number + requests) % 2) as usize;
                let (gate, instance) = (gates.lock().unwrap()[at].clone(), &instances[at]);
                let session = Session::new();
                for which in [0, held.len() / 2, held.len().saturating_sub(1)] {
                    let Some((text, _)) = held.get(which) else { continue };
                    let text: &String = text;
                    assert_eq!(gate.take_in(&session, text.as_bytes(), None), Outcome::Valid);
                }
                if requests.is_multiple_of(4) {
                    instance.rename_for(&session, &format!("{number}:{requests}")).await;
                }
                assert_ne!(instance.users.get(&session, &1).await.unwrap().rung, Rung::Shared);
                held.extend(gate.write(&session, None).map(|text| (text, Instant::now())));
                while held.front().is_some_and(|(_, made)| made.elapsed() > LIFE - Duration::from_secs(1)) {
                    held.pop_front();
                }
                requests += 1;
                sleep(Duration::from_millis(200 + number)).await;
            }
            requests
        }
    });
    let rotate = async {
        let mut seen = WireStats::default();
        let mut add = |stats: WireStats| {
            seen.valid += stats.valid;
            seen.unknown_key += refused(&stats);
        };
        for step in 2.. {
            // The second instance changes its key two seconds after the first.
            for (at, pause) in [(0, EVERY - Duration::from_secs(2)), (1, Duration::from_secs(2))] {
                sleep(pause).await;
                instances.iter().for_each(|instance| instance.wall.forward(pause));
                let gate = gate_of(&instances[at], step);
                add(std::mem::replace(&mut gates.lock().unwrap()[at], gate).stats());
            }
            if begun.elapsed() >= RUN {
                break;
            }
        }
        seen
    };
    let (requests, seen) = futures_util::join!(futures_util::future::join_all(clients), rotate);
    println!("{} requests, {} tokens taken in, {} refused", requests.iter().sum::<u64>(), seen.valid, seen.unknown_key);
    assert!(seen.valid > 40_000 && seen.unknown_key == 0, "{seen:?}");
}
