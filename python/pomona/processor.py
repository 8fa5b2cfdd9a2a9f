"""What the processor of this machine can do for int8."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

#: What Linux calls the instructions that multiply and add 8-bit integers without losing any, and
#: what people call them; the widest first. AMX and its kin come with the first of them.
_INT8 = (("avx512_vnni", "AVX-512 VNNI"), ("avx_vnni", "AVX-VNNI"))

INT8_WITHOUT_INSTRUCTIONS = (
    "this processor has no int8 instructions (VNNI), so that int8 may be slower than float32 here; "
    "measure it with `pomona bench`"
)


def int8_instructions(cpuinfo: Path = CPUINFO) -> str | None:
    """Name the processor's int8 instructions.

    Parameters
    ----------
    cpuinfo : pathlib.Path
        What Linux tells about the processor.

    Returns
    -------
    str or None
        ``"AVX-512 VNNI"``, ``"AVX-VNNI"``, or None if the processor has neither.
    """
    flags = set(_value("flags", cpuinfo).split())
    return next((name for flag, name in _INT8 if flag in flags), None)


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Name the processor as Linux does."""
    return _value("model name", cpuinfo) or "unknown processor"


def _value(wanted: str, cpuinfo: Path) -> str:
    """Return a line's value for the first processor: all of a machine's are alike."""
    with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == wanted:
                return value.strip()
    return ""
