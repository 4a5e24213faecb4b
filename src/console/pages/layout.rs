//! The parts that all pages share: head, navigation, footer.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::{console::door::Visitor, failpoint, settings::Role};

/// The navigation entry of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Queues, rates, targets in trouble.
    Overview,
    /// Deliveries by lead, submission or campaign.
    Search,
    /// Failed jobs.
    Failed,
    /// Rejected messages.
    Rejected,
    /// The targets of a campaign.
    Settings,
    /// None of these.
    Elsewhere,
}

const TABS: [(Tab, &str, &str); 5] = [
    (Tab::Overview, "/", "Overview"),
    (Tab::Search, "/search", "Search"),
    (Tab::Failed, "/failed", "Failed jobs"),
    (Tab::Rejected, "/rejected", "Rejected"),
    (Tab::Settings, "/settings", "Campaign settings"),
];

/// The data that every page needs.
pub struct Frame {
    /// The person.
    pub visitor: Visitor,
    /// The token for this person's forms.
    pub token: String,
    /// The time of the request.
    pub now: Timestamp,
}

impl Frame {
    /// Returns whether forms that change something are shown.
    pub fn acts(&self) -> bool {
        self.visitor.role == Role::Act
    }

    /// Returns the field that proves that a form came from this console.
    pub fn proof(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.token); }
    }

    /// Builds a whole page. `live` pages refresh themselves if the browser runs scripts.
    pub fn page(&self, tab: Tab, title: &str, live: bool, content: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Leadhook" }
                    link rel="icon" href="/icon.svg" type="image/svg+xml";
                    link rel="stylesheet" href=(concat!("/style.css?v=", env!("CARGO_PKG_VERSION")));
                    @if live { script src=(concat!("/live.js?v=", env!("CARGO_PKG_VERSION"))) defer {} }
                }
                body {
                    a.skip href="#content" { "Skip to the content" }
                    header.bar {
                        a.brand href="/" { span aria-hidden="true" { "⤷" } " Leadhook" }
                        nav aria-label="Pages" {
                            ul {
                                @for (known, path, name) in TABS {
                                    li { a href=(path) aria-current=[(known == tab).then_some("page")] { (name) } }
                                }
                            }
                        }
                        p.who { (self.visitor.name) " " span.role { (self.visitor.role.name()) } }
                    }
                    main #content tabindex="-1" data-live[live] {
                        h1 { (title) }
                        (content)
                    }
                    footer { p { "Leadhook " (failpoint::VERSION) " · times are in UTC · " time datetime=(self.now) { (format!("{:.0}", self.now)) } } }
                }
            }
        }
    }

    /// Builds a page with an error.
    pub fn trouble(&self, title: &str, text: &str) -> Markup {
        let content = html! { div.note.bad role="alert" { p { (text) } } p { a href="/" { "To the overview" } } };
        self.page(Tab::Elsewhere, title, false, &content)
    }
}
