"""HEIF files of tiles, which neither Pillow nor pillow-heif writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

_PROPERTIES = (b"hvcC", b"av1C", b"ispe", b"colr", b"pixi")


@dataclass
class _Tile:
    kind: bytes
    data: bytes
    properties: list[bytes]


def grid(tiles: list[bytes], rows: int, columns: int, width: int, height: int) -> bytes:
    """Make one file of a grid from files of single images, row by row.

    Parameters
    ----------
    tiles : list of bytes
        HEIC or AVIF files of the same size, without alpha.
    rows, columns : int
        The number of tiles in each direction.
    width, height : int
        The size of the image; the tiles may be larger.
    """
    images = [_parse(tile) for tile in tiles]
    kind = images[0].kind
    boxes: list[bytes] = []
    associations = b""
    for number, image in enumerate(images, 2):
        indices = b""
        for prop in image.properties:
            if prop not in boxes:
                boxes.append(prop)
            indices += bytes([boxes.index(prop) + 1])
        associations += number.to_bytes(2, "big") + bytes([len(indices)]) + indices
    boxes.append(_full(b"ispe", width.to_bytes(4, "big") + height.to_bytes(4, "big")))
    associations = b"\0\x01\x01" + bytes([len(boxes)]) + associations
    count = len(images) + 1
    description = bytes([0, 0, rows - 1, columns - 1])
    description += width.to_bytes(2, "big") + height.to_bytes(2, "big")
    parts = [description, *(image.data for image in images)]
    entries = [
        _full(b"infe", number.to_bytes(2, "big") + b"\0\0" + item + b"\0", version=2)
        for number, item in enumerate([b"grid"] + [kind] * len(images), 1)
    ]
    brand = b"heic" if kind == b"hvc1" else b"avif"
    ftyp = _box(b"ftyp", brand + b"\0\0\0\0mif1" + brand)

    def meta(start: int) -> bytes:
        locations, at = b"", start
        for number, part in enumerate(parts, 1):
            locations += number.to_bytes(2, "big") + b"\0\0\0\x01"
            locations += at.to_bytes(4, "big") + len(part).to_bytes(4, "big")
            at += len(part)
        numbers = b"".join(number.to_bytes(2, "big") for number in range(2, count + 1))
        references = b"\0\x01" + len(images).to_bytes(2, "big") + numbers
        listed = count.to_bytes(2, "big")
        return _full(
            b"meta",
            _full(b"hdlr", b"\0\0\0\0pict" + bytes(13))
            + _full(b"pitm", b"\0\x01")
            + _full(b"iinf", listed + b"".join(entries))
            + _full(b"iloc", b"\x44\0" + listed + locations)
            + _full(b"iref", _box(b"dimg", references))
            + _box(
                b"iprp",
                _box(b"ipco", b"".join(boxes))
                + _full(b"ipma", count.to_bytes(4, "big") + associations),
            ),
        )

    start = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(start) + _box(b"mdat", b"".join(parts))


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def _full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + content)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    while content:
        length = int.from_bytes(content[:4], "big") or len(content)
        yield content[4:8], content[8:length]
        content = content[length:]


def _parse(file: bytes) -> _Tile:
    """Return the primary image of a file that has its data in one piece."""
    meta = dict(_boxes(dict(_boxes(file))[b"meta"][4:]))
    primary = meta[b"pitm"][4:6]
    kinds = {box[4:6]: box[8:12] for _, box in _boxes(meta[b"iinf"][6:])}
    iprp = dict(_boxes(meta[b"iprp"]))
    all_properties = [_box(kind, content) for kind, content in _boxes(iprp[b"ipco"])]
    properties: list[bytes] = []
    ipma, at = iprp[b"ipma"], 8
    while at < len(ipma):
        item, number = ipma[at : at + 2], ipma[at + 2]
        if item == primary:
            indices = [index & 0x7F for index in ipma[at + 3 : at + 3 + number]]
            properties = [all_properties[index - 1] for index in indices]
        at += 3 + number
    iloc, version = meta[b"iloc"], meta[b"iloc"][0]
    assert iloc[4:5] == b"\x44", "offsets and lengths of four bytes"
    base, at = iloc[5] >> 4, 8
    while iloc[at : at + 2] != primary:
        extents = at + (4 if version == 0 else 6) + base
        at = extents + 2 + 8 * int.from_bytes(iloc[extents : extents + 2], "big")
    at += 4 if version == 0 else 6
    start = int.from_bytes(iloc[at : at + base], "big")
    at += base + 2
    offset = start + int.from_bytes(iloc[at : at + 4], "big")
    length = int.from_bytes(iloc[at + 4 : at + 8], "big")
    data = file[offset : offset + length]
    kept = [prop for prop in properties if prop[4:8] in _PROPERTIES]
    return _Tile(kinds[primary], data, kept)
