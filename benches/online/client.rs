//! A load of HTTP/1.1 requests over connections that stay open, as cheap for the client as it gets.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Requests to send in turn, over so many connections.
pub struct Load {
    pub address: String,
    pub requests: Vec<Vec<u8>>,
    pub connections: usize,
}

/// From sending to the answer read, of every request.
pub struct Seen {
    pub times: Vec<Duration>,
    pub took: Duration,
}

impl Load {
    /// Asks for so long.
    pub fn run(&self, time: Duration) -> Seen {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let began = Instant::now();
            let clients = (0..self.connections).map(|client| self.client(client, began + time));
            let times = futures::future::join_all(clients).await.concat();
            Seen { times, took: began.elapsed() }
        })
    }

    async fn client(&self, client: usize, until: Instant) -> Vec<Duration> {
        let mut stream = TcpStream::connect(&self.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut times = Vec::with_capacity(1 << 16);
        let mut answer = Vec::with_capacity(1 << 16);
        // Clients begin at different places of the list.
        let mut next = client * 61 % self.requests.len();
        while Instant::now() < until {
            let sent = Instant::now();
            stream.write_all(&self.requests[next]).await.expect("the server reads");
            read_answer(&mut stream, &mut answer).await;
            times.push(sent.elapsed());
            next = (next + 1) % self.requests.len();
        }
        times
    }
}

/// Reads one answer; it must be a success and say how long it is.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) {
    answer.clear();
    let mut end = None;
    loop {
        let count = stream.read_buf(answer).await.expect("the server writes");
        assert!(count > 0, "the server closed the connection");
        if end.is_none() {
            end = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|head| {
                let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
                assert!(text.starts_with("http/1.1 200"), "{text}: {}", String::from_utf8_lossy(&answer[head..]));
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
                head + 4 + length.trim().parse::<usize>().expect("a number")
            });
        }
        if end.is_some_and(|end| answer.len() >= end) {
            return;
        }
    }
}
