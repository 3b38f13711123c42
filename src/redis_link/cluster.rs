//! The nodes of a Redis Cluster, and the way of each key to the one that has it.
//!
//! The client library's cluster client is not used: all that it carries waits while it looks for one lost node, it subscribes
//! only over another version of the protocol, and it does not tell which node answered. Here each node has the same
//! connection as a server that stands alone, so one that is away costs those only who ask for its keys.

use super::connect::{Dial, Refusal};
use super::node::{Node, bytes};
use super::slots::{Range, ranges, slot_of};
use super::{Call, Lua, tolerable};
use crate::Error;
use crate::tier::TierError;
use futures_util::future::join_all;
use redis::{ConnectionAddr, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A cluster, kept up in the background. The task ends with the owner.
pub(super) struct Cluster {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    seeds: Vec<Dial>,
    map: watch::Sender<Arc<Map>>,
    /// A node that has not what it was asked for, and can tell who has.
    mover: Mutex<Option<Arc<Node>>>,
    moved: Notify,
}

/// Which node has which slots, from the first to the last of each.
#[derive(Default)]
struct Map(Vec<(u16, u16, Arc<Node>)>);

/// What is asked of several nodes.
#[derive(Clone, Copy)]
enum Question<'a> {
    Get(&'a [String]),
    Run(&'a Lua, &'a [Call<'a>]),
}

/// How often somebody is asked who has the keys of a node that is away.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How long whoever finds that a key has moved waits for the new map.
const MAP_TIME_MAX: Duration = Duration::from_secs(1);

impl Cluster {
    /// Asks these servers, one after the other, until one tells its cluster, and connects to all of it. What cannot be
    /// reached now is looked for again. Dropped, it leaves nothing behind.
    pub(super) async fn connect(seeds: Vec<Dial>) -> Result<Self, Error> {
        let map = watch::Sender::new(Arc::default());
        let shared = Arc::new(Shared { seeds, map, mover: Mutex::default(), moved: Notify::new() });
        for seed in &shared.seeds {
            match ask(seed).await {
                Ok(ranges) => {
                    shared.adopt(seed, ranges).await;
                    break;
                }
                Err(refusal) => tolerable(seed, refusal)?,
            }
        }
        let keeper = tokio::spawn(keep(Arc::clone(&shared)));
        Ok(Self { shared, keeper })
    }

    pub(super) fn is_up(&self) -> bool {
        self.shared.map().is_up()
    }

    /// The node that has a key, as far as is known.
    pub(super) fn node_of(&self, key: &str) -> Result<Arc<Node>, TierError> {
        self.shared.map().node_of(key).map(Arc::clone).ok_or_else(nobody)
    }

    /// What lies under these names; what a node that is away has is nothing. An error where no node answered.
    pub(super) async fn get(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, TierError> {
        let (mut found, mut answered, mut failure) = (Vec::with_capacity(names.len()), names.is_empty(), None);
        for answer in self.put(Question::Get(names), names.len()).await {
            let answer = answer.and_then(|value| match value {
                // A key of another type.
                Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(Value::Nil),
                Value::ServerError(error) => {
                    Err(TierError::new("Redis refused a read").caused_by(RedisError::from(error)))
                }
                value => Ok(value),
            });
            answered |= answer.is_ok();
            found.push(answer.map_err(|error| failure = Some(error)).ok().and_then(bytes));
        }
        failure.filter(|_| !answered).map_or(Ok(found), Err)
    }

    /// Runs a script once for each call, each where its first key lies.
    pub(super) async fn run(&self, script: &Lua, calls: &[Call<'_>]) -> Result<Vec<Value>, TierError> {
        self.put(Question::Run(script, calls), calls.len()).await.into_iter().collect()
    }

    /// Puts all parts of a question, those for one node together and to all nodes at once; and once more where a node says
    /// that it has not, or no longer, what it was asked for.
    async fn put(&self, question: Question<'_>, parts: usize) -> Vec<Result<Value, TierError>> {
        let mut answers: Vec<_> = (0..parts).map(|_| Err(nobody())).collect();
        let map = self.shared.map();
        let mover = self.round(question, &map, 0..parts, &mut answers).await;
        if let Some(mover) = mover {
            let map = self.shared.map_after(&map, mover).await;
            let moved: Vec<_> = (0..parts).filter(|at| answers.get(*at).is_some_and(is_moved)).collect();
            self.round(question, &map, moved, &mut answers).await;
        }
        self.follow(question, &mut answers).await;
        answers
    }

    /// Puts again what lies in a slot that is just moving, where its old node says that the key is already at the new one.
    async fn follow(&self, question: Question<'_>, answers: &mut [Result<Value, TierError>]) {
        let map = self.shared.map();
        let asked = answers.iter().enumerate().filter_map(|(part, answer)| Some((part, map.node_asked(answer)?)));
        let puts = asked.map(async |(part, node)| (part, question.put_asking(node, part).await));
        for (part, answer) in join_all(puts).await {
            if let Some(place) = answers.get_mut(part) {
                *place = answer;
            }
        }
    }

    /// Returns a node that has not what it was asked for, where there is one.
    async fn round(
        &self,
        question: Question<'_>,
        map: &Map,
        parts: impl IntoIterator<Item = usize>,
        answers: &mut [Result<Value, TierError>],
    ) -> Option<Arc<Node>> {
        let mut groups: Vec<(&Arc<Node>, Vec<usize>)> = Vec::new();
        for part in parts {
            let Some(node) = question.key(part).and_then(|key| map.node_of(key)) else { continue };
            match groups.iter_mut().find(|(other, _)| Arc::ptr_eq(other, node)) {
                Some((_, group)) => group.push(part),
                None => groups.push((node, vec![part])),
            }
        }
        let outcomes = join_all(groups.iter().map(|(node, group)| question.put(node, group))).await;
        let mut mover = None;
        for ((node, group), outcome) in groups.into_iter().zip(outcomes) {
            let mut values = outcome.map(Vec::into_iter);
            for part in group {
                let answer = match &mut values {
                    Ok(values) => values.next().ok_or_else(nobody),
                    Err(error) => Err(error.clone()),
                };
                if is_moved(&answer) {
                    mover = Some(Arc::clone(node));
                }
                if let Some(place) = answers.get_mut(part) {
                    *place = answer;
                }
            }
        }
        mover
    }
}

impl Question<'_> {
    fn key(&self, part: usize) -> Option<&str> {
        match self {
            Self::Get(names) => names.get(part),
            Self::Run(_, calls) => calls.get(part).and_then(|call| call.keys.first()),
        }
        .map(String::as_str)
    }

    /// Puts these parts to one node.
    async fn put(self, node: &Node, parts: &[usize]) -> Result<Vec<Value>, TierError> {
        match self {
            Self::Get(names) => {
                let mut pipeline = redis::pipe();
                for name in parts.iter().filter_map(|part| names.get(*part)) {
                    pipeline.cmd("GET").arg(name);
                }
                node.requests(&mut pipeline).await
            }
            Self::Run(script, calls) => {
                let calls: Vec<_> = parts.iter().filter_map(|part| calls.get(*part)).collect();
                node.run(script, &calls).await
            }
        }
    }

    /// Puts one part to a node that does not have the slot yet, and may have the key.
    async fn put_asking(self, node: &Node, part: usize) -> Result<Value, TierError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING");
        match self {
            Self::Get(names) => {
                pipeline.cmd("GET").arg(names.get(part));
            }
            Self::Run(script, calls) => {
                calls.iter().skip(part).take(1).for_each(|call| script.add(&mut pipeline, call, true))
            }
        }
        node.requests(&mut pipeline).await?.pop().ok_or_else(nobody)
    }
}

impl Map {
    /// The node at which an answer says that the key already is.
    fn node_asked(&self, answer: &Result<Value, TierError>) -> Option<&Arc<Node>> {
        let Ok(Value::ServerError(error)) = answer else { return None };
        let error = RedisError::from(error.clone());
        let (address, _) = error.redirect_node().filter(|_| error.kind() == ErrorKind::from(ServerErrorKind::Ask))?;
        self.0.iter().map(|(_, _, node)| node).find(|node| node.dial().to_string() == address)
    }

    fn node_of(&self, key: &str) -> Option<&Arc<Node>> {
        let slot = slot_of(key);
        self.0.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(_, _, node)| node)
    }

    fn is_up(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, _, node)| node.is_up())
    }
}

impl Shared {
    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    /// The map after the one that was `seen`, in which `mover` has what it has not; the same where there is none in time.
    async fn map_after(&self, seen: &Arc<Map>, mover: Arc<Node>) -> Arc<Map> {
        let mut maps = self.map.subscribe();
        let is_seen = Arc::ptr_eq(&maps.borrow_and_update(), seen);
        if is_seen {
            *self.mover.lock().unwrap_or_else(PoisonError::into_inner) = Some(mover);
            self.moved.notify_one();
            let _ = timeout(MAP_TIME_MAX, maps.changed()).await;
        }
        self.map()
    }

    /// Replaces the map by what the first of these tells: `mover`, the other nodes, the seeds.
    async fn look(&self, mover: Option<Arc<Node>>, turn: usize) {
        let map = self.map();
        let mut nodes: Vec<_> = map.0.iter().map(|(_, _, node)| node).filter(|node| node.is_up()).collect();
        // One that was cut off would tell an old map for ever.
        let turn = turn.checked_rem(nodes.len()).unwrap_or_default();
        nodes.rotate_left(turn);
        for node in mover.iter().chain(nodes) {
            let answer = node.requests(redis::pipe().cmd("CLUSTER").arg("SLOTS")).await;
            if let Some(ranges) = answer.ok().and_then(|answers| ranges(answers.first()?)) {
                return self.adopt(node.dial(), ranges).await;
            }
        }
        for seed in &self.seeds {
            if let Ok(ranges) = ask(seed).await {
                return self.adopt(seed, ranges).await;
            }
        }
    }

    /// Takes what the server at `asked` said for the map, once all that is new in it was connected to or has refused.
    async fn adopt(&self, asked: &Dial, ranges: Vec<Range>) {
        let before = self.map();
        let mut nodes: Vec<Arc<Node>> = before.0.iter().map(|(_, _, node)| Arc::clone(node)).collect();
        let mut places = Vec::with_capacity(ranges.len());
        for Range { first, last, host, port } in ranges {
            if let Ok(dial) = asked.at(host.as_deref(), port) {
                places.push((first, last, dial));
            }
        }
        let mut unknown: Vec<&Dial> = Vec::new();
        for (_, _, dial) in &places {
            let is_known =
                nodes.iter().map(|node| node.dial()).chain(unknown.iter().copied()).any(|other| at(other, dial));
            if !is_known {
                unknown.push(dial);
            }
        }
        let connected = join_all(unknown.into_iter().map(|dial| Node::connect(dial.clone()))).await;
        for (node, refusal) in connected {
            if let Some(refusal) = refusal {
                crate::trace::redis_unreachable(node.dial(), &refusal, &refusal.remedy().unwrap_or_default());
            }
            nodes.push(Arc::new(node));
        }
        let of = |dial: &Dial| nodes.iter().find(|node| at(node.dial(), dial)).cloned();
        let map = places.iter().filter_map(|(first, last, dial)| Some((*first, *last, of(dial)?))).collect();
        self.map.send_replace(Arc::new(Map(map)));
    }
}

/// Whether both lead to one place.
fn at(one: &Dial, other: &Dial) -> bool {
    let place = |dial: &Dial| match dial.address() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some((host.clone(), *port)),
        _ => None,
    };
    place(one) == place(other)
}

/// Which slots lie where, asked of a server that may not be connected to yet.
async fn ask(seed: &Dial) -> Result<Vec<Range>, Refusal> {
    let mut connection = seed.command_connection().await?;
    // Asking changes nothing here: it shows that the right to do so is there.
    let mut question = redis::pipe();
    question.cmd("ASKING").ignore().cmd("CLUSTER").arg("SLOTS");
    let [answer] = question.query_async::<[Value; 1]>(&mut connection).await.map_err(Refusal::Error)?;
    ranges(&answer).ok_or_else(|| Refusal::Nobody(nobody()))
}

/// Looks for who has what has moved, and the keys of nodes that are away, for ever.
async fn keep(shared: Arc<Shared>) {
    for turn in 0_usize.. {
        let _ = timeout(LOOK_PAUSE, shared.moved.notified()).await;
        let mover = shared.mover.lock().unwrap_or_else(PoisonError::into_inner).take();
        if mover.is_some() || !shared.map().is_up() {
            shared.look(mover, turn).await;
        }
    }
}

fn nobody() -> TierError {
    TierError::new("no node of the Redis cluster is known to have the key")
}

fn is_moved(answer: &Result<Value, TierError>) -> bool {
    let moved = ErrorKind::from(ServerErrorKind::Moved);
    matches!(answer, Ok(Value::ServerError(error)) if RedisError::from(error.clone()).kind() == moved)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
