//! A network between worker and broker that breaks on demand.
//!
//! It recognizes connections by the name that the client gives them (`leadhook/events/...`, `leadhook/jobs/...`,
//! `leadhook/publish/...`), so that a test can break each by itself. Existing proxies (toxiproxy and its ports) cannot
//! cut inside a frame or tell connections apart.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use super::proxy_frames::{Frames, Sieve};

/// Selects connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// Both consuming connections.
    Consume,
    Events,
    Jobs,
    Publish,
}

impl Which {
    /// Returns whether this selects a connection of that role.
    fn includes(self, role: Which) -> bool {
        match self {
            Which::All => true,
            Which::Consume => matches!(role, Which::Events | Which::Jobs),
            Which::Events | Which::Jobs | Which::Publish => self == role,
        }
    }
}

/// The direction in which bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToBroker,
    ToWorker,
}

/// Delay and rate of a connection, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Delay of each piece.
    pub delay: Duration,
    /// Bytes a second; 0 is unlimited.
    pub rate: u32,
}

/// The treatment of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Flows,
    /// Bytes vanish in this direction (both if `None`), as does the end of the stream. Neither side notices.
    Vanishes(Option<Direction>),
    /// Bytes wait in this direction.
    Waits(Direction),
    /// Cuts the next frame of this direction in its middle, then resets both sides.
    CutInFrame(Direction),
    /// Deliveries to the worker vanish; everything else flows.
    Starves,
    /// Resets the connection at once.
    Reset,
}

struct Link {
    role: Which,
    fate: watch::Sender<Fate>,
}

#[derive(Default)]
struct State {
    links: Vec<Arc<Mutex<Link>>>,
}

struct Shared {
    broker: Mutex<SocketAddr>,
    state: Mutex<State>,
    consume: watch::Sender<Weather>,
    publish: watch::Sender<Weather>,
    /// Whether new connections are turned away.
    down: watch::Sender<bool>,
    accepted: AtomicUsize,
    cut_in_frames: AtomicUsize,
}

/// A proxy in front of one broker. It ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy on its own port, in front of the broker of an AMQP URL.
    pub async fn before(url: &str) -> Proxy {
        let broker = address_of(url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            broker: Mutex::new(broker),
            state: Mutex::default(),
            consume: watch::Sender::default(),
            publish: watch::Sender::default(),
            down: watch::Sender::new(false),
            accepted: AtomicUsize::new(0),
            cut_in_frames: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Proxy { address, shared, _tasks: tasks }
    }

    /// Returns an AMQP URL that goes through this proxy.
    pub fn url(&self, url: &str) -> String {
        url.replace(&address_of(url).to_string(), &self.address.to_string())
    }

    /// Sets delay and rate of these connections, including future ones.
    pub fn weather(&self, which: Which, weather: Weather) {
        if which != Which::Publish {
            self.shared.consume.send_replace(weather);
        }
        if which != Which::Consume {
            self.shared.publish.send_replace(weather);
        }
    }

    /// Resets these connections now.
    pub fn cut(&self, which: Which) {
        self.decide(which, Fate::Reset);
    }

    /// Cuts the next frame of a direction in its middle.
    pub fn cut_in_frame(&self, which: Which, direction: Direction) {
        self.decide(which, Fate::CutInFrame(direction));
    }

    /// Returns how many frames it has cut.
    pub fn frames_cut(&self) -> usize {
        self.shared.cut_in_frames.load(Ordering::Relaxed)
    }

    /// Makes the open connections half-open: from now on their bytes vanish silently and indefinitely.
    pub fn vanish(&self, which: Which, direction: Option<Direction>) {
        self.decide(which, Fate::Vanishes(direction));
    }

    /// Makes bytes of the open connections wait in this direction, until they may [go on](Proxy::go_on).
    pub fn wait(&self, which: Which, direction: Direction) {
        self.decide(which, Fate::Waits(direction));
    }

    /// Lets all bytes flow again, beginning with those that waited.
    pub fn go_on(&self, which: Which) {
        self.decide(which, Fate::Flows);
    }

    /// Stops all deliveries to the consumers of a connection that is otherwise healthy.
    pub fn starve(&self, which: Which) {
        self.decide(which, Fate::Starves);
    }

    /// Turns new connections away, or accepts them again.
    pub fn down(&self, down: bool) {
        self.shared.down.send_replace(down);
    }

    /// Returns the number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    fn decide(&self, which: Which, fate: Fate) {
        let mut state = lock(&self.shared.state);
        state.links.retain(|link| !lock(link).fate.is_closed());
        for link in &state.links {
            let link = lock(link);
            if which.includes(link.role) {
                link.fate.send_replace(fate);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parses host and port of an AMQP URL.
fn address_of(url: &str) -> SocketAddr {
    let rest = url.rsplit('@').next().expect("a URL");
    rest.split('/').next().expect("a host").parse().expect("an address with a port")
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    loop {
        let Ok((worker, _)) = listener.accept().await else { continue };
        while links.try_join_next().is_some() {}
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        if *shared.down.borrow() {
            reset(worker);
            continue;
        }
        let address = *lock(&shared.broker);
        let Ok(broker) = TcpStream::connect(address).await else {
            reset(worker);
            continue;
        };
        let _ = (worker.set_nodelay(true), broker.set_nodelay(true));
        links.spawn(carry(worker, broker, shared.clone()));
    }
}

/// Closes the stream with a reset instead of an orderly end.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn carry(worker: TcpStream, broker: TcpStream, shared: Arc<Shared>) {
    let (fate, told) = watch::channel(Fate::Flows);
    let link = Arc::new(Mutex::new(Link { role: Which::All, fate }));
    lock(&shared.state).links.push(link.clone());
    let (from_worker, to_worker) = worker.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let one = Pump { shared: &shared, link: &link, told: told.clone(), direction: Direction::ToBroker };
    let other = Pump { shared: &shared, link: &link, told, direction: Direction::ToWorker };
    let (mut one, mut other) = (Box::pin(one.run(from_worker, to_broker)), Box::pin(other.run(from_broker, to_worker)));
    // When one side ends, the other ends in the same way.
    let (first, rest) = tokio::select! {
        first = &mut one => (first, other),
        first = &mut other => (first, one),
    };
    if first.orderly {
        let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
    } else {
        drop(rest);
    }
}

/// One direction of a connection.
struct Pump<'a> {
    shared: &'a Shared,
    link: &'a Mutex<Link>,
    told: watch::Receiver<Fate>,
    direction: Direction,
}

struct End {
    orderly: bool,
}

impl Pump<'_> {
    async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> End {
        let mut buffer = vec![0; 16 * 1024];
        let mut frames = Frames::new(self.direction);
        let (mut heard, mut sieve) = (Vec::new(), Sieve::default());
        loop {
            let fate = *self.told.borrow_and_update();
            if fate == Fate::Reset {
                return abort(&from, &to);
            }
            if fate == Fate::Waits(self.direction) {
                let _ = self.told.changed().await;
                continue;
            }
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                changed = self.told.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return abort(&from, &to),
                },
            };
            let fate = *self.told.borrow();
            let vanishes = matches!(fate, Fate::Vanishes(which) if which.is_none_or(|it| it == self.direction));
            let bytes = match read {
                Ok(0) | Err(_) if vanishes => {
                    // The other side is left alone until the fate changes, which may never happen.
                    let _ = self.told.changed().await;
                    continue;
                }
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return End { orderly: true };
                }
                Err(_) => return abort(&from, &to),
                Ok(_) if vanishes => continue,
                Ok(read) => &buffer[..read],
            };
            self.listen(&mut heard, bytes);
            if let Fate::CutInFrame(direction) = fate
                && direction == self.direction
                && let Some(inside) = frames.inside(bytes)
            {
                let _ = to.write_all(&bytes[..inside]).await;
                let _ = to.flush().await;
                self.shared.cut_in_frames.fetch_add(1, Ordering::Relaxed);
                lock(self.link).fate.send_replace(Fate::Reset);
                return abort(&from, &to);
            }
            let kept =
                (fate == Fate::Starves && self.direction == Direction::ToWorker).then(|| sieve.keep(&frames, bytes));
            frames.pass(bytes);
            if !self.forward(&mut to, kept.as_deref().unwrap_or(bytes)).await {
                return abort(&from, &to);
            }
        }
    }

    /// Finds the connection's name among the first bytes that the worker sends.
    fn listen(&self, heard: &mut Vec<u8>, bytes: &[u8]) {
        if self.direction == Direction::ToWorker || heard.len() > 4096 {
            return;
        }
        heard.extend_from_slice(bytes);
        let says = |what: &[u8]| heard.windows(what.len()).any(|window| window == what);
        if says(b"leadhook/events/") {
            lock(self.link).role = Which::Events;
        } else if says(b"leadhook/jobs/") {
            lock(self.link).role = Which::Jobs;
        } else if says(b"leadhook/publish/") {
            lock(self.link).role = Which::Publish;
        }
    }

    async fn forward(&self, to: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
        let role = lock(self.link).role;
        let weather = match role {
            Which::Publish => *self.shared.publish.borrow(),
            Which::Consume | Which::Events | Which::Jobs | Which::All => *self.shared.consume.borrow(),
        };
        if !weather.delay.is_zero() {
            tokio::time::sleep(weather.delay).await;
        }
        if weather.rate == 0 {
            return to.write_all(bytes).await.is_ok();
        }
        for piece in bytes.chunks(512) {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / f64::from(weather.rate))).await;
            if to.write_all(piece).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn abort(from: &OwnedReadHalf, to: &OwnedWriteHalf) -> End {
    let (from, to): (&TcpStream, &TcpStream) = (from.as_ref(), to.as_ref());
    let _ = (from.set_zero_linger(), to.set_zero_linger());
    End { orderly: false }
}
