"""MIDI files with small damage outside of their notes, copied without what is damaged.

Programs write texts in odd encodings, key signatures of 99 sharps, cut system-exclusive data, and
tracks without their end mark. None of that is a drum hit. The copy keeps every channel message,
tempo and end of track at its time; all else becomes an empty text. Where a channel message itself
is damaged nothing is guessed: the file is refused.
"""

from __future__ import annotations

import struct
from typing import Final

_TEMPO, _END = 0x51, 0x2F
_EMPTY_TEXT: Final = b"\xff\x01\x00"
_LENGTH_OF_KIND: Final = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}  # data bytes


def without_damage(data: bytes) -> bytes:
    """The copy. Raises ValueError where notes may be damaged or missing."""
    if data[:4] != b"MThd" or len(data) < 14:
        raise ValueError("no MIDI header")
    n_tracks = struct.unpack(">H", data[10:12])[0]
    position = 8 + struct.unpack(">L", data[4:8])[0]
    tracks: list[bytes] = []
    while len(tracks) < n_tracks:
        name, size = data[position : position + 4], data[position + 4 : position + 8]
        body = data[position + 8 : position + 8 + int.from_bytes(size)]
        if len(size) < 4 or len(body) < int.from_bytes(size):
            raise ValueError("it ends too early")
        position += 8 + len(body)
        if name == b"MTrk":
            tracks.append(_track(body))
    chunks = (b"MTrk" + struct.pack(">L", len(track)) + track for track in tracks)
    return data[:4] + struct.pack(">L", 6) + data[8:14] + b"".join(chunks)


def _track(body: bytes) -> bytes:
    out: list[bytes] = []
    position, running = 0, 0
    while position < len(body):
        begin = position
        _, position = _number(body, position)
        delta = body[begin:position]
        status = _byte(body, position)
        if status in (0xF0, 0xF7, 0xFF):
            kind = _byte(body, position + 1) if status == 0xFF else -1
            start = position + (2 if status == 0xFF else 1)
            n_bytes, start = _number(body, start)
            text = body[start : start + n_bytes]
            position = start + n_bytes
            if position > len(body):  # a wrong length: notes may lie in what it swallows
                raise ValueError("it ends too early")
            whole = kind == _TEMPO and n_bytes == 3
            out.append(delta + (b"\xff\x51\x03" + text if whole else _EMPTY_TEXT))
            if kind == _END:
                break
            continue
        if status & 0x80:
            running = status
            position += 1
        n_bytes = _LENGTH_OF_KIND.get(running >> 4, 0)
        message = body[position : position + n_bytes]
        if not n_bytes or len(message) < n_bytes or max(message) > 127:
            raise ValueError(f"a damaged message at byte {begin} of a track")
        position += n_bytes
        out.append(delta + bytes([running]) + message)
    return b"".join(out) + b"\x00\xff\x2f\x00"


def _byte(body: bytes, position: int) -> int:
    if position >= len(body):
        raise ValueError("it ends too early")
    return body[position]


def _number(body: bytes, position: int) -> tuple[int, int]:
    """A number of one to four bytes, seven bits each, and where it ends."""
    value = 0
    for end in range(position + 1, position + 5):
        byte = _byte(body, end - 1)
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end
    raise ValueError("a number of more than four bytes")
