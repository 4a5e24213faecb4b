//! A fake broker that a test scripts frame by frame. It agrees to everything that a worker asks, confirms its
//! publishes, and delivers any bytes. It guarantees nothing else: a message under way is lost when its connection ends.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lapin::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, parse_class, queue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

/// Frame types.
pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;

/// RabbitMQ's maximum frame size, in bytes.
pub const FRAME_MAX: u32 = 131_072;

/// Encodes one frame.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a payload");
    [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[0xCE]].concat()
}

/// Encodes a short string, truncated to 255 bytes.
pub fn short(text: &[u8]) -> Vec<u8> {
    let text = &text[..text.len().min(255)];
    [&[text.len() as u8][..], text].concat()
}

/// Encodes a long string, table or array without its type.
pub fn long(content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len()).expect("a length").to_be_bytes(), content].concat()
}

/// A message in the form in which it is delivered.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub exchange: Vec<u8>,
    pub routing_key: Vec<u8>,
    /// The flags, followed by the properties.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

/// A fault of a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Its declaration counts neither messages nor consumers, as for a queue without a leader.
    Leaderless,
    /// The broker ends each connection that declares it.
    HangsUp,
}

/// The fake broker. It stops when dropped.
pub struct ScriptedBroker {
    pub url: String,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    connections: u64,
    consumers: HashMap<String, Vec<Consumer>>,
    tags: HashMap<(u64, u16), u64>,
    backlog: HashMap<String, VecDeque<Content>>,
    published: HashMap<String, u64>,
    late: bool,
    wrong: HashMap<String, Wrong>,
}

#[derive(Clone)]
struct Consumer {
    connection: u64,
    channel: u16,
    tag: String,
    out: UnboundedSender<Vec<u8>>,
}

impl ScriptedBroker {
    /// Listens on a loopback port.
    pub async fn start() -> ScriptedBroker {
        ScriptedBroker::start_as("RabbitMQ", "4.3.6").await
    }

    /// The same with another product or version in the greeting. Like LavinMQ, it accepts a queue of any type.
    pub async fn start_as(product: &'static str, version: &'static str) -> ScriptedBroker {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let id = {
                    let mut state = lock(&state);
                    state.connections += 1;
                    state.connections
                };
                tokio::spawn(async move {
                    let _ = serve(stream, id, &state, [product, version]).await;
                    let mut state = lock(&state);
                    state.consumers.values_mut().for_each(|consumers| consumers.retain(|it| it.connection != id));
                    state.tags.retain(|(connection, _), _| *connection != id);
                });
            }
        });
        ScriptedBroker { url: format!("amqp://guest:guest@{address}/%2f"), state, listening }
    }

    /// Delivers a message to a consumer of `leadhook.<queue>`, or to the next one that arrives.
    pub fn deliver(&self, queue: &str, content: Content) {
        lock(&self.state).deliver(&format!("leadhook.{queue}"), content);
    }

    /// From now on, waiting messages follow the next answer about their queue, which does not count them. A real broker
    /// answers so when it has already handed them out.
    pub fn be_late(&self) {
        lock(&self.state).late = true;
    }

    /// Sends arbitrary bytes to a consumer of `leadhook.<queue>`. `bytes` receives the consumer's channel and tag.
    pub fn send(&self, queue: &str, bytes: impl FnOnce(u16, &str) -> Vec<u8>) -> bool {
        let state = lock(&self.state);
        let Some(consumer) = state.consumers.get(&format!("leadhook.{queue}")).and_then(|them| them.last()) else {
            return false;
        };
        consumer.out.send(bytes(consumer.channel, &consumer.tag)).is_ok()
    }

    /// Counts the consumers of `leadhook.<queue>`.
    pub fn consumers(&self, queue: &str) -> usize {
        lock(&self.state).consumers.get(&format!("leadhook.{queue}")).map_or(0, Vec::len)
    }

    /// Sets a fault of `leadhook.<queue>`.
    pub fn spoil(&self, queue: &str, wrong: Wrong) {
        lock(&self.state).wrong.insert(format!("leadhook.{queue}"), wrong);
    }

    /// Returns the number of the connection that consumes `leadhook.<queue>`, if there is one.
    pub fn connection_of(&self, queue: &str) -> Option<u64> {
        Some(lock(&self.state).consumers.get(&format!("leadhook.{queue}"))?.last()?.connection)
    }

    /// Counts the messages that were published to `leadhook.<queue>`.
    pub fn published(&self, queue: &str) -> u64 {
        lock(&self.state).published.get(&format!("leadhook.{queue}")).copied().unwrap_or_default()
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> u64 {
        lock(&self.state).connections
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn deliver(&mut self, queue: &str, content: Content) {
        let Some(consumer) = self.consumers.get(queue).and_then(|consumers| consumers.last()).cloned() else {
            return self.backlog.entry(queue.to_owned()).or_default().push_back(content);
        };
        let tag = self.tags.entry((consumer.connection, consumer.channel)).or_default();
        *tag += 1;
        let deliver = [
            &[0, 60, 0, 60][..],
            &short(consumer.tag.as_bytes()),
            &tag.to_be_bytes(),
            &[0],
            &short(&content.exchange),
            &short(&content.routing_key),
        ];
        let mut bytes = frame(METHOD, consumer.channel, &deliver.concat());
        let size = (content.body.len() as u64).to_be_bytes();
        bytes.extend(frame(HEADER, consumer.channel, &[&[0, 60, 0, 0][..], &size, &content.properties].concat()));
        for part in content.body.chunks(FRAME_MAX as usize - 8) {
            bytes.extend(frame(BODY, consumer.channel, part));
        }
        let _ = consumer.out.send(bytes);
    }

    fn consume(&mut self, queue: &str, consumer: Consumer) {
        self.consumers.entry(queue.to_owned()).or_default().push(consumer);
        if !self.late {
            self.give_out(queue);
        }
    }

    fn give_out(&mut self, queue: &str) {
        for content in self.backlog.remove(queue).unwrap_or_default() {
            self.deliver(queue, content);
        }
    }
}

/// A publish whose content is incomplete.
struct Publishing {
    routing_key: String,
    properties: Vec<u8>,
    size: u64,
    body: Vec<u8>,
}

/// Serves one connection.
async fn serve(stream: TcpStream, id: u64, state: &Mutex<State>, greeting: [&str; 2]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let mut start = [0; 8];
    read.read_exact(&mut start).await?;
    let (out, mut outgoing) = unbounded_channel::<Vec<u8>>();
    let writing = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            let bytes = tokio::select! {
                bytes = outgoing.recv() => bytes,
                _ = beat.tick() => Some(frame(8, 0, &[])),
            };
            let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return };
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let served = converse(&mut read, &out, id, state, greeting).await;
    // Everything sent so far is written before the connection ends.
    let _ = out.send(Vec::new());
    let _ = writing.await;
    served
}

async fn converse(
    read: &mut (impl AsyncReadExt + Unpin),
    out: &UnboundedSender<Vec<u8>>,
    id: u64,
    state: &Mutex<State>,
    [product, version]: [&str; 2],
) -> std::io::Result<()> {
    let answer = |channel: u16, class: u16, method: u16, arguments: &[u8]| {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        let _ = out.send(frame(METHOD, channel, &payload));
    };
    let entry = |name: &str, value: &str| [&short(name.as_bytes())[..], b"S", &long(value.as_bytes())].concat();
    let properties = [entry("product", product), entry("version", version)].concat();
    answer(0, 10, 10, &[&[0, 9][..], &long(&properties), &long(b"PLAIN"), &long(b"en_US")].concat());
    let mut publishing: HashMap<u16, Publishing> = HashMap::new();
    let mut confirms: HashMap<u16, u64> = HashMap::new();
    loop {
        let mut head = [0; 7];
        read.read_exact(&mut head).await?;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        read.read_exact(&mut payload).await?;
        payload.truncate(size);
        match head[0] {
            METHOD => {}
            HEADER => {
                if let Some(it) = publishing.get_mut(&channel) {
                    it.size = u64::from_be_bytes(payload[4..12].try_into().expect("eight bytes"));
                    it.properties = payload[12..].to_vec();
                }
            }
            BODY => {
                if let Some(it) = publishing.get_mut(&channel) {
                    it.body.extend(payload.iter());
                }
            }
            _ => continue,
        }
        if head[0] != METHOD {
            if publishing.get(&channel).is_some_and(|it| it.body.len() as u64 >= it.size) {
                let it = publishing.remove(&channel).expect("just seen");
                if let Some(number) = confirms.get_mut(&channel) {
                    *number += 1;
                    answer(channel, 60, 80, &[&number.to_be_bytes()[..], &[0]].concat());
                }
                let mut state = lock(state);
                *state.published.entry(it.routing_key.clone()).or_default() += 1;
                if it.routing_key.ends_with(".jobs") || it.routing_key.ends_with(".events") {
                    let key = it.routing_key.clone();
                    let routing_key = key.clone().into_bytes();
                    let content =
                        Content { exchange: Vec::new(), routing_key, properties: it.properties, body: it.body };
                    state.deliver(&key, content);
                }
            }
            continue;
        }
        let Ok((_, method)) = parse_class(&payload[..]) else { return Err(std::io::ErrorKind::InvalidData.into()) };
        match method {
            AMQPClass::Connection(connection::AMQPMethod::StartOk(_)) => {
                answer(0, 10, 30, &[&[7, 255][..], &FRAME_MAX.to_be_bytes(), &[0, 60]].concat());
            }
            AMQPClass::Connection(connection::AMQPMethod::Open(_)) => answer(0, 10, 41, &[0]),
            AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
                answer(0, 10, 51, &[]);
                return Ok(());
            }
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                lock(state).tags.remove(&(id, channel));
                confirms.remove(&channel);
                answer(channel, 20, 11, &[0, 0, 0, 0]);
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                let mut state = lock(state);
                let of_it = |it: &Consumer| it.connection == id && it.channel == channel;
                state.consumers.values_mut().for_each(|consumers| consumers.retain(|it| !of_it(it)));
                answer(channel, 20, 41, &[]);
            }
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(_)) => answer(channel, 40, 11, &[]),
            AMQPClass::Queue(queue::AMQPMethod::Declare(asked)) => {
                let mut state = lock(state);
                let name = asked.queue.as_str();
                let wrong = state.wrong.get(name);
                if wrong == Some(&Wrong::HangsUp) && !asked.passive {
                    return Ok(());
                }
                let (mut ready, mut consumers) = (0, 0);
                if wrong != Some(&Wrong::Leaderless) {
                    ready = state.backlog.get(name).map_or(0, VecDeque::len) as u32;
                    consumers = state.consumers.get(name).map_or(0, Vec::len) as u32;
                }
                let given_out = state.late && consumers > 0;
                if given_out {
                    ready = 0;
                }
                let said = [&short(name.as_bytes())[..], &ready.to_be_bytes(), &consumers.to_be_bytes()];
                answer(channel, 50, 11, &said.concat());
                if given_out {
                    state.give_out(name);
                }
            }
            AMQPClass::Queue(queue::AMQPMethod::Bind(_)) => answer(channel, 50, 21, &[]),
            AMQPClass::Queue(queue::AMQPMethod::Delete(_)) => answer(channel, 50, 41, &[0, 0, 0, 0]),
            AMQPClass::Basic(basic::AMQPMethod::Qos(_)) => answer(channel, 60, 11, &[]),
            AMQPClass::Basic(basic::AMQPMethod::Consume(asked)) => {
                let mut state = lock(state);
                let tag = match asked.consumer_tag.as_str() {
                    "" => format!("tag-{id}-{channel}-{}", state.consumers.values().map(Vec::len).sum::<usize>()),
                    said => said.to_owned(),
                };
                answer(channel, 60, 21, &short(tag.as_bytes()));
                let consumer = Consumer { connection: id, channel, tag, out: out.clone() };
                state.consume(asked.queue.as_str(), consumer);
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(asked)) => {
                let mut state = lock(state);
                let tag = asked.consumer_tag.as_str();
                let of_it = |it: &Consumer| it.connection == id && it.tag == tag;
                state.consumers.values_mut().for_each(|consumers| consumers.retain(|it| !of_it(it)));
                answer(channel, 60, 31, &short(tag.as_bytes()));
            }
            AMQPClass::Basic(basic::AMQPMethod::Publish(asked)) => {
                let routing_key = asked.routing_key.to_string();
                let new = Publishing { routing_key, properties: Vec::new(), size: u64::MAX, body: Vec::new() };
                publishing.insert(channel, new);
            }
            AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
                confirms.insert(channel, 0);
                answer(channel, 85, 11, &[]);
            }
            // Acks, nacks, and methods that need no answer.
            _ => {}
        }
    }
}
