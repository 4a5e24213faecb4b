//! A name server on this machine, whose answers each test chooses.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hickory_resolver::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::net::UdpSocket;

/// Returns the records of a name. The number says how many questions came before (0 at first).
pub type Answers = dyn Fn(&str, usize) -> Vec<Answer> + Send + Sync;

/// One record of an answer.
pub enum Answer {
    Address(IpAddr),
    Alias(String),
}

/// Answers until it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl NameServer {
    pub async fn start(answers: impl Fn(&str, usize) -> Vec<Answer> + Send + Sync + 'static) -> NameServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let serving = tokio::spawn(serve(socket, Arc::new(answers)));
        NameServer { address, serving }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, answers: Arc<Answers>) {
    let asked = AtomicUsize::new(0);
    let mut buffer = [0; 4096];
    while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..size]) else { continue };
        let Some(query) = question.queries.first().cloned() else { continue };
        let name = query.name().to_ascii();
        let name = name.trim_end_matches('.');
        // Both families are asked for at once, so they count as one question.
        let nth = asked.fetch_add(1, Ordering::SeqCst) / 2;
        let mut answer = question.into_response();
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.response_code = ResponseCode::NoError;
        answer.metadata.recursion_available = true;
        let mut owner = query.name().clone();
        for record in answers(name, nth) {
            match record {
                Answer::Alias(to) => {
                    let to = Name::from_ascii(format!("{to}.")).unwrap();
                    let data = RData::CNAME(hickory_resolver::proto::rr::rdata::CNAME(to.clone()));
                    answer.add_answer(Record::from_rdata(owner, 0, data));
                    owner = to;
                }
                Answer::Address(IpAddr::V4(address)) if query.query_type() == RecordType::A => {
                    answer.add_answer(Record::from_rdata(owner.clone(), 0, RData::A(address.into())));
                }
                Answer::Address(IpAddr::V6(address)) if query.query_type() == RecordType::AAAA => {
                    answer.add_answer(Record::from_rdata(owner.clone(), 0, RData::AAAA(address.into())));
                }
                Answer::Address(_) => {}
            }
        }
        if let Ok(bytes) = answer.to_vec() {
            let _ = socket.send_to(&bytes, from).await;
        }
    }
}
