//! The caller's side of a handshake over a blocking socket.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use anonchat::crypto::sodium::KeyPair;
use anonchat::keys::Contact;
use anonchat::proto::stream::handshake::{Initiator, REPLY_LEN};
use anonchat::proto::stream::meta::Welcome;
use anonchat::proto::stream::session::{PlainBuffer, Session};

/// For `map_err`: an error that says only that.
pub fn failed<T>(what: &'static str) -> impl FnOnce(T) -> io::Error {
    move |_| io::Error::other(what)
}

/// Calls whoever holds the key of `callee`: the session, and what it was welcomed with.
pub fn shake(
    socket: &mut TcpStream,
    me: &KeyPair,
    callee: &Contact,
    plain: &mut PlainBuffer,
) -> io::Result<(Session, Welcome)> {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_millis() as u64);
    let (initiator, hello) = Initiator::start(me, &callee.public, callee.access.as_bytes(), now)
        .map_err(failed("no message 1"))?;
    socket.write_all(&hello)?;
    let mut reply = [0; REPLY_LEN];
    socket.read_exact(&mut reply)?;
    let (mut session, confirm) =
        initiator.confirm(&reply).map_err(failed("message 2 does not open"))?;
    socket.write_all(&confirm)?;
    let record = read_record(socket)?;
    let (_, body) = session.open(&record, plain).map_err(failed("WELCOME"))?;
    let welcome = Welcome::decode(body).map_err(failed("WELCOME"))?;
    Ok((session, welcome))
}

/// The next record, without its length.
pub fn read_record(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    socket.read_exact(&mut len)?;
    let mut record = vec![0; u16::from_be_bytes(len).into()];
    socket.read_exact(&mut record)?;
    Ok(record)
}
