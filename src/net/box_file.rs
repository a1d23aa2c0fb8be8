//! Messages sealed into files, for a USB stick or a mail: PROTOCOL.md, section 4.6.

use std::io;

use mio::Events;

use super::hub::Hub;
use super::input::{Got, Input};
use super::listen::{Answering, Caller, Heard, Host, Notice, Stage};
use super::output::Output;
use super::sockets::Transport;
use crate::crypto::sodium::OsRandom;
use crate::proto::datagram::boxfile::{BoxError, BoxReader, BoxWriter, Chunk};
use crate::proto::datagram::packet::{LocalKey, PACKET_LEN};
use crate::proto::stream::meta::MessageKind;
use crate::sched::mux::{Ending, HELD_BYTES};

/// One read of the input, in bytes.
const READ_SPACE: usize = 64 * 1024;

/// Why a message was not sealed.
#[derive(Debug)]
pub enum SealError {
    /// The input could not be read.
    Input(io::Error),
    /// The file could not be written.
    Output(io::Error),
    /// A signal arrived.
    Signal(i32),
}

/// Seals all of `input` into `out`; how many bytes of input that were.
///
/// # Errors
/// [`SealError`]; what is in `out` then is of no use.
pub fn seal(
    hub: &mut Hub,
    mut writer: BoxWriter,
    mut input: Input,
    out: &mut Output,
) -> Result<u64, SealError> {
    let mut events = Events::with_capacity(4);
    let mut space = vec![0; READ_SPACE];
    let mut packets = Vec::new();
    let mut total = 0;
    input.begin(writer.next_id().to_bytes());
    loop {
        check_sealing(hub, out)?;
        let got = if out.has_room() { input.read(&mut space) } else { Ok(Got::Later) };
        match got.map_err(SealError::Input)? {
            Got::Bytes(n) => {
                writer.push(&space[..n], hub.clock.now(), &mut OsRandom, &mut packets);
                total += n as u64;
            }
            Got::Later => {
                out.push();
                hub.wait(&mut events, None).map_err(SealError::Input)?;
            }
            Got::End => break,
        }
        out.write(&packets);
        packets.clear();
    }
    writer.finish(hub.clock.now(), &mut OsRandom, &mut packets);
    out.write(&packets);
    out.finish(|| hub.signals.arrived().is_some()).map_err(SealError::Output)?;
    check_sealing(hub, out)?;
    Ok(total)
}

fn check_sealing(hub: &Hub, out: &mut Output) -> Result<(), SealError> {
    if let Some(signal) = hub.signals.arrived() {
        return Err(SealError::Signal(signal));
    }
    out.take_error().map_or(Ok(()), |e| Err(SealError::Output(e)))
}

/// Why a file was not opened to its end.
#[derive(Debug)]
pub enum OpenError {
    /// It could not be read.
    Input(io::Error),
    /// What it holds is not as it should be.
    Box(BoxError),
    /// The output failed.
    Output(io::Error),
    /// A signal arrived.
    Signal(i32),
}

/// What a file held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Messages written to the output.
    pub heard: u64,
    /// Messages of people who are not heard.
    pub turned_away: u64,
}

/// Opens a box file as if its messages had just arrived.
///
/// # Errors
/// [`OpenError`]; messages that were whole before it are written.
pub fn open(
    hub: &mut Hub,
    keys: &[Answering],
    mut file: Input,
    host: &mut dyn Host,
    stage: &mut dyn Stage,
) -> Result<Opened, OpenError> {
    let locals = keys.iter().map(|k| LocalKey::new(k.pair.duplicate(), &k.access)).collect();
    let mut reader = BoxReader::new(locals);
    let mut current = Current::default();
    let mut opened = Opened { heard: 0, turned_away: 0 };
    let mut packet = [0; PACKET_LEN];
    loop {
        if let Some(signal) = hub.signals.arrived() {
            return Err(OpenError::Signal(signal));
        }
        let len = fill(&mut packet, hub, &mut file, stage)?;
        let step = match &packet[..len] {
            [] => reader.finish().map(|()| None),
            packet => reader.open(packet).map(Some),
        };
        match step {
            Ok(Some(chunk)) => {
                let arrived_ms = hub.clock.now().unix_ms;
                current.take(&chunk, arrived_ms, host, stage, &mut opened);
            }
            Ok(None) => return flush(hub, stage).map(|()| opened),
            Err(e) => {
                current.cut(host, stage);
                flush(hub, stage)?;
                return Err(OpenError::Box(e));
            }
        }
        wait_for_room(hub, stage)?;
    }
}

/// The message that is being opened: held until it is whole or long, like one that arrives.
#[derive(Default)]
struct Current {
    heard: Option<Heard>,
    held: Vec<u8>,
    flowing: bool,
    total: u64,
}

impl Current {
    fn take(
        &mut self,
        chunk: &Chunk,
        arrived_ms: u64,
        host: &mut dyn Host,
        stage: &mut dyn Stage,
        opened: &mut Opened,
    ) {
        if chunk.first {
            let caller = host.admit(&chunk.sender, chunk.local, false);
            if caller.is_none() {
                host.notice(Notice::TurnedAway(&chunk.sender));
                opened.turned_away += 1;
            }
            let heard = caller.map(|caller| heard(chunk, caller, arrived_ms));
            *self = Self { heard, ..Self::default() };
        }
        let Some(heard) = &self.heard else { return };
        self.total += chunk.body.len() as u64;
        self.held.extend_from_slice(&chunk.body);
        if chunk.last || self.held.len() >= HELD_BYTES {
            if !std::mem::replace(&mut self.flowing, true) {
                stage.begin(heard);
            }
            stage.data(heard, &self.held);
            self.held.clear();
        }
        if chunk.last {
            stage.end(heard, Ending::Whole);
            host.notice(Notice::Delivered(heard, self.total));
            opened.heard += 1;
            self.heard = None;
        }
    }

    fn cut(&mut self, host: &mut dyn Host, stage: &mut dyn Stage) {
        if let Some(heard) = self.heard.take() {
            if self.flowing {
                stage.end(&heard, Ending::Cut);
            }
            host.notice(Notice::Cut(&heard, "the file does not open any further"));
        }
    }
}

fn heard(chunk: &Chunk, caller: Caller, arrived_ms: u64) -> Heard {
    Heard {
        id: chunk.id.to_bytes(),
        caller,
        sent_ms: chunk.time_ms,
        arrived_ms,
        kind: MessageKind::Message as u8,
        transport: Transport::File,
    }
}

/// Reads the next packet; how many bytes that are, fewer only at the end of the file.
fn fill(
    packet: &mut [u8; PACKET_LEN],
    hub: &mut Hub,
    file: &mut Input,
    stage: &mut dyn Stage,
) -> Result<usize, OpenError> {
    let mut events = Events::with_capacity(4);
    let mut len = 0;
    while len < PACKET_LEN {
        match file.read(&mut packet[len..]).map_err(OpenError::Input)? {
            Got::Bytes(n) => len += n,
            Got::Later => {
                stage.settle();
                step(hub, stage, &mut events)?;
            }
            Got::End => break,
        }
    }
    Ok(len)
}

/// Waits until `stage` takes more.
///
/// # Errors
/// [`OpenError::Output`] and [`OpenError::Signal`].
pub fn wait_for_room(hub: &mut Hub, stage: &mut dyn Stage) -> Result<(), OpenError> {
    let mut events = Events::with_capacity(4);
    while !stage.has_room() {
        step(hub, stage, &mut events)?;
    }
    stage.take_error().map_or(Ok(()), |e| Err(OpenError::Output(e)))
}

/// Waits until everything that `stage` was given is written.
///
/// # Errors
/// As for [`wait_for_room`].
pub fn flush(hub: &mut Hub, stage: &mut dyn Stage) -> Result<(), OpenError> {
    let mut events = Events::with_capacity(4);
    let last = stage.mark();
    while stage.flushed() < last {
        step(hub, stage, &mut events)?;
    }
    Ok(())
}

/// Waits until the output or the input has news.
fn step(hub: &mut Hub, stage: &mut dyn Stage, events: &mut Events) -> Result<(), OpenError> {
    if let Some(e) = stage.take_error() {
        return Err(OpenError::Output(e));
    }
    if let Some(signal) = hub.signals.arrived() {
        return Err(OpenError::Signal(signal));
    }
    hub.wait(events, None).map_err(OpenError::Input)?;
    stage.settle();
    Ok(())
}
