//! The worker is killed between any two steps of the protocol.

use crate::{faults, rig::fault::Fault, trial};

faults! { trial:
    killed_at_any_moment => Fault::Killed;
    killed_after_consuming_an_event => Fault::KilledAt("event.taken");
    killed_after_resolving_it => Fault::KilledAt("event.resolved");
    killed_after_a_publish_before_its_confirm => Fault::KilledAt("publish.sent");
    killed_after_publishing_a_job_before_its_confirm => Fault::KilledAt("publish.sent:leadhook.jobs");
    killed_before_the_post_of_a_direct_attempt => Fault::KilledAt("event.posting");
    killed_after_the_post_of_a_direct_attempt => Fault::KilledAt("event.posted");
    killed_after_a_direct_delivery_before_the_ack => Fault::KilledAt("event.recorded:delivered");
    killed_after_the_retry_of_a_direct_attempt_is_confirmed_before_the_ack => Fault::KilledAt("event.recorded:retry");
    killed_after_the_failure_of_a_direct_attempt_is_confirmed_before_the_ack => Fault::KilledAt("event.recorded:fail");
    killed_after_the_confirm_of_a_job_before_the_ack_of_the_event => Fault::KilledAt("event.recorded:forward");
    killed_after_the_ack_of_the_event => Fault::KilledAt("event.acked");
    killed_after_consuming_a_job => Fault::KilledAt("job.taken");
    killed_before_the_post => Fault::KilledAt("job.posting");
    killed_after_the_post_before_anything_is_settled => Fault::KilledAt("job.posted");
    killed_after_the_outcome_is_recorded_before_the_ack_of_the_job => Fault::KilledAt("job.recorded");
    killed_after_a_retry_is_confirmed_before_the_ack => Fault::KilledAt("job.recorded:retry");
    killed_after_a_failed_job_is_confirmed_before_the_ack => Fault::KilledAt("job.recorded:fail");
    killed_after_the_ack_of_the_job => Fault::KilledAt("job.acked");
    stopped_in_good_order => Fault::Stopped;
    the_store_changes => Fault::Reloaded;
}
