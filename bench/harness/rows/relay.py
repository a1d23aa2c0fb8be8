"""What a relay carries. The measuring program is `benches/relay`, whose clients do no more than they must:
a relay is faster than our own senders. It takes turns with mosquitto and socat itself."""

from ..table import Row, Target

ABOUT = {
    "mosquitto": (
        Target(1.5),
        "One poster, at most 1000 cells unconfirmed, and readers of one mailbox, each over a sealed link of its "
        "own; beside it one publisher and as many subscribers of one topic of mosquitto: plaintext, QoS 1, as "
        "many unacknowledged. A cell holds a packet of 1200 bytes, sealed beforehand, which has room for 998 of "
        "text; a message of mosquitto is 900 bytes. Timed until each reader has all. The clients of both are one "
        "program that does nothing else."),
    "socat as a middle": (
        Target(1.0),
        "Bytes from one TCP connection to another: joined by ac-relay, or by `socat TCP-LISTEN TCP` in its "
        "defaults. What goes through a circuit is sealed from end to end elsewhere; the bytes here are as they are."),
}


def sizes(run):
    """Of the measuring program."""
    if run.short:
        return {"ROUNDS": 1, "CLIENTS": 50, "CELLS": 2000, "READERS": 10, "RUNS": 3, "BYTES": 4 << 20}
    return {"ROUNDS": run.rounds, "CELLS": 200_000, "READERS": 1000, "BYTES": run.scene.size}


def relay(run):
    """Cells to one and to many, and circuits."""
    for figure in run.figures("relay", sizes(run)):
        add(run, figure)


def add(run, figure):
    against = figure["against"]
    if against in ABOUT:
        target, about = ABOUT[against]
        run.table.add(Row(f"relay: {figure['work']}", figure["unit"],
                          {"AnonChat": figure["ours"], against: figure["theirs"]}, about, targets={against: target}))
