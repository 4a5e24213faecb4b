//! How a target answers a request.

use std::time::Duration;

/// Longer than any timeout of a run.
const FOREVER: Duration = Duration::from_secs(3600);

/// A behaviour, named by the first part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// `ok`: 200 at once.
    Ok,
    /// `after<ms>`: 200 after this many milliseconds.
    After(u64),
    /// `hang`: no answer.
    Hang,
    /// `status<n>`: that status at once.
    Status(u16),
    /// `switch`: the behaviour that was last switched to.
    Switch,
}

impl Behaviour {
    /// Parses the first part of a path.
    pub fn parse(word: &str) -> Option<Behaviour> {
        Some(match word {
            "ok" => Behaviour::Ok,
            "hang" => Behaviour::Hang,
            "switch" => Behaviour::Switch,
            word => match (word.strip_prefix("after"), word.strip_prefix("status")) {
                (Some(ms), _) => Behaviour::After(ms.parse().ok()?),
                (_, Some(status)) => Behaviour::Status(status.parse().ok()?),
                _ => return None,
            },
        })
    }

    /// Whether it answers 200, sooner or later.
    pub fn delivers(self) -> bool {
        matches!(self, Behaviour::Ok | Behaviour::After(_) | Behaviour::Status(200..=299))
    }

    /// Waits as this behaviour says, and returns the status to answer with.
    pub async fn act(self) -> u16 {
        match self {
            Behaviour::Ok => 200,
            Behaviour::After(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                200
            }
            Behaviour::Hang | Behaviour::Switch => {
                tokio::time::sleep(FOREVER).await;
                200
            }
            Behaviour::Status(status) => status,
        }
    }
}
