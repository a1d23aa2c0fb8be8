//! What a relay carries, beside what mosquitto (plaintext, QoS 1) and socat (plaintext, as a middle)
//! carry in the same run. `cargo bench --bench relay`; the sizes come from the environment:
//!
//! | variable | | default |
//! | --- | --- | --- |
//! | `AC_BENCH_ROUNDS` | interleaved rounds, of which the median counts | 3 |
//! | `AC_BENCH_CLIENTS` | idle clients | 1000 |
//! | `AC_BENCH_CELLS` | cells of one round | 50000 |
//! | `AC_BENCH_READERS` | readers of the fan-out | 100 |
//! | `AC_BENCH_BYTES` | through a circuit | 268435456 |
//! | `AC_BENCH_RUNS` | short messages from end to end, and a fiftieth of the single cells | 20 |
//!
//! With `AC_BENCH_JSON` each comparison is a line of JSON instead, with every round's figure:
//! `{"work", "unit", "ours": [], "against", "theirs": []}`, which `bench/compare.py` reads.
//!
//! Nothing is asserted about time. What is missing on this machine is passed over, and said.

mod cells;
mod circuit;
mod ends;
mod flood;
mod mqtt;
mod peers;
#[path = "../shared/programs.rs"]
mod programs;
#[path = "../shared/shake.rs"]
mod shake;

use std::io::{self, Write};

use peers::{Mosquitto, Relay};

fn size(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Rates of ours and of the others, in turn, as medians.
struct Pair {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn interleaved(
    rounds: u64,
    mut ours: impl FnMut() -> io::Result<f64>,
    mut theirs: impl FnMut() -> io::Result<f64>,
) -> io::Result<Pair> {
    let mut pair = Pair { ours: Vec::new(), theirs: Vec::new() };
    for _ in 0..rounds {
        pair.ours.push(ours()?);
        pair.theirs.push(theirs()?);
    }
    Ok(pair)
}

fn tell(what: &str, unit: &str, other: &str, mut pair: Pair) -> io::Result<()> {
    if std::env::var_os("AC_BENCH_JSON").is_some() {
        let figure = serde_json::json!({
            "work": what, "unit": unit, "ours": pair.ours, "against": other, "theirs": pair.theirs,
        });
        return writeln!(io::stdout(), "{figure}");
    }
    let (ours, theirs) = (median(&mut pair.ours), median(&mut pair.theirs));
    let spread = |values: &[f64]| format!("{:.0}..{:.0}", values[0], values[values.len() - 1]);
    writeln!(
        io::stdout(),
        "{what}: {ours:.0} {unit} ({}), {other} {theirs:.0} ({}): {:.2} x",
        spread(&pair.ours),
        spread(&pair.theirs),
        ours / theirs
    )
}

fn run() -> io::Result<()> {
    programs::raise_descriptors();
    let rounds = size("AC_BENCH_ROUNDS", 3).max(1);
    let relay = Relay::start()?;
    idle(&relay)?;
    let runs = size("AC_BENCH_RUNS", 20);
    flood::delays(&relay.file, relay.at, 50 * runs as usize)?;
    let cells = size("AC_BENCH_CELLS", 50_000);
    match Mosquitto::start()? {
        Some(mosquitto) => {
            for (readers, cells) in fan_out(cells) {
                let ours = || cells::rate(&relay.file, relay.at, readers, cells);
                let theirs = || mqtt::rate(mosquitto.at, readers, cells as usize, 900);
                let what = format!("cells of 900 bytes, 1 to {readers}");
                tell(&what, "a second to each", "mosquitto", interleaved(rounds, ours, theirs)?)?;
            }
        }
        None => writeln!(io::stdout(), "mosquitto is not installed: passed over")?,
    }
    let many = |mailboxes| {
        move || {
            // Each with a relay of its own: what is held stays.
            let relay = Relay::start()?;
            cells::held_rate(&relay.file, relay.at, mailboxes, cells)
        }
    };
    let pair = interleaved(rounds, many(100_000), many(100))?;
    tell("cells taken into 100,000 mailboxes", "each second", "into 100", pair)?;
    let bytes = size("AC_BENCH_BYTES", 256 << 20);
    let pair = interleaved(
        rounds,
        || circuit::by_relay(&relay.file, relay.at, bytes),
        || circuit::by_socat(bytes),
    )?;
    tell("a circuit", "MB/s", "socat as a middle", pair)?;
    ends::latency(&relay, runs)
}

fn fan_out(cells: u64) -> [(usize, u64); 2] {
    let readers = size("AC_BENCH_READERS", 100).max(1);
    [(1, cells), (readers as usize, (cells / readers).max(100))]
}

fn idle(relay: &Relay) -> io::Result<()> {
    let clients = size("AC_BENCH_CLIENTS", 1000);
    let before = relay.resident()?;
    let mut held = Vec::new();
    for _ in 0..clients {
        let (key, mailbox) = cells::mailbox()?;
        let mut client = cells::Client::connect(&relay.file, relay.at)?;
        client.subscribe(&key, &mailbox)?;
        client.wait_for(anonchat::proto::relay::cell::Command::Live)?;
        held.push(client);
    }
    let each = (relay.resident()? - before) / clients as i64;
    let busy = relay.busy(std::time::Duration::from_secs(10))?;
    writeln!(
        io::stdout(),
        "{clients} idle clients: {each} bytes resident each, {:.2} % of a core",
        busy * 100.0
    )
}

fn main() -> io::Result<()> {
    // cargo test --benches builds and starts it: nothing is measured there.
    match std::env::args().any(|arg| arg == "--bench") {
        true => run(),
        false => Ok(()),
    }
}
