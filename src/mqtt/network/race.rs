//! Several addresses of one host, of which one will do (RFC 8305, Happy Eyeballs): the next attempt begins while the earlier
//! ones go on, and the first connection wins.
//!
//! This decides when; `connector.rs` has the sockets, and says what became of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an attempt has for itself before the next one begins (RFC 8305, 8).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The addresses, and the attempts that are under way, each with a socket `S`.
#[derive(Debug)]
pub(super) struct Race<S> {
    /// Not tried yet, the next one first.
    waiting: VecDeque<SocketAddr>,
    running: Vec<Attempt<S>>,
    /// When the next attempt begins, unless there is a reason to begin earlier.
    next_start: Option<Instant>,
    /// How long an attempt may take.
    timeout: Duration,
}

/// A connection under way.
#[derive(Debug)]
pub(super) struct Attempt<S> {
    pub(super) address: SocketAddr,
    pub(super) socket: S,
    due: Instant,
}

impl<S> Race<S> {
    /// A race between `addresses`, in their order of preference; those that `failed` lately come last.
    pub(super) fn new(addresses: Vec<SocketAddr>, failed: &[SocketAddr], timeout: Duration) -> Self {
        let (known, fresh): (Vec<_>, Vec<_>) =
            interleaved(addresses).into_iter().partition(|address| failed.contains(address));
        let last = failed.iter().filter(|address| known.contains(address)).copied();
        let waiting = fresh.into_iter().chain(last).collect();
        Self { waiting, running: Vec::new(), next_start: None, timeout }
    }

    /// The address to begin with now, if any. [`Race::started`] must follow, or another call.
    pub(super) fn next_address(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.is_due(now) { self.waiting.pop_front() } else { None }
    }

    /// Whether [`Race::next_address`] has one.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let waits = self.next_start.is_some_and(|start| now < start) && !self.running.is_empty();
        !waits && !self.waiting.is_empty()
    }

    /// An attempt began.
    pub(super) fn started(&mut self, address: SocketAddr, socket: S, now: Instant) {
        self.running.push(Attempt { address, socket, due: now + self.timeout });
        self.next_start = Some(now + ATTEMPT_DELAY);
    }

    /// The attempts that are under way.
    pub(super) fn running(&self) -> &[Attempt<S>] {
        &self.running
    }

    /// Takes out an attempt that failed; the next one begins at once.
    pub(super) fn remove(&mut self, index: usize) -> Attempt<S> {
        self.next_start = None;
        self.running.remove(index)
    }

    /// Takes out an attempt that takes too long; the others go on.
    pub(super) fn remove_overdue(&mut self, now: Instant) -> Option<Attempt<S>> {
        let index = self.running.iter().position(|attempt| now >= attempt.due)?;
        Some(self.remove(index))
    }

    /// Takes out the attempt that was won, and ends the others: their addresses are tried again if the winner is of no use.
    pub(super) fn win(&mut self, index: usize) -> Attempt<S> {
        let winner = self.remove(index);
        self.waiting.extend(self.running.drain(..).map(|attempt| attempt.address));
        winner
    }

    /// The addresses that are left.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &SocketAddr> {
        self.waiting.iter()
    }

    /// Whether nothing is under way and nothing left.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// When the next attempt begins, or one takes too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = self.next_start.filter(|_| !self.waiting.is_empty());
        self.running.iter().map(|attempt| attempt.due).chain(next).min()
    }
}

/// Alternates between IPv6 and IPv4, beginning with what the resolver has first, without duplicates (RFC 8305, 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == preferred);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return order;
        }
        for address in pair.into_iter().flatten() {
            if !order.contains(&address) {
                order.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(15);

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Starts what is due; returns how many attempts began.
    fn start(race: &mut Race<()>, now: Instant) -> usize {
        let before = race.running().len();
        while let Some(address) = race.next_address(now) {
            race.started(address, (), now);
        }
        race.running().len() - before
    }

    #[test]
    fn families_alternate_and_failed_addresses_come_last() {
        let all = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "[::1]:1"]);
        let order = addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(interleaved(all.clone()), order);
        let failed = addresses(&["127.0.0.1:1", "[::1]:1"]);
        let race: Race<()> = Race::new(all, &failed, TIMEOUT);
        let order = addresses(&["[::2]:1", "[::3]:1", "127.0.0.1:1", "[::1]:1"]);
        assert_eq!(race.waiting().copied().collect::<Vec<_>>(), order);
    }

    #[test]
    fn the_next_attempt_begins_after_a_delay_while_the_earlier_goes_on() {
        let mut now = Instant::now();
        let mut race = Race::new(addresses(&["[::1]:1", "127.0.0.1:1", "127.0.0.2:1"]), &[], TIMEOUT);
        assert_eq!((start(&mut race, now), race.deadline()), (1, Some(now + ATTEMPT_DELAY)));
        now += ATTEMPT_DELAY / 2;
        assert_eq!(start(&mut race, now), 0);
        now += ATTEMPT_DELAY / 2;
        assert_eq!((start(&mut race, now), race.running().len()), (1, 2));
        let winner = race.win(1);
        assert_eq!(winner.address, "127.0.0.1:1".parse().unwrap());
        assert!(race.running().is_empty() && !race.is_over());
        // The others are what is left if the winner fails at its handshake.
        assert_eq!(race.waiting().copied().collect::<Vec<_>>(), addresses(&["127.0.0.2:1", "[::1]:1"]));
        assert_eq!(start(&mut race, now), 1, "at once");
    }

    #[test]
    fn a_failure_starts_the_next_attempt_at_once() {
        let now = Instant::now();
        let mut race = Race::new(addresses(&["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]), &[], TIMEOUT);
        assert_eq!(start(&mut race, now), 1);
        race.remove(0);
        assert_eq!(start(&mut race, now), 1);
        assert_eq!(race.running()[0].address, "127.0.0.2:1".parse().unwrap());
    }

    #[test]
    fn each_attempt_times_out_by_itself_and_the_race_ends_with_the_last() {
        let begin = Instant::now();
        let mut race = Race::new(addresses(&["127.0.0.1:1", "127.0.0.2:1"]), &[], TIMEOUT);
        let mut now = begin;
        let mut ended = Vec::new();
        while !race.is_over() {
            start(&mut race, now);
            now = race.deadline().unwrap();
            ended.extend(race.remove_overdue(now).map(|attempt| (attempt.address.ip().to_string(), now - begin)));
        }
        let due = |ip: &str, after| (ip.to_owned(), TIMEOUT + after);
        assert_eq!(ended, [due("127.0.0.1", Duration::ZERO), due("127.0.0.2", ATTEMPT_DELAY)]);
    }
}
