//! A worker continues whatever bytes a broker delivers (rule 9). `make fuzz` runs the same test for longer.

use std::time::Duration;

use crate::rig::frames::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_stop_no_worker_and_delay_no_good_event() {
    let figures = run(Duration::from_secs(10), Duration::ZERO, fastrand::u64(..)).await;
    println!("{figures}");
    assert!(figures.bad >= 100 && figures.violations >= 1, "{figures}");
}
