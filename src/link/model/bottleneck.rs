use std::{
    collections::VecDeque,
    num::NonZeroU64,
    time::{Duration, Instant},
};

/// A transmitter that sends one item at a time at a rate, and the queue before it.
#[derive(Debug)]
pub(super) struct Bottleneck<T> {
    waiting: VecDeque<(usize, T)>,
    waiting_bytes: usize,
    sending: Option<Sending<T>>,
}

#[derive(Debug)]
struct Sending<T> {
    item: T,
    size: usize,
    started: Instant,
    done: Instant,
    /// What a whole number of nanoseconds left over, in billionths of a bit: the next item's time
    /// takes it along, so that a busy link's rate is exact over any number of items.
    carry: u128,
}

/// An item that has been sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent<T> {
    pub(super) item: T,
    pub(super) started: Instant,
    pub(super) done: Instant,
    carry: u128,
}

impl<T> Bottleneck<T> {
    pub(super) const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sending: None,
        }
    }

    /// Takes an item of `size` bytes, at once if nothing is being sent, else into the queue of at
    /// most `limit` bytes.
    ///
    /// # Errors
    /// The item, if the queue has no room for it.
    pub(super) fn offer(
        &mut self,
        item: T,
        size: usize,
        rate: Option<NonZeroU64>,
        limit: usize,
        now: Instant,
    ) -> Result<(), T> {
        if self.sending.is_none() {
            self.sending = Some(send(item, size, rate, now, 0));
        } else if self.waiting_bytes.saturating_add(size) <= limit {
            self.waiting_bytes += size;
            self.waiting.push_back((size, item));
        } else {
            return Err(item);
        }
        Ok(())
    }

    /// The item that is sent by `now`, if one is. What waits is the caller's to [take out](Self::take) and
    /// to [send](Self::send_after), or not.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Sent<T>> {
        let sent = self.sending.take_if(|sending| sending.done <= now)?;
        Some(Sent {
            item: sent.item,
            started: sent.started,
            done: sent.done,
            carry: sent.carry,
        })
    }

    /// Takes out of the queue what has waited longest, and its size.
    pub(super) fn take(&mut self) -> Option<(usize, T)> {
        let (size, item) = self.waiting.pop_front()?;
        self.waiting_bytes -= size;
        Some((size, item))
    }

    /// Sends an item as soon as `before` was sent.
    pub(super) fn send_after<U>(
        &mut self,
        before: &Sent<U>,
        item: T,
        size: usize,
        rate: Option<NonZeroU64>,
    ) {
        self.sending = Some(send(item, size, rate, before.done, before.carry));
    }

    /// Whether nothing is being sent.
    pub(super) fn is_idle(&self) -> bool {
        self.sending.is_none()
    }

    /// When [`poll`](Self::poll) has the next item.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.sending.as_ref().map(|sending| sending.done)
    }

    /// The rate is another one from now on. What is being sent is done no later than it would have
    /// been, and no later than if it was sent anew.
    pub(super) fn change_rate(&mut self, rate: Option<NonZeroU64>, now: Instant) {
        if let Some(sending) = &mut self.sending {
            let (time, _) = time(sending.size, rate, 0);
            sending.done = sending.done.min(now + time);
            sending.carry = 0;
        }
    }

    /// Bytes in the queue, without what is being sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }
}

fn send<T>(
    item: T,
    size: usize,
    rate: Option<NonZeroU64>,
    start: Instant,
    carry: u128,
) -> Sending<T> {
    let (time, carry) = time(size, rate, carry);
    Sending {
        item,
        size,
        started: start,
        done: start + time,
        carry,
    }
}

/// How long `size` bytes take, and the carry for the next item.
fn time(size: usize, rate: Option<NonZeroU64>, carry: u128) -> (Duration, u128) {
    let Some(rate) = rate else {
        return (Duration::ZERO, 0);
    };
    let rate = u128::from(rate.get());
    let work = size as u128 * 8 * 1_000_000_000 + carry;
    let nanoseconds = u64::try_from(work / rate).unwrap_or(u64::MAX);
    (Duration::from_nanos(nanoseconds), work % rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent by then, first come, first served.
    fn poll<T>(
        link: &mut Bottleneck<T>,
        rate: Option<NonZeroU64>,
        now: Instant,
    ) -> Option<Sent<T>> {
        let sent = link.poll(now)?;
        if let Some((size, item)) = link.take() {
            link.send_after(&sent, item, size, rate);
        }
        Some(sent)
    }

    #[test]
    fn a_busy_transmitter_keeps_its_rate_to_the_nanosecond() {
        // 3 bits a second: 8 bits take 2.666... s.
        let (start, rate) = (Instant::now(), NonZeroU64::new(3));
        let mut link = Bottleneck::new();
        for item in 0..3 {
            link.offer(item, 1, rate, 100, start).expect("room");
        }
        assert_eq!(link.waiting_bytes(), 2);
        let far = start + Duration::from_secs(100);
        let done: Vec<_> = std::iter::from_fn(|| poll(&mut link, rate, far))
            .map(|sent| (sent.item, (sent.done - start).as_nanos()))
            .collect();
        assert_eq!(
            done,
            [(0, 2_666_666_666), (1, 5_333_333_333), (2, 8_000_000_000)]
        );
        assert_eq!((link.timeout(), link.waiting_bytes()), (None, 0));
    }

    #[test]
    fn the_queue_drops_its_tail_by_bytes() {
        let (now, rate) = (Instant::now(), NonZeroU64::new(8_000));
        let mut link = Bottleneck::new();
        assert_eq!(link.offer('a', 1000, rate, 1500, now), Ok(()));
        assert_eq!(link.offer('b', 1000, rate, 1500, now), Ok(()));
        assert_eq!(link.offer('c', 1000, rate, 1500, now), Err('c'));
        assert_eq!(link.offer('d', 500, rate, 1500, now), Ok(()));
        assert_eq!(link.offer('e', 1, rate, 1500, now), Err('e'));
        let later = now + Duration::from_secs(1);
        let sent = Sent {
            item: 'a',
            started: now,
            done: later,
            carry: 0,
        };
        assert_eq!(poll(&mut link, rate, later), Some(sent));
        assert_eq!(link.offer('f', 1000, rate, 1500, later), Ok(()));
    }

    #[test]
    fn a_new_rate_counts_from_now_on() {
        let (now, slow) = (Instant::now(), NonZeroU64::new(8));
        let mut link = Bottleneck::new();
        link.offer('a', 1000, slow, 9999, now).expect("idle");
        link.offer('b', 1000, slow, 9999, now).expect("room");
        let fast = NonZeroU64::new(8_000);
        link.change_rate(fast, now + Duration::from_secs(10));
        assert_eq!(link.timeout(), Some(now + Duration::from_secs(11)));
        link.change_rate(None, now + Duration::from_secs(10));
        assert_eq!(link.timeout(), Some(now + Duration::from_secs(10)));
        link.change_rate(slow, now + Duration::from_secs(10));
        assert_eq!(link.timeout(), Some(now + Duration::from_secs(10)));
    }
}
