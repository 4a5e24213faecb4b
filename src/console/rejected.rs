//! The handlers of the rejected queue: messages by cause, and the repair of one.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, RawForm, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::Markup;
use tracing::warn;
use url::form_urlencoded;

use super::{
    answers::{Shown, refuse},
    door::Visitor,
    failed::{REASON, ours, shown_on_record},
    pages::{
        self, Frame,
        rejected::{Difference, Form, Preview},
    },
    query::Query,
    queue::Found,
    shared::Shared,
    work::Kind,
};
use crate::{
    dead_letters::{
        given_ids::GivenIds,
        repair::{Repair, quoted},
        requeue,
        selection::Choice,
    },
    delivery_log::{Entry, What},
};

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Shown {
    let (frame, query) = (Frame::of(&shared, visitor), Query::read(query.as_deref().unwrap_or_default()));
    match shared.letters.rejected(&shared.access, query.get("reason"), query.get("detail")).await {
        Ok(rejected) => Ok(pages::rejected::list(&frame, &query, &rejected)),
        Err(trouble) => Err(refuse(&frame, trouble.status(), "The rejected queue", &trouble.words())),
    }
}

pub async fn message(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Shown {
    let frame = Frame::of(&shared, visitor);
    let found = find(&shared, &frame, &id).await?;
    Ok(pages::rejected::message(&frame, &id, &found, shared.access.settings.delivery.max_event_bytes, false))
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
    let by = Some(frame.visitor.name.as_str().into());
    let shown = Entry { id: Some(id.as_str().into()), by, ..Entry::new(What::Revealed, Timestamp::now()) };
    shown_on_record(&shared, &frame, &shown).await?;
    warn!(by = frame.visitor.name, "console: the data of a rejected message was shown");
    Ok(pages::rejected::message(&frame, &id, &found, shared.access.settings.delivery.max_event_bytes, true))
}

async fn find(shared: &Shared, frame: &Frame, id: &str) -> Result<Found, (StatusCode, Markup)> {
    let found = shared.letters.find_rejected(&shared.access, id).await;
    let found = found.map_err(|trouble| refuse(frame, trouble.status(), "The rejected queue", &trouble.words()))?;
    found.ok_or_else(|| gone(frame))
}

fn gone(frame: &Frame) -> (StatusCode, Markup) {
    let text = "It is not on the rejected queue: it was put back or discarded.";
    refuse(frame, StatusCode::NOT_FOUND, "Message not found", text)
}

/// Shows the differences that a repair would make, and asks the person to agree. Takes a form and not an address,
/// because the values are data.
pub async fn preview(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    RawForm(form): RawForm,
) -> Shown {
    let frame = Frame::of(&shared, visitor);
    ours(&shared, &frame, &Query::read(&String::from_utf8_lossy(&form)))?;
    let form = Form::read(&form);
    let repair = repair(&form).map_err(|why| refuse(&frame, StatusCode::BAD_REQUEST, "Nothing was done", &why))?;
    let difference = match form.action.as_str() {
        "discard" => None,
        _ => Some(difference(&shared, &frame, &id, repair.as_ref()).await?),
    };
    let directory = shared.access.settings.console.discard_directory.as_deref();
    Ok(pages::rejected::preview(&frame, &Preview { id: &id, form: &form, difference, directory }))
}

async fn difference(
    shared: &Arc<Shared>,
    frame: &Frame,
    id: &str,
    repair: Option<&Repair>,
) -> Result<Difference, (StatusCode, Markup)> {
    let (events, largest) = (&shared.access.plan.names().events, shared.access.settings.delivery.max_event_bytes);
    let seen =
        shared.letters.see_rejected(&shared.access, id, |held| requeue::prepare(held, events, largest, repair)).await;
    let seen = seen.map_err(|trouble| refuse(frame, trouble.status(), "The rejected queue", &trouble.words()))?;
    Ok(match seen.ok_or_else(|| gone(frame))? {
        Err(why) => Difference::Unusable(why),
        Ok(prepared) => {
            let event = prepared.event;
            let store = shared.store().await.ok().map(|store| store.current());
            let misplaced = store.and_then(|store| store.place(&event.campaign, event.organization.as_deref()).err());
            Difference::Usable { changes: prepared.changes, misplaced }
        }
    })
}

/// Starts to put the message back, repaired or unchanged, or to discard it.
pub async fn act(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    RawForm(form): RawForm,
) -> Result<Response, (StatusCode, Markup)> {
    let (frame, query) = (Frame::of(&shared, visitor), Query::read(&String::from_utf8_lossy(&form)));
    ours(&shared, &frame, &query)?;
    let wrong = |text: &str| refuse(&frame, StatusCode::BAD_REQUEST, "Nothing was done", text);
    let form = Form::read(&form);
    let kind = match form.action.as_str() {
        "requeue" => Kind::Requeue { repair: repair(&form).map_err(|why| wrong(&why))? },
        "discard" => {
            let directory = shared.access.settings.console.discard_directory.clone();
            let directory =
                directory.ok_or_else(|| wrong("The console cannot discard: console.discard_directory is not set."))?;
            let because = query.get("because").filter(|text| text.chars().count() <= REASON);
            let because = because.ok_or_else(|| wrong("The reason is missing: write 1 to 200 characters."))?.to_owned();
            Kind::DiscardRejected { because, directory }
        }
        _ => return Err(wrong("Invalid action.")),
    };
    let choice = Choice::Named(GivenIds::whole(vec![id]));
    let number = shared.works.begin(&shared.access, &shared.letters, kind, &frame.visitor.name, choice, 1);
    Ok(Redirect::to(&format!("/work/{number}")).into_response())
}

impl Form {
    /// Reads the form. Unlike [`Query`] it neither trims nor cuts the value, because the value becomes a part of the
    /// message.
    fn read(form: &[u8]) -> Form {
        let mut read = Form::default();
        for (name, value) in form_urlencoded::parse(form) {
            match name.as_ref() {
                "action" => read.action = value.into_owned(),
                "field" => read.field = value.trim().to_owned(),
                "how" => read.how = value.into_owned(),
                "value" => read.value = value.into_owned(),
                "organization" => read.organization = value.trim().to_owned(),
                _ => {}
            }
        }
        read
    }
}

/// Returns the repair that the form asks for, if any.
fn repair(form: &Form) -> Result<Option<Repair>, String> {
    let mut set = Vec::new();
    let mut remove = Vec::new();
    if !form.field.is_empty() {
        match form.how.as_str() {
            "remove" => remove.push(form.field.clone()),
            "json" if serde_json::from_str::<&serde_json::value::RawValue>(&form.value).is_err() => {
                return Err("The value is not JSON. Choose text, or correct it.".to_owned());
            }
            "json" => set.push((form.field.clone(), form.value.trim().to_owned())),
            _ => set.push((form.field.clone(), quoted(&form.value))),
        }
    }
    let organization = Some(form.organization.clone()).filter(|id| !id.is_empty());
    let some = !set.is_empty() || !remove.is_empty() || organization.is_some();
    Ok(some.then_some(Repair::Fields { set, remove, organization }))
}
