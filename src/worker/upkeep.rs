//! Looks after what operators change outside of this process while it runs.

use std::time::Duration;

use super::Context;

/// How often files with credentials are read, besides at each use. Readiness so tells of a broken file before a connection
/// depends on it, and no longer once it is repaired.
const FILES: Duration = Duration::from_secs(5);

/// Keeps readiness true about files with credentials. Never ends.
pub(super) async fn watch_files(context: &Context) {
    let (amqp, egress) = (&context.settings.amqp, &context.settings.egress);
    let mut tick = tokio::time::interval(FILES);
    loop {
        tick.tick().await;
        amqp.urls.now();
        let mut problems = vec![amqp.urls.problem()];
        if let Some(url) = &amqp.management_url {
            url.now();
            problems.push(url.problem());
        }
        if let Some(url) = &egress.proxy {
            url.now();
            problems.push(url.problem());
        }
        context.health.set_files(problems.into_iter().flatten().collect());
    }
}
