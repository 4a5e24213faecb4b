use futures::FutureExt as _;
use jiff::Timestamp;

use super::*;
use crate::delivery_log::What;

fn inner() -> Inner {
    Inner {
        gathered: Mutex::default(),
        metrics: Some(Metrics::new()),
        some: Notify::new(),
        enough: Notify::new(),
        room: Notify::new(),
        in_vain: AtomicBool::new(false),
        unwritten: AtomicU64::new(0),
        closing: CancellationToken::new(),
        task: Mutex::default(),
    }
}

fn fill(log: &DeliveryLog, records: usize) {
    let reason = "x".repeat(1000);
    for at in 0..records {
        let at = Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap();
        log.write(&Entry { reason: Some(reason.as_str().into()), ..Entry::new(What::Rejected, at) });
    }
}

#[test]
fn messages_are_cut_between_records_and_keep_their_order() {
    let inner = Arc::new(inner());
    fill(&DeliveryLog(Some(inner.clone())), 200);
    let mut times = Vec::new();
    loop {
        let records = inner.take();
        if records.is_empty() {
            break;
        }
        assert!(records.len() < BATCH + 1100);
        let message = batch::message("w", 1, &records);
        times.extend(batch::Batch::read(&message).unwrap().entries().map(|entry| entry.at));
    }
    assert_eq!(times, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_waits_for_room_waits_once_for_all_and_is_told_of_it() {
    const LONG: Duration = Duration::from_secs(3600);
    let inner = Arc::new(inner());
    let log = DeliveryLog(Some(inner.clone()));
    fill(&log, 3_000);
    assert!(log.room().now_or_never().is_none(), "the log is full");
    // Nothing is taken out: the wait ends in vain, and a second caller does not wait.
    log.room_within(Duration::from_millis(1)).await;
    assert!(log.room().now_or_never().is_some());
    // Something was written: callers wait for room again, and all are woken when there is some.
    inner.in_vain.store(false, Relaxed);
    let freed = async {
        while inner.length() >= MOST / 2 {
            inner.take();
        }
        inner.room.notify_waiters();
    };
    let waiting = futures::future::join_all((0..200).map(|_| log.room_within(LONG)));
    let all = async { tokio::join!(waiting, freed) };
    tokio::time::timeout(LONG / 60, all).await.expect("all callers wake up");
}

#[test]
fn what_finds_no_room_is_counted_as_lost() {
    let inner = Arc::new(inner());
    fill(&DeliveryLog(Some(inner.clone())), 5000);
    let kept = inner.gathered.lock().unwrap().iter().filter(|byte| **byte == b'\n').count();
    assert!(inner.gathered.lock().unwrap().len() < MOST + 1100);
    let page = inner.metrics.as_ref().unwrap().encode();
    let lost = format!("leadhook_delivery_log_records_total{{result=\"lost\"}} {}", 5000 - kept);
    assert!(kept < 5000 && page.contains(&lost), "{lost}\n{page}");
}
