//! What the programs share in front of a user: options, destinations, output, errors.

pub mod failure;
