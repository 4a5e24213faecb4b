//! A publisher that writes its own frames. AMQP clients in other languages send bytes that lapin cannot.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::scripted_broker::{BODY, FRAME_MAX, HEADER, METHOD, frame, long, short};

/// One connection with one channel, in confirm mode.
pub struct RawPublisher {
    stream: TcpStream,
}

const CHANNEL: u16 = 1;

/// Bytes of a frame besides its payload.
const FRAME_OVERHEAD: usize = 8;

impl RawPublisher {
    /// Connects to `amqp://user:password@host:port/vhost`.
    pub async fn connect(url: &str) -> RawPublisher {
        let rest = url.strip_prefix("amqp://").expect("an AMQP URL");
        let (login, rest) = rest.split_once('@').expect("a login");
        let (user, password) = login.split_once(':').expect("a password");
        let (address, vhost) = rest.split_once('/').expect("a vhost");
        let mut stream = TcpStream::connect(address).await.expect("the broker");
        stream.write_all(b"AMQP\0\0\x09\x01").await.expect("a connection");
        let mut raw = RawPublisher { stream };
        raw.answered(10, 10).await;
        let response = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
        let start_ok = [&long(b"")[..], &short(b"PLAIN"), &long(&response), &short(b"en_US")].concat();
        raw.ask(0, 10, 11, &start_ok).await;
        raw.answered(10, 30).await;
        raw.ask(0, 10, 31, &[&[0, 9][..], &FRAME_MAX.to_be_bytes(), &[0, 0]].concat()).await;
        raw.ask(0, 10, 40, &[&short(vhost.as_bytes())[..], &[0, 0]].concat()).await;
        raw.answered(10, 41).await;
        raw.ask(CHANNEL, 20, 10, &[0]).await;
        raw.answered(20, 11).await;
        raw.ask(CHANNEL, 85, 10, &[0]).await;
        raw.answered(85, 11).await;
        raw
    }

    /// Publishes with these flags and properties, and waits for the confirm.
    pub async fn publish(&mut self, exchange: &str, routing_key: &[u8], properties: &[u8], body: &[u8]) {
        let arguments = [&[0, 0][..], &short(exchange.as_bytes()), &short(routing_key), &[1]].concat();
        self.ask(CHANNEL, 60, 40, &arguments).await;
        let header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), properties].concat();
        let mut bytes = frame(HEADER, CHANNEL, &header);
        for part in body.chunks(FRAME_MAX as usize - FRAME_OVERHEAD) {
            bytes.extend(frame(BODY, CHANNEL, part));
        }
        self.stream.write_all(&bytes).await.expect("a connection");
        self.answered(60, 80).await;
    }

    async fn ask(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.stream.write_all(&frame(METHOD, channel, &payload)).await.expect("a connection");
    }

    /// Reads until this method arrives. Any other method means that the broker refuses.
    async fn answered(&mut self, class: u16, method: u16) {
        loop {
            let mut head = [0; 7];
            self.stream.read_exact(&mut head).await.expect("an answer");
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let mut payload = vec![0; size + 1];
            self.stream.read_exact(&mut payload).await.expect("an answer");
            if head[0] != METHOD {
                continue;
            }
            let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
            assert_eq!(payload[..4], wanted, "the broker refuses: {}", String::from_utf8_lossy(&payload));
            return;
        }
    }
}
