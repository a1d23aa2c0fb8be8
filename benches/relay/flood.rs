//! How long a cell takes from one to one: alone, and beside clients of another address who post as
//! fast as they can.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anonchat::keys::Contact;
use anonchat::proto::relay::cell::{Cell, Command};

use super::cells::{Client, mailbox};

const FLOODERS: usize = 8;

/// Microseconds from POST to CELL: the median, and the worst of a hundred.
fn latency(relay: &Contact, at: SocketAddr, runs: usize) -> io::Result<(f64, f64)> {
    let (key, mailbox) = mailbox()?;
    let mut reader = Client::connect(relay, at)?;
    reader.subscribe(&key, &mailbox)?;
    reader.wait_for(Command::Live)?;
    let mut poster = Client::connect(relay, at)?;
    let mut took = Vec::new();
    for number in 0..runs as u64 {
        let began = Instant::now();
        poster.send(&Cell::post(number, mailbox.address, &[1; 1200]))?;
        reader.wait_for(Command::Cell)?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
        poster.wait_for(Command::Ack)?;
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok((took[runs / 2], took[runs * 99 / 100]))
}

/// Posts, to be shown to whoever reads, until `over`.
fn flood(mut client: Client, over: &AtomicBool) -> io::Result<()> {
    let address = mailbox()?.1.address;
    let mut socket = client.socket.try_clone()?;
    let answers = std::thread::spawn(move || io::copy(&mut socket, &mut io::sink()));
    while !over.load(Ordering::Relaxed) {
        // The same sealed bytes cannot be sent twice: sealing is what a flooder pays.
        for _ in 0..64 {
            client.queue(&Cell::post(1, address, &[1; 1200]).volatile());
        }
        client.flush()?;
    }
    client.socket.shutdown(std::net::Shutdown::Both)?;
    drop(answers.join());
    Ok(())
}

/// Tells how much a flood delays others.
pub fn delays(relay: &Contact, at: SocketAddr, runs: usize) -> io::Result<()> {
    let (alone, alone_worst) = latency(relay, at, runs)?;
    let over = Arc::new(AtomicBool::new(false));
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let flooders: Vec<_> = (0..FLOODERS)
        .map(|_| {
            let (client, over) = (Client::connect_from(from, relay, at)?, Arc::clone(&over));
            Ok(std::thread::spawn(move || flood(client, &over)))
        })
        .collect::<io::Result<_>>()?;
    let (flooded, flooded_worst) = latency(relay, at, runs)?;
    over.store(true, Ordering::Relaxed);
    for flooder in flooders {
        // One that the relay cut off is no failure of the measurement.
        drop(flooder.join());
    }
    writeln!(
        io::stdout(),
        "a cell takes {alone:.0} µs ({alone_worst:.0} at worst of a hundred); beside {FLOODERS} \
         flooders, whose sealing shares the processors, {flooded:.0} µs ({flooded_worst:.0})"
    )
}
