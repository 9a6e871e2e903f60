"""The resident memory of this process, on Linux."""

from __future__ import annotations

from pathlib import Path

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def restart() -> None:
    """Lets the high-water mark start anew from what is resident now."""
    _RESET.write_text("5", encoding="ascii")


def resident() -> float:
    """MiB held now."""
    return _mebibytes("VmRSS")


def peak() -> float:
    """MiB at the most since `restart`."""
    return _mebibytes("VmHWM")


def _mebibytes(field: str) -> float:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{field} was required in {_STATUS}, it is not there: memory can be measured on Linux only")
