//! The decisions about a delivery. All are pure: they take `now` and the jitter draw as arguments and return values.

pub mod backoff;

pub mod exchange;

pub mod fault;

pub mod ladder;

pub mod outcome;

pub mod reason;

pub mod request;

pub mod retry_after;

pub mod rules;

pub mod signature;

pub mod trace_context;
