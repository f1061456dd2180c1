"""Settings: each variable with valid and wrong values, and detection of resources on simulated machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipyremote import settings
from ipyremote.settings import Settings

GIB = 1 << 30


# ---- variables


def test_settings_from_an_empty_environment_are_the_defaults() -> None:
    expected = Settings()
    assert expected == Settings.from_env({})


def test_an_empty_variable_counts_as_absent() -> None:
    names = ("NUM_WORKERS", "STATIC", "ENABLE_AUTO_CONNECT", "TASK_MAX_RETRIES", "LOG_TO_DRIVER", "TEMP_DIR")
    assert Settings() == Settings.from_env({f"IPYREMOTE_{name}": " " for name in names})


def test_each_environment_variable_is_converted_to_its_type(tmp_path: Path) -> None:
    expected = Settings(
        num_workers=3,
        static=True,
        enable_auto_connect=False,
        task_max_retries=-1,
        log_to_driver=False,
        temp_dir=tmp_path,
    )
    assert expected == Settings.from_env(
        {
            "IPYREMOTE_NUM_WORKERS": "3",
            "IPYREMOTE_STATIC": "Yes",
            "IPYREMOTE_ENABLE_AUTO_CONNECT": "0",
            "IPYREMOTE_TASK_MAX_RETRIES": "-1",
            "IPYREMOTE_LOG_TO_DRIVER": "off",
            "IPYREMOTE_TEMP_DIR": str(tmp_path),
            "XDG_RUNTIME_DIR": str(tmp_path),
        }
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IPYREMOTE_NUM_WORKERS", "0"),
        ("IPYREMOTE_NUM_WORKERS", "many"),
        ("IPYREMOTE_NUM_WORKERS", "1.5"),
        ("IPYREMOTE_NUM_WORKERS", "1_0"),
        ("IPYREMOTE_NUM_WORKERS", "\u0663"),
        ("IPYREMOTE_STATIC", "maybe"),
        ("IPYREMOTE_ENABLE_AUTO_CONNECT", "2"),
        ("IPYREMOTE_TASK_MAX_RETRIES", "-2"),
        ("IPYREMOTE_LOG_TO_DRIVER", "verbose"),
        ("IPYREMOTE_TEMP_DIR", "relative/path"),
        ("IPYREMOTE_TEMP_DIR", "/nowhere/at/all"),
    ],
)
def test_the_error_of_a_wrong_value_names_the_variable_and_the_value(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        Settings.from_env({name: value})
    assert repr(value) in str(caught.value)


def test_static_display_follows_the_environment_and_ignores_other_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IPYREMOTE_NUM_WORKERS", "nonsense")
    monkeypatch.setenv("IPYREMOTE_STATIC", "1")
    assert settings.static_display()
    monkeypatch.delenv("IPYREMOTE_STATIC")
    assert not settings.static_display()


def test_read_returns_the_settings_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYREMOTE_NUM_WORKERS", "7")
    assert settings.read().num_workers == 7


def test_the_environment_of_children_has_the_key_of_their_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    environment = settings.child_environment("abc")
    assert environment[settings.SESSION_VARIABLE] == "abc"
    assert environment["SOMETHING_ELSE"] == "kept"
    assert os.environ.get(settings.SESSION_VARIABLE) != "abc"


@pytest.mark.processes
def test_importing_settings_loads_no_heavy_module() -> None:
    program = (
        "import importlib.util, sys; before = set(sys.modules);"
        f"spec = importlib.util.spec_from_file_location('settings', {settings.__file__!r});"
        "module = importlib.util.module_from_spec(spec); sys.modules['settings'] = module;"
        "spec.loader.exec_module(module);"
        "print([name for name in ('ipyremote', 'psutil', 'numpy', 'IPython') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


# ---- made-up machines


class Machine:
    """Simulated file system with the kernel's files about control groups."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounts: list[str] = []
        self.groups: list[str] = []

    def mount(self, point: str, kind: str, options: str = "rw", shown: str = "/") -> None:
        self.mounts.append(f"36 35 0:30 {shown} {point} rw,relatime shared:9 - {kind} {kind} {options}")
        self.write("/proc/self/mountinfo", "\n".join(["22 1 0:1 / / rw - ext4 /dev/sda rw", *self.mounts]))

    def join(self, line: str) -> None:
        self.groups.append(line)
        self.write("/proc/self/cgroup", "\n".join(self.groups))

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def cpus(self, affinity: int = 64, **environ: str) -> int:
        return settings.detect_cpus(self.root, environ, affinity)

    def memory(self, total: int = 64 * GIB, **environ: str) -> int:
        return settings.detect_memory(self.root, environ, total)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def slices(machine: Machine) -> Machine:
    """Return a machine with control groups of version 2 and systemd's slices: the process is three levels down."""
    machine.mount("/sys/fs/cgroup", "cgroup2")
    machine.join("0::/user.slice/user-1000.slice/session.scope")
    return machine


@pytest.fixture
def version_1(machine: Machine) -> Machine:
    machine.mount("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    machine.mount("/sys/fs/cgroup/memory", "cgroup", "rw,memory")
    machine.join("4:memory:/jobs/mine")
    machine.join("2:cpu,cpuacct:/jobs/mine")
    return machine


def test_a_machine_without_limits_has_the_cpus_of_its_affinity_and_its_whole_memory(machine: Machine) -> None:
    assert machine.cpus(affinity=5) == 5
    assert machine.memory(total=GIB) == GIB


@pytest.mark.parametrize(
    ("limit", "expected"), [("max 100000", 64), ("250000 100000", 3), ("20000 100000", 1), ("nonsense", 64)]
)
def test_a_cpu_quota_of_version_2_is_rounded_up(slices: Machine, limit: str, expected: int) -> None:
    slices.write("/sys/fs/cgroup/user.slice/user-1000.slice/session.scope/cpu.max", limit)
    assert slices.cpus() == expected


def test_the_smallest_cpu_quota_of_all_groups_above_the_process_counts(slices: Machine) -> None:
    slices.write("/sys/fs/cgroup/user.slice/user-1000.slice/session.scope/cpu.max", "800000 100000")
    slices.write("/sys/fs/cgroup/user.slice/cpu.max", "200000 100000")
    slices.write("/sys/fs/cgroup/other.slice/cpu.max", "100000 100000")
    assert slices.cpus() == 2


def test_the_smallest_memory_limit_of_all_groups_above_the_process_counts(slices: Machine) -> None:
    slices.write("/sys/fs/cgroup/user.slice/user-1000.slice/session.scope/memory.max", "max")
    slices.write("/sys/fs/cgroup/user.slice/memory.max", str(8 * GIB))
    slices.write("/sys/fs/cgroup/user.slice/user-1000.slice/memory.high", str(4 * GIB))
    assert slices.memory() == 4 * GIB


def test_a_container_finds_its_own_control_group_at_the_mount_point(machine: Machine) -> None:
    machine.mount("/sys/fs/cgroup", "cgroup2")
    machine.join("0::/")
    machine.write("/sys/fs/cgroup/cpu.max", "150000 100000")
    machine.write("/sys/fs/cgroup/memory.max", str(2 * GIB))
    assert machine.cpus() == 2
    assert machine.memory() == 2 * GIB


def test_a_container_with_group_names_of_the_host_finds_its_group_at_the_mount_point(
    machine: Machine,
) -> None:
    machine.mount("/sys/fs/cgroup", "cgroup2", shown="/docker/4f2")
    machine.join("0::/docker/4f2/init")
    machine.write("/sys/fs/cgroup/memory.max", str(3 * GIB))
    machine.write("/sys/fs/cgroup/init/cpu.max", "100000 100000")
    assert machine.memory() == 3 * GIB
    assert machine.cpus() == 1


def test_a_control_group_outside_of_the_mounted_part_counts_as_the_mount_point(machine: Machine) -> None:
    machine.mount("/sys/fs/cgroup", "cgroup2")
    machine.join("0::/../elsewhere")
    machine.write("/sys/fs/cgroup/cpu.max", "300000 100000")
    machine.write("/sys/fs/elsewhere/cpu.max", "100000 100000")
    assert machine.cpus() == 3


def test_limits_of_control_groups_of_version_1_count(version_1: Machine) -> None:
    version_1.write("/sys/fs/cgroup/cpu,cpuacct/jobs/mine/cpu.cfs_quota_us", "-1")
    version_1.write("/sys/fs/cgroup/cpu,cpuacct/jobs/mine/cpu.cfs_period_us", "100000")
    version_1.write("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "350000")
    version_1.write("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000")
    version_1.write("/sys/fs/cgroup/memory/jobs/mine/memory.limit_in_bytes", str(GIB))
    assert version_1.cpus() == 4
    assert version_1.memory() == GIB


def test_the_huge_memory_number_of_version_1_is_no_limit(version_1: Machine) -> None:
    version_1.write("/sys/fs/cgroup/memory/jobs/mine/memory.limit_in_bytes", "9223372036854771712")
    assert version_1.memory(total=2 * GIB) == 2 * GIB


def test_a_mount_point_with_a_blank_is_found(machine: Machine) -> None:
    machine.mount("/odd\\040place", "cgroup2")
    machine.join("0::/")
    machine.write("/odd place/cpu.max", "100000 100000")
    assert machine.cpus() == 1


def test_system_files_with_wrong_contents_set_no_limits(machine: Machine) -> None:
    machine.write("/proc/self/mountinfo", "x\n - \n1 2 3 - cgroup2")
    machine.write("/proc/self/cgroup", "y\n\n:")
    assert machine.cpus(affinity=2) == 2
    assert machine.memory(total=GIB) == GIB


def test_the_limits_of_a_jupyterhub_count(slices: Machine) -> None:
    assert slices.cpus(CPU_LIMIT="1.5") == 2
    assert slices.memory(MEM_LIMIT=str(GIB)) == GIB


@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "inf", "lots"])
def test_a_wrong_limit_of_a_jupyterhub_counts_as_absent(machine: Machine, value: str) -> None:
    assert machine.cpus(affinity=3, CPU_LIMIT=value) == 3
    assert machine.memory(total=GIB, MEM_LIMIT=value) == GIB


def test_the_resources_of_this_machine_can_be_detected() -> None:
    assert 1 <= settings.detect_cpus() <= (os.cpu_count() or 1)
    assert settings.detect_memory() > 0
    assert settings.detect_gpus() >= 0
    assert settings.shm_free("/nowhere/at/all") == 0


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("2, 3", 2),
        ("0,-1,1", 1),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 1),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", 1),
        ("NoDevFiles", 0),
    ],
)
def test_visible_gpus_are_counted_as_cuda_counts_them(tmp_path: Path, visible: str, expected: int) -> None:
    (tmp_path / "proc/driver/nvidia/gpus/0000:00:04.0").mkdir(parents=True)
    assert settings.detect_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_gpus_of_the_drivers_list_are_counted_without_cuda_visible_devices(tmp_path: Path) -> None:
    assert settings.detect_gpus(tmp_path, {}) == 0
    (tmp_path / "proc/driver/nvidia/gpus/0000:00:04.0").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/gpus/0000:00:05.0").mkdir(parents=True)
    assert settings.detect_gpus(tmp_path, {}) == 2


@pytest.mark.parametrize(
    ("memory", "free", "expected"),
    [
        (10 * GIB, 8 * GIB, 3 * GIB),
        (10 * GIB, 2 * GIB, 2 * GIB),
        (10 * GIB, 64 << 20, 3 * GIB),
        (GIB, GIB, int(0.3 * GIB)),
        (1 << 20, 0, 64 << 20),
    ],
    ids=[
        "a share of the memory",
        "cut to /dev/shm",
        "too small a /dev/shm is left alone",
        "little memory",
        "floor",
    ],
)
def test_the_default_size_of_the_store_is_a_share_of_the_memory(
    memory: int, free: int, expected: int
) -> None:
    assert settings.store_capacity(memory, free) == expected
