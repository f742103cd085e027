"""Limits of both cgroup versions, read from directory trees created by the tests."""

from pathlib import Path

import pytest

from mlx_suite.runtime import container


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(container, "CGROUP_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(container, "PROC_CGROUP", tmp_path / "self")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_cgroups_there_is_no_limit(root: Path) -> None:
    assert container.memory_limit() is None
    assert container.cpu_quota() is None
    assert container.usable_cores() >= 1


def test_version_2_uses_the_lowest_limit_of_the_group_and_its_parents(root: Path) -> None:
    write(root / "self", "0::/batch/7\n")
    write(root / "cgroup/batch/7/memory.max", "max\n")
    write(root / "cgroup/batch/memory.max", "4000000000\n")
    write(root / "cgroup/batch/7/cpu.max", "150000 100000\n")
    write(root / "cgroup/batch/cpu.max", "max 100000\n")

    assert container.memory_limit() == 4_000_000_000
    assert container.cpu_quota() == 1.5


def test_version_1_reads_the_tree_of_each_controller(root: Path) -> None:
    write(root / "self", "5:memory:/job\n3:cpu,cpuacct:/job\n")
    write(root / "cgroup/memory/job/memory.limit_in_bytes", "2000000000\n")
    write(root / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(root / "cgroup/cpu/job/cpu.cfs_quota_us", "50000\n")
    write(root / "cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    write(root / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(root / "cgroup/cpu/cpu.cfs_period_us", "100000\n")

    assert container.memory_limit() == 2_000_000_000
    assert container.cpu_quota() == 0.5
    assert container.usable_cores() == 1


def test_with_the_hosts_path_the_containers_root_is_used(root: Path) -> None:
    write(root / "self", "0::/kubepods/pod1/abc\n")
    write(root / "cgroup/memory.max", "1000000000\n")

    assert container.memory_limit() == 1_000_000_000


def test_unreadable_numbers_count_as_no_limit(root: Path) -> None:
    write(root / "self", "nonsense\n0::/\n")
    write(root / "cgroup/memory.max", "lots\n")
    write(root / "cgroup/cpu.max", "\n")

    assert container.memory_limit() is None
    assert container.cpu_quota() is None


@pytest.mark.parametrize(
    ("rank", "hosts", "here"),
    [
        ("0", '[["127.0.0.1:5000"], ["127.0.0.1:5001"]]', 2),
        ("2", '[["10.0.0.1:5000", "10.0.0.1:5001"], ["10.0.0.1:5002"], ["10.0.0.2:5000"]]', 1),
        ("1", '[["10.0.0.1:5000"], ["10.0.0.1:5002"], ["10.0.0.2:5000"]]', 2),
        ("7", '[["127.0.0.1:5000"], ["127.0.0.1:5001"]]', 1),
        ("0", "no list", 1),
        ("0", "[[]]", 1),
        ("0", '{"hosts": 2}', 1),
    ],
)
def test_processes_of_one_launch_are_counted_per_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, hosts: str, here: int
) -> None:
    (tmp_path / "hosts.json").write_text(hosts)
    monkeypatch.setenv("MLX_HOSTFILE", str(tmp_path / "hosts.json"))
    monkeypatch.setenv("MLX_RANK", rank)
    assert container.processes_here() == here


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLX_HOSTFILE", raising=False)
    assert container.processes_here() == 1


def test_processes_that_we_start_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_SUITE_PROCESSES", "3")
    assert container.processes_here() == 3
    monkeypatch.setenv("MLX_SUITE_PROCESSES", "many")
    assert container.processes_here() == 1
