//! What all pages share: head, navigation, footer.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::{console::door::Visitor, failpoint, settings::Role};

/// Where in the console a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// How things stand.
    Overview,
    /// What happened to a lead?
    Search,
    /// What could not be delivered.
    Failed,
    /// Where events of a campaign go.
    Settings,
    /// None of them.
    Elsewhere,
}

const TABS: [(Tab, &str, &str); 4] = [
    (Tab::Overview, "/", "Overview"),
    (Tab::Search, "/search", "Search"),
    (Tab::Failed, "/failed", "Failed jobs"),
    (Tab::Settings, "/settings", "Campaign settings"),
];

/// What a page is shown in.
pub struct Frame {
    /// To whom.
    pub visitor: Visitor,
    /// What their forms carry.
    pub token: String,
    /// When.
    pub now: Timestamp,
}

impl Frame {
    /// Whether forms that change something are shown.
    pub fn acts(&self) -> bool {
        self.visitor.role == Role::Act
    }

    /// The field that proves where a form came from.
    pub fn proof(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.token); }
    }

    /// A whole page. `live` pages can follow what happens, if the browser runs scripts.
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

    /// A page that says why there is none.
    pub fn trouble(&self, title: &str, text: &str) -> Markup {
        let content = html! { div.note.bad role="alert" { p { (text) } } p { a href="/" { "To the overview" } } };
        self.page(Tab::Elsewhere, title, false, &content)
    }
}
