//! The steps of the model, in words.

use std::fmt;

use super::state::What;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Take { worker: u8, what: What, redelivered: bool },
    Recall { worker: u8, what: What },
    Post { worker: u8, what: What, status: u16 },
    Send { worker: u8, what: What, next: Next },
    Confirm { worker: u8, what: What, next: Next },
    Ack { worker: u8, what: What },
    Notice { worker: u8 },
    Kill { worker: u8 },
    Cut { worker: u8, ahead: u32 },
    Lost { worker: u8, how: How },
    NotDone { worker: u8, next: Next, how: How, arrived: bool },
    Restart { confirmed: u32 },
    Twice { what: What },
}

/// A successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Job(What),
    Failed(What),
    Rejected(What),
}

/// The reason why a publish is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Lost,
    TimedOut,
    Nacked,
    Returned,
    Unclear,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Take { worker, what, redelivered } => {
                let again = if *redelivered { ", redelivered," } else { "" };
                write!(f, "worker {worker} takes {what}{again} and starts on it")
            }
            Step::Recall { worker, what } => write!(f, "worker {worker} remembers what it did with {what}"),
            Step::Post { worker, what, status } => write!(f, "worker {worker} POSTs {what}, answered {status}"),
            Step::Send { worker, what, next } => {
                write!(f, "worker {worker} publishes {next} for {what}; the broker has it")
            }
            Step::Confirm { worker, what, next } => {
                write!(f, "worker {worker} gets the confirm of {next}, and acks {what} if that was all")
            }
            Step::Ack { worker, what } => write!(f, "worker {worker} acks {what}"),
            Step::Notice { worker } => {
                write!(f, "worker {worker} sees that its channel is gone, publishes no more for it, and opens another")
            }
            Step::Kill { worker } => write!(f, "FAULT: worker {worker} is killed and starts again"),
            Step::Cut { worker, ahead: 0 } => {
                write!(f, "FAULT: the broker loses the consuming channel of worker {worker}")
            }
            Step::Cut { worker, ahead } => {
                write!(
                    f,
                    "FAULT: the broker loses the consuming channel of worker {worker}, jobs sent ahead: {ahead:b}"
                )
            }
            Step::Lost { worker, how } => write!(f, "FAULT: all confirms to worker {worker} are {}", how.text()),
            Step::NotDone { worker, next, how, arrived } => {
                let arrived = if *arrived { "is on its queue" } else { "did not arrive" };
                write!(f, "FAULT: {next} of worker {worker} is {}; it {arrived}", how.text())
            }
            Step::Restart { confirmed } => {
                write!(f, "FAULT: the broker restarts; of the confirms under way come: {confirmed:b}")
            }
            Step::Twice { what } => write!(f, "FAULT: the broker dead-letters {what} twice"),
        }
    }
}

impl How {
    fn text(self) -> &'static str {
        match self {
            How::Lost => "lost with its channel",
            How::TimedOut => "not confirmed in time",
            How::Nacked => "nacked",
            How::Returned => "returned",
            How::Unclear => "unclear",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Event(event) => write!(f, "event {event}"),
            What::Job { event, target, attempt } => {
                write!(f, "job {event}/{target} ({attempt} attempts made)")
            }
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::Job(what) => what.fmt(f),
            Next::Failed(what) => write!(f, "failed {what}"),
            Next::Rejected(what) => write!(f, "rejected {what}"),
        }
    }
}
