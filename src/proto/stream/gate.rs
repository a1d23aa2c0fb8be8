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
pub struct Gate {
    stage: Stage,
    /// The handshake message that is coming in.
    buffer: Vec<u8>,
    deadline: Duration,
}

enum Stage {
    Hello,
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
    /// Wait for more, or for the deadline.
    Nothing,
    /// Message 1 was good: send message 2.
    Reply(Box<[u8; REPLY_LEN]>),
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

impl Gate {
    /// A connection that was accepted now. Its deadline is drawn here and nothing moves it.
    pub fn new(now: Now, random: &mut dyn Random) -> Self {
        let mut draw = [0; 4];
        random.fill(&mut draw);
        let fraction = f64::from(u32::from_be_bytes(draw)) / f64::from(u32::MAX);
        let wait = SHORTEST + (LONGEST - SHORTEST).mul_f64(fraction);
        Self { stage: Stage::Hello, buffer: Vec::new(), deadline: now.mono + wait }
    }

    /// When the connection is closed, whatever has come.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether message 1 was good, so that message 3 is awaited.
    pub fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Confirm { .. })
    }

    /// Whether the handshake failed.
    pub fn is_silent(&self) -> bool {
        matches!(self.stage, Stage::Silent)
    }

    /// Takes bytes from the caller. Each of `keys` is tried in turn.
    pub fn feed(
        &mut self,
        input: &[u8],
        now: Now,
        keys: &[Responding<'_>],
        replays: &mut ReplayGuard,
    ) -> Passage {
        match self.stage {
            Stage::Silent => Passage::Nothing,
            Stage::Hello => {
                let Some((hello, consumed)) = self.collect::<HELLO_LEN>(input) else {
                    return Passage::Nothing;
                };
                // Nobody can make message 3 before message 2: what follows is garbage.
                let answered = consumed == input.len();
                match answered.then(|| answer(&hello, now, keys, replays)).transpose() {
                    Ok(Some((responder, reply, key))) => {
                        self.stage = Stage::Confirm { responder: Box::new(responder), key };
                        Passage::Reply(reply)
                    }
                    _ => self.fall_silent(),
                }
            }
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

fn answer(
    hello: &[u8; HELLO_LEN],
    now: Now,
    keys: &[Responding<'_>],
    replays: &mut ReplayGuard,
) -> Result<(Responder, Box<[u8; REPLY_LEN]>, usize), HandshakeError> {
    for (index, key) in keys.iter().enumerate() {
        let opened = match Opened::open(key, hello, now.unix_ms) {
            Err(HandshakeError::NotOpened) => continue,
            other => other?,
        };
        if !replays.admit(opened.unix_ms, &opened.ephemeral, now.unix_ms) {
            return Err(HandshakeError::Stale);
        }
        let (responder, reply) = opened.reply()?;
        return Ok((responder, Box::new(reply), index));
    }
    Err(HandshakeError::NotOpened)
}
