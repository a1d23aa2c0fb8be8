//! The blind relay: it holds sealed cells in mailboxes, and joins two connections into one.
//! PROTOCOL.md, section 5.
//!
//! Pure, with time and randomness handed in: [`table`], what is held and who reads it, over a
//! [`store`] of packets; [`shares`], whose cells and readers give way when memory is full; [`room`],
//! where those wait who want to be joined; [`crowd`], who gives way when there are too many clients;
//! and [`stuck`], who takes nothing. The program:
//! [`server`], one loop that gives every [`client`] and every [`circuit`] its turns, and [`metrics`] to
//! who watches over it.

pub mod circuit;
pub mod client;
pub mod counts;
pub mod crowd;
pub mod metrics;
pub mod room;
pub mod server;
pub mod shares;
pub mod store;
pub mod stuck;
pub mod table;
