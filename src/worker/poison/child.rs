//! The child process: does the work on a suspect that may kill a process, and never touches the broker.
//!
//! A suspect is a message that was redelivered 8 times. Its parent, the worker, sends it here as one line of JSON and
//! reads one line back. The child decodes and resolves an event and makes its jobs, decodes a job, or makes an attempt
//! and judges it. Everything but the POST is a rehearsal: its results are discarded, and the worker does the same once
//! the child has survived it. So the same code settles all messages, and the child needs no confirms and acks.
//!
//! The child ends when its standard input ends, because its parent has dropped it or has died.

use std::{
    io::{self, BufRead, Write},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{ShortString, generation::gen_field_table, parsing::parse_field_table},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use tokio::sync::mpsc;

use crate::{
    delivery::{exchange::Exchange, outcome::judge},
    failpoint,
    job::Job,
    sender::Sender,
    settings::Settings,
    store::{Store, TargetState},
    worker::{post, read_event},
};

/// The line with which a child reports that it can work.
pub(crate) const READY: &str = "ready";

/// The requested work on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Rehearse the dispatch of an event.
    Event,
    /// Rehearse the decoding of a job.
    Job,
    /// Make the next attempt of a job. The timeout is the parent's, which waits by it; the child's store may say
    /// another.
    Attempt(Duration),
}

/// A request. On the line it follows its number.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request<'a> {
    pub(crate) work: Work,
    pub(crate) message: std::borrow::Cow<'a, Message>,
}

/// An answer. On the line it follows the number of the request.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The child has survived it.
    Survived,
    /// An attempt was made.
    Exchange(Exchange),
    /// The store of this child has no such target.
    NoTarget,
}

/// A message as it came from the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// In the order of [`Message::properties`].
    texts: [Option<ShortString>; 10],
    timestamp: Option<u64>,
    priority: Option<u8>,
    /// As on the wire: JSON cannot carry every value, such as NaN.
    headers: Encoded,
    body: Encoded,
}

/// Bytes as base64.
#[derive(Clone, Debug, PartialEq)]
struct Encoded(Bytes);

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Encoded, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        BASE64_STANDARD.decode(text.as_bytes()).map(|bytes| Encoded(bytes.into())).map_err(D::Error::custom)
    }
}

impl Message {
    pub(crate) fn new(from: &BasicProperties, body: Bytes) -> Message {
        let texts = [
            from.message_id(),
            from.kind(),
            from.correlation_id(),
            from.content_type(),
            from.content_encoding(),
            from.app_id(),
            from.user_id(),
            from.reply_to(),
            from.expiration(),
            from.cluster_id(),
        ];
        let written = from.headers().as_ref().and_then(|table| gen_field_table(table)(Vec::new().into()).ok());
        let headers = written.map(|written| written.write).unwrap_or_default();
        Message {
            texts: texts.map(Clone::clone),
            timestamp: *from.timestamp(),
            priority: *from.priority(),
            headers: Encoded(headers.into()),
            body: Encoded(body),
        }
    }

    fn properties(&self) -> BasicProperties {
        let with_text = [
            BasicProperties::with_message_id,
            BasicProperties::with_type,
            BasicProperties::with_correlation_id,
            BasicProperties::with_content_type,
            BasicProperties::with_content_encoding,
            BasicProperties::with_app_id,
            BasicProperties::with_user_id,
            BasicProperties::with_reply_to,
            BasicProperties::with_expiration,
            BasicProperties::with_cluster_id,
        ];
        let mut to = BasicProperties::default();
        for (with, text) in with_text.into_iter().zip(&self.texts) {
            if let Some(text) = text {
                to = with(to, text.clone());
            }
        }
        if let Some(timestamp) = self.timestamp {
            to = to.with_timestamp(timestamp);
        }
        if let Some(priority) = self.priority {
            to = to.with_priority(priority);
        }
        if !self.headers.0.is_empty() {
            let (_, headers) = parse_field_table(&*self.headers.0).expect("the parent writes a field table");
            to = to.with_headers(headers);
        }
        to
    }
}

/// The parts that a child works with.
pub struct Child {
    /// The settings of its parent.
    pub settings: Settings,
    /// The store as the child read it at its start. The parent starts another child when the store has changed.
    pub store: Store,
    /// Makes the POSTs.
    pub sender: Sender,
}

/// Works on what the parent sends. Never returns: the process ends with its standard input.
pub async fn serve(child: Child) {
    let (sender, mut lines) = mpsc::unbounded_channel();
    // A thread of its own notices the end of the parent even if a message keeps the runtime busy.
    std::thread::spawn(move || {
        io::stdin().lock().lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        std::process::exit(0);
    });
    say(READY);
    let child = Arc::new(child);
    while let Some(line) = lines.recv().await {
        let child = child.clone();
        tokio::spawn(async move {
            let Some((number, request)) = line.split_once(' ') else { return };
            // A panic counts as a death. The worker would hit it outside an attempt, and give the message back each
            // time.
            let answering = AssertUnwindSafe(child.answer(request)).catch_unwind();
            let answer = answering.await.unwrap_or_else(|_| std::process::abort());
            let answer = serde_json::to_string(&answer).unwrap_or_default();
            say(&format!("{number} {answer}"));
        });
    }
}

/// Writes a line to the parent. Ends the process if the parent has died.
fn say(line: &str) {
    let mut to = io::stdout().lock();
    if writeln!(to, "{line}").and_then(|()| to.flush()).is_err() {
        std::process::exit(0);
    }
}

impl Child {
    async fn answer(&self, request: &str) -> Answer {
        // A message that does not arrive intact may be harmful for that very reason. So a panic counts as a death.
        let Request { work, message } = serde_json::from_str(request).expect("the parent writes a request");
        match work {
            Work::Event => {
                self.rehearse_event(&message);
                Answer::Survived
            }
            Work::Job => {
                rehearse_job(&message);
                Answer::Survived
            }
            Work::Attempt(timeout) => self.attempt(&message, timeout).await.unwrap_or(Answer::NoTarget),
        }
    }

    fn rehearse_event(&self, message: &Message) {
        failpoint::hit("event.taken", "");
        let properties = message.properties();
        let most = self.settings.delivery.max_event_bytes;
        let Ok(event) = read_event::decode(most, &properties, &message.body.0) else { return };
        let Ok(Ok(targets)) = read_event::resolve(&self.store, &event) else { return };
        failpoint::hit("event.resolved", &event.campaign);
        let envelope = read_event::envelope(&properties);
        for target in targets {
            let (body, now) = (message.body.0.clone(), Timestamp::now());
            let job = Job::new(&event, &target.organization, &target.key, &envelope, body, now);
            job.to_message(&ShortString::default());
        }
    }

    /// Makes an attempt. Returns `None` if the job cannot be read, or if its target is not in this store.
    async fn attempt(&self, message: &Message, timeout: Duration) -> Option<Answer> {
        let job = Job::decode(&message.properties(), message.body.0.clone()).ok()?;
        let TargetState::Active(target) = self.store.target(&job.organization, &job.target) else { return None };
        let exchange = post::post(&self.sender, &job, &target, timeout, &post::FROM_JOB).await;
        let maximum = self.settings.backoff.retry_after_maximum;
        judge(&exchange, &target.rules, SystemTime::now(), maximum);
        Some(Answer::Exchange(exchange))
    }
}

fn rehearse_job(message: &Message) {
    failpoint::hit("job.taken", "");
    if let Ok(job) = Job::decode(&message.properties(), message.body.0.clone()) {
        job.to_message(&ShortString::default());
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, collections::BTreeMap, time::Duration};

    use lapin::types::{AMQPValue, DecimalValue, FieldTable};

    use super::*;
    use crate::{
        delivery::{
            exchange,
            fault::{Fault, TokenFault},
        },
        egress::Refusal,
    };

    #[test]
    fn a_message_comes_to_the_child_as_it_is() {
        let mut headers = BTreeMap::from([
            (ShortString::from("organization-id"), AMQPValue::LongString("acme".into())),
            (ShortString::from("bytes"), AMQPValue::LongString([0xff, 0x00].to_vec().into())),
            (ShortString::from("x-delivery-count"), AMQPValue::LongLongInt(8)),
        ]);
        let all = [
            AMQPValue::Boolean(true),
            AMQPValue::ShortShortInt(-1),
            AMQPValue::ShortShortUInt(1),
            AMQPValue::ShortInt(-2),
            AMQPValue::ShortUInt(2),
            AMQPValue::LongInt(-3),
            AMQPValue::LongUInt(3),
            AMQPValue::Float(0.5),
            AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 5 }),
            AMQPValue::Timestamp(7),
            AMQPValue::ByteArray(vec![0, 255].into()),
            AMQPValue::FieldTable(FieldTable::from(headers.clone())),
            AMQPValue::Void,
        ];
        headers.insert("all".into(), AMQPValue::FieldArray(all.to_vec().into()));
        let properties = BasicProperties::default()
            .with_message_id("m-1".into())
            .with_type("lead.delivered".into())
            .with_correlation_id("sub-1".into())
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_app_id("crm".into())
            .with_user_id("guest".into())
            .with_reply_to("answers".into())
            .with_expiration("1000".into())
            .with_cluster_id("c".into())
            .with_timestamp(7)
            .with_priority(3)
            .with_headers(FieldTable::from(headers));
        let message = Message::new(&properties, Bytes::from_static(b"{\"a\":\n1}"));
        let line = serde_json::to_string(&Request { work: Work::Job, message: Cow::Borrowed(&message) }).unwrap();
        assert!(!line.contains('\n'));
        let there: Request<'_> = serde_json::from_str(&line).unwrap();
        assert_eq!(*there.message, message);
        assert_eq!(there.message.properties(), properties);
    }

    #[test]
    fn values_that_json_lacks_come_to_the_child_too_and_a_body_takes_no_more_than_base64() {
        let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let headers = numbers.iter().enumerate().map(|(n, &number)| (n.to_string().into(), AMQPValue::Double(number)));
        let headers = FieldTable::from(headers.collect::<BTreeMap<ShortString, _>>());
        let message = Message::new(&BasicProperties::default().with_headers(headers), vec![0xff; 3000].into());
        let work = Work::Attempt(Duration::from_millis(1500));
        let line = serde_json::to_string(&Request { work, message: Cow::Borrowed(&message) }).unwrap();
        assert!(line.len() < 5000, "{}", line.len());
        let there: Request<'_> = serde_json::from_str(&line).unwrap();
        assert_eq!((there.work, &*there.message), (work, &message));
        let headers = there.message.properties().headers().clone().unwrap();
        let read = headers.inner().values().map(|value| match value {
            AMQPValue::Double(number) => number.to_bits(),
            other => panic!("{other:?}"),
        });
        assert_eq!(read.collect::<Vec<_>>(), numbers.map(f64::to_bits));
    }

    #[test]
    fn each_exchange_comes_back_as_it_was() {
        let answer = exchange::Answer {
            status: 200,
            retry_after: Some("7".into()),
            body: Some(Bytes::from_static(&[0, 255])),
            ..Default::default()
        };
        let mut results: Vec<_> = Fault::all().into_iter().map(Err).collect();
        results.push(Err(Fault::Oauth(TokenFault::Failed("timeout"))));
        results.push(Err(Fault::ForbiddenName(Refusal::Special(crate::egress::Special::Loopback))));
        results.push(Ok(answer));
        for result in results {
            let exchange = Exchange { replaced: true, ..Exchange::new(result, Duration::from_micros(1500)) };
            let line = serde_json::to_string(&Answer::Exchange(exchange.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), Answer::Exchange(exchange));
        }
    }
}
