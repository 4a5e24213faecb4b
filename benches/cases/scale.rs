//! *scale*: more workers, longer queues, more targets, larger events, each by itself.

use super::{
    Case, Scale, Variant,
    drain::{Load, Who, drain},
};

const PLAIN: Load = Load { events: 20_000, first: 20_000, targets: 20, bytes: 400, workers: 1, more: "" };

/// One case for each thing that grows; its smallest form is the baseline.
pub fn cases(scale: Scale) -> Vec<Case> {
    let long = scale.long;
    let backlog = |events: u64| (format!("{events} queued"), Load { events, first: events.min(20_000), ..PLAIN });
    let targets = |targets: usize| (format!("{targets} targets"), Load { targets, ..PLAIN });
    let workers = |workers: usize| (format!("{workers} workers"), Load { workers, ..PLAIN });
    let bytes = |bytes: usize, events: u64| {
        (format!("{} KiB", bytes as f64 / 1024.0), Load { bytes, events, first: events, ..PLAIN })
    };
    let kib = 1024;
    vec![
        case("backlog", vec![backlog(20_000), backlog(if long { 1_000_000 } else { 100_000 })]),
        case(
            "targets",
            if long { vec![targets(10), targets(1_000), targets(10_000)] } else { vec![targets(10), targets(10_000)] },
        ),
        case("workers", if long { vec![workers(1), workers(2), workers(4)] } else { vec![workers(1), workers(2)] }),
        case(
            "payload",
            if long {
                vec![bytes(410, 20_000), bytes(4 * kib, 20_000), bytes(64 * kib, 4_000), bytes(512 * kib, 500)]
            } else {
                vec![bytes(410, 20_000), bytes(64 * kib, 2_000)]
            },
        ),
    ]
}

fn case(name: &'static str, forms: Vec<(String, Load)>) -> Case {
    let variant = |(name, load): (String, Load)| {
        Variant::new(name, move |broker| Box::pin(drain(broker, Who::Worker, load, &[])))
    };
    Case { name, runs: [1, 5], variants: forms.into_iter().map(variant).collect() }
}
