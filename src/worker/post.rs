//! Makes the POST of an attempt, in the worker or in a child process.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt;
use tracing::error;

use crate::{
    delivery::{exchange::Exchange, fault::Fault, request},
    failpoint,
    job::Job,
    sender::{Post, Sender},
    store::Target,
};

/// The fail points before and after a POST.
pub(super) type Points = [&'static str; 2];

/// Those of a direct attempt.
pub(super) const DIRECT: Points = ["event.posting", "event.posted"];

/// Those of an attempt from a job.
pub(super) const FROM_JOB: Points = ["job.posting", "job.posted"];

/// Makes the POST of the next attempt. A panic in it becomes [`Fault::Panic`]. `timeout` is that of the target in the
/// worker's store.
pub(super) async fn post(sender: &Sender, job: &Job, target: &Target, timeout: Duration, points: &Points) -> Exchange {
    let started = Instant::now();
    let posting = AssertUnwindSafe(try_to_post(sender, job, target, timeout, points));
    posting.catch_unwind().await.unwrap_or_else(|_| {
        error!(webhook_id = job.webhook_id, target = %job.target, "an attempt panicked: this is a bug in leadhook");
        Exchange::new(Err(Fault::Panic), started.elapsed())
    })
}

async fn try_to_post(sender: &Sender, job: &Job, target: &Target, timeout: Duration, points: &Points) -> Exchange {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let request = request::DeliveryRequest {
        webhook_id: &job.webhook_id,
        attempt: job.attempt.saturating_add(1),
        timestamp: seconds,
        traceparent: job.traceparent.as_deref(),
        body: &job.body,
        target,
    };
    match request::headers(&request) {
        Ok(headers) => {
            failpoint::hit(points[0], target.key.as_str());
            let post = Post {
                organization: &target.organization,
                url: &target.url,
                circuit: &target.circuit,
                client_certificate: target.client_certificate.as_deref(),
                ca_certificate: target.ca_certificate.as_deref(),
                oauth2: target.oauth2.as_ref(),
                timeout,
                whole_body: target.rules.accept_if.is_some(),
            };
            let exchange = sender.post(post, headers, job.body.clone()).await;
            failpoint::hit(points[1], target.key.as_str());
            exchange
        }
        Err(_) => Exchange::new(Err(Fault::UnusableTarget), Duration::ZERO),
    }
}
