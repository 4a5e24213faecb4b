//! The page about limits is short, and each of its numbers is one in the code.

use std::collections::BTreeSet;

use leadhook::{
    limits::{
        PACE,
        breaker::{FIRST_PROBE, LAST_PROBE, PAUSE_PROBE, SILENCE},
        concurrency::START,
        deferral::{LONGEST, PATIENCE, RETURNS, SHARE},
    },
    settings,
};

use super::read;

#[test]
fn each_number_about_limits_is_one_of_the_code() {
    let page = read("docs/explanation/limits.md");
    assert!(page.split_whitespace().count() <= 250, "the page is too long for an operator");
    let most =
        settings::reference().iter().find(|key| key.name == "delivery.max_in_flight").expect("a setting").default;
    let returns = RETURNS.to_string();
    let (thousands, rest) = returns.split_at(returns.len() - 3);
    let phrases = [
        format!("starts with {START} requests"),
        format!("`delivery.max_in_flight` ({most})"),
        format!("or all for {} s", SILENCE.as_secs()),
        format!("after {} s, then up to every {} s", FIRST_PROBE.as_secs(), LAST_PROBE.as_secs()),
        format!("with a probe every {} s", PAUSE_PROBE.as_secs()),
        format!("waits for up to {} ms", PATIENCE.as_millis()),
        format!("for {} to {} times as long", SHARE[0], SHARE[1]),
        format!("at most {} s", LONGEST.as_secs()),
        format!("At most about {thousands},{rest} deferred jobs"),
        "429`, and `503` with".to_owned(),
        "5xx or 408".to_owned(),
        format!("up to {} a second", 1000 / PACE.as_millis()),
    ];
    let flowing = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for phrase in &phrases {
        assert!(flowing.contains(phrase), "the page does not say {phrase:?}");
    }
    let numbers = |text: &str| -> BTreeSet<String> {
        let numbers =
            text.split(|letter: char| !letter.is_ascii_digit() && letter != '.').map(|word| word.trim_matches('.'));
        numbers.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(numbers(&page), numbers(&phrases.join(" ")), "the page has other numbers");
}
