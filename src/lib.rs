//! AnonChat: the core that the five programs share.

#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod crypto;
pub mod inherited;
#[forbid(unsafe_code)]
pub mod keys;
#[forbid(unsafe_code)]
pub mod net;
#[forbid(unsafe_code)]
pub mod proto;
