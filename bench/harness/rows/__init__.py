"""The rows of the table: each a function of a `Run` that measures one work and adds what came of it.

Programs are measured from here, with `Run.interleaved`. What needs a program of its own is one in `benches/`
that takes turns itself and prints a line of JSON for each figure, read with `Run.figures`.
"""

from .counts import counts
from .datagrams import datagrams
from .messages import messages
from .one_shots import one_shots
from .relay import relay
from .streams import files, memory, pipes

# Name, as for --only, to what measures it, in the order of the table.
ROWS = {
    "files": files,
    "pipes": pipes,
    "memory": memory,
    "one-shots": one_shots,
    "messages": messages,
    "datagrams": datagrams,
    "relay": relay,
    "counts": counts,
}
# Programs of `cargo bench` that some of them want, built before anything is measured.
BENCHES = {"relay": "relay", "datagrams": "micro"}
