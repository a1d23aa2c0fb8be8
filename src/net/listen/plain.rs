//! A connection without encryption: what comes on it is one message, which its FIN ends. Nothing is
//! answered; that the message is written shows in our FIN, that it is not in a reset.

use std::time::Duration;

use super::conn::Shared;
use super::{Caller, Heard, Notice, Stage};
use crate::crypto::sodium::random;
use crate::net::sockets::Transport;
use crate::proto::stream::link::Crossing;
use crate::proto::stream::meta::MessageKind;
use crate::proto::time::Now;
use crate::sched::mux::Mux;
use crate::sched::party::Source;

/// Connections of plain listeners, at most: whoever can reach the port can open one.
pub const MAX_CONNS: usize = 256;

/// Where the one message of a connection stands.
pub struct Plain {
    caller: Caller,
    stage: Stands,
    /// When anything came last, monotonic.
    heard: Duration,
}

enum Stands {
    /// Not a byte yet: a connection that ends so was no message.
    Nothing,
    /// It comes in.
    Coming(Heard),
    /// It is whole, and not flushed yet.
    Whole(Heard),
    /// It is flushed, or nobody wants it any more.
    Over,
}

impl Plain {
    /// A connection that was just accepted from `caller`.
    pub fn new(caller: Caller, now: Now) -> Self {
        Self { caller, stage: Stands::Nothing, heard: now.mono }
    }

    /// Where it comes from.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether its message has begun and is not over.
    pub fn is_busy(&self) -> bool {
        matches!(self.stage, Stands::Coming(_) | Stands::Whole(_))
    }

    /// Whether there is nothing left to do.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stands::Over)
    }

    /// Whether it is not read because its message waits for the output.
    pub fn is_stalled(&self, source: Source, mux: &Mux<Heard>) -> bool {
        matches!(self.stage, Stands::Whole(_)) || !mux.has_room(source)
    }

    /// Silence does not count while we do not read.
    pub fn excuse_silence(&mut self, now: Now) {
        self.heard = now.mono;
    }

    /// When its silence has lasted too long. Somebody who types has no limit of their own: the mux
    /// cuts who keeps others waiting.
    pub fn deadline(&self, shared: &Shared<'_>) -> Option<Duration> {
        shared.idle.map(|idle| self.heard + idle)
    }

    /// Bytes of the message.
    pub fn take(
        &mut self,
        bytes: &[u8],
        source: Source,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        self.heard = now.mono;
        if shared.trace {
            shared.host.notice(Notice::Crossed(&Crossing::unsealed(false, bytes)));
        }
        if matches!(self.stage, Stands::Nothing) {
            let heard = heard(self.caller.clone(), Transport::Tcp, now);
            shared.mux.begin(source, heard.clone(), now.mono);
            self.stage = Stands::Coming(heard);
        }
        if matches!(self.stage, Stands::Coming(_)) {
            shared.mux.data(source, bytes, now.mono, stage);
        }
    }

    /// The FIN came. Whether the connection is over: it is not before the message is flushed.
    pub fn end(&mut self, source: Source, shared: &mut Shared<'_>) -> bool {
        self.stage = match std::mem::replace(&mut self.stage, Stands::Over) {
            Stands::Coming(heard) => {
                shared.mux.end(source);
                Stands::Whole(heard)
            }
            Stands::Nothing | Stands::Over => Stands::Over,
            whole @ Stands::Whole(_) => whole,
        };
        self.is_over()
    }

    /// The output has flushed the message.
    pub fn flushed(&mut self, total: u64, shared: &mut Shared<'_>) {
        if let Stands::Whole(heard) = std::mem::replace(&mut self.stage, Stands::Over) {
            shared.host.notice(Notice::Delivered(&heard, total));
        }
    }

    /// Nobody wants the message, or it will never be whole. Whether the sender is to be shown that.
    pub fn cut(&mut self, why: &'static str, source: Source, shared: &mut Shared<'_>) -> bool {
        match std::mem::replace(&mut self.stage, Stands::Over) {
            Stands::Coming(heard) | Stands::Whole(heard) => {
                shared.mux.cut(source);
                shared.host.notice(Notice::Cut(&heard, why));
                true
            }
            Stands::Nothing => true,
            Stands::Over => false,
        }
    }
}

/// A message of `caller` that begins now. Its sender's clock is not known.
pub fn heard(caller: Caller, transport: Transport, now: Now) -> Heard {
    Heard {
        id: random(),
        kind: MessageKind::Message as u8,
        caller,
        sent_ms: now.unix_ms,
        arrived_ms: now.unix_ms,
        transport,
    }
}
