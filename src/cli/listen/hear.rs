//! From the addresses that are to be heard at to how hearing ended.

use std::io;

use super::front::Front;
use super::keys::LocalKeys;
use super::settings::Settings;
use super::{Options, local};
use crate::cli::discover::beside::Beside;
use crate::cli::ended::Ended;
use crate::cli::failure::{Code, Failure, too_few_descriptors};
use crate::cli::listen::bind::Sockets;
use crate::cli::units;
use crate::net::hub::Hub;
use crate::net::listen::{End, Host, Limits, Listener, Stage, has_too_few_descriptors};
use crate::net::sockets::canonical;

/// A listener whose sockets are bound, and that has not heard anybody yet.
pub(super) struct Bound<'a> {
    options: &'a Options,
    settings: Settings,
    locals: &'a LocalKeys,
    sockets: Sockets,
}

impl<'a> Bound<'a> {
    /// Binds, and says where and for whom.
    pub fn new(
        options: &'a Options,
        mut settings: Settings,
        locals: &'a LocalKeys,
        front: &mut Front<'_>,
    ) -> Result<Self, Ended> {
        let sockets = Sockets::bind(&settings.addresses, options.transport())?;
        if !sockets.tcp.is_empty() && has_too_few_descriptors() {
            return Err(too_few_descriptors("hear anybody").into());
        }
        if options.plain {
            front.say_plain();
        }
        let LocalKeys { keys, groups, .. } = locals;
        let addresses = sockets.addresses().map_err(local)?;
        if let Some((keyring, member)) = settings.announcing.take() {
            let (from, addresses) = (&options.from[..], addresses.clone());
            let (accept_unknown, transport) = (options.accept_unknown, options.transport());
            Beside { keys, groups, from, accept_unknown, addresses, transport, member }
                .start(keyring, &options.place)?;
        }
        for address in addresses {
            front.say_listening(canonical(address), options.transport());
        }
        for (key, group) in keys.iter().zip(groups) {
            front.say_key(key.pair.public(), group.as_deref());
        }
        Ok(Self { options, settings, locals, sockets })
    }

    /// Listens until it is enough.
    pub fn hear(
        self,
        hub: &mut Hub,
        host: &mut dyn Host,
        stage: &mut dyn Stage,
    ) -> Result<(), Ended> {
        let Self { options, settings, locals, sockets } = self;
        let limits = limits(options, &settings);
        let mut listener = Listener::new(hub, &locals.keys, limits, host, stage);
        if let Some(state) = settings.state {
            listener.remember_in(state);
        }
        open_to(&mut listener, sockets, options.plain).map_err(local)?;
        if !settings.relays.relays.is_empty() {
            listener.hear_relays(settings.relays);
        }
        listener.run().map_err(Ended::from).and_then(|end| outcome(end, options))
    }
}

fn limits(options: &Options, settings: &Settings) -> Limits {
    Limits {
        silence: settings.silence,
        bounds: settings.bounds,
        idle: options.wait,
        // A duplex stream is over when both its halves are, not when one message was heard.
        count: if options.once && !options.work.duplex { Some(1) } else { options.count },
        trace: options.common.trace(),
    }
}

/// Hands the sockets over.
fn open_to(listener: &mut Listener<'_>, sockets: Sockets, plain: bool) -> io::Result<()> {
    for socket in sockets.tcp {
        match plain {
            true => listener.hear_plain_tcp(socket),
            false => listener.hear_tcp(socket),
        }?;
    }
    for socket in sockets.udp {
        match plain {
            true => listener.hear_plain_udp(socket),
            false => listener.hear_udp(socket),
        }?;
    }
    Ok(())
}

fn outcome(end: End, options: &Options) -> Result<(), Ended> {
    match end {
        End::Enough | End::Done => Ok(()),
        // Without a count, hearing somebody and then nobody is what was asked for.
        End::Silence(heard) if heard > 0 && !options.once && options.count.is_none() => Ok(()),
        End::Silence(heard) => {
            let time = units::seconds(options.wait.unwrap_or_default());
            let what = match heard {
                0 => format!("heard nobody for {time}"),
                n => format!("heard nobody for {time} after {n} messages"),
            };
            Err(Failure::new(Code::Unreachable, what).into())
        }
    }
}
