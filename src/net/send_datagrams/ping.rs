//! Whether the peer is there.

use std::io;
use std::time::Duration;

use mio::net::UdpSocket;

use super::route::{Route, is_final};
use super::{ANSWERS_A_TURN, READ_SPACE};
use crate::crypto::sodium::OsRandom;
use crate::net::call::Call;
use crate::net::dial::DialError;
use crate::net::hub::Hub;
use crate::net::send::{Delivered, SendError};
use crate::net::several::Turn;
use crate::proto::datagram::packet::PACKET_LEN;
use crate::proto::datagram::probe::Prober;
use crate::proto::time::Now;

/// A probe is repeated this often.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// The question whether the peer is there.
pub(super) struct Ping {
    prober: Prober,
    /// When it asks next.
    pub next: Duration,
}

impl Ping {
    pub fn new(call: &Call<'_>) -> Self {
        let prober = Prober::new(call.me, &call.peer, &call.access, &mut OsRandom);
        Self { prober, next: Duration::ZERO }
    }

    /// Goes as far as it can.
    pub fn turn(&mut self, hub: &Hub, route: &mut Route, now: Now) -> Result<Turn, SendError> {
        loop {
            route.check_proof(now);
            match self.ask(route.socket(hub)?, now) {
                Ok(true) => {
                    let address = Some(route.address());
                    return Ok(Turn::Over(Ok(Delivered { address, total: 0 })));
                }
                Err(e) if is_final(&e) => {
                    route.give_up(DialError::refused(route.address(), e));
                    self.next = Duration::ZERO;
                }
                _ => return Ok(Turn::Wait),
            }
        }
    }

    /// Asks if it is time; whether it was answered.
    fn ask(&mut self, socket: &UdpSocket, now: Now) -> io::Result<bool> {
        let mut failed = None;
        if now.mono >= self.next {
            let mut packet = [0; PACKET_LEN];
            self.prober.packet(now, &mut OsRandom, &mut packet);
            failed = socket.send(&packet).err();
            self.next = now.mono + PROBE_EVERY;
        }
        let mut space = [0; READ_SPACE];
        for _ in 0..ANSWERS_A_TURN {
            match socket.recv(&mut space) {
                Ok(n) if self.prober.is_answer(&space[..n], now) => return Ok(true),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // An answer may lie behind it.
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(false), Err)
    }
}
