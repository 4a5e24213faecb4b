//! The handlers of the failed queue.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension,
    extract::{Path, RawForm, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::Markup;
use tracing::{info, warn};

use super::{
    answers::{Shown, refuse, sentence},
    door::Visitor,
    pages::{self, Frame, preview::Preview},
    query::Query,
    queue::{self, Found, Trouble},
    shared::{Shared, Unrecorded},
    work::{Kind, exclude_delivered},
};
use crate::{
    cli::readable::jobs,
    dead_letters::{given_ids::GivenIds, selection::Choice},
    delivery_log::{Entry, What},
};

/// The range of a replay's rate in jobs per second, as for `leadhook failed replay --rate`.
const RATES: std::ops::RangeInclusive<u32> = 1..=100_000;

/// Longest reason of a discard, in characters.
pub(super) const REASON: usize = 200;

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Shown {
    let (frame, query) = (Frame::of(&shared, visitor), Query::read(query.as_deref().unwrap_or_default()));
    let filter = match query.filter(frame.now) {
        Ok(filter) => filter,
        Err(wrong) => return Err((StatusCode::BAD_REQUEST, pages::failed::page(&frame, &query, None, &wrong))),
    };
    let (filters, fresh) = (query.filters().text(), query.get("fresh").is_some());
    match shared.letters.list(&shared.access, &filters, filter, fresh).await {
        Ok(looked) => Ok(pages::failed::page(&Frame::of(&shared, frame.visitor), &query, Some(&looked), &[])),
        Err(trouble) => Err((trouble.status(), pages::failed::page(&frame, &query, None, &[trouble.words()]))),
    }
}

pub async fn job(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Shown {
    let frame = Frame::of(&shared, visitor);
    let found = find(&shared, &frame, &id).await?;
    Ok(pages::job::page(&frame, &id, &found, false))
}

/// Shows the data of the lead, and records who asked.
pub async fn reveal(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    RawForm(form): RawForm,
) -> Shown {
    let frame = Frame::of(&shared, visitor);
    ours(&shared, &frame, &Query::read(&String::from_utf8_lossy(&form)))?;
    let found = find(&shared, &frame, &id).await?;
    let key = found.record.key();
    if let Ok(job) = &found.record.content {
        let shown = Entry {
            by: Some(frame.visitor.name.as_str().into()),
            ..Entry::of_job(What::Revealed, Timestamp::now(), job)
        };
        shown_on_record(&shared, &frame, &shown).await?;
    }
    if shared.access.settings.delivery_log.enabled {
        info!(by = frame.visitor.name, webhook_id = key, "console: the data of a lead was shown");
    } else {
        warn!(by = frame.visitor.name, webhook_id = key, "console: the data of a lead was shown");
    }
    Ok(pages::job::page(&frame, &id, &found, true))
}

/// Records that data is about to be shown.
pub(super) async fn shown_on_record(
    shared: &Shared,
    frame: &Frame,
    shown: &Entry<'_>,
) -> Result<(), (StatusCode, Markup)> {
    let text = "The delivery log could not record that you asked, so the data is not shown. Try again later.";
    let on_record = shared.on_record(shown).await;
    on_record.map_err(|Unrecorded| refuse(frame, StatusCode::SERVICE_UNAVAILABLE, "Not shown", text))
}

async fn find(shared: &Shared, frame: &Frame, id: &str) -> Result<Found, (StatusCode, Markup)> {
    let found = shared.letters.find(&shared.access, id).await;
    let found = found.map_err(|trouble| refuse(frame, trouble.status(), "The failed queue", &trouble.words()))?;
    let Some(mut found) = found else {
        let text = "It is not on the failed queue: it was replayed, discarded, or never failed.";
        return Err(refuse(frame, StatusCode::NOT_FOUND, "Job not found", text));
    };
    if let Ok(job) = &found.record.content {
        let (known, _) = queue::known(&shared.access, &BTreeSet::from([id]), Some(job.first_seen)).await;
        found.delivered = Some(known.of(id, job.first_seen));
    }
    Ok(found)
}

pub async fn preview(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Shown {
    let (frame, query) = (Frame::of(&shared, visitor), Query::read(query.as_deref().unwrap_or_default()));
    if !frame.acts() {
        return Err(refuse(&frame, StatusCode::FORBIDDEN, "Not allowed", "This needs the role act."));
    }
    let (choice, by_id) = choice(&frame, &query)?;
    let times = match &choice {
        Choice::Matching(filter) => (filter.since, filter.before),
        Choice::Named(_) => (None, None),
    };
    let action = match query.get("action") {
        Some("discard") => "discard",
        _ => "replay",
    };
    let selected = shared.letters.selection(&shared.access, choice).await;
    let (mut selection, mut notes) =
        selected.map_err(|trouble| refuse(&frame, trouble.status(), "The failed queue", &trouble.words()))?;
    if action == "replay" && !by_id {
        let (excluded, problem) = exclude_delivered(&shared.access, &mut selection).await;
        if excluded.delivered > 0 {
            notes.push(format!(
                "{} were delivered too, by the delivery log, and would be left.",
                jobs(excluded.delivered)
            ));
        }
        if excluded.unknown > 0 {
            let why = problem.unwrap_or_else(|| "they are older than the delivery log".to_owned());
            notes.push(format!("{} may have been delivered already: {why}.", jobs(excluded.unknown)));
        }
    }
    for gone in &selection.resolved.unknown {
        notes.push(format!("{gone} is no longer on the failed queue."));
    }
    let directory = shared.access.settings.console.discard_directory.as_deref();
    let (count, unreadable) = (selection.chosen.len() as u64, selection.unreadable);
    Ok(pages::preview::page(
        &frame,
        &Preview { action, query: &query, times, by_id, count, notes, unreadable, directory },
    ))
}

pub async fn replay(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawForm(form): RawForm,
) -> Result<Response, (StatusCode, Markup)> {
    begin(&shared, visitor, &form, |frame, query| {
        let wrong = || {
            refuse(frame, StatusCode::BAD_REQUEST, "Nothing was done", "Invalid rate: write 1 to 100000 jobs a second.")
        };
        let rate =
            query.get("rate").map(|text| text.parse().ok().filter(|rate| RATES.contains(rate)).ok_or_else(wrong));
        Ok(Kind::Replay { rate: rate.transpose()? })
    })
}

pub async fn discard(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawForm(form): RawForm,
) -> Result<Response, (StatusCode, Markup)> {
    let directory = shared.access.settings.console.discard_directory.clone();
    begin(&shared, visitor, &form, |frame, query| {
        let wrong = |text: &str| refuse(frame, StatusCode::BAD_REQUEST, "Nothing was done", text);
        let directory =
            directory.ok_or_else(|| wrong("The console cannot discard: console.discard_directory is not set."))?;
        let because = query.get("because").filter(|text| text.chars().count() <= REASON);
        let because = because.ok_or_else(|| wrong("The reason is missing: write 1 to 200 characters."))?.to_owned();
        Ok(Kind::Discard { because, directory })
    })
}

fn begin(
    shared: &Arc<Shared>,
    visitor: Visitor,
    form: &[u8],
    kind: impl FnOnce(&Frame, &Query) -> Result<Kind, (StatusCode, Markup)>,
) -> Result<Response, (StatusCode, Markup)> {
    let (frame, query) = (Frame::of(shared, visitor), Query::read(&String::from_utf8_lossy(form)));
    ours(shared, &frame, &query)?;
    let kind = kind(&frame, &query)?;
    let (choice, _) = choice(&frame, &query)?;
    let number = shared.works.begin(
        &shared.access,
        &shared.letters,
        kind,
        &frame.visitor.name,
        choice,
        query.number("agreed", 0),
    );
    Ok(Redirect::to(&format!("/work/{number}")).into_response())
}

pub async fn work(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(number): Path<u64>,
) -> Shown {
    let frame = Frame::of(&shared, visitor);
    let gone = || {
        let text = "The console has been restarted, or it was long ago. The delivery log has a record of each job.";
        refuse(&frame, StatusCode::NOT_FOUND, "No longer known", text)
    };
    let work = shared.works.get(number).ok_or_else(gone)?;
    Ok(pages::work::page(&frame, &work))
}

/// Checks that a form came from one of this console's pages.
pub(super) fn ours(shared: &Shared, frame: &Frame, query: &Query) -> Result<(), (StatusCode, Markup)> {
    if shared.door.is_ours(&frame.visitor, query.get("token").unwrap_or_default()) {
        return Ok(());
    }
    let text = "This form does not belong to your session, or the console has been restarted. Open the page again.";
    Err(refuse(frame, StatusCode::FORBIDDEN, "Nothing was done", text))
}

/// Returns the chosen jobs, and whether they were chosen by id.
fn choice(frame: &Frame, query: &Query) -> Result<(Choice, bool), (StatusCode, Markup)> {
    let wrong = |text: &str| refuse(frame, StatusCode::BAD_REQUEST, "Nothing was done", text);
    match query.get("which") {
        Some("matching") => {
            let mut filter = query.filter(frame.now).map_err(|problems| wrong(&problems.join("; ")))?;
            // The user agreed to the jobs of the preview, so jobs that failed after it are left out.
            let previewed = query.get("previewed").and_then(|at| Timestamp::from_millisecond(at.parse().ok()?).ok());
            filter.before = filter.before.into_iter().chain(previewed).min();
            Ok((Choice::Matching(filter), false))
        }
        _ => {
            let ids: Vec<_> = query.all("id").map(str::to_owned).collect();
            if ids.is_empty() {
                return Err(wrong("No job is ticked. Go back and tick some, or choose all that match."));
            }
            Ok((Choice::Named(GivenIds::whole(ids)), true))
        }
    }
}

impl Trouble {
    /// Returns the message for a page.
    pub fn words(&self) -> String {
        match self {
            Trouble::Busy => {
                "Another page or leadhook command is reading the queue, and only one can read it at a time. \
                 Try again in a moment."
                    .to_owned()
            }
            Trouble::Slow => {
                "Reading the queue took too long, and nothing was changed. Use the command line.".to_owned()
            }
            Trouble::Browse(error) => sentence(&error.to_string(), error.help()),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
