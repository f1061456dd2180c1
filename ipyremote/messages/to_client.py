"""What the scheduler tells a client, which is a driver or a worker.

Welcome                                                       answers the greeting
ObjectReady, StreamItem                                       objects that have values
DropSegments, Trim, Spill, Evict                              work on the store's files
TaskUpdate, OutputText, DisplayContent, ProgressUpdate, Notice   what a driver shows
StatusReply, Explanation, SpansReply, KeptReply,
Names, GroupsReply, Listing, Summary                               answers, each with the number of its question
"""

from __future__ import annotations

from ipyremote.backend.placement import GroupRecord
from ipyremote.messages.state_rows import (
    ActorRow,
    ClusterStatus,
    NamedActor,
    ObjectRow,
    RowCount,
    Saved,
    TaskRow,
    TaskRun,
    WorkerRow,
)
from ipyremote.messages.values import Failure, Inline, Stored, Struct

__all__ = [
    "DisplayContent",
    "DropSegments",
    "Evict",
    "Explanation",
    "GroupsReply",
    "KeptReply",
    "Listing",
    "Names",
    "Notice",
    "ObjectReady",
    "OutputText",
    "ProgressUpdate",
    "Reply",
    "SpansReply",
    "Spill",
    "StatusReply",
    "StreamItem",
    "Summary",
    "TaskUpdate",
    "Trim",
    "Welcome",
]


class Welcome(Struct, frozen=True, tag=40):
    """The greeting was accepted."""

    client_id: int
    #: Process id of the scheduler.
    pid: int


class ObjectReady(Struct, frozen=True, tag=41):
    """An object has its value (never a `Forward`: that is followed first)."""

    object_id: int
    value: Inline | Stored | Failure


class DropSegments(Struct, frozen=True, tag=42):
    """To the creator of these segments: nobody needs them, recycle."""

    segments: tuple[str, ...]


class Trim(Struct, frozen=True, tag=43):
    """Give the memory of recycled segments back to the system: another client has no room."""


class Spill(Struct, frozen=True, tag=70):
    """Copy these to the spill directory, except those that somebody has mapped. Answered by `Spilled`.

    The originals stay until the scheduler says `Evict` to their creators, so whoever dies in between loses nothing.
    """

    values: tuple[Stored, ...]


class Evict(Struct, frozen=True, tag=72):
    """To the creator of these segments: remove them from memory without reuse, since somebody may have them mapped."""

    segments: tuple[str, ...]


class TaskUpdate(Struct, frozen=True, tag=44):
    """State of the task behind a watched object.

    `state` is "waiting", "ready", "running", "blocked", "done", "failed" or "cancelled". A `put` object is "done".
    `seconds` is how long it has run so far, or ran in all. `detail`: why it waits, or the first line of its failure.
    """

    object_id: int
    state: str
    label: str = ""
    seconds: float = 0.0
    detail: str = ""


class OutputText(Struct, frozen=True, tag=45):
    """Output of a task, for the driver that shows it."""

    cell: int
    label: str
    stream: int
    text: str
    task_id: int = 0


class DisplayContent(Struct, frozen=True, tag=49):
    """What a task shows, for the driver that shows it; `content` as in `Display`."""

    cell: int
    label: str
    task_id: int
    content: bytes


class ProgressUpdate(Struct, frozen=True, tag=54):
    """State of a progress bar, for the driver of its task; see `Progress`."""

    cell: int
    label: str
    task_id: int
    bar: int
    description: str
    done: float
    total: float
    unit: str
    closed: bool


class Notice(Struct, frozen=True, tag=46):
    """A sentence for the user of the driver, such as that a request can never be met."""

    text: str
    cell: int = 0


class StreamItem(Struct, frozen=True, tag=62):
    """To the submitter of a stream: its next item is this object, which the receiver holds.

    Its value, or None for that of a deferred ref, which comes as `ObjectReady`.
    """

    task_id: int
    index: int
    object_id: int
    value: Inline | Stored | None


class Reply(Struct, frozen=True):
    """Base of the answers to what a client has asked under a number."""

    request: int


class StatusReply(Reply, frozen=True, tag=47):
    status: ClusterStatus


class Explanation(Reply, frozen=True, tag=48):
    text: str


class SpansReply(Reply, frozen=True, tag=55):
    """Runs in the order in which their ends became known; `now` is the clock that their times are of."""

    now: float
    spans: tuple[TaskRun, ...]


class KeptReply(Reply, frozen=True, tag=56):
    #: Another driver has the session, so nothing was claimed.
    is_taken: bool
    #: What is left to recover, in the order in which it was bound.
    saved: tuple[Saved, ...]
    #: For how many seconds it is kept.
    seconds: float


class Names(Reply, frozen=True, tag=68):
    #: The sender's own, whatever was asked for.
    namespace: str
    actors: tuple[NamedActor, ...]


class GroupsReply(Reply, frozen=True, tag=83):
    groups: tuple[GroupRecord, ...]


class Listing(Reply, frozen=True, tag=86):
    """Rows of the kind that was asked for, in the one of the fields that has its name."""

    #: The clock that the times are of.
    now: float
    #: Rows that meet the filters; of those that were not looked at, because there are too many, nothing is known.
    matched: int
    unseen: int
    tasks: tuple[TaskRow, ...] = ()
    actors: tuple[ActorRow, ...] = ()
    objects: tuple[ObjectRow, ...] = ()
    workers: tuple[WorkerRow, ...] = ()


class Summary(Reply, frozen=True, tag=88):
    #: As in `Listing`.
    unseen: int
    groups: tuple[RowCount, ...]
