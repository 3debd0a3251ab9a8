"""Memory of this process and of its machine."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

STATM = Path("/proc/self/statm")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def reset_peak() -> int:
    """Count the peak of memory anew where the system can, and return it as it is then."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """Return the most memory that this process has had at a time."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def used_bytes() -> int:
    """Return the memory that this process has; the most that it had where that is not told."""
    if not STATM.is_file():
        return peak_bytes()
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


def free_bytes() -> int:
    """Return the memory that this machine, or this container, could still give; 0 if unknown."""
    if not MEMINFO.is_file():
        return 0
    facts = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    free = int(facts["MemAvailable"].split()[0]) * 1024
    limit = CGROUP / "memory.max"
    if limit.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, int(most) - int((CGROUP / "memory.current").read_text()))
    return free
