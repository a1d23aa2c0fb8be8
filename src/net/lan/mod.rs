//! The local network, as discovery needs it: the links that are up (`links`), sockets that speak to
//! all hosts of one of them or to a single one (`socket`), and word of links that come and go
//! (`changes`).
//!
//! No group is joined: every host hears 224.0.0.1 and ff02::1 anyway, and joining shows.

pub mod changes;
pub mod links;
pub mod socket;
