//! Metrics of this process that are read at each scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};

use super::catalogue;

/// Reads resident memory at each scrape.
#[derive(Debug)]
pub(super) struct ResidentMemory;

impl Collector for ResidentMemory {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(bytes) = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status))
        else {
            return Ok(());
        };
        let gauge = ConstGauge::new(bytes);
        let entry = catalogue::RESIDENT_MEMORY;
        gauge.encode(encoder.encode_descriptor(entry.registered(), entry.help, None, gauge.metric_type())?)
    }
}

/// Counts the tasks of the runtime that serves the scrape. Tasks that leak on a reconnect show here first.
#[derive(Debug)]
pub(super) struct Tasks;

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Ok(()) };
        let gauge = ConstGauge::new(runtime.metrics().num_alive_tasks() as u64);
        let entry = catalogue::TASKS;
        gauge.encode(encoder.encode_descriptor(entry.registered(), entry.help, None, gauge.metric_type())?)
    }
}

/// Returns `VmRSS` of a Linux `status` file in bytes. The file counts in kB of 1024 bytes, while `statm` counts in
/// pages.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::resident_bytes;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tleadhook\nVmRSS:\t   12345 kB\nThreads:\t4\n"), Some(12345 * 1024));
        assert_eq!(resident_bytes("Name:\tleadhook\n"), None);
        assert_eq!(resident_bytes("VmRSS:\t many kB\n"), None);
    }
}
