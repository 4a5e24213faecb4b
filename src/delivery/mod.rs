//! The decisions of a delivery, all pure: `now` and the jitter draw come in as arguments, values go out.

pub mod backoff;

pub mod ladder;

pub mod outcome;

pub mod request;

pub mod retry_after;

pub mod rules;

pub mod signature;

pub mod trace_context;
