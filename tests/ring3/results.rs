//! What a run has done so far, and what it took: printed at the end and written to a file.

use crate::Result;
use crate::crew::Crew;
use crate::fault::Fault;
use crate::judge::Judgement;
use crate::plan::Plan;
use crate::scene::Scene;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Results {
    begun: Instant,
    pub(crate) reads_checked: u64,
    reads_failed: u64,
    labelled_stale: u64,
    answered: BTreeMap<String, u64>,
    committed: u64,
    unknown: u64,
    lost: u64,
    told_of_loss: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) violations: Vec<String>,
    violations_counted: u64,
    /// How long it took until everything worked again, by round.
    calm_after: Vec<Duration>,
    heard_after: Vec<Duration>,
    growth: Vec<Value>,
}

impl Results {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            reads_checked: 0,
            reads_failed: 0,
            labelled_stale: 0,
            answered: BTreeMap::new(),
            committed: 0,
            unknown: 0,
            lost: 0,
            told_of_loss: 0,
            faults: BTreeMap::new(),
            violations: Vec::new(),
            violations_counted: 0,
            calm_after: Vec::new(),
            heard_after: Vec::new(),
            growth: Vec::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn faults_injected(&self) -> u64 {
        self.faults.values().sum()
    }

    pub(crate) fn recovered(&mut self, calm_after: Duration, heard_after: Duration) {
        self.calm_after.push(calm_after);
        self.heard_after.push(heard_after);
    }

    pub(crate) fn take_in(&mut self, judgement: &Judgement) {
        let (verdict, tally) = (&judgement.verdict, judgement.verdict.tally());
        // An error promises nothing, so it is no read that was checked.
        self.reads_checked += tally.reads_answered();
        self.reads_failed += tally.reads_failed;
        self.labelled_stale += tally.stale_labelled;
        for (rung, count) in &tally.answered {
            *self.answered.entry(format!("{rung:?}")).or_default() += count;
        }
        self.committed += tally.committed;
        self.unknown += tally.unknown;
        self.lost += tally.lost;
        self.told_of_loss += tally.loss_reports;
        self.violations_counted += verdict.counts().values().sum::<u64>();
        if !verdict.is_ok() {
            self.violations.push(verdict.to_string());
        }
        self.violations_counted += judgement.contradictions.len() as u64;
        self.violations.extend(judgement.contradictions.iter().take(20).cloned());
    }

    pub(crate) fn violated(&mut self, what: String) {
        self.violations_counted += 1;
        self.violations.push(what);
    }

    /// Looks at what all processes take at the moment.
    pub(crate) async fn measure(&mut self, scene: &Scene, crew: &Crew) -> Result {
        let workers: Vec<_> = crew.pids().into_iter().map(|pid| footprint(pid, false)).collect();
        let mut nodes = Vec::new();
        for node in scene.nodes() {
            let sessions = node.value("select count(*) from pg_stat_activity where backend_type = 'client backend'");
            let sessions: Option<u64> = sessions.await?.and_then(|count| count.parse().ok());
            let mut footprint = footprint(node.pid(), true);
            footprint["sessions"] = json!(sessions);
            footprint["name"] = json!(node.name());
            nodes.push(footprint);
        }
        let mut redis = footprint(scene.redis.pid(), false);
        let mut connection = scene.redis.connect().await?;
        let clients: String = redis::cmd("INFO").arg("clients").query_async(&mut connection).await?;
        let connected = clients.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        redis["sessions"] = json!(connected.and_then(|count| count.trim().parse::<u64>().ok()));
        self.growth.push(json!({
            "second": self.elapsed().as_secs(),
            "workers": workers,
            "postgres": nodes,
            "redis": redis,
            "parent": footprint(Some(std::process::id()), false),
        }));
        Ok(())
    }

    pub(crate) fn write(&self, plan: &Plan) -> Result {
        if let Some(path) = &plan.results {
            fs::write(path, serde_json::to_string_pretty(&self.to_json(plan))?)?;
        }
        Ok(())
    }

    fn to_json(&self, plan: &Plan) -> Value {
        let milliseconds = |times: &[Duration]| times.iter().map(|time| time.as_millis() as u64).collect::<Vec<_>>();
        let faults: BTreeMap<_, _> = self.faults.iter().map(|(fault, count)| (fault.to_string(), *count)).collect();
        json!({
            "seed": plan.seed,
            "seconds": self.elapsed().as_secs(),
            "rounds": self.calm_after.len(),
            "reads_checked": self.reads_checked,
            "reads_failed": self.reads_failed,
            "reads_labelled_stale": self.labelled_stale,
            "answered_by": self.answered,
            "writes_committed": self.committed,
            "writes_unknown": self.unknown,
            "writes_lost_by_promotions": self.lost,
            "losses_told": self.told_of_loss,
            "faults_injected": self.faults_injected(),
            "faults": faults,
            "violations": self.violations_counted,
            "violations_told": self.violations,
            "calm_after_ms": milliseconds(&self.calm_after),
            "heard_after_ms": milliseconds(&self.heard_after),
            "growth": self.growth,
        })
    }

    pub(crate) fn print(&self) {
        println!(
            "{} violations in {} reads and {} writes, under {} faults, in {:.0?}",
            self.violations_counted,
            self.reads_checked,
            self.committed,
            self.faults_injected(),
            self.elapsed()
        );
        println!(
            "answered by {:?}, {} labelled stale, {} errors",
            self.answered, self.labelled_stale, self.reads_failed
        );
        println!(
            "{} writes lost by promotions, {} losses told, {} unknown",
            self.lost, self.told_of_loss, self.unknown
        );
        println!("everybody answered again after {:?}, at most {:?}", self.calm_after, self.calm_after.iter().max());
        println!("a write heard everywhere after {:?}", self.heard_after);
    }
}

/// Memory in KiB and open files, sockets among them, of one process, or of it and all that it started. What processes
/// share is left out, for it would be counted many times.
fn footprint(pid: Option<u32>, with_children: bool) -> Value {
    let Some(pid) = pid else { return Value::Null };
    let family = if with_children { descendants(pid) } else { Vec::new() };
    let (mut memory_kib, mut files) = (0, 0);
    for pid in family.iter().chain([&pid]) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        memory_kib += anonymous.and_then(|size| size.trim().parse::<u64>().ok()).unwrap_or(0);
        files += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    }
    json!({ "memory_kib": memory_kib, "files": files, "processes": family.len() + 1 })
}

/// PostgreSQL's processes are children of the first.
fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
