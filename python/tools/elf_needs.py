"""The versions of the C and C++ libraries that a shared library needs.

The oldest system that Pomona supports is Amazon Linux 2 on EMR 6.4.0: glibc 2.26 and the libstdc++
of GCC 7.3 (GLIBCXX_3.4.24, CXXABI_1.3.11). Where possible, the ceilings are lower, so that a
rising requirement is noticed long before it breaks on a cluster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

VERSION = re.compile(r"\d+(\.\d+)*")
CEILINGS = {"GLIBC": (2, 17), "GLIBCXX": (3, 4, 22), "CXXABI": (1, 3, 11)}

# The headers of glibc 2.38 and later map strtol and similar functions to these for C23.
NEW_SYMBOL_PREFIXES = ("__isoc23_",)


@dataclass(frozen=True)
class VersionNeed:
    """One entry of `.gnu.version_r`: `library` must provide the symbol version `name`.

    `entry_offset` is the offset of the entry (an `Elf64_Vernaux`) in the file, in bytes;
    `name_offset` is the offset of its name in `.dynstr`.
    """

    library: str
    name: str
    entry_offset: int
    name_offset: int

    def is_too_new(self) -> bool:
        """Return whether the version is above its family's ceiling. GCC_… and others have none."""
        family, _, version = self.name.partition("_")
        if family not in CEILINGS:
            return False
        if not VERSION.fullmatch(version):  # GLIBC_PRIVATE, which no glibc guarantees
            return True
        return tuple(int(part) for part in version.split(".")) > CEILINGS[family]


def version_needs(library: BinaryIO) -> list[VersionNeed]:
    """Return every symbol version that an ELF shared library needs, in the order of the file."""
    section = ELFFile(library).get_section_by_name(".gnu.version_r")
    if not isinstance(section, GNUVerNeedSection):
        return []
    needs = []
    library_offset = section["sh_offset"]
    for version, entries in section.iter_versions():
        entry_offset = library_offset + version["vn_aux"]
        for entry in entries:
            needs.append(
                VersionNeed(str(version.name), entry.name, entry_offset, entry["vna_name"])
            )
            entry_offset += entry["vna_next"]
        library_offset += version["vn_next"]
    return needs


def new_symbols(library: BinaryIO) -> list[str]:
    """Return the undefined symbols that only recent versions of glibc have."""
    symbols = ELFFile(library).get_section_by_name(".dynsym")
    if not isinstance(symbols, SymbolTableSection):
        return []
    return [
        symbol.name
        for symbol in symbols.iter_symbols()
        if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name.startswith(NEW_SYMBOL_PREFIXES)
    ]
