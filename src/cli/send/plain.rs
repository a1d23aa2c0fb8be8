//! `--plain`: to a bare nc, without any key.

use std::process::ExitCode;

use super::{Options, PROGRAM, SILENCE, end};
use crate::cli::destination::plain_target;
use crate::cli::failure::{self, Failure};
use crate::cli::output::note;
use crate::cli::{plain, trace};
use crate::net::dial::CONNECT_TIME;
use crate::net::hub::Hub;
use crate::net::input::Input;
use crate::net::plain_send::{Bare, HandedOver, send_plain_datagrams, send_plain_stream};
use crate::net::resolve::HostPort;
use crate::net::send::{Limits, SendError};

/// Sends in the clear. The keyring is not even looked for.
pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let target = options.common.prepare(|| plain_target(&options.destination))?;
    note(&format!("{PROGRAM}: {}", plain::SEND_WARNING));
    let mut hub = Hub::new().map_err(|e| failure::local(&e))?;
    let name = plain::name(&target);
    let sent = send(options, &mut hub, target).map(|HandedOver { sent, dropped }| {
        if dropped > 0 && !options.common.quiet {
            note(&format!("{PROGRAM}: {name}: {dropped} bytes came back and were dropped"));
        }
        sent
    });
    end(options, &name, sent, Ok(()))
}

fn send(options: &Options, hub: &mut Hub, target: HostPort) -> Result<HandedOver, SendError> {
    let silence = options.wait.unwrap_or(SILENCE);
    let bare = Bare { patience: CONNECT_TIME.min(silence), stall: options.wait };
    let mut show = |crossing: &_| note(&trace::lines(crossing));
    let trace: Option<&mut dyn FnMut(&_)> =
        if options.common.trace() { Some(&mut show) } else { None };
    let mut limits = Limits { silence, trace };
    let input = Input::stdin(&hub.bell()).map_err(SendError::Local)?;
    if options.udp {
        send_plain_datagrams(hub, &bare, &[target.into()], input, &mut limits)
    } else {
        send_plain_stream(hub, &bare, &[target.into()], input, &mut limits)
    }
}
