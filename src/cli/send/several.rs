//! To several destinations at once: one read of the input, a line of result for each.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use super::files::Sending;
use super::{
    Options, PROGRAM, call, caller, cargo, head, is_success, job, keep, mention, outcome, reach,
    tell, terms, why,
};
use crate::cli::destination::{Destination, resolve, shown};
use crate::cli::failure::{self, Code, Failure, print};
use crate::cli::output::note;
use crate::cli::outputs::{Outputs, Told};
use crate::cli::{history, trace};
use crate::crypto::sodium::{KeyPair, PublicKey};
use crate::history::record::SentRecord;
use crate::keys::Keyring;
use crate::net::call::Call;
use crate::net::fan::Fan;
use crate::net::hub::Hub;
use crate::net::input::Input;
use crate::net::send::{Delivered, SendError};
use crate::net::send_datagrams::Datagrams;
use crate::net::several::{Watch, send_to_all};
use crate::net::signals::die_of;
use crate::net::tokens::Topic;
use crate::net::via::cells::Dispatch;
use crate::proto::stream::link::Crossing;

type Record = Option<Rc<RefCell<SentRecord>>>;

/// Who calls, and who is called.
struct Prepared {
    /// One for all, or one for each.
    keys: Vec<KeyPair>,
    found: Vec<Destination>,
    /// Names that lead nowhere, and why: the others are served.
    lost: Vec<(String, Failure)>,
    owner: Option<PublicKey>,
}

/// Sends to the destinations that `operands` name.
///
/// # Errors
/// What keeps all of them from being served; what keeps one from it has been said.
pub(super) fn run(options: &Options, operands: &[&[String]]) -> Result<ExitCode, Failure> {
    let Prepared { keys, found, lost, owner } =
        options.common.prepare(|| prepare(options, operands))?;
    let mut hub = Hub::new().map_err(|e| failure::local(&e))?;
    let files = options.files().next().is_some();
    let owner = owner.filter(|_| !files);
    let mut records = options.common.prepare(|| records(options, &found, owner, &hub))?;
    let mut results = Results::new(options);
    for (name, failure) in lost {
        results.add(&name, Err(failure));
    }
    let calls: Vec<_> =
        found.iter().zip(keys.iter().cycle()).map(|(to, me)| call(options, me, to)).collect();
    let sent = if files {
        send_files(options, &mut hub, &calls, &found, &mut results)?
    } else {
        send(options, &mut hub, &calls, &found, &mut records, &mut results)
    };
    if let Err(SendError::Signal(signal)) = sent {
        let until = hub.clock.now().mono + history::SIGNAL_PATIENCE;
        for record in records.iter().flatten() {
            // It dies of the signal, and nobody is told anything else.
            let _ = keep(&mut record.borrow_mut(), options, &sent, &hub, until);
        }
        die_of(signal);
        return Ok(ExitCode::from(128 + signal as u8));
    }
    sent.map_err(|e| why::failure(&e))?;
    results.exit_code()
}

/// What makes no sense with several.
fn check(options: &Options) -> Result<(), Failure> {
    if options.output.is_some() {
        return Err(Failure::new(Code::Usage, "-o seals for one destination at a time")
            .hint("seal once for each, or for a group, whose key several hold"));
    }
    Ok(())
}

/// Signals still end the program here: it may ask for passphrases.
fn prepare(options: &Options, operands: &[&[String]]) -> Result<Prepared, Failure> {
    check(options)?;
    let keyring = Keyring::locate()?;
    let mut passphrases = options.common.passphrases.source();
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for operands in operands {
        match resolve(operands, &keyring, &mut passphrases) {
            Ok(destination) => found.push(destination),
            Err(failure) if failure.code == Code::Usage => return Err(failure),
            Err(failure) => lost.push((shown(operands), failure)),
        }
    }
    check_twice(&found)?;
    let mut keys = Vec::new();
    while !found.is_empty() && keys.len() < if options.anonymous { found.len() } else { 1 } {
        keys.push(caller(options, &keyring, &mut passphrases)?);
    }
    if let Some(me) = keys.first() {
        reach::look(options, &keyring, me, &mut found)?;
    }
    let nowhere = found.extract_if(.., |to| to.targets.is_empty());
    lost.extend(nowhere.map(|to| (to.name.clone(), reach::nowhere(options, &to.name))));
    let owner = history::owner(&keyring, options.history.as_deref())?;
    Ok(Prepared { keys, found, lost, owner })
}

/// The same key at two places may be two machines, or two members of a group. At one place it is a
/// slip, and would get everything twice.
fn check_twice(found: &[Destination]) -> Result<(), Failure> {
    for (i, one) in found.iter().enumerate() {
        let same = |other: &&Destination| {
            other.contact.public == one.contact.public && other.targets == one.targets
        };
        if let Some(other) = found[..i].iter().find(same) {
            let why = match other.name == one.name {
                true => "it is named twice".to_owned(),
                false => format!("it is the same as {}", other.name),
            };
            let hint = "once is enough: everything would arrive twice";
            return Err(Failure::new(Code::Usage, why).about(&one.name).hint(hint));
        }
    }
    Ok(())
}

/// A record for each: what came of it differs.
fn records(
    options: &Options,
    found: &[Destination],
    owner: Option<PublicKey>,
    hub: &Hub,
) -> Result<Vec<Record>, Failure> {
    let now_ms = hub.clock.now().unix_ms;
    let record = |to: &Destination| {
        let recorder = history::open(options.history.as_deref(), owner, hub.bell())?;
        Ok(recorder.map(|recorder| SentRecord::new(recorder, head(options, to, now_ms))))
    };
    found.iter().map(record).collect()
}

fn send(
    options: &Options,
    hub: &mut Hub,
    calls: &[Call<'_>],
    found: &[Destination],
    records: &mut [Record],
    results: &mut Results<'_>,
) -> Result<(), SendError> {
    let (fan, inputs) = inputs(options, hub, records)?;
    let mut show = |number: usize, crossing: &Crossing| {
        let name = &found[number].name;
        trace::lines(crossing).lines().for_each(|line| note(&format!("{name} {line}")));
    };
    let mut each = |hub: &Hub, number: usize, sent: Result<Delivered, SendError>| {
        let until = hub.clock.now().mono + history::SIGNAL_PATIENCE;
        let kept = records[number]
            .take()
            .map_or(Ok(()), |record| keep(&mut record.borrow_mut(), options, &sent, hub, until));
        let name = &found[number].name;
        results.add(name, outcome(options, name, sent, kept));
    };
    let mut watch = Watch {
        silence: options.silence(),
        trace: if options.common.trace() { Some(&mut show) } else { None },
        fan: fan.as_ref(),
        each: &mut each,
    };
    let now_ms = hub.clock.now().unix_ms;
    let parts = calls.iter().zip(found).zip(inputs).enumerate();
    if options.udp {
        let peers = parts.map(|(number, ((call, to), input))| {
            Datagrams::new(hub, call, &to.targets, job(options, input), Topic::Peer(number).token())
        });
        let peers = peers.collect();
        return send_to_all(hub, peers, &mut watch);
    }
    let peers = parts.map(|(number, ((call, to), input))| {
        let cargo = cargo(options, input, now_ms);
        Dispatch::new(call, &to.targets, cargo, terms(options, number))
    });
    send_to_all(hub, peers.collect(), &mut watch)
}

/// Files and folders. Each destination reads them at its own pace, where it was interrupted, so that
/// none waits for another. What came of them all is said when nothing is on its way any more.
fn send_files(
    options: &Options,
    hub: &mut Hub,
    calls: &[Call<'_>],
    found: &[Destination],
    results: &mut Results<'_>,
) -> Result<Result<(), SendError>, Failure> {
    let outputs = Outputs::open(&options.common, hub)?;
    let outputs = outputs.with_bars(&options.common, options.common.json);
    // As long as the list of files.
    let told = Told { keeps_all: true, ..outputs.told() };
    let (mut peers, mut sendings) = (Vec::new(), Vec::new());
    for (number, (call, to)) in calls.iter().zip(found).enumerate() {
        let (cargo, sending) = Sending::start(options, &to.name, told.clone(), hub.bell());
        peers.push(Dispatch::new(call, &to.targets, cargo, terms(options, number)));
        sendings.push(Some(sending));
    }
    let shown = outputs.told();
    let mut show = |number: usize, crossing: &Crossing| {
        let name = &found[number].name;
        trace::lines(crossing).lines().for_each(|line| shown.say(&format!("{name} {line}")));
    };
    let mut ended = Vec::new();
    let mut each = |_: &Hub, number: usize, sent: Result<Delivered, SendError>| {
        let sending = sendings[number].take();
        ended.extend(sending.map(|sending| (number, sending.end(sent))));
    };
    let mut watch = Watch {
        silence: options.silence(),
        trace: if options.common.trace() { Some(&mut show) } else { None },
        fan: None,
        each: &mut each,
    };
    let sent = send_to_all(hub, peers, &mut watch);
    if sent.is_err() {
        for failure in sendings.into_iter().flatten().filter_map(|s| s.end(Ok(())).err()) {
            shown.say(&format!("{PROGRAM}: {failure}"));
        }
        outputs.finish_stderr(hub);
        return Ok(sent);
    }
    outputs.finish(hub).map_err(|e| history::cannot("write the output", &e))?;
    for (number, result) in ended {
        results.add(&found[number].name, result);
    }
    Ok(Ok(()))
}

/// What each is told, if they are told anything: all of it is read once.
fn inputs(
    options: &Options,
    hub: &Hub,
    records: &[Record],
) -> Result<(Option<Fan>, Vec<Option<Input>>), SendError> {
    if options.ping || records.is_empty() {
        return Ok((None, records.iter().map(|_| None).collect()));
    }
    let stdin = Input::stdin(&hub.bell()).map_err(SendError::Local)?;
    let (fan, inputs) = Fan::split(stdin, records.len());
    let copied = inputs.into_iter().zip(records).map(|(input, record)| match record {
        Some(record) => Some(input.copied_by(record.clone())),
        None => Some(input),
    });
    Ok((Some(fan), copied.collect()))
}

/// What came of the destinations so far.
struct Results<'a> {
    options: &'a Options,
    codes: Vec<Code>,
    /// Hints that were given: the same one again helps nobody.
    hints: Vec<String>,
    /// Why a result could not be reported.
    unreported: Option<Failure>,
}

impl<'a> Results<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, codes: Vec::new(), hints: Vec::new(), unreported: None }
    }

    /// Says what came of one.
    fn add(&mut self, name: &str, result: Result<Delivered, Failure>) {
        if let Err(e) = tell(self.options, name, &result, true) {
            self.unreported.get_or_insert(e);
        }
        let Err(mut failure) = result else { return };
        if is_success(self.options, &failure) {
            return mention(self.options, &failure);
        }
        self.codes.push(failure.code);
        match &failure.hint {
            Some(hint) if self.hints.contains(hint) => failure.hint = None,
            Some(hint) => self.hints.push(hint.clone()),
            None => {}
        }
        print(PROGRAM, &failure);
    }

    fn exit_code(self) -> Result<ExitCode, Failure> {
        if let Some(unreported) = self.unreported {
            return Err(unreported);
        }
        Ok(Code::worst(&self.codes).map_or(ExitCode::SUCCESS, |code| ExitCode::from(code as u8)))
    }
}
