//! STAND-IN
use std::{collections::BTreeMap, time::Duration};

use lapin::{
    Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{delivery::ladder::Ladder, settings::Amqp};

/// Names
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    /// events
    pub events: ShortString,
    /// jobs
    pub jobs: ShortString,
    /// failed
    pub failed: ShortString,
    /// rejected
    pub rejected: ShortString,
}
impl Names {
    /// delay
    pub fn delay(&self, rung: Duration) -> ShortString {
        format!("{}.delay.{}", self.prefix, rung.as_millis()).into()
    }
}
/// Plan
pub struct Plan {
    names: Names,
    exchange: ShortString,
    keys: Vec<String>,
    queues: Vec<(ShortString, FieldTable)>,
}
/// Error
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TopologyError(String);
impl TopologyError {
    /// final
    pub fn is_final(&self) -> bool {
        false
    }
}
impl From<lapin::Error> for TopologyError {
    fn from(e: lapin::Error) -> Self {
        TopologyError(e.to_string())
    }
}
/// Count
pub struct Count {
    /// ready
    pub ready: u64,
}
impl Plan {
    /// new
    pub fn new(amqp: &Amqp, ladder: &Ladder) -> Plan {
        let name = |n: &str| ShortString::from(format!("{}.{n}", amqp.prefix));
        let names = Names {
            prefix: amqp.prefix.clone(),
            events: name("events"),
            jobs: name("jobs"),
            failed: name("failed"),
            rejected: name("rejected"),
        };
        let s = |v: &str| AMQPValue::LongString(v.into());
        let base = |limit: Option<i64>, dlx: Option<&ShortString>, ttl: Option<i64>| {
            let mut t = FieldTable::default();
            t.insert("x-queue-type".into(), s("quorum"));
            if let Some(l) = limit {
                t.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(l));
            }
            if let Some(d) = dlx {
                t.insert("x-dead-letter-exchange".into(), s(""));
                t.insert("x-dead-letter-routing-key".into(), s(d.as_str()));
                t.insert("x-dead-letter-strategy".into(), s("at-least-once"));
                t.insert("x-overflow".into(), s("reject-publish"));
            }
            if let Some(ttl) = ttl {
                t.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
            }
            t
        };
        let mut queues = vec![
            (names.failed.clone(), base(Some(100_000), None, None)),
            (names.rejected.clone(), base(Some(100_000), None, None)),
            (names.jobs.clone(), base(Some(100), Some(&names.failed), None)),
        ];
        for rung in ladder.rungs() {
            queues.push((names.delay(*rung), base(None, Some(&names.jobs), Some(rung.as_millis() as i64))));
        }
        queues.push((names.events.clone(), base(Some(100), Some(&names.rejected), None)));
        Plan { names, exchange: amqp.exchange.as_str().into(), keys: amqp.routing_keys.clone(), queues }
    }
    /// names
    pub fn names(&self) -> &Names {
        &self.names
    }
}
/// declare
pub async fn declare(connection: &Connection, plan: &Plan) -> Result<(), TopologyError> {
    let ch = connection.create_channel().await?;
    for (q, args) in &plan.queues {
        ch.queue_declare(q.clone(), QueueDeclareOptions { durable: true, ..Default::default() }, args.clone()).await?;
    }
    ch.exchange_declare(
        plan.exchange.clone(),
        ExchangeKind::Topic,
        ExchangeDeclareOptions { durable: true, ..Default::default() },
        FieldTable::default(),
    )
    .await?;
    for k in &plan.keys {
        ch.queue_bind(
            plan.names.events.clone(),
            plan.exchange.clone(),
            k.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    }
    Ok(())
}
/// verify
pub async fn verify(connection: &Connection, plan: &Plan) -> Result<(), TopologyError> {
    counts(connection, plan).await.map(|_| ())
}
/// one
pub async fn declare_one(connection: &Connection, plan: &Plan, queue: &ShortString) -> Result<(), TopologyError> {
    let ch = connection.create_channel().await?;
    for (q, args) in plan.queues.iter().filter(|(q, _)| q == queue) {
        ch.queue_declare(q.clone(), QueueDeclareOptions { durable: true, ..Default::default() }, args.clone()).await?;
    }
    Ok(())
}
/// counts
pub async fn counts(connection: &Connection, plan: &Plan) -> Result<BTreeMap<String, Count>, TopologyError> {
    let ch = connection.create_channel().await?;
    let mut all = BTreeMap::new();
    for (q, _) in &plan.queues {
        let got = ch
            .queue_declare(
                q.clone(),
                QueueDeclareOptions { passive: true, ..Default::default() },
                FieldTable::default(),
            )
            .await?;
        all.insert(q.to_string(), Count { ready: got.message_count().into() });
    }
    Ok(all)
}
