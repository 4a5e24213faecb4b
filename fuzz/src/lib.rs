//! The checks of Leadhook's property tests, for libFuzzer to feed.

#[path = "../../tests/properties/checks/mod.rs"]
pub mod checks;
