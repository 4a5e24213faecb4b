//! (stub)
/// stub
pub struct Metrics;
impl Metrics {
    /// stub
    pub fn publish_confirmed(&self, _: std::time::Duration) {}
    /// stub
    pub fn publish_failed(&self, _: &'static str) {}
}
