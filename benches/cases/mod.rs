//! The cases, in the order of the table.

mod deferred;
mod disk;
mod drain;
mod hanging;
mod kills;
mod latency;
mod memory;
mod one_target;
mod outage;
mod rate_limit;
mod slow_receiver;

use crate::case::{Case, Scale};

/// A case that runs only if `--cases` names it. It records how the layouts of the ceilings were chosen.
pub const BY_NAME: &str = "ceiling layouts";

/// The environment of the variants without direct attempts.
const NOT_DIRECT: &[(&str, &str)] = &[("LEADHOOK__DELIVERY__DIRECT", "false")];

/// Returns all cases.
pub fn all(scale: Scale) -> Vec<Case> {
    vec![
        drain::case(scale),
        latency::case("latency at 500/s", 500.0, scale),
        latency::case("latency at 2000/s", 2_000.0, scale),
        hanging::case(scale),
        outage::case(scale),
        deferred::case(scale),
        memory::case(scale),
        one_target::case(scale),
        rate_limit::case(scale),
        rate_limit::after_an_outage(scale),
        slow_receiver::case(scale),
        disk::case(scale),
        kills::case(scale),
        drain::layouts(scale),
    ]
}
