"""The session directory: it is private, gets its name locked, is removed as a whole, and swept when nobody holds it."""

import fcntl
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ipyremote.store import directory as directory_module
from ipyremote.store.directory import SessionDirectory, choose_base, sweep
from tests.support.sources import ROOT


@pytest.fixture
def made(tmp_path):
    session = SessionDirectory.create(1 << 20, tmp_path)
    yield session
    session.remove()


def run(code, *args, pass_fds=()):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=ROOT,
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_new_directory_is_private_and_its_socket_path_is_short(made):
    assert re.fullmatch(r"ipyremote-[0-9a-f]{12}", made.path.name)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((made.path / "lock").stat().st_mode) == 0o600
    assert made.socket_path == made.path / "s"


def test_a_directory_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0o277)
    try:
        session = SessionDirectory.create(1, tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(session.path.stat().st_mode) == 0o700
    session.remove()


def test_remove_removes_every_file_and_is_idempotent(tmp_path):
    session = SessionDirectory.create(1, tmp_path)
    (session.path / "sub").mkdir()
    (session.path / "sub" / "file").write_bytes(b"x")
    session.remove()
    session.remove()
    assert list(tmp_path.iterdir()) == []
    assert session.lock_fd is None


def test_remove_finishes_a_removal_that_another_process_began(tmp_path):
    session = SessionDirectory.create(1, tmp_path)
    os.rename(session.path, tmp_path / f".{session.path.name}")
    session.remove()
    assert list(tmp_path.iterdir()) == []


def test_remove_wins_against_a_writer(tmp_path):
    session = SessionDirectory.create(1, tmp_path)
    stop = threading.Event()

    def write():
        count = 0
        while not stop.is_set():
            count += 1
            try:
                (session.path / f"seg-9-{count}").write_bytes(b"x")
            except OSError:
                return

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    session.remove()
    stop.set()
    for writer in writers:
        writer.join(10)
    assert list(tmp_path.iterdir()) == []


def test_attach_refuses_links_and_open_directories(made, tmp_path):
    assert SessionDirectory.attach(made.path).lock_fd is None
    link = tmp_path / "link"
    link.symlink_to(made.path)
    with pytest.raises(PermissionError, match="link"):
        SessionDirectory.attach(link)
    made.path.chmod(0o755)
    with pytest.raises(PermissionError, match="mode is 755"):
        SessionDirectory.attach(made.path)
    made.path.chmod(0o700)


def test_attach_refuses_the_directory_of_another_user(made, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="belongs to user"):
        SessionDirectory.attach(made.path)


def test_sweep_leaves_held_directories_and_takes_free_ones(made, tmp_path):
    free = SessionDirectory.create(1, tmp_path)
    free.close()
    (free.path / "seg-1-1").write_bytes(b"x")
    other = tmp_path / "ipyremote-of-somebody"
    other.mkdir()
    assert sweep([tmp_path, tmp_path / "missing"]) == [free.path]
    assert made.path.is_dir()
    assert other.is_dir()


def test_sweep_takes_a_directory_that_a_removal_left_without_its_lock_file(tmp_path):
    session = SessionDirectory.create(1, tmp_path)
    session.close()
    (session.path / "lock").unlink()
    assert sweep([tmp_path]) == [session.path]


def test_sweep_leaves_links_and_directories_under_construction(tmp_path):
    young = tmp_path / ".ipyremote-0123456789ab"
    young.mkdir()
    (tmp_path / "ipyremote-0123456789ab").symlink_to(young)
    assert sweep([tmp_path]) == []
    os.utime(young, (0, 0))
    assert sweep([tmp_path]) == [young]


def test_sweep_leaves_the_directories_of_other_users(tmp_path, monkeypatch):
    session = SessionDirectory.create(1, tmp_path)
    session.close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert sweep([tmp_path]) == []
    monkeypatch.undo()
    session.remove()


def test_creating_survives_a_sweeper_at_the_worst_moment(tmp_path, monkeypatch):
    taken: list[int] = []
    open_lock = directory_module._open_lock

    def open_and_lose(path, *, create):
        fd = open_lock(path, create=create)
        if create and not taken:
            # A sweeper takes the lock between our open and our flock.
            taken.append(os.open(path / "lock", os.O_RDWR))
            fcntl.flock(taken[0], fcntl.LOCK_EX)
        return fd

    monkeypatch.setattr(directory_module, "_open_lock", open_and_lose)
    session = SessionDirectory.create(1, tmp_path)
    assert session.path.is_dir()
    os.close(taken[0])
    assert len(sweep([tmp_path])) == 1
    session.remove()
    assert list(tmp_path.iterdir()) == []


def test_creating_and_sweeping_at_once_loses_nothing(tmp_path):
    stop = threading.Event()

    def sweep_on():
        while not stop.is_set():
            sweep([tmp_path])

    sweeper = threading.Thread(target=sweep_on)
    sweeper.start()
    try:
        sessions = [SessionDirectory.create(1, tmp_path) for _ in range(100)]
        missing = [session.path for session in sessions if not session.path.is_dir()]
    finally:
        stop.set()
        sweeper.join(10)
    assert missing == []
    for session in sessions:
        session.remove()
    sweep([tmp_path])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_the_lock_does_not_pass_to_other_programs_by_itself(tmp_path):
    session = SessionDirectory.create(1, tmp_path)
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    try:
        # Popen may return before exec has closed all descriptors.
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"up\n"
        session.close()
        assert sweep([tmp_path]) == [session.path]
    finally:
        sleeper.communicate(timeout=10)


@pytest.mark.processes
def test_a_program_that_adopts_the_lock_keeps_the_directory(tmp_path):
    session = SessionDirectory.create(1, tmp_path)
    code = (
        "import sys; from pathlib import Path; from ipyremote.store.directory import SessionDirectory\n"
        "held = SessionDirectory.adopt(Path(sys.argv[1]), int(sys.argv[2]))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    assert session.lock_fd is not None
    keeper = subprocess.Popen(
        [sys.executable, "-c", code, str(session.path), str(session.lock_fd)],
        cwd=ROOT,
        pass_fds=(session.lock_fd,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        session.close()
        assert sweep([tmp_path]) == []
        assert session.path.is_dir()
    finally:
        keeper.communicate(timeout=10)
    assert sweep([tmp_path]) == [session.path]


@pytest.mark.processes
def test_a_killed_owner_frees_the_directory(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from ipyremote.store.directory import SessionDirectory\n"
        "print(SessionDirectory.create(1, Path(sys.argv[1])).path, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    result = run(code, tmp_path)
    assert sweep([tmp_path]) == [Path(result.stdout.strip())]


def test_shared_memory_is_the_base_when_there_is_enough(monkeypatch):
    monkeypatch.setattr(directory_module, "_SHARED_MEMORY", Path("/tmp"))
    monkeypatch.setattr(directory_module, "shm_free", lambda path: 64 << 20)
    assert choose_base(32 << 20) == (Path("/tmp"), None)
    base, warning = choose_base(4 << 30)
    assert warning is not None
    assert "Only 64 MiB of shared memory" in warning
    assert str(base) in warning
    monkeypatch.setattr(directory_module, "shm_free", lambda path: 2 << 30)
    assert choose_base(4 << 30) == (Path("/tmp"), None)


def test_a_long_temporary_directory_is_avoided(monkeypatch):
    monkeypatch.setattr(directory_module, "shm_free", lambda path: 0)
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/" + "x" * 90)
    assert choose_base(1 << 20)[0] == Path("/tmp")
