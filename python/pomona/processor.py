"""The name of this machine's processor and its int8 instructions."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

#: Linux's flags for the instructions that multiply and add 8-bit integers without saturating, and
#: their usual names; the widest first. Processors with AMX have the first as well.
_INT8 = (("avx512_vnni", "AVX-512 VNNI"), ("avx_vnni", "AVX-VNNI"))

INT8_WITHOUT_INSTRUCTIONS = (
    "this processor has no int8 instructions (VNNI); whether int8 is faster than float32 here "
    "depends on the network, and `pomona bench` measures it"
)


def int8_instructions(cpuinfo: Path = CPUINFO) -> str | None:
    """Return the name of the processor's int8 instructions.

    Parameters
    ----------
    cpuinfo : pathlib.Path
        Linux's description of the processor.

    Returns
    -------
    str or None
        ``"AVX-512 VNNI"``, ``"AVX-VNNI"``, or None if the processor has neither.
    """
    flags = set(_value("flags", cpuinfo).split())
    return next((name for flag, name in _INT8 if flag in flags), None)


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Return the processor's name, as Linux reports it."""
    return _value("model name", cpuinfo) or "unknown processor"


def _value(field: str, cpuinfo: Path) -> str:
    """Return a field of the first CPU; all CPUs of a machine are alike."""
    with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""
