"""Messages from the scheduler to a client, which is a driver or a worker.

Welcome                                                          the answer to the greeting
ObjectReady, StreamItem                                          objects that have values
DropSegments, Trim, Spill, Evict                                 work on the files of the store
TaskUpdate, OutputText, DisplayContent, ProgressUpdate, Notice   events that a driver shows
StatusReply, Explanation, SpansReply, KeptReply, Names,
GroupsReply, Listing, Summary                                    replies, each with the number of its request
"""

from __future__ import annotations

from typing import TypeAlias

from ipyremote.backend.placement import GroupRecord
from ipyremote.ids import NOBODY, ClientId, ObjectId, TaskId
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
    "ToEveryClient",
    "Trim",
    "Welcome",
]


class Welcome(Struct, frozen=True, tag=40):
    """The answer to a greeting that was accepted."""

    client_id: ClientId
    #: Process id of the scheduler.
    pid: int


class ObjectReady(Struct, frozen=True, tag=41):
    """An object and its value, which is never a `Forward`: the scheduler follows forwards first."""

    object_id: ObjectId
    value: Inline | Stored | Failure


class DropSegments(Struct, frozen=True, tag=42):
    """Segments that the receiver has made and may recycle, since nobody needs them."""

    segments: tuple[str, ...]


class Trim(Struct, frozen=True, tag=43):
    """The request to give the memory of recycled segments back to the system, because another client has no room."""


class Spill(Struct, frozen=True, tag=70):
    """Values to be copied to the spill directory, except values that some process has mapped. Answered by `Spilled`.

    The originals stay until the scheduler sends `Evict` to their creators, so a death in between loses nothing.
    """

    values: tuple[Stored, ...]


class Evict(Struct, frozen=True, tag=72):
    """Segments that the receiver has made and is to remove without recycling: some process may have them mapped."""

    segments: tuple[str, ...]


class TaskUpdate(Struct, frozen=True, tag=44):
    """State of the task behind a watched object."""

    object_id: ObjectId
    #: "waiting", "ready", "running", "blocked", "done", "failed" or "cancelled". A `put` object is "done".
    state: str
    label: str = ""
    #: Duration of the run in seconds, so far or in all.
    seconds: float = 0.0
    #: Reason why the task waits, or the first line of its failure.
    detail: str = ""


class OutputText(Struct, frozen=True, tag=45):
    """Text that a task wrote, for the driver that shows it."""

    #: Token of the driver for its notebook cell, as in `TaskSpec`.
    cell: int
    label: str
    #: 1 for stdout, 2 for stderr.
    stream: int
    text: str
    task_id: TaskId = NOBODY


class DisplayContent(Struct, frozen=True, tag=49):
    """A display of a task, for the driver that shows it. The fields are explained at `OutputText` and `Display`."""

    cell: int
    label: str
    task_id: TaskId
    content: bytes


class ProgressUpdate(Struct, frozen=True, tag=54):
    """State of a progress bar, for the driver that shows it. `OutputText` and `Progress` explain the fields."""

    cell: int
    label: str
    task_id: TaskId
    bar: int
    description: str
    done: float
    total: float
    unit: str
    closed: bool


class Notice(Struct, frozen=True, tag=46):
    """A sentence for the user of a driver, such as the warning that a request can never be met."""

    text: str
    cell: int = 0


class StreamItem(Struct, frozen=True, tag=62):
    """The next item of a stream that the receiver has submitted. The receiver holds the item from now on."""

    task_id: TaskId
    #: Number of the item, from 0.
    index: int
    object_id: ObjectId
    #: Value of the item; None for a deferred ref, whose value comes as `ObjectReady`.
    value: Inline | Stored | None


class Reply(Struct, frozen=True):
    """Base of the replies to requests."""

    #: Number of the request.
    request: int


class StatusReply(Reply, frozen=True, tag=47):
    """Answer to `Status`."""

    status: ClusterStatus


class Explanation(Reply, frozen=True, tag=48):
    """Answer to `Explain`: one sentence."""

    text: str


class SpansReply(Reply, frozen=True, tag=55):
    """Answer to `Spans`."""

    #: Time of the answer, on the clock of the runs' times.
    now: float
    #: Runs in the order in which their ends were reported.
    spans: tuple[TaskRun, ...]


class KeptReply(Reply, frozen=True, tag=56):
    """Answer to `Kept`."""

    #: Whether another driver owns the session, so that the sender could not claim it.
    is_taken: bool
    #: Names that can be recovered, in the order in which they were bound.
    saved: tuple[Saved, ...]
    #: Seconds for which these names are kept from now on.
    seconds: float


class Names(Reply, frozen=True, tag=68):
    """Answer to `LookUp`, and to the creation of an actor with a name."""

    #: Namespace of the sender, whatever namespace was asked for.
    namespace: str
    actors: tuple[NamedActor, ...]


class GroupsReply(Reply, frozen=True, tag=83):
    """Answer to `LookUpGroups`, and to the creation of a group with a name."""

    groups: tuple[GroupRecord, ...]


class Listing(Reply, frozen=True, tag=86):
    """Answer to `ListState`. The field with the name of the kind has the rows; the others are empty."""

    #: Time of the answer, on the clock of the rows' times.
    now: float
    #: Number of records that meet the filters, those beyond the limit included.
    matched: int
    #: Number of records that were not looked at, because there are too many.
    unseen: int
    tasks: tuple[TaskRow, ...] = ()
    actors: tuple[ActorRow, ...] = ()
    objects: tuple[ObjectRow, ...] = ()
    workers: tuple[WorkerRow, ...] = ()


class Summary(Reply, frozen=True, tag=88):
    """Answer to `Summarize`."""

    #: Number of records that were not looked at, because there are too many.
    unseen: int
    groups: tuple[RowCount, ...]


#: All messages that drivers and workers accept.
ToEveryClient: TypeAlias = (
    Welcome
    | ObjectReady
    | DropSegments
    | Trim
    | Spill
    | Evict
    | TaskUpdate
    | OutputText
    | Notice
    | StatusReply
    | Explanation
    | DisplayContent
    | ProgressUpdate
    | SpansReply
    | KeptReply
    | Names
    | GroupsReply
    | Listing
    | Summary
    | StreamItem
)
