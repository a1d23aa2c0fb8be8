"""Builds what is measured, all of it before anything is."""

import functools
import json
import os
import subprocess

from .machine import version
from .scene import BIN, ROOT, TARGET, UNSEALED

# Everything is built as the programs are.
PROFILE = "dev" if BIN.name == "debug" else "release"


def cargo(command, *words, **environment):
    words = ["cargo", command, "--locked", "--profile", PROFILE, *words]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def programs():
    """Ours, unless AC_BIN says where they are."""
    if "AC_BIN" not in os.environ:
        cargo("build", "--bins")


def unsealed():
    """The same with sealing left out, to see what it costs: over the crates that were built already, but
    in a folder of its own."""
    if "AC_UNSEALED_BIN" not in os.environ:
        cargo("build", "--bin", "ac-send", "--bin", "ac-listen", "--target-dir", str(TARGET / "unsealed"),
              CARGO_BUILD_BUILD_DIR=str(TARGET), RUSTC_WORKSPACE_WRAPPER=str(ROOT / "bench" / "unsealed-rustc"))


def check():
    """Programs that seal nothing say so; neither kind must be taken for the other."""
    for folder, seals in ((BIN, True), (UNSEALED, False)):
        for program in ("ac-send", "ac-listen"):
            told = version([str(folder / program), "--version"])
            if told and ("UNSEALED" in told) == seals:
                raise RuntimeError(f"{folder / program} is {told}")


@functools.cache
def bench(name):
    """The program of that benchmark."""
    told = cargo("bench", "--no-run", "--message-format=json-render-diagnostics", "--bench", name)
    for message in map(json.loads, told.splitlines()):
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    raise RuntimeError(f"cargo built no {name}")
