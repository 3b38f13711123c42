//! The rules of the protocol by name, so that a test can take one away and show that somebody notices.
//!
//! Without the feature `mutants` every rule holds, as a constant, and nothing of this is left in the code. With it, one
//! rule can be broken in a thread ([`without`]), or in a whole process by naming it in `HIGHWATER_MUTANT`. The table of what
//! notices which is in `docs/testing.md`.

/// Names each rule, with what happens without it.
macro_rules! rules {
    ($($(#[$group:meta])* $name:ident: $without:literal,)+) => {
        /// A rule that a test can take away.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "mutants", expect(clippy::exhaustive_enums, reason = "tests go through all of them"))]
        #[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public only where tests break it"))]
        pub enum Rule {
            $(#[doc = concat!("Without it: ", $without, ".")] $name,)+
        }

        #[cfg(feature = "mutants")]
        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What the library does wrong without the rule.
            #[must_use]
            pub fn without(self) -> &'static str {
                match self {
                    $(Self::$name => $without,)+
                }
            }
        }
    };
}

rules! {
    // Tag low, token high: what the edges to the servers keep.
    TagIsStrict: "a primary's tag is its flush position itself: what is flushed and not visible counts as seen",
    TagIsFlushed: "a primary's tag is one below its insert position, which a crash takes back",
    PositionBeforeData: "the position is read after the data",
    TimelineAfterPosition: "a standby is asked for its timeline before its position",
    PositionsAreNormal: "a position in a page header is not floored to the start of the page",
    TokenAfterCommit: "the token is read before the commit",
    TokenIsInserted: "the token is the flush position, which an asynchronous commit is ahead of",
    SightCoversReceived: "what a standby showed is bounded by its replay position",
    // Answer.
    TagReachesToken: "an entry answers whatever its tag",
    ReachIsTheWatermark: "an entry counts as new as the newest retraction that was heard",
    ExtendedFromStart: "the watermark extends entries from before the instance began to hear",
    PinAsksTag: "the watermark covers what is pinned",
    ForeignIsPinned: "the watermark of one log covers what another log vouches for",
    OtherLineageIsPinned: "of two logs that vouch for parts of a token, one is forgotten when they are merged",
    OverflowIsOfAll: "of the keys that a session wrote, those that a token has no room for are forgotten",
    GroupIsOfAll: "what names a group is demanded only of a key that is called like it",
    LatestAsksPrimary: "what was read before answers who asks for the latest",
    BoundIsReached: "an entry answers whatever the staleness bound",
    BoundByOwnClock: "another instance's clock and a standby's answer prove a staleness bound",
    SamplesAreYoung: "a position of any age stands for a staleness bound",
    BoundAsksTag: "the watermark covers a staleness bound",
    WatermarkIsReadFirst: "a reader asks for the watermark after the floors",
    EntryOfHistory: "an entry of another history answers",
    RetractedIsGone: "an entry that was retracted since its tag answers",
    UnheardIsShort: "while nothing is heard, an entry of any age answers who asks for nothing",
    // Monotonic floors.
    SightsAreKept: "a monotonic session forgets what it saw",
    SeenOnPrimary: "an entry answers below what was seen on the primary",
    SeenOnStandby: "an entry answers below what was seen on a standby",
    StandbySightOnStandby: "what was seen on a standby is met by a primary fill",
    SightAsksTag: "the watermark covers what a monotonic session saw",
    SightsAreBounded: "an entry without an upper bound answers a monotonic session",
    RunningAreAwaited: "the primary answers who has seen more on a standby without waiting for transactions in progress",
    FillCoversAllSeen: "the last fill satisfies itself though something was seen while it was loaded",
    // Own floor and join.
    BoardedInTime: "who joins a load after its statement was sent is answered by it",
    FlightCoversAll: "a load does not reach for the floor of who joins it",
    FlightOfHistory: "a load that left in another history answers",
    BatchOfHistory: "many rows are loaded in another history than the floor was counted in",
    // Load.
    ReplicaReaches: "a replica's answer counts though it is below the floor",
    AnswerOnTimeline: "an answer from another timeline counts",
    KeyFloorIsAsked: "a load does not ask for what was retracted of the key",
    GroupFloorIsAsked: "a load does not ask for what was retracted of the row's groups",
    SilenceIsNoAnswer: "what was known of a primary that does not answer is taken for its answer",
    // Write.
    CommitRaises: "a commit does not raise its session",
    CommitRetracts: "a commit retracts nothing at its own instance but the markers in the shared tier",
    UnknownIsUnknown: "a commit without an answer counts as rolled back",
    RollBackIsHeard: "COMMIT of an aborted transaction, which answers without an error, is a commit",
    UnknownPins: "a session whose commit is unknown is answered by anybody",
    ResolvedRaises: "once a commit is known, its session goes on without its position",
    OutcomeOfHistory: "the outcome of a transaction is asked of another history",
    // History.
    LossIsTold: "a position beyond where its timeline ended counts up to there",
    BranchesDiffer: "positions of two logs with the number of one timeline are compared",
    SurvivorsStay: "who accepts a loss forgets what survived it, too",
    SetBackIsNumbered: "each instance counts by itself how often the primary was set back",
    EndIsOfHistory: "the end of the log before stands for that of a history which was only told of",
    SetBackIsNews: "a primary whose flushed log shrank has crashed",
    ForkIsNews: "a primary whose timeline began elsewhere is the same",
    AnswersOvertake: "an answer of the primary that was overtaken is a crash",
    ClampSparesNews: "a crash clamps what was retracted while the answer travelled",
    AboveIsClamped: "a token above the primary's position stays there",
    ClampIsOfMoment: "a crash clamps what a session was told after the position was read",
    // Tokens and devices.
    ExpiredIsCareful: "who brings a token that has expired brings none",
    LossIsNoticed: "a device store that lost what it held is believed",
    // Tiers and ledger.
    GroupsTravel: "an entry from the shared tier belongs to no group",
    HistoriesDiffer: "all histories have one fingerprint",
    FloorsAreFirst: "the watermark of a message is taken over before what the message retracts",
    RetractionsAreHeard: "retractions of other instances raise no floor: only their markers in the shared tier stand",
    GapsAreNoticed: "a gap in what was heard goes unnoticed",
    SilenceIsDeaf: "a subscription counts as heard though no heartbeat comes back",
    StartIsRead: "hearing begins at the highest position that was known before",
    StartIsOfRound: "hearing begins where an earlier time of hearing would have",
    HeardFromProof: "all entries count as heard of, however early they were filled",
    // Announce and settle.
    AnnouncedFirst: "a write is announced and committed at the same time",
    WatermarkAwaitsAnnounced: "the watermark passes commits that were announced and may still come",
    WatermarkIsFlushed: "the watermark rises to the insert position, which a crash takes back",
    AbandonedIsPinned: "a log vouches for a write whose announcement it had given up",
    GivenUpStaysSo: "what was given up is announced anew when its writer tells more of it, behind the commit",
    UntoldIsPinned: "a log that acknowledged an announcement vouches for a retraction that it never took",
    UnannouncedIsPinned: "a log vouches for a write that was never announced",
    LogIsNamedAnew: "a log that begins anew has the name of the one that was lost",
    LineageIsOfServer: "a log that another server took over is the same",
    LineageIsOfHistory: "what a log vouches for in one history is covered by its watermark of another",
    PulseIsOfHistory: "a heartbeat tells of a history what was flushed in the one before",
    WatermarkIsOfFloors: "who holds the floors from before a crash is told the watermark of those after it",
    GapStopsWatermark: "the watermark rises over a gap",
    HearingIsRetried: "a subscription that was refused is not tried again",
}

/// Whether a rule holds: it does.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn holds(_: Rule) -> bool {
    true
}

#[cfg(feature = "mutants")]
pub(crate) use broken::holds;
#[cfg(feature = "mutants")]
pub use broken::without;

#[cfg(feature = "mutants")]
mod broken {
    use super::Rule;
    use std::cell::Cell;
    use std::sync::LazyLock;

    /// The rule that the process is without.
    static EVERYWHERE: LazyLock<Option<Rule>> = LazyLock::new(|| {
        let name = std::env::var("HIGHWATER_MUTANT").ok()?;
        let rule = Rule::ALL.iter().copied().find(|rule| format!("{rule:?}") == name);
        assert!(rule.is_some(), "HIGHWATER_MUTANT names no rule: {name}");
        rule
    });

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = Cell::new(*EVERYWHERE);
    }

    /// Whether a rule holds in this thread.
    pub(crate) fn holds(rule: Rule) -> bool {
        BROKEN.get() != Some(rule)
    }

    /// Runs without a rule, in this thread only: what must break has to run on it.
    pub fn without<T>(rule: Option<Rule>, run: impl FnOnce() -> T) -> T {
        let before = BROKEN.replace(rule);
        let result = run();
        BROKEN.set(before);
        result
    }
}
