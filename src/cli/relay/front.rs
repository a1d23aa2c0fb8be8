//! What the user is told of a relay: where it hears, its key, and counts.

use std::net::SocketAddr;

use super::{Options, PROGRAM};
use crate::cli::failure::Failure;
use crate::cli::json::Event;
use crate::cli::output::print;
use crate::cli::outputs::Told;
use crate::cli::{ready, units};
use crate::crypto::sodium::PublicKey;
use crate::keys::fingerprint;
use crate::net::resolve::HostPort;
use crate::net::sockets::Transport;
use crate::relay::counts::Counts;
use crate::relay::server::Host;

/// The user's side of a relay.
pub struct Front {
    told: Told,
    quiet: bool,
}

impl Front {
    /// Tells it to `told`.
    pub fn new(told: Told, quiet: bool) -> Self {
        Self { told, quiet }
    }

    /// The result that every run has: the public key file, and its fingerprint.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn say_key(
        &mut self,
        public: &PublicKey,
        file: &[u8],
        options: &Options,
    ) -> Result<(), Failure> {
        let digits = fingerprint(public);
        let text = String::from_utf8_lossy(file);
        self.told.report(&Event::RelayKey { fingerprint: &digits, file: &text });
        if !options.common.json {
            print(file)?;
        }
        self.say(&format!("fingerprint: {digits}"));
        Ok(())
    }

    /// The ready line.
    pub fn say_listening(&mut self, address: SocketAddr) {
        let transport = Transport::Tcp.name();
        let shown = HostPort::from(address).to_string();
        self.told.report(&Event::Listening { address: &shown, transport, plain: false });
        self.say(&format!("listening on {}", ready::place(address, transport)));
    }

    /// Where counts are told.
    pub fn say_metrics(&mut self, address: SocketAddr) {
        let shown = HostPort::from(address).to_string();
        self.told.report(&Event::Metrics { address: &shown });
        self.say(&format!("metrics on http://{shown}/metrics"));
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            self.told.say(&format!("{PROGRAM}: {line}"));
        }
    }
}

impl Host for Front {
    fn tell(&mut self, counts: &Counts) {
        self.told.report(&Event::RelayCounts { counts });
        let Counts { clients, mailboxes, held, memory, circuits, .. } = counts;
        let Counts { posted, volatile, delivered, refused, .. } = counts;
        let memory = units::bytes(*memory);
        self.say(&format!(
            "{clients} clients, {circuits} circuits, {mailboxes} mailboxes, {held} cells held \
             ({memory}); since the start {} cells in, {delivered} out, {refused} refused",
            posted + volatile
        ));
    }
}
