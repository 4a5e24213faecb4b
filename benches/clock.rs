//! This machine's monotonic clock, which is the same in all its processes.

use rustix::time::{ClockId, clock_gettime};

/// The text in an event's body before the time at which it was sent.
pub const SENT_AT: &str = "\"sentAt\":\"";

/// Digits of that time, zero-padded to a fixed width.
pub const DIGITS: usize = 20;

/// Nanoseconds since the machine started.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Returns when this event was sent, in nanoseconds, if its first 512 bytes say so.
pub fn sent_at(body: &[u8]) -> Option<u64> {
    let start = &body[..body.len().min(512)];
    let at = start.windows(SENT_AT.len()).position(|window| window == SENT_AT.as_bytes())? + SENT_AT.len();
    std::str::from_utf8(body.get(at..at + DIGITS)?).ok()?.parse().ok()
}
