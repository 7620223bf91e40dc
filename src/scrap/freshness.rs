//! When the page is to be fetched again, and whether its list may be given out meanwhile.

use std::time::{Duration, Instant};

/// How long an answer says that it stays fresh (RFC 9111 section 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// `max-age`, less the `Age` that it already has.
    For(Duration),
    /// `no-cache` or `no-store`: to be asked again before each use.
    Revalidate,
}

impl Lifetime {
    /// Reads the values of `Cache-Control` and `Age`; `None` if they say nothing about freshness.
    pub(super) fn of<'a>(
        cache_control: impl IntoIterator<Item = &'a str>,
        age: Option<&str>,
    ) -> Option<Self> {
        let mut lifetime = None;
        for directive in cache_control.into_iter().flat_map(|value| value.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("no-cache") || name.eq_ignore_ascii_case("no-store") {
                return Some(Self::Revalidate);
            }
            if name.eq_ignore_ascii_case("max-age") {
                // An unreadable or huge number: RFC 9111 wants the one stale, the other capped.
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let seconds = if digits {
                    value.parse().unwrap_or(u64::MAX)
                } else {
                    0
                };
                let age = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
                lifetime = Some(Self::For(Duration::from_secs(seconds.saturating_sub(age))));
            }
        }
        lifetime
    }
}

/// Shortest time between two fetches that peers cause, and what every list counts as fresh for.
const MIN_FRESH: Duration = Duration::from_secs(1);
/// Longest time that a page is believed.
const MAX_FRESH: Duration = Duration::from_secs(24 * 3600);
/// The wait after a first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest wait between two failures.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How long a peer waits for a list when there is none yet.
const FIRST_LIST_PATIENCE: Duration = Duration::from_secs(5);
/// How long a peer waits for a newer list when there is one.
const NEWER_LIST_PATIENCE: Duration = Duration::from_secs(1);

/// The schedule of the fetches.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    refresh: Duration,
    lifetime: Option<Lifetime>,
    fresh_until: Option<Instant>,
    due: Instant,
    fetching: bool,
    failures: u32,
    ended: Option<Instant>,
}

impl Schedule {
    /// A schedule whose first fetch is due at once. `refresh` is the time between two fetches of a
    /// page that does not say how long it stays fresh.
    pub(super) fn new(refresh: Duration, now: Instant) -> Self {
        Self {
            refresh,
            lifetime: None,
            fresh_until: None,
            due: now,
            fetching: false,
            failures: 0,
            ended: None,
        }
    }

    /// The same schedule with another `refresh`.
    pub(super) fn refreshed_every(&self, refresh: Duration, now: Instant) -> Self {
        Self {
            refresh,
            due: self.due.min(now + refresh.min(MAX_FRESH)),
            fetching: false,
            ..self.clone()
        }
    }

    /// When the next fetch is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// How many fetches failed since the last good one.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// A fetch begins.
    pub(super) fn begin(&mut self) {
        self.fetching = true;
    }

    /// Nothing is being fetched (any more): whoever fetched is gone.
    pub(super) fn abandon(&mut self) {
        self.fetching = false;
    }

    /// The fetch brought a page, or the word that the known one is still good. Without a `lifetime`
    /// the latter leaves the page's own in force (RFC 9111 section 4.3.4).
    pub(super) fn succeeded(&mut self, now: Instant, lifetime: Option<Lifetime>, new: bool) {
        if new || lifetime.is_some() {
            self.lifetime = lifetime;
        }
        let (fresh, due) = match self.lifetime {
            None => (self.refresh, self.refresh),
            Some(Lifetime::For(time)) => (time, time),
            // Nobody may ask for a long time: no reason to fetch every second.
            Some(Lifetime::Revalidate) => (Duration::ZERO, self.refresh),
        };
        self.fresh_until = Some(now + fresh.clamp(MIN_FRESH, MAX_FRESH));
        self.due = now + due.clamp(MIN_FRESH, MAX_FRESH);
        self.failures = 0;
        self.fetching = false;
        self.ended = Some(now);
    }

    /// The fetch failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(8));
        self.due = now + wait.min(MAX_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.fetching = false;
        self.ended = Some(now);
    }

    /// Whether a peer's question may cause a fetch before it is due.
    pub(super) fn may_hurry(&self, now: Instant) -> bool {
        !self.fetching
            && self.fresh_until.is_none_or(|until| now >= until)
            && self.ended.is_none_or(|ended| now >= ended + MIN_FRESH)
    }

    /// How long a peer that asks now should wait for the fetch that is under way or that it may
    /// cause; `None`: it gets at once what there is.
    pub(super) fn patience(&self, now: Instant) -> Option<Duration> {
        let patience = match self.fresh_until {
            Some(until) if now < until => return None,
            // An origin that is down must not slow down who is content with the old list.
            Some(_) if self.failures > 0 => return None,
            Some(_) => NEWER_LIST_PATIENCE,
            None => FIRST_LIST_PATIENCE,
        };
        (self.fetching || self.may_hurry(now)).then_some(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seconds(seconds: u64) -> Option<Lifetime> {
        Some(Lifetime::For(Duration::from_secs(seconds)))
    }

    #[test]
    fn cache_control_is_read() {
        assert_eq!(Lifetime::of([], None), None);
        assert_eq!(Lifetime::of(["public"], None), None);
        assert_eq!(Lifetime::of(["public, Max-Age=60"], None), seconds(60));
        assert_eq!(Lifetime::of(["max-age=\"60\""], Some("50")), seconds(10));
        assert_eq!(Lifetime::of(["max-age=60"], Some("70")), seconds(0));
        assert_eq!(Lifetime::of(["max-age=soon"], None), seconds(0));
        assert_eq!(
            Lifetime::of(["max-age=99999999999999999999999"], None),
            seconds(u64::MAX)
        );
        assert_eq!(
            Lifetime::of(["max-age=60", "no-cache"], None),
            Some(Lifetime::Revalidate)
        );
        assert_eq!(Lifetime::of(["no-store"], None), Some(Lifetime::Revalidate));
    }

    #[test]
    fn a_silent_page_is_refreshed_as_configured() {
        let start = Instant::now();
        let mut schedule = Schedule::new(30 * SECOND, start);
        assert_eq!(schedule.due(), start);
        assert_eq!(schedule.patience(start), Some(FIRST_LIST_PATIENCE));
        schedule.begin();
        assert!(!schedule.may_hurry(start));
        schedule.succeeded(start, None, true);
        assert_eq!(schedule.due(), start + 30 * SECOND);
        assert_eq!(schedule.patience(start + 29 * SECOND), None);
        assert_eq!(
            schedule.patience(start + 30 * SECOND),
            Some(NEWER_LIST_PATIENCE)
        );
    }

    #[test]
    fn max_age_rules_and_a_304_without_one_keeps_it() {
        let start = Instant::now();
        let mut schedule = Schedule::new(30 * SECOND, start);
        schedule.succeeded(start, seconds(5), true);
        assert_eq!(schedule.due(), start + 5 * SECOND);
        schedule.succeeded(start, None, false);
        assert_eq!(schedule.due(), start + 5 * SECOND);
        schedule.succeeded(start, seconds(7), false);
        assert_eq!(schedule.due(), start + 7 * SECOND);
        schedule.succeeded(start, None, true);
        assert_eq!(schedule.due(), start + 30 * SECOND);
        schedule.succeeded(start, seconds(u64::MAX), true);
        assert_eq!(schedule.due(), start + MAX_FRESH);
    }

    #[test]
    fn no_cache_asks_again_when_asked_but_not_every_second() {
        let start = Instant::now();
        let mut schedule = Schedule::new(30 * SECOND, start);
        schedule.succeeded(start, Some(Lifetime::Revalidate), true);
        assert_eq!(schedule.due(), start + 30 * SECOND);
        assert!(!schedule.may_hurry(start));
        assert!(schedule.may_hurry(start + SECOND));
        assert_eq!(schedule.patience(start + SECOND), Some(NEWER_LIST_PATIENCE));
    }

    #[test]
    fn failures_back_off_and_do_not_hold_up_who_can_have_the_old_list() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(30 * SECOND, now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            schedule.begin();
            schedule.failed(now);
            waits.push(schedule.due() - now);
            now = schedule.due();
        }
        assert_eq!(waits[..3], [FIRST_RETRY, SECOND, 2 * SECOND]);
        assert_eq!(waits[8], MAX_RETRY);
        // No list at all: whoever asks may cause a try, though not twice within a second.
        schedule.failed(now);
        assert_eq!(schedule.patience(now), None);
        assert_eq!(schedule.patience(now + SECOND), Some(FIRST_LIST_PATIENCE));
        // An old list: at once.
        schedule.succeeded(now, None, true);
        let stale = now + 60 * SECOND;
        schedule.failed(stale);
        assert_eq!(schedule.patience(stale + SECOND), None);
        assert!(schedule.may_hurry(stale + SECOND));
    }

    #[test]
    fn a_shorter_refresh_counts_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(60 * SECOND, now);
        schedule.succeeded(now, None, true);
        let sooner = schedule.refreshed_every(5 * SECOND, now);
        assert_eq!(sooner.due(), now + 5 * SECOND);
        assert_eq!(
            schedule.refreshed_every(90 * SECOND, now).due(),
            now + 60 * SECOND
        );
    }

    #[test]
    fn a_fetch_whose_fetcher_died_is_not_waited_for() {
        let now = Instant::now();
        let mut schedule = Schedule::new(SECOND, now);
        schedule.begin();
        schedule.abandon();
        assert!(schedule.may_hurry(now));
    }
}
