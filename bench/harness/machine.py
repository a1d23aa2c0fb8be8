"""Where it was measured: the machine, and the versions of everybody."""

import os
import platform
import re
import subprocess
from pathlib import Path

from .scene import BIN


def version(words):
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    numbered = [line for line in lines if re.search(r"\d+\.\d+", line)]
    return numbered[0] if numbered else None


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    yield f"* {os.cpu_count()} cores, {model.group(1) if model else platform.machine()}; Linux {platform.release()}"
    for words in (["socat", "-V"], ["ncat", "--version"], ["openssl", "version"], ["ssh", "-V"],
                  ["spiped", "-v"], ["mosquitto_pub", "--version"], [BIN / "ac-send", "--version"]):
        told = version([str(w) for w in words])
        if told:
            yield f"* {told}"
