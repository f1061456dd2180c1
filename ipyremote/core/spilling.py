"""The places of stored values, in memory or on disk, and the choice of values to move when memory has no room.

    in memory -> being moved by a client -> on disk        back to "in memory" when the move fails or its client is gone

Rules. The coldest objects go first: those that were made, sent to a task or asked for longest ago. Only the client that
moves an object can find out whether a process has the object mapped, so that moving would free nothing; the client
reports such a move as failed, and the object counts as the warmest. The original segment is removed by its creator, or
by the shell if the creator is gone, only after the copy was reported complete; so a death at any moment leaves at least
one of the two. An object that is dropped during its move keeps its segment until the move is over, since a recycled
segment would be overwritten while it is copied. A value on disk stays there: a reader maps the file, and the system
keeps the pages in memory as long as there is room.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ipyremote.core.commands import DropSegment, Send
from ipyremote.core.state import Ledger, Move, Object
from ipyremote.ids import ClientId, ObjectId
from ipyremote.messages import Evict, NoRoom, Spill, Spilled, Stored, Trim

__all__ = [
    "DISK_PREFIX",
    "drop_segment",
    "end_moves",
    "forget",
    "keep",
    "on_no_room",
    "on_spilled",
    "segments",
    "touch",
]

#: Beginning of the names of segments that were made on disk.
DISK_PREFIX: Final = "disk-"
#: Largest number of objects in one `Spill` message.
ORDER: Final = 1000


def keep(ledger: Ledger, obj: Object, value: Stored, creator: ClientId) -> None:
    """Record the place of the stored value that an object has got."""
    obj.creator = creator
    if value.segment.startswith(DISK_PREFIX):
        ledger.storage.disk_bytes += value.size
    else:
        ledger.storage.memory_bytes += value.size
        ledger.storage.in_memory[obj.id] = obj


def touch(ledger: Ledger, object_id: ObjectId) -> None:
    """Make an object the warmest, since it is used."""
    obj = ledger.storage.in_memory.pop(object_id, None)
    if obj is not None:
        ledger.storage.in_memory[object_id] = obj


def forget(ledger: Ledger, obj: Object, value: Stored, *, reuse: bool) -> None:
    """Forget the stored value of an object. `reuse`: whether its segment is certainly unused and can be recycled."""
    segment = value.segment
    move = ledger.storage.moves.get(segment)
    if move is not None:
        ledger.storage.memory_bytes -= value.size
        move.obj = None
        return
    if ledger.storage.in_memory.pop(obj.id, None) is None:
        ledger.storage.disk_bytes -= value.size
    else:
        ledger.storage.memory_bytes -= value.size
        if not reuse:
            _evict(ledger, [(obj.creator, segment)])
    drop_segment(ledger, obj.creator, segment)


def drop_segment(ledger: Ledger, creator: ClientId, segment: str) -> None:
    """Have a segment that nobody needs dropped at the end of the present `handle`, wherever the segment lies."""
    ledger.lost_segments.setdefault(creator, []).append(segment)


def segments(ledger: Ledger, client_id: ClientId, *, on_disk: bool) -> set[str]:
    """Return the segments of a client's objects in memory, or on disk. Segments being moved count for both."""
    found = set()
    for obj in ledger.objects.values():
        value = obj.value
        if obj.creator != client_id or type(value) is not Stored:
            continue
        if on_disk != (obj.id in ledger.storage.in_memory) or value.segment in ledger.storage.moves:
            found.add(value.segment)
    return found | {segment for segment, move in ledger.storage.moves.items() if move.creator == client_id}


def on_no_room(ledger: Ledger, sender: ClientId, message: NoRoom) -> None:
    """React to a client without room in memory.

    The other clients give back the segments that they keep for reuse; the client itself moves cold objects to disk.
    """
    ledger.out.extend(Send(client, Trim()) for client in ledger.clients if client != sender)
    if not message.needed:
        return
    values: list[Stored] = []
    enough = 0
    for obj in ledger.storage.in_memory.values():
        if enough >= message.needed or len(values) >= ORDER:
            break
        value = obj.value
        assert isinstance(value, Stored), "an object in memory has a stored value"
        values.append(value)
        enough += value.size
        ledger.storage.moves[value.segment] = Move(obj, sender)
    for value in values:
        moved = ledger.storage.moves[value.segment].obj
        assert moved is not None
        del ledger.storage.in_memory[moved.id]
    ledger.out.append(Send(sender, Spill(tuple(values))))


def on_spilled(ledger: Ledger, sender: ClientId, message: Spilled) -> None:
    """React to a client that has moved objects to disk, or has failed to move them."""
    gone: list[tuple[ClientId, str]] = []
    for segment in message.done:
        move = _ended(ledger, sender, segment)
        if move is None:
            continue
        gone.append((move.creator, segment))
        if move.obj is None:
            drop_segment(ledger, move.creator, segment)
        else:
            ledger.storage.memory_bytes -= move.size
            ledger.storage.disk_bytes += move.size
    for segment in message.failed:
        move = _ended(ledger, sender, segment)
        if move is not None:
            _take_back(ledger, move, segment, gone)
    _evict(ledger, gone)


def end_moves(ledger: Ledger, client_id: ClientId) -> None:
    """End the moves that a client that is gone had not reported: the objects stay in memory, its copies are removed."""
    copies = [segment for segment, move in ledger.storage.moves.items() if move.client == client_id]
    if not copies:
        return
    gone: list[tuple[ClientId, str]] = []
    for segment in copies:
        _take_back(ledger, ledger.storage.moves.pop(segment), segment, gone)
    _evict(ledger, gone)
    ledger.out.append(DropSegment(tuple(copies), "disk"))


def _ended(ledger: Ledger, sender: ClientId, segment: str) -> Move | None:
    """Remove and return the move of a segment by the sender; None if the sender has no such move."""
    move = ledger.storage.moves.get(segment)
    if move is None or move.client != sender:
        return None
    return ledger.storage.moves.pop(segment)


def _take_back(ledger: Ledger, move: Move, segment: str, gone: list[tuple[ClientId, str]]) -> None:
    """Undo a move that has failed: the object is in memory again, or if it was dropped, its segment joins `gone`."""
    if move.obj is None:
        gone.append((move.creator, segment))
    else:
        ledger.storage.in_memory[move.obj.id] = move.obj


def _evict(ledger: Ledger, gone: Iterable[tuple[ClientId, str]]) -> None:
    """Have segments removed from memory without reuse. `gone`: pairs of creator and segment."""
    by_creator: dict[ClientId, list[str]] = {}
    for creator, segment in gone:
        by_creator.setdefault(creator, []).append(segment)
    for creator, names in by_creator.items():
        if creator in ledger.clients:
            ledger.out.append(Send(creator, Evict(tuple(names))))
        else:
            ledger.out.append(DropSegment(tuple(names), "memory"))
