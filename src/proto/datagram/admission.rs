//! Whether the sender of a packet is heard: asked by a receiver for each packet that opened and is
//! fresh, answered by the program around it.

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes; its memory is its own.
    Contact,
    /// Yes; it shares memory with all others that are unknown.
    Unknown,
    /// No: nothing is sent or remembered, and the user is told.
    TurnAway,
    /// Not now, and nobody is to be told: it comes again, or its sender is nobody who could send it
    /// again.
    NotNow,
    /// So much is remembered of its sender, or of all who are no contacts, that nothing new of them
    /// is taken until some of it is too old.
    NoRoom,
    /// Its message, the last of its run, was delivered before this receiver was there: that is said
    /// again. Whether it is a contact's.
    DeliveredBefore(bool),
    /// It is of a time of which nothing is known any more: silence.
    Gone,
}
