//! The script of a receiver's answers, written as a list: `500x2,429:7,hang,200`.

use std::{collections::HashMap, fmt, str::FromStr, time::Duration};

use reqwest::StatusCode;

use crate::duration;

/// A list of replies, given in turn; the last one repeats indefinitely. It is parsed from a comma-separated list of
/// words:
///
/// | word | reply |
/// |---|---|
/// | `200`, `500`, any status from 200 to 599 | that status; a 3xx has a `Location` on this same receiver |
/// | `429:7`, `503:3` | the status with `Retry-After: 7` |
/// | `hang` | no answer; the connection stays open |
/// | `drip` | `200`, then one byte every 200 ms indefinitely |
/// | `endless`, `endless:200` | `500` (or the status given), then bytes without end, as fast as they are taken |
/// | `close` | the connection is closed without an answer |
/// | `reset` | half of a `200`, then the connection is reset |
/// | `garbage` | bytes that are not HTTP, then the connection is closed |
///
/// Each word may be followed by `@250ms` or `@2s` (the reply waits that long), and then by `x3` (given three times).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Never empty.
    replies: Vec<Reply>,
}

/// One entry of a [`Script`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The action of the receiver.
    pub action: Action,
    /// How long the receiver waits before it answers.
    pub delay: Duration,
}

/// An action of a receiver in reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A whole answer.
    Answer {
        /// Its status, 200 to 599.
        status: u16,
        /// Its `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// No answer; the connection stays open.
    Hang,
    /// 200, then one byte every 200 ms indefinitely.
    Drip,
    /// A status, then bytes without end.
    Endless {
        /// The status, 200 to 599.
        status: u16,
    },
    /// The connection is closed without an answer.
    Close,
    /// A head that promises a body, half of the body, then a reset.
    Reset,
    /// Bytes that are not HTTP.
    Garbage,
}

/// Why a text is not a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is not a reply: write a status such as 200 or 429:7 (with Retry-After), or hang, drip, endless, close, \
     reset, garbage; add @250ms for a delay and x3 to repeat"
)]
pub struct ScriptError {
    /// The entry that cannot be read.
    pub entry: String,
}

impl Script {
    /// Returns the script that always gives the same answer.
    pub fn always(status: u16) -> Script {
        Script { replies: vec![Reply { action: Action::Answer { status, retry_after: None }, delay: Duration::ZERO }] }
    }

    /// Returns the reply of turn `turn`, counted from 0.
    pub fn reply(&self, turn: usize) -> Reply {
        self.replies[turn.min(self.replies.len() - 1)]
    }
}

impl Default for Script {
    /// Returns the script that always answers 200.
    fn default() -> Script {
        Script::always(200)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Script, ScriptError> {
        let mut replies = Vec::new();
        for entry in text.split(',').map(str::trim) {
            let (reply, times) = parse_entry(entry).ok_or_else(|| ScriptError { entry: entry.to_owned() })?;
            replies.extend(std::iter::repeat_n(reply, times));
        }
        Ok(Script { replies })
    }
}

impl Action {
    /// Returns the status that is sent, if there is one.
    pub fn status(self) -> Option<u16> {
        match self {
            Action::Answer { status, .. } | Action::Endless { status } => Some(status),
            Action::Drip => Some(200),
            Action::Hang | Action::Close | Action::Reset | Action::Garbage => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Answer { status, retry_after: None } => write!(f, "{status}"),
            Action::Answer { status, retry_after: Some(seconds) } => write!(f, "{status}:{seconds}"),
            Action::Hang => f.write_str("hang"),
            Action::Drip => f.write_str("drip"),
            Action::Endless { status } => write!(f, "endless:{status}"),
            Action::Close => f.write_str("close"),
            Action::Reset => f.write_str("reset"),
            Action::Garbage => f.write_str("garbage"),
        }
    }
}

/// Counts the turns: all requests together, or those of each webhook-id.
#[derive(Debug, Default)]
pub(super) struct Turns {
    shared: usize,
    each: HashMap<String, usize>,
}

impl Turns {
    /// Takes the next turn: that of `owner` if there is one, otherwise the shared one.
    pub(super) fn next(&mut self, owner: Option<&str>) -> usize {
        let count = match owner {
            Some(id) => self.each.entry(id.to_owned()).or_default(),
            None => &mut self.shared,
        };
        let turn = *count;
        *count += 1;
        turn
    }
}

/// Parses `<word>[:<number>][@<delay>][x<times>]`.
fn parse_entry(entry: &str) -> Option<(Reply, usize)> {
    const MOST_TIMES: usize = 100_000;
    let (entry, times) = match entry.rsplit_once('x') {
        Some((rest, times)) if times.bytes().all(|byte| byte.is_ascii_digit()) => (rest, times.parse().ok()?),
        _ => (entry, 1),
    };
    let (entry, delay) = match entry.split_once('@') {
        Some((rest, delay)) => (rest, duration::parse(delay).ok()?),
        None => (entry, Duration::ZERO),
    };
    let (word, number) = match entry.split_once(':') {
        Some((word, number)) => (word, Some(number)),
        None => (entry, None),
    };
    let action = match (word, number) {
        ("hang", None) => Action::Hang,
        ("drip", None) => Action::Drip,
        ("close", None) => Action::Close,
        ("reset", None) => Action::Reset,
        ("garbage", None) => Action::Garbage,
        ("endless", None) => Action::Endless { status: 500 },
        ("endless", Some(status)) => Action::Endless { status: parse_status(status)? },
        (status, None) => Action::Answer { status: parse_status(status)?, retry_after: None },
        (status, Some(seconds)) => {
            Action::Answer { status: parse_status(status)?, retry_after: Some(seconds.parse().ok()?) }
        }
    };
    (1..=MOST_TIMES).contains(&times).then_some((Reply { action, delay }, times))
}

fn parse_status(text: &str) -> Option<u16> {
    let status = StatusCode::from_bytes(text.as_bytes()).ok()?.as_u16();
    (200..=599).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, turns: usize) -> Vec<String> {
        let script: Script = text.parse().unwrap();
        (0..turns).map(|turn| script.reply(turn).action.to_string()).collect()
    }

    #[test]
    fn replies_in_turn_and_the_last_one_for_ever() {
        assert_eq!(words("500, 429:7,hang,200", 6), ["500", "429:7", "hang", "200", "200", "200"]);
        assert_eq!(
            words("500x2,close,drip,endless,reset,garbage,endless:200", 9),
            ["500", "500", "close", "drip", "endless:500", "reset", "garbage", "endless:200", "endless:200"]
        );
    }

    #[test]
    fn delays_and_repetitions() {
        let script: Script = "503:3@250msx2,200@2s,200@1m".parse().unwrap();
        let pushback = Action::Answer { status: 503, retry_after: Some(3) };
        let slow = Reply { action: pushback, delay: Duration::from_millis(250) };
        assert_eq!([script.reply(0), script.reply(1)], [slow, slow]);
        assert_eq!([2, 3].map(|turn| script.reply(turn).delay.as_secs()), [2, 60]);
        assert_eq!(Script::default(), "200".parse().unwrap());
    }

    #[test]
    fn what_is_no_reply_is_named() {
        for entry in [
            "", "100", "101", "600", "abc", "hang:3", "200@", "200@5", "200@-1s", "200x0", "429:", "429:x", "20",
            "+200",
        ] {
            let error = format!("200,{entry}").parse::<Script>().unwrap_err();
            assert_eq!(error.entry, entry);
            assert!(error.to_string().contains("429:7"));
        }
        assert!("200x".parse::<Script>().is_err());
        assert!("200x4000000000".parse::<Script>().is_err());
    }

    #[test]
    fn turns_are_shared_or_one_for_each() {
        let mut turns = Turns::default();
        let taken = [None, Some("a"), Some("b"), Some("a"), None, Some("b")].map(|owner| turns.next(owner));
        assert_eq!(taken, [0, 0, 0, 1, 1, 1]);
    }
}
