//! The order of the records of one message after another, as the receiver checks it: META, RESUME
//! where META asks for it, DATA…, END, or ABORT anywhere. PROTOCOL.md, section 3.4.

use super::meta::Meta;
use super::record::{Kind, Violation, parse_abort, parse_start, parse_total};

/// What a record meant for the message.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A message begins.
    Begin(Meta),
    /// It goes on at this byte, or entry.
    StartAt(u64),
    /// More of it.
    Data(&'a [u8]),
    /// It is whole.
    End,
    /// The sender gave up, with an [`super::record::AbortCode`].
    Aborted(u8),
    /// Nothing that concerns a message: a sign of life, or the rest of one that was refused.
    Nothing,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    /// META asked for RESUME: ours went out or will, and the sender's is awaited.
    Asked {
        offered: bool,
    },
    Within {
        received: u64,
    },
    /// We refused it: what still comes is dropped up to ABORT or END.
    Dropping,
}

/// Where the peer's messages stand.
#[derive(Default)]
pub struct Inbound {
    state: State,
}

impl Inbound {
    /// Takes the next record.
    ///
    /// # Errors
    /// [`Violation`] for a record that has no place here.
    pub fn step<'a>(&mut self, kind: Kind, body: &'a [u8]) -> Result<Step<'a>, Violation> {
        match (kind, &mut self.state) {
            (Kind::Pad, _) => Ok(Step::Nothing),
            (Kind::Meta, State::Between) => {
                let meta = Meta::decode(body)?;
                self.state = match meta.asks_resume() {
                    true => State::Asked { offered: false },
                    false => State::Within { received: 0 },
                };
                Ok(Step::Begin(meta))
            }
            (Kind::Resume, State::Asked { offered: true }) => {
                self.state = State::Within { received: 0 };
                parse_start(body).map(Step::StartAt)
            }
            (Kind::Data, State::Within { received }) => {
                *received += body.len() as u64;
                Ok(Step::Data(body))
            }
            (Kind::End, State::Within { received }) => {
                if parse_total(body)? != *received {
                    return Err(Violation::OutOfOrder);
                }
                self.state = State::Between;
                Ok(Step::End)
            }
            (Kind::Abort, State::Within { .. } | State::Asked { .. }) => {
                self.state = State::Between;
                parse_abort(body).map(Step::Aborted)
            }
            (Kind::Data, State::Dropping) => Ok(Step::Nothing),
            // It may cross our REFUSE.
            (Kind::Resume, State::Dropping) => parse_start(body).map(|_| Step::Nothing),
            (Kind::End | Kind::Abort, State::Dropping) => {
                self.state = State::Between;
                Ok(Step::Nothing)
            }
            // ABORT may cross our ACK or REFUSE.
            (Kind::Abort, State::Between) => Ok(Step::Nothing),
            _ => Err(Violation::OutOfOrder),
        }
    }

    /// RESUME is sent, and the sender's may come; `false` if it has no place, since the sender gave
    /// up meanwhile.
    pub fn offer(&mut self) -> bool {
        let State::Asked { offered } = &mut self.state else { return false };
        !std::mem::replace(offered, true)
    }

    /// The current message was refused.
    pub fn refuse(&mut self) {
        if let State::Within { .. } | State::Asked { .. } = self.state {
            self.state = State::Dropping;
        }
    }

    /// Whether a message has begun and not ended.
    pub fn within(&self) -> bool {
        self.state != State::Between
    }
}
