//! The broker restarts, dies, goes silent, blocks publishers, refuses, and times consumers out.

use crate::{faults, rig::fault::Fault, trial, trial_of_a_broker};

faults! { trial_of_a_broker:
    the_broker_restarts => Fault::Restarted;
    the_broker_is_killed => Fault::BrokerKilled;
    the_broker_is_silent_for_a_while => Fault::BrokerSilent;
    a_memory_alarm_blocks_publishers => Fault::MemoryAlarm;
    a_disk_alarm_blocks_publishers => Fault::DiskAlarm;
    the_broker_closes_the_consuming_channel => Fault::ConsumerTimeout;
}

faults! { trial:
    confirms_are_slow => Fault::SlowConfirms;
    the_jobs_queue_is_full => Fault::Full("jobs$");
    the_delay_queues_are_full => Fault::Full("delay");
    the_failed_queue_is_full => Fault::Full("failed$");
    the_rejected_queue_is_full => Fault::Full("rejected$");
    the_events_queue_is_full => Fault::Full("events$");
}
