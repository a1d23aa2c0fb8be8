//! Files and folders. What a peer calls them is made harmless in [`names`]. A sender reads them from
//! an [`outbox`], a folder in the order of a [`walk`], and a session says them as a [`feed`], which a
//! thread reads ahead (`reader`) in batches. They land in an [`inbox`], which a session fills by
//! its [`delivery`], and out of which no name, link or race leads ([`beneath`]), as an [`incoming`]
//! file or [`folder`] that is a [`part`] until it is whole, or are [`declined`]; the loop hands them
//! over by an [`intake`] to a thread of their session, the `worker`. What may come again is
//! remembered ([`received`]) when it lands, so that `landing` lets it land once.

mod batch;
pub mod beneath;
pub mod declined;
pub mod delivery;
pub mod feed;
pub mod folder;
mod handover;
pub mod inbox;
pub mod incoming;
pub mod intake;
pub mod items;
mod landing;
pub mod names;
pub mod outbox;
pub mod part;
mod reader;
pub mod received;
pub mod room;
pub mod walk;
mod worker;
