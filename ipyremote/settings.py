"""Settings from environment variables, and the resources that this machine or container lets this process use.

Only this module reads the environment. It decides nothing about a cluster: in the API, explicit arguments win over
`Settings`, and `Settings` over detected resources.

Rules. A variable of ours (`IPYREMOTE_*`) with a wrong value is a ValueError that names the variable; an empty variable
counts as absent. A foreign variable (`CPU_LIMIT`, `CUDA_VISIBLE_DEVICES`, ...) or a system file with a wrong value
counts as absent, too. Detection takes the root of the file system and the environment as arguments, so that tests can
give it made-up machines. Nothing is cached between calls, because users change the environment of a running kernel.

| variable | meaning | default |
|---|---|---|
| `IPYREMOTE_NUM_WORKERS` | CPUs of a cluster that is started without `num_cpus`; a whole number from 1 | detected |
| `IPYREMOTE_ADDRESS` | session that `init()` joins: "auto", or a session's directory | starts one |
| `IPYREMOTE_STATIC` | displays wait and show the final state only, without times, for comparing notebooks | off |
| `IPYREMOTE_ENABLE_AUTO_CONNECT` | the first use starts a cluster | on |
| `IPYREMOTE_TASK_MAX_RETRIES` | default of the option `max_retries` of tasks; -1 means without end | 3 |
| `IPYREMOTE_LOG_TO_DRIVER` | the driver shows the text that tasks print | on |
| `IPYREMOTE_TEMP_DIR` | directory for session directories in place of /dev/shm; must exist | none |
| `IPYREMOTE_object_spilling_directory` | directory for objects moved to disk; must exist | the temp directory |
| `IPYREMOTE_automatic_object_spilling_enabled` | objects may be moved to disk | on |
| `IPYREMOTE_local_fs_capacity_threshold` | largest share of that disk that is filled, from 0 to 1 | 0.95 |
| `IPYREMOTE_allow_out_of_band_object_ref_serialization` | refs may be pickled by other programs | off |

The variables in lower case are Ray's, with another beginning.

Also read: `CPU_LIMIT` and `MEM_LIMIT` (JupyterHub), `CUDA_VISIBLE_DEVICES`, `XDG_CACHE_HOME` and
`PATH`. Written into the environment of a session's processes: `IPYREMOTE_SESSION`, the key of the session, by which
stray processes can be found.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "SESSION_VARIABLE",
    "Settings",
    "allows_out_of_band_refs",
    "cache_directory",
    "child_environment",
    "detect_cpus",
    "detect_gpus",
    "detect_memory",
    "disk_threshold",
    "environment_with",
    "has_breakpoint_hook",
    "read",
    "search_path",
    "shm_free",
    "spill_base",
    "static_display",
    "store_capacity",
]

#: Name of the variable, in the environment of every process of a session, whose value is the session's key.
SESSION_VARIABLE: Final = "IPYREMOTE_SESSION"

#: Share of the usable memory that the object store takes.
STORE_SHARE: Final = 0.3
#: Smallest capacity of the object store, in bytes.
STORE_FLOOR: Final = 64 << 20
#: Smallest free room of a /dev/shm that the store uses, in bytes; containers often have 64 MB, and use files instead.
SHM_WORTHWHILE: Final = 1 << 30

#: Share of a disk that spilled objects may fill, as in Ray.
DISK_THRESHOLD: Final = 0.95
#: Smallest free room of a disk that is chosen for spilled objects by default, in bytes.
DISK_WORTHWHILE: Final = 1 << 30
#: Directory for large temporary files on systems whose temp directory is in memory.
LARGE_TEMP_DIR: Final = Path("/var/tmp")
#: Types of file systems whose files take memory.
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})

_ROOT: Final = Path("/")
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked variables of ours. None means that the variable is absent."""

    num_workers: int | None = None
    address: str | None = None
    static: bool = False
    enable_auto_connect: bool = True
    task_max_retries: int = 3
    log_to_driver: bool = True
    temp_dir: Path | None = None
    object_spilling_directory: Path | None = None
    automatic_object_spilling_enabled: bool = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Check and convert the variables. Raises ValueError, which names the first variable with a wrong value."""
        retries = _whole(environ, "IPYREMOTE_TASK_MAX_RETRIES", least=-1)
        return cls(
            num_workers=_whole(environ, "IPYREMOTE_NUM_WORKERS", least=1),
            address=environ.get("IPYREMOTE_ADDRESS", "").strip() or None,
            static=_switch(environ, "IPYREMOTE_STATIC", False),
            enable_auto_connect=_switch(environ, "IPYREMOTE_ENABLE_AUTO_CONNECT", True),
            task_max_retries=3 if retries is None else retries,
            log_to_driver=_switch(environ, "IPYREMOTE_LOG_TO_DRIVER", True),
            temp_dir=_directory(environ, "IPYREMOTE_TEMP_DIR"),
            object_spilling_directory=_directory(environ, "IPYREMOTE_object_spilling_directory"),
            automatic_object_spilling_enabled=_switch(
                environ, "IPYREMOTE_automatic_object_spilling_enabled", True
            ),
        )


def has_breakpoint_hook() -> bool:
    """Return whether the user has chosen a hook for `breakpoint()` by Python's variable `PYTHONBREAKPOINT`."""
    return "PYTHONBREAKPOINT" in os.environ


def read() -> Settings:
    """Return the settings of this process at this moment."""
    return Settings.from_env(os.environ)


def static_display() -> bool:
    """Return whether displays must be static and without times. No other variable is read or checked."""
    return _switch(os.environ, "IPYREMOTE_STATIC", False)


def allows_out_of_band_refs() -> bool:
    """Return whether refs may be pickled by other programs, which pins their objects for good."""
    return _switch(os.environ, "IPYREMOTE_allow_out_of_band_object_ref_serialization", False)


def disk_threshold(environ: Mapping[str, str] | None = None) -> float:
    """Return the share of a disk that spilled objects may fill."""
    name = "IPYREMOTE_local_fs_capacity_threshold"
    text = (os.environ if environ is None else environ).get(name, "").strip()
    if not text:
        return DISK_THRESHOLD
    if re.fullmatch(r"[0-9]*\.?[0-9]+", text) and 0 <= float(text) <= 1:
        return float(text)
    raise ValueError(f"{name}={text!r} is not a number from 0 to 1: correct it, or unset it")


def child_environment(session_key: str) -> dict[str, str]:
    """Return the environment for the processes of a session: that of this process, and the session's key."""
    return {**os.environ, SESSION_VARIABLE: session_key}


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process with other variables; `${NAME}` in a text is the value of NAME here.

    A NAME that is absent here is replaced by nothing. The variable with the session's key stays as it is.
    """
    known = dict(os.environ)
    changed = {
        name: re.sub(r"\$\{([^}]*)\}", lambda found: known.get(found[1], ""), text)
        for name, text in variables.items()
        if name != SESSION_VARIABLE
    }
    return {**known, **changed}


def cache_directory() -> Path:
    """Return the directory for this user's caches of ipyremote, which may not exist yet."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (chosen if chosen.is_absolute() else Path(os.path.expanduser("~/.cache"))) / "ipyremote"


def search_path() -> str:
    """Return the search path for programs."""
    return os.environ.get("PATH", os.defpath)


# ---- one variable


def _switch(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError(f"{name}={text!r} is neither yes nor no: set it to 1 or 0, or unset it")


def _whole(environ: Mapping[str, str], name: str, *, least: int) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    # The pattern is stricter than `int()`, which also accepts "1_0" and digits of other scripts.
    if re.fullmatch(r"-?[0-9]+", text) and int(text) >= least:
        return int(text)
    raise ValueError(f"{name}={text!r} is not a whole number from {least} up: correct it, or unset it")


def _directory(environ: Mapping[str, str], name: str) -> Path | None:
    if not environ.get(name, "").strip():
        return None
    path = Path(environ[name])
    if not path.is_absolute() or not path.is_dir():
        raise ValueError(
            f"{name}={environ[name]!r} is not a directory's absolute path: create it, or unset it"
        )
    return path


def _foreign_number(environ: Mapping[str, str], name: str) -> float | None:
    """Return the positive, finite number in a variable of another program; None if there is none."""
    try:
        number = float(environ[name])
    except (KeyError, ValueError):
        return None
    return number if 0 < number < math.inf else None


# ---- detection


def detect_cpus(
    root: Path = _ROOT, environ: Mapping[str, str] | None = None, affinity: int | None = None
) -> int:
    """Return the number of CPUs that this process may use, at least 1; a part of a CPU counts as one.

    The number is the least of the process's affinity, the quotas of its control groups and JupyterHub's `CPU_LIMIT`.
    """
    environ = os.environ if environ is None else environ
    limits: list[float] = [_affinity() if affinity is None else affinity]
    for directory in _cgroups(root, "cpu"):
        limits.extend(_cpu_quota(directory))
    granted = _foreign_number(environ, "CPU_LIMIT")
    if granted is not None:
        limits.append(granted)
    return max(1, math.ceil(min(limits)))


def detect_memory(
    root: Path = _ROOT, environ: Mapping[str, str] | None = None, total: int | None = None
) -> int:
    """Return the amount of memory that this process and its children may use, in bytes.

    The amount is the least of the machine's memory, the limits of the control groups and JupyterHub's `MEM_LIMIT`.
    """
    environ = os.environ if environ is None else environ
    limits = [_machine_memory() if total is None else total]
    for directory in _cgroups(root, "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = _first_number(directory / name)
            if limit is not None and limit > 0:
                limits.append(limit)
    granted = _foreign_number(environ, "MEM_LIMIT")
    if granted is not None:
        limits.append(int(granted))
    return min(limits)


def detect_gpus(root: Path = _ROOT, environ: Mapping[str, str] | None = None) -> int:
    """Return the number of NVIDIA GPUs that this process may use: `CUDA_VISIBLE_DEVICES`, else the driver's list."""
    environ = os.environ if environ is None else environ
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        try:
            return sum(1 for _ in (root / "proc/driver/nvidia/gpus").iterdir())
        except OSError:
            return 0
    count = 0
    # CUDA reads from the left and stops at the first entry that names no device.
    for entry in visible.split(","):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[0-9A-Za-z/-]+", entry.strip()):
            break
        count += 1
    return count


def store_capacity(memory: int, free: int) -> int:
    """Return the capacity of the object store in bytes, given the usable memory and the free room in /dev/shm.

    The capacity is a share of the memory. It is cut to the room in /dev/shm, unless that room is so small that the
    store is better kept in files elsewhere, at the full size.
    """
    wanted = max(STORE_FLOOR, int(memory * STORE_SHARE))
    if free >= min(wanted, SHM_WORTHWHILE):
        return min(wanted, free)
    return wanted


def shm_free(path: str = "/dev/shm") -> int:
    """Return the free room of a file system in bytes; 0 if there is no such file system."""
    try:
        status = os.statvfs(path)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def spill_base(candidates: Iterable[Path], root: Path = _ROOT) -> Path | None:
    """Return the first of these directories that is on a disk with room; None if there is none."""
    for path in candidates:
        try:
            status = os.statvfs(path)
            device = os.stat(path).st_dev
        except OSError:
            continue
        free = status.f_bavail * status.f_frsize
        total = status.f_blocks * status.f_frsize
        has_room = free >= max(DISK_WORTHWHILE, total * (1 - DISK_THRESHOLD))
        if has_room and os.access(path, os.W_OK | os.X_OK) and not _is_memory(device, root):
            return path
    return None


def _is_memory(device: int, root: Path) -> bool:
    """Return whether the system says that files on this device take memory."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return after.split(" ", 1)[0] in _MEMORY_FILE_SYSTEMS
    return False


def _affinity() -> int:
    """Return the number of CPUs that the operating system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has no affinities


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# ---- control groups


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Return the directories of the control groups that limit this process: its own, then each one above.

    Groups of both versions are included. A limit may be at any level (systemd sets limits on a slice far above the
    process), so callers look at all directories.
    """
    memberships = _memberships(root)
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        if kind[0] == "cgroup2":
            path = memberships.get("")
        elif controller in kind[-1].split(","):
            path = memberships.get(controller)
        else:
            continue
        if path is not None:
            yield from _upwards(root / _unescaped(fields[4]).lstrip("/"), _unescaped(fields[3]), path)


def _memberships(root: Path) -> dict[str, str]:
    """Return the path of this process's group by controller; the key of a version 2 group is empty."""
    found: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        parts = line.split(":", 2)
        if len(parts) == 3:
            found.update((controller, parts[2]) for controller in parts[1].split(","))
    return found


def _upwards(mount: Path, mounted: str, path: str) -> Iterator[Path]:
    """Return the directories from the group at `path` up to the mount point `mount` of the group `mounted`."""
    inside = os.path.relpath(path, mounted) if path.startswith("/") else "."
    # A group outside of the mounted part (in a container that shares the host's names) is not visible here.
    here = mount if inside.split("/")[0] == ".." else mount / inside
    while here != mount:
        yield here
        here = here.parent
    yield mount


def _cpu_quota(directory: Path) -> Iterator[float]:
    """Return the CPU time that this group may use, in CPUs, if the group has a limit."""
    for line in _lines(directory / "cpu.max"):
        quota, _, period = line.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)
    spend = _first_number(directory / "cpu.cfs_quota_us")
    each = _first_number(directory / "cpu.cfs_period_us")
    if spend is not None and each and spend > 0:
        yield spend / each


def _first_number(path: Path) -> int | None:
    for line in _lines(path):
        if re.fullmatch(r"-?\d+", line.strip()):
            return int(line)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(field: str) -> str:
    """Return a field of mountinfo without its octal escapes, which stand for blanks and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
