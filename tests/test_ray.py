"""The executor `ray` on clusters of this machine: the same results, and a node that dies in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.executors import HarnessAddress, Needs
from blemore_harness.running import calls
from blemore_harness.systems.plugins import load_plugins
from blemore_scale.ray_cluster import RayCluster
from cluster_cases import Case, opened_case, wait_until
from isolated_runs import alive, files_of, timeless

pytestmark = [pytest.mark.slow, pytest.mark.encoders]  # with all extras, among them `ray`

NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray takes its switch for macOS and Windows: addresses are those of loopback.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        if os.environ.get("CI"):
            import ray
        else:
            ray = pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **NODE})
        try:
            yield found
        finally:
            ray.shutdown()
            found.shutdown()


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with opened_case(tmp_path) as opened:
        yield opened


def test_a_node_that_dies_in_the_middle_loses_nothing(
    cluster: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RayCluster, "idle_seconds", 1.0)
    plain, folder = case.evaluate("stepping,quick", "plain")
    node = cluster.add_node(num_cpus=1, **NODE)
    cluster.wait_for_nodes()
    (raylet,) = (each.process.pid for each in node.all_processes["raylet"])
    died = []

    def end_node(process: int) -> None:
        """Kill the node of this worker, once there is a worker on each; the other node has the cluster's memory."""
        wait_until(lambda: all((case.hold / f"arrived-{part}").exists() for part in ("0", "1")))
        if f"RAY_RAYLET_PID={raylet}" in Path(f"/proc/{process}/environ").read_text().split("\0"):
            cluster.remove_node(node, allow_graceful=False)
            wait_until(lambda: not alive(process))
            died.append(process)

    with case.disturbing({"0": end_node, "1": end_node}):
        record, elsewhere = case.evaluate("stepping,quick", "ray", "ray", {"address": cluster.address})
    assert record["status"] == "finished", record["systems"]
    assert len(died) == 1
    assert files_of(folder.parent) == files_of(elsewhere.parent)
    assert timeless(record["systems"]) == timeless(plain["systems"])
    assert (elsewhere / "submission.zip").read_bytes() == (folder / "submission.zip").read_bytes()
    repeated = [line for line in set(case.epochs()) if case.epochs().count(line) > 1]
    assert repeated in (["0 2"], ["1 2"]), "the epoch in which the node died, and no other"
    assert [said for said in case.reporter.said if "was lost: Ray actor" in str(said)]
    assert not [path.name for path in (elsewhere / "workers").iterdir() if path.suffix != ".log"]


def test_an_actor_that_fails_is_reported_with_its_log(
    cluster: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TRIES", 0)
    record, _ = case.evaluate("ending,quick", "ray", "ray", {"address": cluster.address, "parallel": "1"})
    states = {row["name"]: row for row in record["systems"]}
    message = states["ending"]["error"]["message"]
    assert "the worker ended with exit code 7; its last line: this is the last line (log: " in message
    assert Path(message.rpartition("(log: ")[2].rstrip(")")).is_file()
    assert states["quick"]["status"] == "finished"


def test_what_cannot_be_used_is_refused(cluster: Any, tmp_path: Path) -> None:
    plugins = load_plugins()
    with pytest.raises(UnknownName, match="adress"):
        plugins.open_executor("ray", {"adress": "auto"})
    with pytest.raises(ConfigError, match=r"parallel.*'0'"):
        plugins.open_executor("ray", {"parallel": "0"})
    executor = plugins.open_executor("ray", {"address": cluster.address})
    executor.folder = tmp_path / "workers"
    wanted = Needs("s4d fold-1", "s4d", "video", 1, 1, 2**30)
    with pytest.raises(ConfigError, match="no machine of the cluster has a GPU"):
        executor.start([wanted], [HarnessAddress("127.0.0.1", 1, b"key", "token")])
    executor.close()
