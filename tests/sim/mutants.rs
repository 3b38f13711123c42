//! Takes each rule of the protocol away, and shows that somebody notices.

use crate::run::run;
use highwater::rules::{Rule, without};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::time::Duration;

/// How long one mutant may live, where all are to be found.
const TIME_MAX: Duration = Duration::from_secs(60);

/// How many seeds each gets in a plain run of the tests, and how many of the mutants must be found by then.
const SEEDS: u64 = 12;
const FOUND_MIN: usize = 12;

/// Rules whose loss breaks no promise that a schedule in memory can show, and the tests that notice it.
const ELSEWHERE: &[(Rule, &str)] = &[
    (
        Rule::TimelineAfterPosition,
        "memory_edge order::a_standby_that_moves_to_another_timeline_while_it_is_asked_is_not_counted_on_the_old_one",
    ),
    (Rule::PositionsAreNormal, "memory_edge primary::a_token_at_a_page_end_stands_before_the_header"),
    (Rule::FillCoversAllSeen, "cache regressions::readers::monotonic_over_concurrent_reads"),
    (Rule::SilenceIsNoAnswer, "cache regressions::readers::a_position_that_was_not_told_in_time_clamps_nothing"),
    (Rule::UnknownPins, "cache writing::an_unknown_outcome_is_told_and_resolved"),
    (Rule::AnswersOvertake, "lib epoch::tests::a_slow_answer_is_not_a_history_that_went_back"),
    (Rule::ClampSparesNews, "lib epoch::tests::a_retraction_made_while_the_answer_after_a_crash_travelled_stands"),
    (Rule::PulseIsOfHistory, "lib epoch::tests::nobody_tells_how_far_a_history_is_flushed_that_they_have_not_seen"),
    (
        Rule::WatermarkIsOfFloors,
        "lib epoch::tests::who_holds_the_floors_from_before_a_crash_is_told_no_later_watermark",
    ),
    (Rule::BoundAsksTag, "cache freshness::neither_a_bound_nor_what_was_seen_is_met_by_the_watermark"),
    (Rule::SightAsksTag, "cache freshness::neither_a_bound_nor_what_was_seen_is_met_by_the_watermark"),
    (Rule::WatermarkIsReadFirst, "lib cache::tests::no_entry_is_extended_over_a_retraction_that_arrives_meanwhile"),
    (Rule::FloorsAreFirst, "lib ledger::hearing::tests::a_message_raises_the_floors_before_the_watermark"),
    (Rule::ExpiredIsCareful, "wire careful::who_brings_an_expired_token_is_treated_as_one_who_may_have_just_written"),
    (Rule::LogIsNamedAnew, "cache watermark::what_was_retracted_in_a_log_that_was_lost_is_not_taken_for_what_followed"),
    (Rule::StartIsRead, "cache regressions::hearing::hearing_begins_at_a_position_that_is_read_then"),
    (Rule::StartIsOfRound, "cache regressions::hearing::a_start_of_an_earlier_time_of_hearing_is_none_of_this_one"),
    (Rule::UntoldIsPinned, "cache regressions::hearing::a_log_does_not_vouch_for_what_it_was_never_told"),
    (
        Rule::UnannouncedIsPinned,
        "cache regressions::stores::a_log_does_not_vouch_for_what_was_committed_before_it_knew",
    ),
    (Rule::AbandonedIsPinned, "cache regressions::stores::a_log_does_not_vouch_for_what_it_had_given_up"),
    (Rule::GivenUpStaysSo, "cache regressions::stores::what_was_given_up_is_not_announced_anew_behind_the_commit"),
    (
        Rule::LineageIsOfHistory,
        "cache regressions::histories::who_does_not_know_where_the_timeline_began_hears_the_log_of_another_history",
    ),
    (Rule::OverflowIsOfAll, "cache scoped::of_more_keys_than_a_token_has_room_for_none_is_missed"),
    (Rule::AboveIsClamped, "wire careful::a_signed_token_above_the_primary_is_clamped_counted_and_never_waited_for"),
    (Rule::RollBackIsHeard, "lib source::postgres::transaction::tests::every_pair_of_answers_has_one_verdict"),
    (Rule::LossIsNoticed, "devices losses::after_a_loss_each_user_costs_the_primary_one_question"),
    (Rule::ClampIsOfMoment, "cache regressions::histories::a_clamp_never_lowers_a_session_below_its_own_write"),
];

/// What few schedules come across, and the options that lead there.
const SOUGHT_IN: &[(Rule, &str)] = &[
    (Rule::SightCoversReceived, "troubles=ReportGap,Lag,Transit monotonic_percent=100 standbys=3 keys=1 visible_ms=25"),
    (
        Rule::OutcomeOfHistory,
        "troubles=Promote,Transit,Disconnect,Freeze trouble_pause_ms_max=60 cut_permille=60 latency_ms_max=12 \
         instances=3 standbys=3 writes_percent=40 clients=9 asynchronous_percent=0 abandon_permille=0 skew=3 keys=1",
    ),
];

/// Where the table stands, from the line before it to the one behind.
const PAGE: &str = "docs/testing.md";
const BEGIN: &str = "<!-- mutants -->\n";
const END: &str = "<!-- end of mutants -->\n";

struct Found {
    seed: u64,
    options: &'static str,
    how: String,
    time: Duration,
}

/// The processor's time, so that a busy machine changes nothing.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Looks for a schedule that fails without the rule, and holds with it.
fn hunt(rule: Rule, seeds: u64, time: Duration) -> Option<Found> {
    let began = now();
    let options = SOUGHT_IN.iter().find(|(sought, _)| *sought == rule).map_or("", |(_, options)| *options);
    let drawn = |seed| {
        let mut plan = crate::plan(seed);
        plan.set(options);
        plan
    };
    let kept = crate::failed_once().take_while(|_| options.is_empty());
    let plans = kept.chain((0..seeds).map(drawn));
    for plan in plans.take_while(|_| now() - began < time) {
        let report = without(Some(rule), || run(&plan));
        if !report.is_ok() && run(&plan).is_ok() {
            let how = report.kind().map_or_else(|| "state at the end".to_owned(), |kind| format!("{kind:?}"));
            return Some(Found { seed: plan.seed, options, how, time: now() - began });
        }
    }
    None
}

/// With `HIGHWATER_MUTANTS=1` every mutant must be found within a minute, and the table of the docs is written anew; its
/// value may also name some, with commas, to look at these alone.
#[test]
fn every_rule_is_missed() {
    let wanted = std::env::var("HIGHWATER_MUTANTS").unwrap_or_default();
    let (all, thorough) = (wanted == "1" || wanted.is_empty(), !wanted.is_empty());
    let named = |rule: &&Rule| all || wanted.split(',').any(|name| name == format!("{rule:?}"));
    let (seeds, time) = if thorough { (u64::MAX, TIME_MAX) } else { (SEEDS, TIME_MAX) };
    let mut table =
        String::from("| without the rule | what is wrong then | found by | how | in |\n|---|---|---|---|---|\n");
    let (mut found, mut missed) = (0, Vec::new());
    for &rule in Rule::ALL.iter().filter(named) {
        let elsewhere = ELSEWHERE.iter().find(|(known, _)| *known == rule).map(|(_, test)| *test);
        let line = match (elsewhere, hunt(rule, if elsewhere.is_some() { 0 } else { seeds }, time)) {
            (Some(test), _) => format!("| `{rule:?}` | {} | `{test}` | | |", rule.without()),
            (None, Some(Found { seed, options, how, time })) => {
                found += 1;
                let options = if options.is_empty() { String::new() } else { format!(" of `{options}`") };
                format!(
                    "| `{rule:?}` | {} | seed {seed}{options} | {how} | {:.1} s |",
                    rule.without(),
                    time.as_secs_f64()
                )
            }
            (None, None) => {
                missed.push(rule);
                format!("| `{rule:?}` | {} | NOBODY | | |", rule.without())
            }
        };
        println!("{line}");
        let _ = writeln!(table, "{line}");
    }
    if !thorough {
        assert!(found >= FOUND_MIN, "only {found} mutants were found by {SEEDS} seeds");
        return;
    }
    assert!(missed.is_empty(), "nobody noticed that these rules were broken: {missed:?}");
    if all {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (head, rest) = page.split_once(BEGIN).unwrap();
        let (_, tail) = rest.split_once(END).unwrap();
        std::fs::write(PAGE, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
    }
}
