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
    Shared, Unrecorded,
    door::Visitor,
    pages::{self, Frame, preview::Preview},
    query::Query,
    queue::{self, Found, Trouble},
    routes::{Shown, refuse},
    work::{Kind, leave_delivered},
};
use crate::{
    cli::readable::jobs,
    delivery_log::{Entry, What},
    desk::{selection::Selection, survey::Choice},
};

/// Jobs a second that a replay may be held to, as `leadhook failed replay --rate` has it.
const RATES: std::ops::RangeInclusive<u32> = 1..=100_000;

/// Longest reason of a discard, in characters.
const REASON: usize = 200;

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
    match shared.desk.list(&shared, &filters, filter, fresh).await {
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

/// The data of the lead, and a line in the log about who asked.
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
        let text = "That you see it could not be written to the delivery log, so it is not shown. Try again later.";
        let on_record = shared.on_record(&shown).await;
        on_record.map_err(|Unrecorded| refuse(&frame, StatusCode::SERVICE_UNAVAILABLE, "Not shown", text))?;
    }
    if shared.settings.delivery_log.enabled {
        info!(by = frame.visitor.name, webhook_id = key, "console: the data of a lead was shown");
    } else {
        warn!(by = frame.visitor.name, webhook_id = key, "console: the data of a lead was shown");
    }
    Ok(pages::job::page(&frame, &id, &found, true))
}

async fn find(shared: &Shared, frame: &Frame, id: &str) -> Result<Found, (StatusCode, Markup)> {
    let found = shared.desk.find(shared, id).await;
    let found = found.map_err(|trouble| refuse(frame, trouble.status(), "The failed queue", &trouble.words()))?;
    let Some(mut found) = found else {
        let text = "It is not on the failed queue: it was put back, discarded, or never failed.";
        return Err(refuse(frame, StatusCode::NOT_FOUND, "No such failed job", text));
    };
    if let Ok(job) = &found.record.content {
        let (known, _) = queue::known(shared, &BTreeSet::from([id]), Some(job.first_seen)).await;
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
        return Err(refuse(&frame, StatusCode::FORBIDDEN, "Not for you", "This takes the role act."));
    }
    let (choice, by_id) = choice(&frame, &query)?;
    let action = match query.get("action") {
        Some("discard") => "discard",
        _ => "replay",
    };
    let surveyed = shared.desk.survey(&shared, choice).await;
    let (mut survey, mut notes) =
        surveyed.map_err(|trouble| refuse(&frame, trouble.status(), "The failed queue", &trouble.words()))?;
    if action == "replay" && !by_id {
        let (left, problem) = leave_delivered(&shared, &mut survey).await;
        if left.delivered > 0 {
            notes.push(format!(
                "{} were delivered all the same, says the delivery log, and would be left.",
                jobs(left.delivered)
            ));
        }
        if left.unknown > 0 {
            let why = problem.unwrap_or_else(|| "they are older than the delivery log".to_owned());
            notes.push(format!("Whether {} were delivered already is unknown: {why}.", jobs(left.unknown)));
        }
    }
    for gone in &survey.resolved.unknown {
        notes.push(format!("{gone} is not on the failed queue any more."));
    }
    let directory = shared.settings.console.discard_directory.as_deref();
    let (count, unreadable) = (survey.chosen.len() as u64, survey.unreadable);
    Ok(pages::preview::page(&frame, &Preview { action, query: &query, by_id, count, notes, unreadable, directory }))
}

pub async fn replay(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawForm(form): RawForm,
) -> Result<Response, (StatusCode, Markup)> {
    begin(&shared, visitor, &form, |frame, query| {
        let wrong =
            || refuse(frame, StatusCode::BAD_REQUEST, "Nothing was done", "rate: expected 1 to 100000 jobs a second.");
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
    let directory = shared.settings.console.discard_directory.clone();
    begin(&shared, visitor, &form, |frame, query| {
        let wrong = |text: &str| refuse(frame, StatusCode::BAD_REQUEST, "Nothing was done", text);
        let directory = directory.ok_or_else(|| wrong("console.discard_directory is not set."))?;
        let because = query.get("because").filter(|text| text.chars().count() <= REASON);
        let because = because.ok_or_else(|| wrong("Say why, in 1 to 200 characters."))?.to_owned();
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
    let number = shared.works.begin(shared, kind, &frame.visitor.name, choice, query.number("agreed", 0));
    Ok(Redirect::to(&format!("/work/{number}")).into_response())
}

pub async fn work(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(number): Path<u64>,
) -> Shown {
    let frame = Frame::of(&shared, visitor);
    let gone = || {
        let text = "The console has been started anew since, or it was long ago. The delivery log knows what was done.";
        refuse(&frame, StatusCode::NOT_FOUND, "Not known any more", text)
    };
    let work = shared.works.get(number).ok_or_else(gone)?;
    Ok(pages::work::page(&frame, &work))
}

/// Whether a form came from one of our pages.
fn ours(shared: &Shared, frame: &Frame, query: &Query) -> Result<(), (StatusCode, Markup)> {
    if shared.door.is_ours(&frame.visitor, query.get("token").unwrap_or_default()) {
        return Ok(());
    }
    let text =
        "This form was not made for you by this console, or the console has been started anew. Open the page again.";
    Err(refuse(frame, StatusCode::FORBIDDEN, "Nothing was done", text))
}

/// What is meant, and whether by ids.
fn choice(frame: &Frame, query: &Query) -> Result<(Choice, bool), (StatusCode, Markup)> {
    let wrong = |text: &str| refuse(frame, StatusCode::BAD_REQUEST, "Nothing was done", text);
    match query.get("which") {
        Some("matching") => {
            let mut filter = query.filter(frame.now).map_err(|problems| wrong(&problems.join("; ")))?;
            // Who agreed has seen what was there then: what has failed since is another matter.
            let previewed = query.get("previewed").and_then(|at| Timestamp::from_millisecond(at.parse().ok()?).ok());
            filter.before = filter.before.into_iter().chain(previewed).min();
            Ok((Choice::Matching(filter), false))
        }
        _ => {
            let ids: Vec<_> = query.all("id").map(str::to_owned).collect();
            if ids.is_empty() {
                return Err(wrong("No job was ticked."));
            }
            Ok((Choice::Named(Selection::whole(ids)), true))
        }
    }
}

impl Trouble {
    /// In a sentence.
    pub fn words(&self) -> String {
        match self {
            Trouble::Busy => {
                "Somebody else is at the failed queue, here or with leadhook failed, and one at a time may. Try again in a moment."
                    .to_owned()
            }
            Trouble::Slow => "Looking at the failed queue took too long; nothing was changed. Use leadhook failed.".to_owned(),
            Trouble::Visit(error) => error.to_string(),
        }
    }

    fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
