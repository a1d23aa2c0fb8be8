//! What an event is about. A token has the kind of thing in its upper bits and which of them it is
//! below: however many there are of one kind, none is taken for one of another.

use mio::Token;

/// Bits that say which of a kind it is. The kind is above them; the highest two bits are left to
/// bells ([`super::hub`]).
const NUMBER_BITS: u32 = usize::BITS - 6;
/// Recipients that one sender has at most, and members of each.
const MOST_PEERS: usize = 1 << (NUMBER_BITS / 2);

/// What a program waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The connection of this number, which is not 0: that is [`WAKE`](super::hub::WAKE).
    Connection(usize),
    /// A listening TCP socket.
    Ear(usize),
    /// A UDP socket.
    Datagrams(usize),
    /// A UDP socket that hears without encryption.
    PlainDatagrams(usize),
    /// A link to a relay.
    Relay(usize),
    /// A listening TCP socket for those who want to know the counts.
    Metrics(usize),
    /// Where messages go.
    Output,
    /// What a sender is told by, or by which it reaches, the recipient of this number.
    Peer(usize),
    /// The connection to one member of a group that is a recipient.
    Member {
        /// The number of the recipient, below [`MOST_PEERS`].
        peer: usize,
        /// The number of the member.
        member: usize,
    },
    /// A UDP socket that asks, or answers, who is on the local network.
    Discovery(usize),
    /// The system's news of interfaces and addresses.
    LinkChanges,
}

impl Topic {
    /// The token of its events.
    pub const fn token(self) -> Token {
        let (kind, number) = match self {
            Self::Connection(n) => (0, n),
            Self::Ear(n) => (1, n),
            Self::Datagrams(n) => (2, n),
            Self::PlainDatagrams(n) => (3, n),
            Self::Relay(n) => (4, n),
            Self::Metrics(n) => (5, n),
            Self::Output => (6, 0),
            Self::Peer(n) => (7, n),
            Self::Member { peer, member } => {
                debug_assert!(peer < MOST_PEERS, "too many recipients");
                (8, member * MOST_PEERS + peer)
            }
            Self::Discovery(n) => (9, n),
            Self::LinkChanges => (10, 0),
        };
        debug_assert!(number >> NUMBER_BITS == 0, "a number that does not fit");
        Token(kind << NUMBER_BITS | number)
    }

    /// What an event of this token is about, unless it is none of these.
    pub fn of(token: Token) -> Option<Self> {
        let number = token.0 & ((1 << NUMBER_BITS) - 1);
        Some(match token.0 >> NUMBER_BITS {
            0 => Self::Connection(number),
            1 => Self::Ear(number),
            2 => Self::Datagrams(number),
            3 => Self::PlainDatagrams(number),
            4 => Self::Relay(number),
            5 => Self::Metrics(number),
            6 => Self::Output,
            7 => Self::Peer(number),
            8 => Self::Member { peer: number % MOST_PEERS, member: number / MOST_PEERS },
            9 => Self::Discovery(number),
            10 => Self::LinkChanges,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_there_are_of_a_kind_none_is_taken_for_another() {
        for number in [1, 2, 255, 256, 511, 767, 1023, 100_000, (1 << NUMBER_BITS) - 1] {
            let kinds = [
                Topic::Connection(number),
                Topic::Ear(number),
                Topic::Datagrams(number),
                Topic::PlainDatagrams(number),
                Topic::Relay(number),
                Topic::Metrics(number),
                Topic::Output,
                Topic::Peer(number),
                Topic::Member { peer: number % MOST_PEERS, member: number / MOST_PEERS },
                Topic::Discovery(number),
                Topic::LinkChanges,
            ];
            for topic in kinds {
                assert_eq!(Topic::of(topic.token()), Some(topic));
            }
        }
        assert_eq!(Topic::of(Token(usize::MAX >> 1)), None);
    }
}
