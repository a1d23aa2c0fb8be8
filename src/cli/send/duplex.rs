//! `-b`: bytes both ways, over one call.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use super::{Options, PROGRAM, prepare, tell, why};
use crate::cli::destination::{self, Destination};
use crate::cli::duplex::{check, cut, filter, outcome};
use crate::cli::ended::{Ended, cannot_write};
use crate::cli::failure::{self, Code, Failure};
use crate::cli::output::{check_stdout, note};
use crate::cli::trace;
use crate::crypto::sodium::{KeyPair, PublicKey, random};
use crate::net::duplex::{Duplex, Quiet};
use crate::net::hub::Hub;
use crate::net::input::Input;
use crate::net::listen::{Answering, Caller, Host, Limits, Listener, Notice, Origin, Outgoing};
use crate::net::output::Output;
use crate::net::receiver::{Hired, Route};
use crate::net::send::{Cut, Delivered};
use crate::net::signals::die_of;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::sched::limits::Bounds;
use crate::sched::party::Source;

/// The one session's side of the loop.
struct Stream {
    duplex: Duplex,
    output: Rc<RefCell<Output>>,
    /// The call that is still to be made.
    call: Option<Outgoing>,
    address: Option<SocketAddr>,
    /// Nobody was reached.
    unreached: Option<Failure>,
    /// The session is over; how it was cut, if it was not we who could not go on.
    parted: Option<Option<Cut>>,
}

/// Calls, and carries both halves.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    check(options.common.json)?;
    if options.udp {
        return Err(Failure::new(Code::Usage, "-b: datagrams carry no stream both ways")
            .hint("leave out -u: a duplex stream needs TCP"));
    }
    if destination::each(&options.destination).len() > 1 {
        return Err(Failure::new(Code::Usage, "-b: a stream has one other end")
            .hint("name one destination"));
    }
    check_stdout()?;
    let (me, destination, _) = options.common.prepare(|| prepare(options))?;
    let mut hub = Hub::new().map_err(|e| failure::local(&e))?;
    let output = Output::stream(&hub.bell()).map_err(|e| failure::local(&e))?;
    let output = Rc::new(RefCell::new(output));
    let carried = carry(options, &mut hub, me, &destination, &output);
    let sent = match carried {
        Err(Ended::Signal(signal)) => {
            die_of(signal);
            return Ok(ExitCode::from(128 + signal as u8));
        }
        Err(Ended::Failure(failure)) => Err(failure.about(&destination.name)),
        Ok(delivered) => Ok(delivered),
    };
    tell(options, &destination.name, &sent, options.common.verbose > 0)?;
    sent.map(|_| ExitCode::SUCCESS)
}

fn carry(
    options: &Options,
    hub: &mut Hub,
    me: KeyPair,
    to: &Destination,
    output: &Rc<RefCell<Output>>,
) -> Result<Delivered, Ended> {
    let local = |e| Ended::Failure(failure::local(&e));
    let duplex = Duplex::default();
    let input = Input::stdin(&hub.bell()).map_err(local)?;
    let meta = Meta::message(random(), hub.clock.now().unix_ms);
    let meta = Meta { keepalive_ms: options.keepalive_ms(), ..meta };
    let mut stream = Stream {
        call: Some(outgoing(to, duplex.talking(meta, input))),
        duplex,
        output: Rc::clone(output),
        address: None,
        unreached: None,
        parted: None,
    };
    // Nobody is heard, so nobody needs to know it.
    let keys = [Answering { pair: me, access: random() }];
    let limits = Limits {
        silence: options.silence(),
        idle: None,
        count: None,
        bounds: Bounds::new(options.silence()),
        trace: options.common.trace(),
    };
    let mut quiet = Quiet(Rc::clone(output));
    let ended = Listener::new(hub, &keys, limits, &mut stream, &mut quiet).run();
    ended.map_err(Ended::from)?;
    if let Some(failure) = stream.unreached {
        return Err(Ended::Failure(failure));
    }
    let address = stream.address;
    let total = outcome(&stream.duplex, stream.parted.flatten(), address);
    let total = total?;
    let give_up = || hub.signals.arrived().is_some();
    output.borrow_mut().finish(give_up).map_err(cannot_write)?;
    Ok(Delivered { address, total })
}

fn outgoing(to: &Destination, feed: Box<dyn crate::net::feed::Feed>) -> Outgoing {
    Outgoing {
        number: 0,
        key: 0,
        peer: to.contact.public,
        access: *to.contact.access.as_bytes(),
        name: to.name.clone(),
        known: to.known,
        targets: to.targets.clone(),
        feed,
        once: false,
    }
}

impl Host for Stream {
    fn admit(&mut self, _: &PublicKey, _: usize, _: bool) -> Option<Caller> {
        None
    }

    fn unproven(&mut self, address: SocketAddr) -> Caller {
        Caller { name: PROGRAM.into(), origin: Origin::Plain(address), known: false }
    }

    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Reached(_, _, address) => self.address = Some(address),
            Notice::NotReached(_, error) => self.unreached = Some(why::dial_failure(error)),
            Notice::Disconnected(_, _, parting) => self.parted = Some(cut(parting)),
            Notice::Crossed(crossing) => note(&trace::lines(crossing)),
            Notice::TurnedAway(_)
            | Notice::Connected(..)
            | Notice::Delivered(..)
            | Notice::Kept(..)
            | Notice::KeptOut(..)
            | Notice::Relay(..)
            | Notice::Cut(..) => {}
        }
    }

    fn route(&mut self, _: Source, _: &Caller, meta: &Meta) -> Route {
        match meta.kind == MessageKind::Duplex as u8 {
            true => Route::Receiver(0),
            false => Route::Refused(RefuseCode::NotWanted, "it carries a stream".into()),
        }
    }

    fn hire(&mut self, _: usize, _: Source, _: &Caller) -> std::io::Result<Hired> {
        let receiver = self.duplex.listening(Rc::clone(&self.output), filter());
        Ok(Hired { receiver, feed: None })
    }

    fn next_call(&mut self) -> Option<Outgoing> {
        self.call.take()
    }

    fn is_over(&self) -> bool {
        self.unreached.is_some() || self.parted.is_some() || self.duplex.is_over()
    }
}
