//! The result of one POST, as seen on the wire.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, TokenFault};

/// The result of one POST, as seen on the wire. [`crate::sender`] makes it, and [`super::outcome::judge`] judges it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// The answer or the fault.
    pub result: Result<Answer, Fault>,
    /// From the start of the attempt to its end.
    pub elapsed: Duration,
    /// Whether the sender replaced a connection that the receiver had closed as idle.
    pub replaced: bool,
}

/// The note on an attempt whose answer had no whole body.
pub const ANSWER_INCOMPLETE: &str = "answer_incomplete";

/// An answer: status line, headers, and at most the first 64 KiB of the body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The `Retry-After` header as it came, if any.
    pub retry_after: Option<String>,
    /// The first bytes of the body, at most 256, decoded lossily. May echo lead data, so it is never logged.
    pub snippet: Option<String>,
    /// Whether a bot protection answered in place of the receiver (`cf-mitigated: challenge`).
    pub challenge: bool,
    /// The origin of the header `Location`: scheme, host and port only, because paths and queries may hold lead data.
    pub location: Option<String>,
    /// The body as far as it was read, if [`crate::sender::Post::whole_body`] asked for it. May echo lead data, so it
    /// is never logged.
    pub body: Option<Bytes>,
    /// Whether the body broke, did not end in time, or is longer than 64 KiB. The status counts anyway.
    pub incomplete: bool,
}

impl Exchange {
    /// Makes an exchange whose connection was not replaced.
    pub fn new(result: Result<Answer, Fault>, elapsed: Duration) -> Exchange {
        Exchange { result, elapsed, replaced: false }
    }

    /// Returns the class of the status for metrics: `1xx` to `5xx`, `other` for a status that HTTP does not define, or the
    /// [`Fault::label`] without an answer.
    pub fn class(&self) -> &'static str {
        match &self.result {
            Ok(answer) => match answer.status {
                100..=199 => "1xx",
                200..=299 => "2xx",
                300..=399 => "3xx",
                400..=499 => "4xx",
                500..=599 => "5xx",
                _ => "other",
            },
            Err(fault) => fault.label(),
        }
    }

    /// Returns whether there was an answer without a whole body.
    pub fn is_incomplete(&self) -> bool {
        self.result.as_ref().is_ok_and(|answer| answer.incomplete)
    }

    /// Returns details about an attempt that did not deliver, without lead data.
    pub fn detail(&self) -> Option<String> {
        match &self.result {
            Ok(Answer { status: 300..=399, location: Some(origin), .. }) => Some(format!("redirect to {origin}")),
            Err(fault @ (Fault::ForbiddenAddress(refusal) | Fault::ForbiddenName(refusal))) => {
                Some(format!("{fault}: the URL leads to {}", refusal.name()))
            }
            Err(Fault::Oauth(TokenFault::Answered(status))) => {
                Some(format!("oauth: the token endpoint answered {status}, and gave no token"))
            }
            Err(Fault::Oauth(TokenFault::Failed(label))) => Some(format!("oauth: {label} at the token endpoint")),
            Ok(_) | Err(_) => None,
        }
    }

    /// Returns the status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|answer| answer.status)
    }
}
