//! The webhook store: the files that say which events go to which targets (docs/reference/webhook-store.md).
//!
//! ```text
//!  files ──▶ yaml, toml_text ──▶ schema, webhook, headers, secrets ──▶ effective ──▶ Store ──▶ resolve
//!  bytes      one document tree     values, and all problems             inheritance   one revision
//! ```
//!
//! The files are the authority. [`load`] turns them into one immutable [`Store`], or returns all their [`Problems`].
//! [`LiveStore`] holds the last good store. It replaces the store as a whole when the files change, so no event sees
//! half of a change. Loading also resolves variables and secret files, so a missing secret is found before an attempt
//! needs it.

mod answers;
mod ca_certificate;
mod certificate;
mod client_certificate;
mod declared;
mod document;
mod effective;
mod endpoint;
mod event_set;
mod fields;
mod files;
mod headers;
mod live;
mod load;
mod oauth2;
mod problem;
mod resolve;
mod schema;
mod secrets;
pub(crate) mod target;
mod toml_text;
mod url;
mod watch;
mod webhook;
mod yaml;

#[cfg(test)]
mod tests;

pub use ca_certificate::CaCertificate;
pub use client_certificate::ClientCertificate;
pub use declared::UnselectedEvents;
pub use effective::{Campaign, CampaignRule, Organization, Origins, Webhook};
pub use endpoint::ValueSource;
pub use event_set::EventSet;
pub use fields::{is_id, nearest};
pub use live::{LiveStore, ReloadReport, StoreStatus};
pub use load::load;
pub use oauth2::Oauth2;
pub use problem::{Place, Problem, Problems, Severity};
pub use resolve::{Misplaced, NoTarget, Placed, Resolution, Store, TargetState};
pub use target::{Target, TargetKey};
