use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use clap::Parser;
use tokio::sync::watch;

use super::{Args, Batch, IN_FLIGHT, Tally, input::Event, outgoing, send_all, wait_for_connection};
use crate::{
    broker::publisher::{Link, Outgoing, PublishError},
    cli::output::Exit,
    settings::{self, Settings},
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Result<Args, clap::Error> {
    Line::try_parse_from(std::iter::once("publish").chain(line.split_whitespace())).map(|line| line.args)
}

fn settings() -> Settings {
    settings::load(None, None, std::iter::empty()).unwrap()
}

fn messages(count: usize) -> impl Iterator<Item = Outgoing> {
    let args = Args { seed: Some(1), ..Args::default() };
    Batch::made_up(&args, count as u64).events.map(|event| outgoing(event, "lead.events", true))
}

fn shown(tally: Tally, events: u64) -> String {
    tally.summary("lead.events", events, Duration::from_millis(1234), Vec::new()).to_string()
}

#[test]
fn the_command_line_asks_for_files_or_for_samples() {
    assert_eq!(parse("a.json -").unwrap().files, [PathBuf::from("a.json"), PathBuf::from("-")]);
    let args = parse("--sample 20 --campaign A --campaign B --organization acme --seed 7").unwrap();
    assert_eq!((args.sample, args.campaigns.len(), args.seed), (Some(20), 2, Some(7)));
    for wrong in
        ["", "a.json --sample 3", "a.json --campaign A", "a.json --seed 1", "--sample 3 --unchecked", "--sample x"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn messages_are_persistent_and_have_new_ids() {
    let event = || Event { routing_key: "lead.failed".into(), body: "{}".into() };
    let (one, two) = (outgoing(event(), "lead.events", true), outgoing(event(), "lead.events", true));
    assert_eq!(
        (one.exchange.as_str(), one.routing_key.as_str(), &one.body[..]),
        ("lead.events", "lead.failed", &b"{}"[..])
    );
    assert_eq!(one.properties.delivery_mode(), &Some(2));
    assert_eq!(one.properties.content_type().as_ref().map(|text| text.as_str()), Some("application/json"));
    assert!(one.properties.timestamp().is_some() && one.properties.app_id().is_some());
    assert_eq!(one.properties.message_id().as_ref().map(|id| id.as_str().len()), Some(32));
    assert_ne!(one.properties.message_id(), two.properties.message_id());
    assert_eq!(outgoing(event(), "lead.events", false).properties.message_id(), &None);
}

#[test]
fn files_are_read_before_anything_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let good = file("good.json", "{\"event\":\"lead.queued\"}\n");
    let bad = file("bad.json", "{\"event\":");
    let batch = |files: &[&PathBuf]| {
        let files = files.iter().map(|path| path.to_path_buf()).collect();
        Batch::of(&Args { files, ..Args::default() }, &settings())
    };
    assert_eq!(batch(&[&good, &good]).unwrap_or_else(|refusal| panic!("{refusal}")).total, 2);
    for files in [[&good, &bad], [&good, &directory.path().join("none.json")]] {
        let refusal = batch(&files).err().unwrap();
        assert_eq!(refusal.exit, Exit::Usage);
        assert!(refusal.text.contains("not JSON: ") || refusal.text.contains("none.json: there is no such file"));
    }
}

#[tokio::test]
async fn many_confirms_are_under_way_and_all_are_counted() {
    let (now, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let publish = |_| async {
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        now.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    };
    let tally = send_all(messages(1000), publish, || {
        done.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(shown(tally.await, 1000), "1000 events published and confirmed in 1.2 s");
    assert_eq!((most.into_inner(), done.into_inner()), (IN_FLIGHT, 1000));
}

#[tokio::test]
async fn returned_messages_are_explained_by_key_and_the_rest_goes_on() {
    let publish = |message: Outgoing| async move {
        match message.routing_key.as_str() {
            "lead.failed" => Err(PublishError::Returned { code: 312, text: "NO_ROUTE".into() }),
            "lead.queued" => Err(PublishError::Nacked),
            _ => Ok(()),
        }
    };
    let tally = send_all(messages(12), publish, || {}).await;
    assert_eq!(
        shown(tally, 12),
        "8 of 12 events confirmed in 1.2 s\n  \
         2 events with key lead.queued: refused by the broker: a queue is at its limit or has no leader now; publish them again later\n  \
         2 events with key lead.failed: no queue is bound to exchange lead.events for key lead.failed: run `leadhook topology apply`, \
         and see amqp.routing_keys for the keys that it binds"
    );
}

#[tokio::test]
async fn sending_stops_when_the_exchange_is_missing() {
    let publish = |_| async { Err(PublishError::ChannelClosed { code: 404, text: "NOT_FOUND".into() }) };
    let tally = send_all(messages(1000), publish, || {}).await;
    let summary = tally.summary("lead.events", 1000, Duration::ZERO, Vec::new());
    assert!(!summary.all_confirmed());
    let json = serde_json::to_value(&summary).unwrap();
    assert!(json["not_sent"].as_u64().unwrap() >= 700, "{json}");
    assert_eq!(json["problems"][0]["reason"], "channel_closed");
    let shown = summary.to_string();
    assert!(shown.contains("the exchange lead.events does not exist: run `leadhook topology apply`"), "{shown}");
    assert!(shown.ends_with(" not sent after that"), "{shown}");
}

#[tokio::test]
async fn the_first_answer_of_the_broker_ends_the_waiting() {
    let settings = settings();
    let starting = Link::Lost("not connected yet".into());
    for (word, expected) in [
        (Link::Ready, None),
        (Link::Lost("amqp://a: refused".into()), Some("cannot connect to amqp://a: refused")),
        (Link::Blocked("low on disk".into()), Some("the broker takes no messages now: low on disk")),
    ] {
        let (sender, link) = watch::channel(starting.clone());
        let waiting = wait_for_connection(link, &settings.amqp);
        sender.send_replace(word);
        let told = waiting.await.err();
        assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
        if let (Some(told), Some(expected)) = (told, expected) {
            assert_eq!(told.exit, Exit::CannotStart);
            assert!(told.text.starts_with(expected), "{told}");
        }
    }
}
