"""The look of a ref, a board of refs and the cluster: pure functions from a snapshot to escaped, bounded HTML.

The functions know no clock, kernel or widget. The same HTML serves the live widget, the updates of an output by its
`display_id`, and the saved notebook; so the HTML has a small style sheet of its own and names every state in words. All
text from outside goes through `escaped`. Only `Preview.html` is used as it is, because `previews.py` has sanitised it.

    <div class="ipyremote ipyremote-ref" data-state="pending|running|resolved|failed|cancelled|lost"> ... </div>

A ref is lost when its session is gone: whether the task ended, and how, is not known any more.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Final

from ipyremote.notebook.output.traceback_text import own_frames

__all__ = [
    "END_STATES",
    "STATES",
    "Bar",
    "BoardView",
    "ClusterView",
    "Preview",
    "RefView",
    "board_html",
    "box",
    "bytes_text",
    "cluster_html",
    "detail_html",
    "escaped",
    "head_html",
    "numbered",
    "ref_html",
    "seconds_text",
]

#: Values of `data-state` of a ref or a board, in the order in which counts are listed.
STATES: Final = ("pending", "running", "resolved", "failed", "cancelled", "lost")
#: States that a ref does not leave.
END_STATES: Final = frozenset({"resolved", "failed", "cancelled", "lost"})

_LABEL_LIMIT: Final = 120
_DETAIL_LIMIT: Final = 500
_REPR_LIMIT: Final = 2_000
_TRACEBACK_LIMIT: Final = 20_000
#: Largest table or picture, in characters.
_HTML_LIMIT: Final = 50_000
#: Number of failures that a board lists; further failures are counted.
FAILURES_SHOWN: Final = 10
#: Size up to which a board lists each of its refs.
ITEMS_SHOWN: Final = 20

#: Number of lines of output that a running ref shows.
_LINES_SHOWN: Final = 3
_LINE_LIMIT: Final = 300
_SAID_LIMIT: Final = 12_000
_SEPARATOR: Final = "\n"

_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: Control characters that mean nothing in HTML.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_STYLE: Final = """<style>
.ipyremote{font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:var(--jp-ui-font-size1,13px);
line-height:1.45;color:var(--jp-ui-font-color1,inherit);border:1px solid var(--jp-border-color2,#8885);
border-left:3px solid var(--ipyremote-accent);border-radius:3px;padding:4px 10px;margin:2px 0;max-width:60em;
box-sizing:border-box;overflow:hidden}
.ipyremote,.ipyremote-items>div{--ipyremote-accent:var(--jp-ui-font-color2,#888)}
.ipyremote[data-state=running],.ipyremote[data-state=starting],.ipyremote-items>[data-state=running]{
--ipyremote-accent:var(--jp-info-color1,#0288d1)}
.ipyremote[data-state=resolved],.ipyremote[data-state=ready],.ipyremote-items>[data-state=resolved]{
--ipyremote-accent:var(--jp-success-color1,#388e3c)}
.ipyremote[data-state=failed],.ipyremote-items>[data-state=failed]{--ipyremote-accent:var(--jp-error-color1,#d32f2f)}
.ipyremote[data-state=cancelled],.ipyremote[data-state=lost],.ipyremote-items>[data-state=cancelled],
.ipyremote-items>[data-state=lost]{--ipyremote-accent:var(--jp-warn-color1,#f57c00)}
.ipyremote-label,.ipyremote pre{font-family:var(--jp-code-font-family,monospace);background:none;color:inherit;
font-size:var(--jp-code-font-size,12px);border:0}
.ipyremote pre{margin:4px 0;padding:0;white-space:pre-wrap;overflow:auto;max-height:24em}
.ipyremote-word{color:var(--ipyremote-accent);font-weight:600;margin-left:.6em;
color:color-mix(in srgb,var(--ipyremote-accent) 65%,var(--jp-ui-font-color1,currentColor))}
.ipyremote-time,.ipyremote-facts,.ipyremote-detail{color:var(--jp-ui-font-color2,inherit)}
.ipyremote-time,.ipyremote-facts{margin-left:.6em}
.ipyremote-table{overflow:auto;max-height:24em;margin:4px 0}
.ipyremote-table:has(img){max-height:none}
.ipyremote-table img{display:block;max-width:100%;height:auto}
.ipyremote-bar{display:flex;height:6px;border-radius:3px;overflow:hidden;margin:5px 0;
background:var(--jp-layout-color2,#8883)}
.ipyremote-bar span{display:block}
.ipyremote-bar [data-part=running]{background:var(--jp-info-color1,#0288d1)}
.ipyremote-bar [data-part=resolved]{background:var(--jp-success-color1,#388e3c)}
.ipyremote-bar [data-part=failed]{min-width:3px;background:var(--jp-error-color1,#d32f2f)}
.ipyremote-bar [data-part=cancelled],.ipyremote-bar [data-part=lost]{background:var(--jp-warn-color1,#f57c00)}
.ipyremote-items{display:grid;grid-template-columns:repeat(auto-fill,minmax(15em,1fr));gap:0 1.5em;margin:4px 0;
overflow-wrap:anywhere}
.ipyremote-wide{grid-column:1/-1}
.ipyremote-items .ipyremote-detail{margin-left:.6em}
.ipyremote summary{cursor:pointer}
.ipyremote-task{display:flex;align-items:center;gap:.6em;margin:3px 0}
.ipyremote-task .ipyremote-bar{flex:1 1 12em;max-width:28em;margin:0}
.ipyremote-task .ipyremote-bar span{background:var(--jp-info-color1,#0288d1)}
.ipyremote-task .ipyremote-facts{margin-left:0;white-space:nowrap}
.ipyremote-said{border-left:2px solid var(--jp-border-color2,#8885);padding-left:8px;margin:4px 0}
.ipyremote-said summary{color:var(--jp-ui-font-color2,inherit);font-size:var(--jp-ui-font-size0,11px)}
</style>"""


@dataclass(frozen=True, slots=True)
class Preview:
    """A worker's description of a value. Every field but `type` may be empty."""

    type: str
    #: Repr of the value, cut.
    text: str = ""
    shape: str = ""
    dtype: str = ""
    #: Size of the data in bytes, if known.
    size: int | None = None
    #: Sanitised HTML of a table or a picture.
    html: str = ""
    #: Sentence on why there is no preview.
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar of a task."""

    description: str
    done: float
    #: Below 0: not known.
    total: float
    unit: str = ""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class RefView:
    """A ref at one moment."""

    label: str
    state: str
    #: Time that the task has run, in seconds; None to show no time.
    seconds: float | None = None
    #: Reason why the task waits, or the first line of its failure.
    detail: str = ""
    preview: Preview | None = None
    #: Text of the failure, with the traceback.
    error: str = ""
    #: From the outermost in.
    bars: tuple[Bar, ...] = ()
    #: End of the task's output.
    text: str = ""
    #: Number of earlier lines that are not in `text`.
    lines_left_out: int = 0
    #: Sentence about a click that could not be carried out.
    note: str = ""


@dataclass(frozen=True, slots=True)
class BoardView:
    """A group of refs at one moment."""

    #: Number of refs in each state.
    counts: dict[str, int]
    #: Label and first line of the failures to list.
    failures: tuple[tuple[str, str], ...] = ()
    #: Time since the first task began, in seconds; None to show no time.
    seconds: float | None = None
    #: Sentence about the whole group.
    detail: str = ""
    #: Label and state of the other refs to list; empty for a large group.
    others: tuple[tuple[str, str], ...] = ()
    #: Number of refs that end in a second, if known.
    rate: float | None = None
    #: Sentence about a click that could not be carried out.
    note: str = ""
    #: Word for one member of the group, and for several.
    what: tuple[str, str] = ("ref", "refs")

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def state(self) -> str:
        """Return the state of the group: running while any ref runs, afterwards the worst state of a ref."""
        counts = self.counts
        if counts.get("running") or (counts.get("pending") and self.ended):
            return "running"
        if counts.get("pending"):
            return "pending"
        return next((state for state in ("failed", "lost", "cancelled") if counts.get(state)), "resolved")

    @property
    def ended(self) -> int:
        """Return the number of refs that have ended."""
        return sum(self.counts.get(state, 0) for state in END_STATES)


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster at one moment: "starting", "ready", "failed", "stopped" or "lost"."""

    state: str
    #: Name and amount of each resource, for people to read. Empty when unknown or not shown.
    facts: tuple[tuple[str, str], ...] = field(default=())
    #: Sentence on why the cluster failed, stopped or was lost.
    detail: str = ""


def ref_html(view: RefView) -> str:
    """Return a ref as HTML."""
    parts = [head_html(_label(view.label), view.state, view.seconds)]
    if view.state == "resolved" and view.preview is not None:
        parts[0] = parts[0].removesuffix("</div>") + _facts(view.preview) + "</div>"
        parts.append(_preview(view.preview))
    elif view.error:
        parts.append(_failure(view.error.strip("\n")))
    elif view.detail:
        parts.append(detail_html(view.detail))
    if view.bars and view.state in ("running", "failed", "cancelled", "lost"):
        parts[1:1] = [_task_bar(bar) for bar in view.bars]
    if view.text:
        parts.append(_said(view.text, view.lines_left_out, view.state == "running"))
    if view.note:
        parts.append(detail_html(view.note))
    return box("ref", view.state, f"Result of {view.label}: {view.state}", "".join(parts))


def board_html(view: BoardView) -> str:
    """Return a group of refs as HTML: counts, a bar, and the list of refs, failures first."""
    total = view.total
    words = ", ".join(f"{count} {state}" for state in STATES if (count := view.counts.get(state, 0)))
    facts = words + _pace(view)
    many = f"{total} {view.what[total != 1]}"
    head = head_html(escaped(many, 200), view.state, view.seconds)
    head = head.removesuffix("</div>") + f'<span class="ipyremote-facts">{facts}</span></div>'
    bar = "".join(
        f'<span data-part="{state}" style="width:{100 * count / max(total, 1):.2f}%"></span>'
        for state in ("failed", "resolved", "cancelled", "lost", "running")
        if (count := view.counts.get(state, 0))
    )
    bar = (
        f'<div class="ipyremote-bar" role="progressbar" aria-valuemin="0" aria-valuemax="{total}" '
        f'aria-valuenow="{view.ended}" aria-label="{view.ended} of {total} ended">{bar}</div>'
    )
    shown = view.failures if total <= ITEMS_SHOWN else view.failures[:FAILURES_SHOWN]
    items = [_item(label, "failed", line) for label, line in shown]
    more = view.counts.get("failed", 0) - len(items)
    if items and more > 0:
        items.append(f'<div role="listitem" class="ipyremote-wide">and {more} more failed</div>')
    items.extend(_item(label, state) for label, state in view.others[:ITEMS_SHOWN])
    listed = (
        f'<div class="ipyremote-items" role="list" aria-label="refs">{"".join(items)}</div>' if items else ""
    )
    detail = "".join(detail_html(text) for text in (view.detail, view.note) if text)
    name = f"{many}: {words}"
    return box("board", view.state, name, head + bar + listed + detail)


def cluster_html(view: ClusterView) -> str:
    """Return the cluster card, which `%load_ext` shows, as HTML."""
    facts = "".join(
        f'<span class="ipyremote-facts">{escaped(name, 40)} {escaped(amount, 40)}</span>'
        for name, amount in view.facts
    )
    head = (
        head_html("<b>ipyremote</b> local cluster", view.state, None).removesuffix("</div>")
        + facts
        + "</div>"
    )
    detail = detail_html(view.detail) if view.detail else ""
    return box("cluster", view.state, f"ipyremote cluster: {view.state}", head + detail)


def numbered(html_text: str, number: int) -> str:
    """Return the HTML of a display with its number, by which a page finds the output."""
    return html_text.replace(" data-state=", f' data-view="{number}" data-state=', 1)


def escaped(text: str, limit: int) -> str:
    """Return text that is safe in HTML and its attributes: no control characters, cut at `limit` characters."""
    text = _CONTROL.sub("", _ANSI.sub("", text))
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return html.escape(text)


def seconds_text(seconds: float) -> str:
    """Return a duration for people to read: 4 ms, 1.2 s, 3 min 05 s, 2 h 04 min."""
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def bytes_text(count: float) -> str:
    """Return a size for people to read, in powers of 1024."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def box(kind: str, state: str, name: str, inner: str) -> str:
    """Return the frame that all views have around `inner`, which is HTML."""
    return (
        f'<div class="ipyremote ipyremote-{kind}" data-state="{escaped(state, 20)}" role="group" '
        f'aria-label="{escaped(name, 200)}">{_STYLE}{inner}</div><!--/ipyremote-->'
    )


def head_html(title: str, state: str, seconds: float | None) -> str:
    """Return the first line of a view: its title (HTML), its state, and the time that it has taken."""
    time = ""
    if seconds is not None:
        ticking = " data-ticking" if state == "running" else ""
        time = (
            f'<span class="ipyremote-time" data-seconds="{seconds:.3f}"{ticking}>'
            f"{seconds_text(seconds)}</span>"
        )
    word = f'<span class="ipyremote-word">{escaped(state, 20)}</span>'
    return f'<div class="ipyremote-head">{title}{word}{time}</div>'


def _label(text: str) -> str:
    return f'<span class="ipyremote-label">{escaped(text, _LABEL_LIMIT)}</span>'


def _item(label: str, state: str, line: str = "") -> str:
    """Return one ref of a board. With a line about the ref, the ref takes a row of its own."""
    wide, about = "", ""
    if line:
        wide = ' class="ipyremote-wide"'
        about = f'<span class="ipyremote-detail">{escaped(line, _DETAIL_LIMIT)}</span>'
    word = f'<span class="ipyremote-word">{escaped(state, 20)}</span>'
    return f'<div role="listitem" data-state="{escaped(state, 20)}"{wide}>{_label(label)}{word}{about}</div>'


def _failure(text: str) -> str:
    """Return a traceback folded under its last line, which names the error."""
    head, _, line = text.rpartition("\n")
    if not head:
        if len(line) <= _DETAIL_LIMIT:
            return detail_html(line)
        head = line
    head = _middle_cut(head, _TRACEBACK_LIMIT)
    shown = f"<pre>{escaped(head, _TRACEBACK_LIMIT + 100)}</pre>"
    if own := own_frames(head):
        all_of_it = f"<details><summary>with the frames of libraries</summary>{shown}</details>"
        shown = f"<pre>{escaped(own, _TRACEBACK_LIMIT + 100)}</pre>{all_of_it}"
    return f"<details open><summary>{escaped(line, _DETAIL_LIMIT)}</summary>{shown}</details>"


def _task_bar(bar: Bar) -> str:
    """Return a progress bar of a task: its name, the bar itself, and the amount done."""
    known = bar.total > 0
    share = min(max(bar.done / bar.total, 0.0), 1.0) if known else 0.0
    amount = f"{bar.done:g}/{bar.total:g}" if bar.total >= 0 else f"{bar.done:g}"
    words = f"{amount} {bar.unit}".strip() + (f" · {share:.0%}" if known else "")
    range_ = f' aria-valuemax="{bar.total:g}"' if known else ""
    part = f'<span style="width:{100 * share:.1f}%"></span>' if known else ""
    name = f'<span class="ipyremote-label">{escaped(bar.description, 60)}</span>' if bar.description else ""
    return (
        f'<div class="ipyremote-task">{name}<div class="ipyremote-bar" role="progressbar" aria-valuemin="0"'
        f'{range_} aria-valuenow="{bar.done:g}" aria-label="{escaped(bar.description or "progress", 60)}">'
        f'{part}</div><span class="ipyremote-facts">{escaped(words, 80)}</span></div>'
    )


def _said(text: str, left_out: int, running: bool) -> str:
    """Return the task's output: the last lines while the task runs, the rest folded."""
    lines = [line.rpartition("\r")[2] for line in text.rstrip("\n").replace("\r\n", "\n").split("\n")]
    shown = lines[-_LINES_SHOWN:] if running else []
    rest = lines[: len(lines) - len(shown)]
    count = len(rest) + left_out
    folded = ""
    if rest:
        note = f"… {left_out} lines before …\n" if left_out else ""
        body = escaped(_middle_cut(note + "\n".join(rest), _SAID_LIMIT), _SAID_LIMIT + 100)
        title = (
            f"{count} earlier line{'' if count == 1 else 's'} of output"
            if shown
            else (f"{count} line{'' if count == 1 else 's'} of output")
        )
        folded = f'<details data-key="said"><summary>{title}</summary><pre>{body}</pre></details>'
    last = (
        f"<pre>{escaped(_SEPARATOR.join(line[:_LINE_LIMIT] for line in shown), 2_000)}</pre>" if shown else ""
    )
    return f'<div class="ipyremote-said">{folded}{last}</div>'


def _pace(view: BoardView) -> str:
    if not view.rate or view.ended >= view.total:
        return ""
    left = (view.total - view.ended) / view.rate
    rate = f"{view.rate:.1f}" if view.rate < 10 else f"{view.rate:.0f}"
    return f" · {rate}/s · {seconds_text(max(left, 1.0)).replace('.0 s', ' s')} left"


def detail_html(text: str) -> str:
    """Return a sentence as HTML."""
    return f'<div class="ipyremote-detail">{escaped(text, _DETAIL_LIMIT)}</div>'


def _facts(preview: Preview) -> str:
    if preview.type == "NoneType":
        return '<span class="ipyremote-facts">None</span>'
    facts = [preview.type, preview.shape, preview.dtype]
    if preview.size is not None:
        facts.append(bytes_text(preview.size))
    shown = " · ".join(escaped(fact, _LABEL_LIMIT) for fact in facts if fact)
    return f'<span class="ipyremote-facts">{shown}</span>' if shown else ""


def _preview(preview: Preview) -> str:
    if preview.type == "NoneType":
        return ""
    if preview.html and len(preview.html) <= _HTML_LIMIT:
        return f'<div class="ipyremote-table">{preview.html}</div>'
    if preview.text:
        return f"<pre>{escaped(preview.text, _REPR_LIMIT)}</pre>"
    return detail_html(f"no preview: {preview.problem}") if preview.problem else ""


def _middle_cut(text: str, limit: int) -> str:
    """Return the text without its middle if it is too long: the ends of a traceback matter most."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 3]}\n… {len(text) - limit} characters left out …\n{text[-2 * limit // 3 :]}"
