//! What everybody else notices while some misbehave: the same messages in peace and under attack.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt as _;

use super::{
    Answer, Arc, BODY, Bytes, Call, Connection, Event, Kind, Load, Message, PIPELINE, TcpStream,
    connect, name_of,
};
use futures_util::{SinkExt as _, StreamExt as _};

/// Accounts that send without a pause, each far beyond what one may.
const FLOODS: usize = 4;
/// Receivers of full mailboxes who never read.
const STALLED: usize = 16;
/// Messages in each of those mailboxes, and their bytes: more than any buffer on the way.
const UNREAD: (usize, usize) = (500, 6000);
/// Connections that begin a TLS handshake and say no more.
const HALF_OPEN: usize = 200;
/// At once, connections that send what is no request.
const GARBLING: usize = 4;

/// What the attackers did.
#[derive(Default)]
pub(crate) struct Done {
    /// Sends that were refused.
    pub(crate) refused: AtomicUsize,
    /// Malformed requests, each of which cost its connection.
    pub(crate) malformed: AtomicUsize,
}

/// Sends `count` messages one after the other from one ordinary account to another.
pub(crate) async fn victim(relay: &str, name: &str, count: usize) -> Load {
    let mut from = Connection::login(relay, &format!("{name}-from"), 71).await;
    drop(Connection::login(relay, &format!("{name}-to"), 72).await);
    let to = format!("{name}-to");
    let client = async move {
        let mut latencies = Vec::with_capacity(count);
        for _ in 0..count {
            latencies.extend(from.send_many(&to, 1).await);
        }
        latencies
    };
    Load::of(vec![client]).await
}

/// Runs `during` while all of the attackers are at work.
pub(crate) async fn under_attack<T>(
    relay: &str,
    during: impl Future<Output = T>,
) -> (T, Arc<Done>) {
    let done = Arc::new(Done::default());
    let mut stalled = Vec::new();
    for number in 0..STALLED {
        stalled.push(stall(relay, number).await);
    }
    let mut attackers = tokio::task::JoinSet::new();
    for number in 0..FLOODS {
        attackers.spawn(flood(relay.to_owned(), number, Arc::clone(&done)));
    }
    for _ in 0..HALF_OPEN {
        attackers.spawn(half_open(relay.to_owned()));
    }
    for _ in 0..GARBLING {
        attackers.spawn(garble(relay.to_owned(), Arc::clone(&done)));
    }
    let result = during.await;
    attackers.shutdown().await;
    drop(stalled);
    (result, done)
}

/// Fills an own mailbox, asks for what is in it and does not read it.
async fn stall(relay: &str, number: usize) -> Connection {
    let name = format!("stalled{number}");
    let mut connection = Connection::login(relay, &name, 100 + number as u64).await;
    let (messages, bytes) = UNREAD;
    for message in 0..messages {
        let call = Call::Send {
            to: name_of(&name),
            message_id: Bytes((message as u128).to_be_bytes()),
            kind: Kind::Message,
            body: &vec![0x5a; bytes],
        };
        connection.call(call).await;
        connection.reply().await;
    }
    connection.call(Call::Receive).await;
    connection.socket.flush().await.expect("asked");
    connection
}

/// Sends to a mailbox of its own with the pipeline always full, whatever is answered.
async fn flood(relay: String, number: usize, done: Arc<Done>) {
    let name = format!("flood{number}");
    let mut connection = Connection::login(&relay, &name, 200 + number as u64).await;
    let (mut message, mut open) = (0u128, 0);
    loop {
        while open < PIPELINE {
            let call = Call::Send {
                to: name_of(&name),
                message_id: Bytes(message.to_be_bytes()),
                kind: Kind::Message,
                body: &[0x5a; BODY],
            };
            connection.call(call).await;
            (message, open) = (message + 1, open + 1);
        }
        let refused = connection.event(|event| match event {
            Event::Reply { answer, .. } => Some(matches!(answer, Answer::Refused(_))),
            _ => None,
        });
        if refused.await {
            done.refused.fetch_add(1, Ordering::Relaxed);
        }
        open -= 1;
    }
}

/// Begins handshakes and leaves them there.
async fn half_open(relay: String) {
    loop {
        let Ok(mut tcp) = TcpStream::connect(&relay).await else {
            continue;
        };
        // The head of a TLS record, of which nothing more comes.
        let _ = tcp.write_all(&[22, 3, 1, 2, 0]).await;
        let _ = tcp.readable().await;
    }
}

/// Connects again and again to send what is no request, which costs it the connection.
async fn garble(relay: String, done: Arc<Done>) {
    let mut noise = [0; 200];
    loop {
        let Some(mut socket) = connect(&relay).await else {
            continue;
        };
        getrandom::fill(&mut noise).expect("random numbers");
        let _ = socket.send(Message::binary(noise.to_vec())).await;
        while let Some(Ok(_)) = socket.next().await {}
        done.malformed.fetch_add(1, Ordering::Relaxed);
    }
}
