//! Files and folders, as a library. What a peer calls them is made harmless in [`names`]. A sender
//! reads them from an [`outbox`], a folder in the order of a [`walk`]; they land in an [`inbox`],
//! which a session fills by its [`delivery`], and out of which no name, link or race leads ([`beneath`]), as an [`incoming`] file or
//! [`folder`] that is a [`part`] until it is whole, or are [`declined`].

pub mod beneath;
pub mod declined;
pub mod delivery;
pub mod folder;
pub mod inbox;
pub mod incoming;
pub mod names;
pub mod outbox;
pub mod part;
pub mod walk;
