//! What stands in front of a listener: until message 3 is accepted, a stranger draws nothing.
//! PROTOCOL.md, section 3.1.

use std::time::Duration;

use super::handshake::{
    CONFIRM_LEN, HELLO_LEN, HandshakeError, Opened, REPLY_LEN, Responder, Responding,
};
use super::replay::ReplayGuard;
use super::session::Session;
use crate::crypto::sodium::{PublicKey, Random};
use crate::proto::time::Now;

/// The shortest time that a connection may take for its handshake.
const SHORTEST: Duration = Duration::from_secs(10);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// One connection whose handshake is not over.
///
/// What comes is taken at any time, which costs next to nothing; message 1 is opened when its turn
/// has come ([`Gate::answer`]).
pub struct Gate {
    stage: Stage,
    /// The handshake message that is coming in.
    buffer: Vec<u8>,
    deadline: Duration,
}

enum Stage {
    Hello,
    /// Message 1 is whole since then, and waits for its turn.
    Knocking {
        hello: Box<[u8; HELLO_LEN]>,
        since: Duration,
    },
    Confirm {
        responder: Box<Responder>,
        key: usize,
    },
    /// It failed: whatever comes is read and dropped until the deadline, so that closing does not
    /// send a reset, and a stranger learns nothing from the time at which we close.
    Silent,
}

/// What came of some bytes.
pub enum Passage {
    /// Wait for more, for its turn if it [knocks](Gate::knocks), or for the deadline.
    Nothing,
    /// Message 3 was good: the caller has proved `caller`, and asked for key number `key`. The gate
    /// is silent from here on, so that a caller who is not let in is dropped like any stranger.
    Proved {
        /// The session, which has sent nothing yet.
        session: Box<Session>,
        /// Whose it is.
        caller: PublicKey,
        /// Which of our keys was called.
        key: usize,
        /// How many of the bytes given belong to the handshake; the rest are records.
        consumed: usize,
    },
}

/// What message 1 came to.
pub enum Answer {
    /// It is not for us, stale or seen before, and draws nothing.
    Nothing,
    /// It was new and is remembered, and draws nothing: its ML-KEM key is none.
    Remembered,
    /// It was good and is remembered: send message 2.
    Reply(Box<[u8; REPLY_LEN]>),
}

impl Gate {
    /// A connection that was accepted now. Its deadline is drawn here and nothing moves it.
    pub fn new(now: Now, random: &mut dyn Random) -> Self {
        let mut draw = [0; 4];
        random.fill(&mut draw);
        let fraction = f64::from(u32::from_be_bytes(draw)) / f64::from(u32::MAX);
        let wait = SHORTEST + (LONGEST - SHORTEST).mul_f64(fraction);
        Self { stage: Stage::Hello, buffer: Vec::new(), deadline: now.mono + wait }
    }

    /// When the connection is closed, whatever has come. The time that message 1 waits for its turn
    /// does not count, up to 30 s.
    pub fn deadline(&self) -> Duration {
        match self.stage {
            Stage::Knocking { .. } => self.deadline + LONGEST,
            _ => self.deadline,
        }
    }

    /// Whether message 1 is whole, and waits for its turn.
    pub fn knocks(&self) -> bool {
        matches!(self.stage, Stage::Knocking { .. })
    }

    /// Whether message 1 was good, so that message 3 is awaited.
    pub fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Confirm { .. })
    }

    /// Whether the handshake failed.
    pub fn is_silent(&self) -> bool {
        matches!(self.stage, Stage::Silent)
    }

    /// Takes bytes from the caller.
    pub fn feed(&mut self, input: &[u8], now: Now) -> Passage {
        match self.stage {
            Stage::Silent => Passage::Nothing,
            Stage::Hello => {
                let Some((hello, consumed)) = self.collect::<HELLO_LEN>(input) else {
                    return Passage::Nothing;
                };
                if consumed < input.len() {
                    return self.fall_silent();
                }
                self.stage = Stage::Knocking { hello: Box::new(hello), since: now.mono };
                Passage::Nothing
            }
            // Nobody can make message 3 before message 2: what follows is garbage.
            Stage::Knocking { .. } if !input.is_empty() => self.fall_silent(),
            Stage::Knocking { .. } => Passage::Nothing,
            Stage::Confirm { .. } => {
                let Some((confirm, consumed)) = self.collect::<CONFIRM_LEN>(input) else {
                    return Passage::Nothing;
                };
                let Stage::Confirm { responder, key } =
                    std::mem::replace(&mut self.stage, Stage::Silent)
                else {
                    return Passage::Nothing;
                };
                match responder.finish(&confirm) {
                    Ok((session, caller)) => {
                        Passage::Proved { session: Box::new(session), caller, key, consumed }
                    }
                    Err(_) => self.fall_silent(),
                }
            }
        }
    }

    /// Its turn has come: opens message 1 if it is whole. Each of `keys` is tried in turn.
    pub fn answer(
        &mut self,
        now: Now,
        keys: &[Responding<'_>],
        replays: &mut ReplayGuard,
    ) -> Answer {
        let Stage::Knocking { hello, since } = &self.stage else { return Answer::Nothing };
        let (waited, opened) = (now.mono.saturating_sub(*since), open(hello, now, keys));
        self.deadline += waited.min(LONGEST);
        self.fall_silent();
        let Ok((opened, key)) = opened else { return Answer::Nothing };
        if !replays.admit(&opened.ephemeral, now.mono) {
            return Answer::Nothing;
        }
        let Ok((responder, reply)) = opened.reply() else { return Answer::Remembered };
        self.stage = Stage::Confirm { responder: Box::new(responder), key };
        Answer::Reply(Box::new(reply))
    }

    fn fall_silent(&mut self) -> Passage {
        self.stage = Stage::Silent;
        self.buffer = Vec::new();
        Passage::Nothing
    }

    /// Collects a message of `N` bytes; gives it, and how many of `input` went into it.
    fn collect<const N: usize>(&mut self, input: &[u8]) -> Option<([u8; N], usize)> {
        let take = (N - self.buffer.len()).min(input.len());
        self.buffer.extend_from_slice(&input[..take]);
        let message = <[u8; N]>::try_from(self.buffer.as_slice()).ok()?;
        self.buffer = Vec::new();
        Some((message, take))
    }
}

/// Opens message 1: with which of `keys`, too.
fn open(
    hello: &[u8; HELLO_LEN],
    now: Now,
    keys: &[Responding<'_>],
) -> Result<(Opened, usize), HandshakeError> {
    for (index, key) in keys.iter().enumerate() {
        match Opened::open(key, hello, now.unix_ms) {
            Err(HandshakeError::NotOpened) => {}
            opened => return opened.map(|opened| (opened, index)),
        }
    }
    Err(HandshakeError::NotOpened)
}
