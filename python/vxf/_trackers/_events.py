"""TensorBoard's event files: records with checksums, each with one protocol buffer `Event`.

The format has not changed for ten years and needs three message types, so no library is needed to write it. Values are
stored with 32 bits, as TensorBoard's own scalars are.
"""

from __future__ import annotations

import struct
from typing import BinaryIO


def _table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


_CRC32C = _table()


def _checksum(data: bytes) -> bytes:
    """CRC-32C of ``data``, masked as record files want it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _event(seconds: float, step: int, content: bytes) -> bytes:
    """An `Event`: wall time (seconds since 1970), step, and a version or a summary."""
    return b"\x09" + struct.pack("<d", seconds) + _number(2, step) + content


def version(seconds: float) -> bytes:
    """The event that begins a file."""
    return _event(seconds, 0, _message(3, b"brain.Event:2"))


def scalar(seconds: float, step: int, tag: str, value: float) -> bytes:
    """One value of a curve."""
    # Too large for 32 bits: infinity, as TensorBoard's writer makes of it.
    try:
        bits = struct.pack("<f", value)
    except OverflowError:
        bits = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    content = _message(1, tag.encode()) + b"\x15" + bits
    return _event(seconds, step, _message(5, _message(1, content)))


def text(seconds: float, step: int, tag: str, markdown: str) -> bytes:
    """One text, for the plugin `text`."""
    plugin = _message(9, _message(1, _message(1, b"text")))
    # A tensor of strings (type 7) without dimensions.
    tensor = _message(8, _number(1, 7) + _message(2, b"") + _message(8, markdown.encode()))
    return _event(seconds, step, _message(5, _message(1, _message(1, tag.encode()) + plugin + tensor)))


def write(file: BinaryIO, event: bytes) -> None:
    """Adds a record to a file."""
    length = struct.pack("<Q", len(event))
    file.write(length + _checksum(length) + event + _checksum(event))
