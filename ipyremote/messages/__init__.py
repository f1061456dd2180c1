"""Every struct that crosses a socket, by direction.

    values        values, output, displays, progress: all that the worker side of any engine needs
    task          specifications of tasks, actors and environments
    from_client   messages from a driver or a worker to the scheduler
    from_worker   reports of workers
    to_client     messages from the scheduler to a driver or a worker
    to_worker     messages from the scheduler to a worker only
    state_rows    rows about tasks, actors, objects, workers, runs and names
    boot          start records of processes
    codec         encoding and decoding

Each of these modules draws its part of the format. The outermost part is here. A connection is one zmq DEALER (client)
to the scheduler's ROUTER; the DEALER's routing id is the letter "c" and the client number as 8 bytes, big-endian.
A frame is

    greeting  = secret (32 bytes) + msgpack(Hello)            the first frame of a connection, never again
    frame     = msgpack([sequence, [message, message, ...]])  every other frame, both directions
    message   = [tag, field, field, ...]                      the tag is the number in the message's class statement

`sequence` counts a sender's frames from 1; the receiver drops a frame whose number it has seen, so a sender that was
interrupted may send the same frame twice. User data is opaque bytes inside `Inline.data`, `Failure.data`,
`Display.content` and `Define.payload`; the scheduler never looks into them.

    driver or worker                         scheduler                              worker
        Submit(spec) ----------------------->    RunTask(spec, attempt, run) -------->
                                                 TaskDone(task, attempt, values) <----
        ObjectReady(object, value) <---------

Order. Messages of one sender arrive in the order sent. A client's `Hold` therefore precedes the `TaskDone` whose task
kept the object alive until then, and a task's `Output`, `Display` and `Progress` precede its `TaskDone`.
"""

from __future__ import annotations

from ipyremote.backend import DYNAMIC, ENDLESS, RESOURCE_UNIT, Resources
from ipyremote.backend.placement import Place
from ipyremote.messages.boot import Boot, EnvironmentBoot, WorkerBoot
from ipyremote.messages.codec import (
    SECRET_BYTES,
    DecodeError,
    FromClient,
    ToClient,
    decode_boot,
    decode_environment_boot,
    decode_from_client,
    decode_hello,
    decode_report,
    decode_to_client,
    encode_boot,
    encode_frame,
    encode_greeting,
    encode_report,
)
from ipyremote.messages.from_client import (
    Bind,
    Bye,
    CancelTask,
    Consumed,
    CreateActor,
    CreateGroup,
    Define,
    DefineEnvironment,
    Explain,
    Free,
    Hello,
    Hold,
    Kept,
    KillActor,
    ListState,
    LookUp,
    LookUpGroups,
    NoRoom,
    Put,
    RareFromClient,
    Release,
    RemoveGroup,
    Spans,
    Spilled,
    Status,
    Submit,
    Summarize,
    Taken,
    Unwatch,
    UseNamespace,
    Want,
    Watch,
)
from ipyremote.messages.from_worker import Blocked, Returned, TaskDone, TaskFailed, Titled, Unblocked, Yield
from ipyremote.messages.state_rows import (
    ActorRow,
    Bound,
    ClusterStatus,
    Filter,
    NamedActor,
    ObjectRow,
    RowCount,
    Saved,
    TaskRow,
    TaskRun,
    WorkerRow,
    WorkerStatus,
)
from ipyremote.messages.task import ActorSpec, EnvironmentSpec, Packages, TaskSpec, share_parts
from ipyremote.messages.to_client import (
    DisplayContent,
    DropSegments,
    Evict,
    Explanation,
    GroupsReply,
    KeptReply,
    Listing,
    Names,
    Notice,
    ObjectReady,
    OutputText,
    ProgressUpdate,
    Reply,
    SpansReply,
    Spill,
    StatusReply,
    StreamItem,
    Summary,
    TaskUpdate,
    Trim,
    Welcome,
)
from ipyremote.messages.to_worker import CancelRun, Exit, Recall, RunTask, StreamDemand
from ipyremote.messages.values import (
    Display,
    Failure,
    Forward,
    Inline,
    Output,
    Progress,
    Stored,
    Struct,
    Value,
    decode_content,
    replace,
)

__all__ = [
    "DYNAMIC",
    "ENDLESS",
    "RESOURCE_UNIT",
    "SECRET_BYTES",
    "ActorRow",
    "ActorSpec",
    "Bind",
    "Blocked",
    "Boot",
    "Bound",
    "Bye",
    "CancelRun",
    "CancelTask",
    "ClusterStatus",
    "Consumed",
    "CreateActor",
    "CreateGroup",
    "DecodeError",
    "Define",
    "DefineEnvironment",
    "Display",
    "DisplayContent",
    "DropSegments",
    "EnvironmentBoot",
    "EnvironmentSpec",
    "Evict",
    "Exit",
    "Explain",
    "Explanation",
    "Failure",
    "Filter",
    "Forward",
    "Free",
    "FromClient",
    "GroupsReply",
    "Hello",
    "Hold",
    "Inline",
    "Kept",
    "KeptReply",
    "KillActor",
    "ListState",
    "Listing",
    "LookUp",
    "LookUpGroups",
    "NamedActor",
    "Names",
    "NoRoom",
    "Notice",
    "ObjectReady",
    "ObjectRow",
    "Output",
    "OutputText",
    "Packages",
    "Place",
    "Progress",
    "ProgressUpdate",
    "Put",
    "RareFromClient",
    "Recall",
    "Release",
    "RemoveGroup",
    "Reply",
    "Resources",
    "Returned",
    "RowCount",
    "RunTask",
    "Saved",
    "Spans",
    "SpansReply",
    "Spill",
    "Spilled",
    "Status",
    "StatusReply",
    "Stored",
    "StreamDemand",
    "StreamItem",
    "Struct",
    "Submit",
    "Summarize",
    "Summary",
    "Taken",
    "TaskDone",
    "TaskFailed",
    "TaskRow",
    "TaskRun",
    "TaskSpec",
    "TaskUpdate",
    "Titled",
    "ToClient",
    "Trim",
    "Unblocked",
    "Unwatch",
    "UseNamespace",
    "Value",
    "Want",
    "Watch",
    "Welcome",
    "WorkerBoot",
    "WorkerRow",
    "WorkerStatus",
    "Yield",
    "decode_boot",
    "decode_content",
    "decode_environment_boot",
    "decode_from_client",
    "decode_hello",
    "decode_report",
    "decode_to_client",
    "encode_boot",
    "encode_frame",
    "encode_greeting",
    "encode_report",
    "replace",
    "share_parts",
]
