//! Watches three things outside this process: files with credentials, the broker's policies, and the egress proxy.

use std::{sync::Arc, time::Duration};

use tracing::{info, warn};

use super::context::Context;
use crate::broker::{
    Intake,
    connection::Connection,
    management::{Management, ManagementError},
    topology::compare,
};

/// How often files with credentials are read, besides at each use. So readiness reports a broken file before a
/// connection needs it, and stops once the file is fixed.
const FILES: Duration = Duration::from_secs(5);

/// How often policies are checked.
const POLICIES: Duration = Duration::from_secs(120);

/// The first such interval after the start, which doubles each time. The queues may not exist yet, and the broker
/// reports only some seconds later which policies apply.
const POLICIES_AT_FIRST: Duration = Duration::from_secs(2);

/// Logs the warning about the broker that an intake consumes from, once for each change.
pub(super) fn note_broker(context: &Context, intake: Intake, connection: &Connection) {
    let warning = connection.warning();
    if context.health.set_broker_warning(intake, warning)
        && let Some(warning) = warning
    {
        warn!("{warning}");
    }
}

/// Keeps readiness up to date about files with credentials. Never ends.
pub(super) async fn watch_files(context: Arc<Context>) {
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

/// Keeps readiness and metrics up to date about policies and arguments of the queues. A policy also applies to existing
/// queues, and RabbitMQ does not notify clients. Ends at once without `amqp.management_url`, else never.
pub(super) async fn watch_policies(context: Arc<Context>) {
    let (mut told, mut pause) = (Vec::new(), POLICIES_AT_FIRST);
    while context.settings.amqp.management_url.is_some() {
        let warnings = match look(&context).await {
            Ok((faults, is_complete)) => {
                context.metrics.set_policy_problems(faults.len());
                pause = if is_complete { POLICIES } else { (pause * 2).min(POLICIES) };
                faults
            }
            Err(error) => {
                pause = (pause * 2).min(POLICIES);
                vec![format!("cannot look at the broker's policies (amqp.management_url): {error}")]
            }
        };
        warnings.iter().filter(|one| !told.contains(*one)).for_each(|one| warn!("{one}"));
        told.clone_from(&warnings);
        context.health.set_policies(warnings);
        tokio::time::sleep(pause).await;
    }
}

/// Keeps readiness, metrics and log up to date about the egress proxy. Ends at once without one.
pub(super) async fn watch_proxy(context: Arc<Context>) {
    let Some(mut outage) = context.sender.proxy_outage() else { return };
    let mut is_down = false;
    while outage.changed().await.is_ok() {
        let outage = outage.borrow_and_update().clone();
        context.metrics.set_proxy_failing(outage.is_some());
        match &outage {
            Some(outage) if !is_down => warn!("{outage}"),
            None if is_down => info!("the egress proxy works again"),
            Some(_) | None => {}
        }
        is_down = outage.is_some();
        context.health.set_proxy(outage);
    }
}

/// Returns the faults, and whether the broker has reported every queue.
async fn look(context: &Context) -> Result<(Vec<String>, bool), ManagementError> {
    let amqp = &context.settings.amqp;
    let Some(url) = &amqp.management_url else { return Ok((Vec::new(), true)) };
    let queues = Management::new(&url.now())?.queues(&amqp.vhost()).await?;
    let faults = compare::faults(&context.plan, &queues, context.settings.topology.declare);
    Ok((faults, compare::is_complete(&context.plan, &queues)))
}
