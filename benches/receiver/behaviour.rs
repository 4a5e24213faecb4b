//! What a target does with a request.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::seen::Seen;

/// Longer than any timeout of a run.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// The first part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// `ok`: 200 at once.
    Ok,
    /// `after<ms>`: 200 after so many milliseconds.
    After(u64),
    /// `hang`: no answer.
    Hang,
    /// `status<n>`: that status at once.
    Status(u16),
    /// `flaky`: each webhook-id fails twice, then succeeds.
    Flaky,
    /// `switch`: whatever was switched to last.
    Switch,
}

impl Behaviour {
    /// From the first part of a path.
    pub fn parse(word: &str) -> Option<Behaviour> {
        Some(match word {
            "ok" => Behaviour::Ok,
            "hang" => Behaviour::Hang,
            "flaky" => Behaviour::Flaky,
            "switch" => Behaviour::Switch,
            word => match (word.strip_prefix("after"), word.strip_prefix("status")) {
                (Some(ms), _) => Behaviour::After(ms.parse().ok()?),
                (_, Some(status)) => Behaviour::Status(status.parse().ok()?),
                _ => return None,
            },
        })
    }

    /// Does it; the status to answer with.
    pub async fn act(self, path: &str, seen: &Mutex<Seen>) -> u16 {
        match self {
            Behaviour::Ok => 200,
            Behaviour::After(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                200
            }
            Behaviour::Hang | Behaviour::Switch => {
                tokio::time::sleep(FOR_EVER).await;
                200
            }
            Behaviour::Status(status) => status,
            Behaviour::Flaky => seen.lock().unwrap_or_else(PoisonError::into_inner).turn(path),
        }
    }
}
