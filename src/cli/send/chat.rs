//! `ac-send -i`, and ac-send on a terminal: a chat with whom it calls.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::rc::Rc;

use super::{Options, PROGRAM, caller, reach};
use crate::cli::chat::host::{Chatting, Parts};
use crate::cli::chat::once::Once;
use crate::cli::chat::{self, Surface};
use crate::cli::config::Config;
use crate::cli::destination::{Destination, each, resolve};
use crate::cli::ended::{Ended, keep_and_conclude};
use crate::cli::failure::{self, Code, Failure};
use crate::cli::history;
use crate::cli::listen::inbox::Desk;
use crate::cli::listen::recorded::recorded;
use crate::cli::listen::stage::{Form, Printer};
use crate::cli::output::check_stdout;
use crate::cli::outputs::Told;
use crate::cli::via::Ways;
use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::keys::Keyring;
use crate::net::hub::Hub;
use crate::net::listen::{Answering, Limits, Listener};
use crate::sched::limits::Bounds;

impl Options {
    /// Whether this is a chat: asked for, or somebody types and nothing says otherwise.
    pub(super) fn chats(&self) -> bool {
        let other = self.udp || self.plain || self.ping || self.output.is_some();
        let other = other || self.files().next().is_some();
        self.chat || (!other && io::stdin().is_terminal())
    }
}

/// Chats.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    check_stdout()?;
    if options.udp {
        return Err(chat::needs_tcp());
    }
    let local = |e: io::Error| failure::local(&e);
    let (me, destinations, owner) = options.common.prepare(|| prepare(options))?;
    let keyring = Keyring::locate()?;
    let inbox = options.common.prepare(|| options.inbox.or(&Config::load(&keyring)?, true))?;
    let opened = options.common.prepare(|| inbox.open())?;
    let mut hub = Hub::new().map_err(local)?;
    let history = options.history.as_deref();
    let recorder = history::open_shared(&options.common, history, owner, &hub)?;
    let Surface { keyboard, outputs, view } = Surface::open(PROGRAM, &options.common, &hub)?;
    let form = Form::on_stdout(options.common.json, b"");
    let printer = Printer::new(form, Rc::clone(&outputs.messages));
    let mut once = Once::new(recorded(printer, recorder.as_ref())).ringing(
        options.bell,
        &outputs,
        &options.common,
    );
    let silence = options.silence();
    // Bars would be in an editor's way.
    let told = || Told { bars: None, ..outputs.told() };
    let takes_files = opened.is_some();
    let desk = Desk::new(opened, &inbox, hub.bell(), told(), options.common.quiet, PROGRAM);
    let mut chat = Chatting::new(Parts {
        keyboard,
        view,
        told: told(),
        ears: None,
        keyring: Some(&keyring),
        ways: Ways { via: &options.via, anonymous: options.anonymous },
        recorder: recorder.clone(),
        clock: hub.clock,
        bell: hub.bell(),
        desk: Some(desk),
        takes_files,
        silence,
    });
    let names: Vec<&str> = destinations.iter().map(|to| to.name.as_str()).collect();
    chat.welcome(&format!("calling {}; /help shows the commands", names.join(", ")));
    for destination in destinations {
        chat.call(destination);
    }
    // Nobody calls this key here: it has no access.
    let keys = [Answering { pair: me, access: [0; 32] }];
    let bounds = Bounds::new(silence);
    let trace = options.common.trace();
    let limits = Limits { silence, bounds, idle: None, count: None, trace };
    let ended = Listener::new(&mut hub, &keys, limits, &mut chat, &mut once).run();
    let ended = ended.map(|_| ()).map_err(Ended::from);
    let ended = chat::end(chat, ended, &outputs, &hub);
    keep_and_conclude(ended, recorder.as_deref(), &outputs, &hub)
}

/// Who calls, and who is called. Signals still end the program here: it may ask for passphrases.
fn prepare(options: &Options) -> Result<(KeyPair, Vec<Destination>, Option<PublicKey>), Failure> {
    let keyring = Keyring::locate()?;
    let mut passphrases = options.common.passphrases.source();
    let mut found: Vec<Destination> = Vec::new();
    for operands in each(&options.destination) {
        let destination = resolve(operands, &keyring, &mut passphrases)?;
        if found.iter().any(|other| other.contact.public == destination.contact.public) {
            let twice = Failure::new(Code::Usage, "it is named twice").about(&destination.name);
            return Err(twice.hint("a chat has one session with each"));
        }
        found.push(destination);
    }
    if options.anonymous && found.len() > 1 {
        return Err(Failure::new(Code::Usage, "-a: an anonymous chat has one destination")
            .hint("others could see that the same key called them all"));
    }
    let me = caller(options, &keyring, &mut passphrases)?;
    reach::reach(options, &keyring, &me, &mut found)?;
    let owner = history::owner(&keyring, options.history.as_deref())?;
    Ok((me, found, owner))
}
