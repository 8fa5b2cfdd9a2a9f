"""What a shared library needs from the C and C++ libraries of the machine that loads it.

The oldest system that Pomona promises to run on is Amazon Linux 2 of EMR 6.4.0: glibc 2.26 and the
libstdc++ of GCC 7.3 (GLIBCXX_3.4.24, CXXABI_1.3.11). The ceilings are lower than that where the
libraries allow it, so that a need which creeps upwards is seen long before it reaches a cluster.
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

# Since glibc 2.38 its headers turn strtol and its kin into these in C23; no older glibc has them.
NEW_SYMBOL_PREFIXES = ("__isoc23_",)


@dataclass(frozen=True)
class VersionNeed:
    """One entry of `.gnu.version_r`: `library` must provide the symbol version `name`.

    `entry_offset` is where the entry (an `Elf64_Vernaux`) starts in the file, in bytes;
    `name_offset` is where its name starts in `.dynstr`.
    """

    library: str
    name: str
    entry_offset: int
    name_offset: int

    def is_too_new(self) -> bool:
        """Whether the version is above its family's ceiling; other families (GCC_…) have none."""
        family, _, version = self.name.partition("_")
        if family not in CEILINGS:
            return False
        if not VERSION.fullmatch(version):  # GLIBC_PRIVATE is no promise of any glibc
            return True
        return tuple(int(part) for part in version.split(".")) > CEILINGS[family]


def version_needs(library: BinaryIO) -> list[VersionNeed]:
    """Every symbol version that an ELF shared library asks of others, in file order."""
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
    """Undefined symbols that carry no old version at all and exist in recent glibc only."""
    symbols = ELFFile(library).get_section_by_name(".dynsym")
    if not isinstance(symbols, SymbolTableSection):
        return []
    return [
        symbol.name
        for symbol in symbols.iter_symbols()
        if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name.startswith(NEW_SYMBOL_PREFIXES)
    ]
