//! How much one caller may have, and all of them together: ac-listen(1), LIMITS.

use std::time::Duration;

use clap::Args;

use crate::cli::config::LimitDefaults;
use crate::cli::failure::{Code, Failure};
use crate::cli::units;
use crate::net::listen::most_clients;
use crate::sched::limits::Bounds;

/// What the user says about it; 0 is no limit.
#[derive(Args, Debug, Clone, Default)]
pub struct LimitOptions {
    /// Serve N sessions at once, all together (1024, or what the descriptors allow;
    /// [config]); more wait
    #[arg(long, value_name = "N", conflicts_with_all = ["open", "replay"],
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_clients: Option<u32>,

    /// Serve N sessions of one contact at once (256; 0 for any number; [config]); more wait
    #[arg(long, value_name = "N", conflicts_with_all = ["open", "replay", "plain"])]
    pub max_per_contact: Option<u32>,

    /// Serve N connections at once of one address that shows no contact's key (64; 0 for any number;
    /// [config])
    #[arg(long, value_name = "N", conflicts_with_all = ["open", "replay", "udp"])]
    pub max_per_address: Option<u32>,

    /// Print RATE messages of one caller and accept RATE connections of one address, such as 20/s
    /// (no limit, and 100/s; 0 for no limit; [config]); more wait
    #[arg(long, value_name = "RATE", conflicts_with_all = ["open", "replay"],
          value_parser = units::rate)]
    pub rate: Option<units::MaybeRate>,
}

impl LimitOptions {
    /// What is not said here is as `defaults` say.
    #[must_use]
    pub fn or(&self, defaults: &LimitDefaults) -> Self {
        Self {
            max_clients: self.max_clients.or(defaults.max_clients),
            max_per_contact: self.max_per_contact.or(defaults.max_per_contact),
            max_per_address: self.max_per_address.or(defaults.max_per_address),
            rate: self.rate.or(defaults.rate),
        }
    }

    /// All limits of a listener whose sessions may be silent for `silence`.
    ///
    /// # Errors
    /// [`Code::Usage`] for what cannot hold.
    pub fn bounds(&self, silence: Duration) -> Result<Bounds, Failure> {
        let mut bounds = Bounds::new(silence);
        if let Some(clients) = self.max_clients {
            bounds.clients = clients as usize;
            let most = most_clients();
            if bounds.clients > most {
                let what = format!("max-clients {clients}: the descriptors are enough for {most}");
                let hint = format!("allow more of them: ulimit -n {}", bounds.clients * 4);
                return Err(Failure::new(Code::Usage, what).hint(hint));
            }
        }
        if let Some(each) = self.max_per_contact {
            bounds.per_contact = some(each);
        }
        // What is asked for holds for this machine's own addresses too.
        if let Some(each) = self.max_per_address {
            bounds.address.at_once = some(each);
            bounds.loopback.at_once = some(each);
        }
        if let Some(units::MaybeRate(rate)) = self.rate {
            bounds.address.rate = rate;
            bounds.loopback.rate = rate;
            bounds.messages = rate;
        }
        Ok(bounds)
    }

    /// Datagrams without encryption keep to none of them: they are anybody's.
    ///
    /// # Errors
    /// [`Code::Usage`].
    pub fn check_plain_udp(&self) -> Result<(), Failure> {
        let named =
            [("--max-clients", self.max_clients.is_some()), ("--rate", self.rate.is_some())];
        match named.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                let what = format!("{option} says nothing about datagrams without encryption");
                Err(Failure::new(Code::Usage, what).hint("leave out -u, or --plain"))
            }
            None => Ok(()),
        }
    }
}

fn some(n: u32) -> Option<usize> {
    (n > 0).then_some(n as usize)
}
