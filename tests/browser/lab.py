"""A real JupyterLab or Notebook 7 in a real browser: a separate server, and a page that tests use as a user does.

`Server` is the server's process; `Lab` is one notebook open in one page. Both applications are made of the same parts,
so commands go through their common command registry. Menus change from version to version, so the tests click no menus.
Assertions are about the DOM.

Rules. The server keeps its settings, workspaces, runtime files and notebooks in one temporary directory; no file of the
user is read. Each wait has a deadline. Cells are counted from 0, Markdown cells included.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import nbformat
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.support.sources import ROOT
from tests.support.waiting import until

__all__ = ["APPS", "CHROMIUM_FLAGS", "App", "Lab", "Server", "chromium", "notebook", "serving"]

App = Literal["lab", "notebook"]

ARTIFACTS = Path(__file__).parent / "artifacts"

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

#: Arguments that start each application, and make it visible to the page's JavaScript as `jupyterapp`.
_COMMANDS: Final[Mapping[App, tuple[str, ...]]] = {
    "lab": ("jupyterlab", "--LabApp.expose_app_in_browser=True", "--LabApp.collaborative=False"),
    "notebook": ("notebook", "--JupyterNotebookApp.expose_app_in_browser=True"),
}
#: Path of the page that opens a notebook in each application.
_PAGES: Final[Mapping[App, str]] = {"lab": "lab/tree/{name}?reset&", "notebook": "notebooks/{name}?"}
APPS: Final = tuple(_COMMANDS)

#: Settings by plugin: no plugin uses the network, and each cell is in the page even if out of sight.
SETTINGS: Mapping[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/extensionmanager-extension/plugin": {"enabled": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


def chromium() -> str | None:
    """Return the path of this machine's browser, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


def notebook(path: Path, sources: Iterable[str]) -> Path:
    """Write a notebook of code cells that have not been run, and return its path."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    return path


class Server:
    """A JupyterLab (or Notebook) process on a free port of this machine, with its own token."""

    def __init__(self, home: Path, app: App = "lab") -> None:
        self.app: App = app
        self.notebooks = home / "notebooks"
        self.notebooks.mkdir()
        self._runtime = home / "runtime"
        self.token = secrets.token_hex(16)
        self.url = ""
        self._log = (home / "server.log").open("wb")
        for plugin, values in SETTINGS.items():
            file = home / "settings" / f"{plugin}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", *_COMMANDS[app], "--no-browser", "--allow-root"),
                *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={self.notebooks}"),
            ],
            env=self._environment(home),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            **os.environ,
            "JUPYTER_TOKEN": self.token,
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._runtime),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "IPYTHONDIR": str(home / "ipython"),
            # The kernels use the same ipyremote as the tests, installed or not.
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }

    def wait(self) -> None:
        """Wait until the server answers. The text of a failure has the server's log."""
        until(self._started, f"jupyter {self.app} has started", 60, pause=0.05)

    def address(self, name: str) -> str:
        """Return the address of a notebook's page."""
        return f"{self.url}/{_PAGES[self.app].format(name=name)}token={self.token}"

    def _started(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        for file in self._runtime.glob("jpserver-*.json"):
            try:
                self.url = json.loads(file.read_text())["url"].rstrip("/")
            except ValueError:
                return False  # the file is only half written
        return bool(self.url)

    def stop(self) -> None:
        """End the server and its kernels, by force if they do not end in time."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                try:
                    self._process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    continue
        self._log.close()


def serving(home: Path, app: App = "lab") -> Iterator[Server]:
    """Run the server of an application while a fixture lives."""
    server = Server(home, app)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


class Lab:
    """One notebook that is open in one page."""

    def __init__(self, server: Server, profile: BrowserContext) -> None:
        self._server = server
        self.app: App = server.app
        self.page: Page = profile.new_page()
        self.page.set_viewport_size({"width": 1200, "height": 1400})
        self.page.set_default_timeout(30_000)
        self.name = ""

    def close(self) -> None:
        """Close the page and end its kernel."""
        if self.name:
            self._app("app.serviceManager.sessions.shutdownAll()")
        self.page.close()

    def clear(self) -> None:
        """Close the notebook and end its kernel. JupyterLab, which is slow to load, stays for the next notebook."""
        if self.name:
            self._app("app.serviceManager.sessions.shutdownAll()")
            self._app("[...app.shell.widgets('main')].forEach((each) => each.dispose())")
            self.page.wait_for_function("document.querySelectorAll('.jp-Notebook').length === 0")
            self.name = ""

    # ---- the notebook

    def open(self, path: Path) -> None:
        """Copy a notebook to the server and open it, with a fresh kernel that is ready."""
        if path.parent != self._server.notebooks:
            shutil.copy(path, self._server.notebooks / path.name)
        self.name = path.name
        if self.app == "lab" and self.page.evaluate("window.jupyterapp !== undefined"):
            self._app(f"app.commands.execute('docmanager:open', {{path: {json.dumps(self.name)}}})")
            self._wait()
        else:
            self._goto()

    def leave(self) -> None:
        """Go to a page without a notebook; the kernel continues."""
        self.page.goto("about:blank")

    def reopen(self) -> None:
        """Load the page again, as after closing the browser; the kernel continues."""
        self._goto()

    def _goto(self) -> None:
        self.page.goto(self._server.address(self.name))
        self._wait()

    def _wait(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.wait_idle()

    def new_kernel(self) -> None:
        """End the kernel and reopen the file with a new kernel, as on another day."""
        self._app("app.serviceManager.sessions.shutdownAll()")
        self._goto()

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook, and return the content of the file."""
        self._command("docmanager:save")
        content: nbformat.NotebookNode = nbformat.read(self._server.notebooks / self.name, as_version=4)
        return content

    # ---- running

    def run_all(self, *, wait: bool = True, within: float = 90.0) -> None:
        """Run each cell."""
        self._command("notebook:run-all-cells", wait=False)
        if wait:
            self.wait_run(within=within)

    def run(self, index: int, *, wait: bool = True, within: float = 60.0) -> None:
        """Run one cell."""
        self._app(f"(panel.content.deselectAll(), panel.content.activeCellIndex = {index})")
        self._command("notebook:run-cell", wait=False)
        if wait:
            self.wait_run(index, within=within)

    def wait_run(self, index: int | None = None, within: float = 60.0) -> None:
        """Wait until no cell, or not the given cell, waits or runs any more."""
        prompts = self.page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt")
        if index is not None:
            prompts = self.cell(index).locator(".jp-InputPrompt")
        expect(prompts.filter(has_text=re.compile(r"\[\*\]"))).to_have_count(0, timeout=within * 1000)
        self.wait_idle(within)

    def wait_idle(self, within: float = 60.0) -> None:
        """Wait until the kernel is idle."""
        self.page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=within * 1000,
        )

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self._command("notebook:interrupt-kernel")

    def restart(self) -> None:
        """Restart the kernel without the confirmation that the menu shows."""
        self._app("panel.sessionContext.session.kernel.restart()")
        self.wait_idle()

    # ---- looking

    def cell(self, index: int) -> Locator:
        """Return a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """Return the output area of a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def text(self, index: int) -> str:
        """Return the text of a cell's output area."""
        return self.output(index).inner_text()

    def wait_text(self, index: int, text: str | re.Pattern[str], within: float = 20.0) -> None:
        """Wait until a cell's output contains this text."""
        expect(self.output(index)).to_contain_text(text, timeout=within * 1000)

    def refs(self, index: int, state: str | None = None) -> Locator:
        """Return the refs that a cell shows, or only the refs in one state."""
        wanted = f'[data-state="{state}"]' if state else ""
        return self.output(index).locator(f".ipyremote-ref{wanted}")

    def errors(self) -> list[str]:
        """Return the text of each traceback and of each piece of stderr in the notebook."""
        kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        selector = ", ".join(f'.jp-OutputArea-output[data-mime-type="{kind}"]' for kind in kinds)
        return self.page.locator(selector).all_inner_texts()

    def set_theme(self, theme: Literal["Light", "Dark"]) -> None:
        """Change the colours of the page, and wait until they have changed."""
        self._app(f"app.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        light = json.dumps(str(theme == "Light").lower())
        self.page.wait_for_function(f"document.body.dataset.jpThemeLight === {light}")

    def screenshot(self, name: str) -> Path:
        """Save a picture of the page in `tests/browser/artifacts`, and return its path."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}.png"
        self.page.screenshot(path=path)
        return path

    # ---- the application's own API

    def _command(self, name: str, *, wait: bool = True) -> None:
        call = f"app.commands.execute({json.dumps(name)})"
        self._app(call if wait else f"void {call}")

    def _app(self, expression: str) -> None:
        """Evaluate JavaScript with `app` and the current `panel`, and wait for its promise; discard its value."""
        self.page.evaluate(
            "async () => { const app = window.jupyterapp; const panel = app.shell.currentWidget;"
            f" await ({expression}); }}"
        )
