//! Counts for Prometheus: one answer of HTTP/1.0 a connection, in its text format 0.0.4.

use std::fmt::Write as _;
use std::time::Duration;

use mio::event::Event;

use super::counts::Counts;
use crate::net::wire::{Left, Read, Wire};

/// Whoever asks may take so long for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest request, in bytes.
const MAX_REQUEST: usize = 4096;
/// How many may ask at once.
pub const MAX_ASKING: usize = 16;

/// A connection that asks for the counts.
pub struct Asking {
    wire: Wire,
    request: Vec<u8>,
    /// What is left of the answer, once there is one.
    answer: Option<Vec<u8>>,
    until: Duration,
}

impl Asking {
    /// A connection that was just accepted.
    pub fn new(wire: Wire, now: Duration) -> Self {
        Self { wire, request: Vec::new(), answer: None, until: now + PATIENCE }
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, event: &Event) {
        self.wire.on_event(event);
    }

    /// When it is closed, whatever has come.
    pub fn deadline(&self) -> Duration {
        self.until
    }

    /// One turn; whether the connection is over.
    pub fn drive(&mut self, now: Duration, counts: &Counts) -> bool {
        if now >= self.until || (self.answer.is_none() && self.hear(counts)) {
            return true;
        }
        let Some(answer) = &mut self.answer else { return false };
        match self.wire.write(answer) {
            Ok(written) => answer.drain(..written),
            Err(_) => return true,
        };
        if !answer.is_empty() {
            return false;
        }
        self.wire.end_writing();
        // Closing with bytes unread would reset the connection, and take the answer with it.
        self.wire.drain() == Left::Closed
    }

    /// Reads the request; whether the connection is over.
    fn hear(&mut self, counts: &Counts) -> bool {
        let mut space = [0; MAX_REQUEST];
        loop {
            match self.wire.read(&mut space) {
                Read::Bytes(n) => self.request.extend_from_slice(&space[..n]),
                Read::Later => return false,
                Read::Closed | Read::Broken => return true,
            }
            if self.request.windows(4).any(|end| end == b"\r\n\r\n") {
                self.answer = Some(answer(&self.request, counts).into_bytes());
                self.request = Vec::new();
                return false;
            }
            if self.request.len() > MAX_REQUEST {
                return true;
            }
        }
    }
}

fn answer(request: &[u8], counts: &Counts) -> String {
    let known = [&b"GET / "[..], b"GET /metrics "].iter().any(|line| request.starts_with(line));
    let (status, text) = match known {
        true => ("200 OK", text(counts)),
        false => ("404 Not Found", "GET /metrics\n".to_owned()),
    };
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

fn text(counts: &Counts) -> String {
    let mut text = String::new();
    for (name, help, value) in counts.now() {
        metric(&mut text, name, "gauge", help, value);
    }
    for (name, help, value) in counts.since_start() {
        metric(&mut text, &format!("{name}_total"), "counter", help, value);
    }
    text
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    // A String takes everything.
    let _ = write!(
        text,
        "# HELP anonchat_relay_{name} {help}\n# TYPE anonchat_relay_{name} {kind}\n\
         anonchat_relay_{name} {value}\n"
    );
}
