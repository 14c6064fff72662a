//! A receiver of webhooks on a loopback port, told how to answer.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver as Inbox, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Received {
    pub fn delivery(&self) -> &str {
        &self.headers["x-mlflow-delivery-id"]
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

/// Answers with the statuses it was given, one each, and then with the last of them; status 0 never answers.
pub struct Receiver {
    pub port: u16,
    inbox: Mutex<Inbox<Received>>,
    desk: Arc<Desk>,
}

/// How it answers, and who waits in vain.
struct Desk {
    answers: Mutex<Vec<u16>>,
    held: Mutex<Vec<TcpStream>>,
}

impl Desk {
    /// Hangs up on those who wait.
    fn hang_up(&self) {
        for stream in self.held.lock().expect("not poisoned").drain(..) {
            // The other side may have gone first.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.desk.hang_up();
    }
}

impl Receiver {
    pub fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (outbox, inbox) = channel();
        let desk = Arc::new(Desk { answers: Mutex::new(answers.to_vec()), held: Mutex::default() });
        let shared = desk.clone();
        // It ends with the test program.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (outbox, desk) = (outbox.clone(), shared.clone());
                thread::spawn(move || serve(stream, &outbox, &desk));
            }
        });
        Self { port, inbox: Mutex::new(inbox), desk }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// From now on it answers so; who waits for an answer is hung up on.
    pub fn answer(&self, status: u16) {
        *self.desk.answers.lock().expect("not poisoned") = vec![status];
        self.desk.hang_up();
    }

    /// What came next; `None` when nothing comes for so long.
    pub fn within(&self, limit: Duration) -> Option<Received> {
        match self.inbox.lock().expect("not poisoned").recv_timeout(limit) {
            Ok(received) => Some(received),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the receiver is gone"),
        }
    }

    /// What came next; fails after a minute.
    #[track_caller]
    pub fn next(&self) -> Received {
        self.within(Duration::from_secs(60)).expect("a message comes within a minute")
    }
}

fn serve(mut stream: TcpStream, outbox: &Sender<Received>, desk: &Desk) {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or_default() == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let status = {
        let mut script = desk.answers.lock().expect("not poisoned");
        if script.len() > 1 { script.remove(0) } else { script[0] }
    };
    let received = Received { path, headers, body: String::from_utf8(body).expect("UTF-8") };
    if status == 0 {
        desk.held.lock().expect("not poisoned").push(stream);
    } else {
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: 4\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\ndone"
        );
        // Whoever asked may be gone.
        let _ = stream.write_all(answer.as_bytes());
    }
    // The test may have ended.
    let _ = outbox.send(received);
}
