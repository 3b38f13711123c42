//! Makes a failing plan simpler for as long as it fails in the same way.

use crate::plan::Plan;
use crate::run::{Report, run};

/// How many runs that may take.
const RUNS_MAX: usize = 300;

/// The simplest plan found that breaks the same promise.
pub(crate) fn shrink(plan: &Plan, report: &Report) -> Plan {
    let kind = report.kind();
    let (mut best, mut runs) = (plan.clone(), 0);
    loop {
        let mut simpler = false;
        for candidate in candidates(&best) {
            if runs == RUNS_MAX {
                return best;
            }
            runs += 1;
            let report = run(&candidate);
            if !report.is_ok() && report.kind() == kind {
                (best, simpler) = (candidate, true);
                break;
            }
        }
        if !simpler {
            return best;
        }
    }
}

/// The plan without one of its troubles, and with one option simpler.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut candidates = Vec::new();
    for trouble in &plan.troubles {
        let mut simpler = plan.clone();
        simpler.troubles.remove(trouble);
        candidates.push(simpler);
    }
    for (name, choices) in Plan::OPTIONS {
        let Some(&simplest) = choices.first() else { continue };
        let mut simpler = plan.clone();
        if let Some(option) = simpler.option(name)
            && *option != simplest
        {
            *option = simplest;
            simpler.settle();
            candidates.push(simpler);
        }
    }
    candidates
}
