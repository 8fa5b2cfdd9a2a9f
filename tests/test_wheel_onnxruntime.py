"""Replacing ONNX Runtime's reference to glibc 2.27, and nothing else."""

from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile

import vendor_onnxruntime as vendor
from elf_needs import VersionNeed, version_needs


@pytest.fixture(scope="module")
def rewritten() -> bytes:
    return (vendor.TARGET / vendor.LIBRARY).read_bytes()


def entries_of(library: bytes, name: str) -> list[VersionNeed]:
    needs = version_needs(io.BytesIO(library))
    return [need for need in needs if (need.library, need.name) == ("libm.so.6", name)]


def pointed_at(library: bytes, need: VersionNeed, name: str) -> bytes:
    """Rename one needed version in the library, to a name that its string table has."""
    strings = ELFFile(io.BytesIO(library)).get_section_by_name(".dynstr").data()
    changed = bytearray(library)
    struct.pack_into("<I", changed, need.entry_offset, vendor.elf_hash(name))
    offset = strings.index(f"\0{name}\0".encode()) + 1
    struct.pack_into("<I", changed, need.entry_offset + vendor.VNA_NAME, offset)
    return bytes(changed)


@pytest.fixture(scope="module")
def official(rewritten: bytes) -> bytes:
    """The official library: ours with the change reverted."""
    first, _ = entries_of(rewritten, "GLIBC_2.2.5")
    return pointed_at(rewritten, first, "GLIBC_2.27")


def test_the_library_in_place_is_the_one_that_was_tested(rewritten: bytes):
    assert vendor.sha256(rewritten) == vendor.LIBRARY_SHA256


def test_the_rewriting_changes_one_hash_and_one_name(official: bytes, rewritten: bytes):
    assert vendor.rewrite(official) == rewritten
    (entry,) = entries_of(official, "GLIBC_2.27")
    changed = [at for at in range(len(official)) if official[at] != rewritten[at]]
    assert {at - entry.entry_offset for at in changed} <= {*range(4), *range(8, 12)}


def test_a_library_without_that_need_is_refused(rewritten: bytes):
    with pytest.raises(SystemExit, match=r"should need .*GLIBC_2\.27.* but it needs \[\]"):
        vendor.rewrite(rewritten)


def test_a_library_with_a_second_new_need_is_refused(official: bytes):
    (old,) = entries_of(official, "GLIBC_2.2.5")
    with pytest.raises(SystemExit, match="as its only version that is too new"):
        vendor.rewrite(pointed_at(official, old, "GLIBC_2.27"))


def test_the_hash_is_that_of_the_system_v_abi():
    assert vendor.elf_hash("GLIBC_2.2.5") == 0x09691A75
    assert vendor.elf_hash("printf") == 0x077905A6
