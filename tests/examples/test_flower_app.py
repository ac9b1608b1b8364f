"""The Flower app: started by `flwr run` in simulation, and deployed on this machine's loopback.

Flower's processes start each other and outlive those that started them. All of them are given a FLWR_HOME of their own,
by which they are found and ended, whatever happened.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsec[flower]'")

from fedsec.attacks import LabelFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import Federation, Threat
from fedsec.federation.algorithms import FedAvg
from fedsec.seeds import Streams

APP = Path(__file__).parents[2] / "examples" / "flower_app"
ROUNDS, LOCAL_STEPS = 2, 50
PATIENCE = 600
"""Seconds after which a run is given up; on a quiet machine it takes a small part of them."""

pytestmark = pytest.mark.timeout(2 * PATIENCE)


@dataclass
class Home:
    """A place for everything that Flower writes, and the processes that it starts."""

    folder: Path
    environment: dict[str, str] = field(init=False)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        quiet = {
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        scripts = str(Path(sys.executable).parent)
        own = {"FLWR_HOME": str(self.folder / "flwr"), "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
        self.environment = {**os.environ, **quiet, **own, "PATH": path, "OMP_NUM_THREADS": "1"}

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def processes(self) -> list[int]:
        """Whoever has this home, however it was started."""
        mark = f"FLWR_HOME={self.folder / 'flwr'}".encode()
        pids = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    pids.append(int(entry.name))
            except OSError:
                continue
        return pids

    def end(self) -> None:
        for _ in range(50):
            if not (pids := self.processes()):
                break
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        for process in self.started:
            process.wait()

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in self.folder.glob("*.log")
        )

    def superlink(self, *options: str) -> int:
        """Start a SuperLink, to which `flwr run` then connects; gives its port, once it listens there."""
        port = free_port()
        (self.folder / "flwr" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        command = ("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port), *options)
        process = self.start("superlink", *command)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < PATIENCE:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.1)
        pytest.fail(f"no SuperLink\n{self.logs()}")

    def report(self, *federation: str, nodes: int, flippers: int, rule: str) -> dict[str, list[float]]:
        """What a run of the app writes."""
        path = self.folder / "report.json"
        path.unlink(missing_ok=True)
        values = {"rounds": ROUNDS, "nodes": nodes, "flippers": flippers, "local-steps": LOCAL_STEPS, "rule": rule}
        said = " ".join(f"{key}={json.dumps(value)}" for key, value in {**values, "report": str(path)}.items())
        run = self.start("run", "flwr", "run", str(APP), "here", "--stream", "--run-config", said, *federation)
        begun = time.monotonic()
        while run.poll() is None and not path.exists() and time.monotonic() - begun < PATIENCE:
            time.sleep(0.1)
        time.sleep(0.2)  # written, not only begun
        if not path.exists():
            pytest.fail(f"no report after {time.monotonic() - begun:.0f} s\n{self.logs()}")
        report: dict[str, list[float]] = json.loads(path.read_text())
        assert len(report["mean_instead"]) == ROUNDS, f"nobody was heard in some round\n{self.logs()}"
        return report


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def home() -> Iterator[Home]:
    with TemporaryDirectory(prefix="fl") as folder:  # Ray's sockets need a short path
        home = Home(Path(folder))
        (home.folder / "flwr").mkdir()
        try:
            yield home
        finally:
            home.end()
        assert not home.processes()


def test_deployed_on_loopback_the_median_holds(home: Home) -> None:
    nodes, flippers = 3, 1  # each takes three processes
    port = home.superlink()
    for partition in range(nodes):
        told = ("--node-config", f"partition-id={partition} num-partitions={nodes}")
        here = ("--host", "127.0.0.1", "--port", str(free_port()))
        link = ("--insecure", "--superlink", f"127.0.0.1:{port}")
        home.start(f"node{partition}", "flower-supernode", *link, *here, *told)
    report = home.report(nodes=nodes, flippers=flippers, rule="median")
    assert len(report["accuracy"]) == 1 + ROUNDS
    assert report["accuracy"][-1] >= 0.85
    assert report["accuracy"][-1] == pytest.approx(by_our_engine(Median(), nodes, flippers), abs=0.08)


def test_in_simulation_the_mean_collapses(home: Home) -> None:
    nodes, flippers = 5, 2
    home.superlink("--simulation")  # `flwr run` would start one, and gives it fifteen seconds
    options = f"num-supernodes={nodes} client-resources-num-cpus=1 init-args-num-cpus=2"
    report = home.report("--federation-config", options, nodes=nodes, flippers=flippers, rule="mean")
    assert report["accuracy"][-1] <= 0.6
    assert by_our_engine(Mean(), nodes, flippers) <= 0.6
    assert report["mean_instead"] == pytest.approx(report["accuracy"][1:], abs=0.01)  # by count, and all alike


def by_our_engine(rule: Any, nodes: int, flippers: int) -> float:
    """What fedsec's own engine gives with the same split, model and local training; batches are others."""
    task = app_task()
    images, labels = task.load_data(test=False)
    test_images, test_labels = task.load_data(test=True)
    owners = task.owners(nodes)
    parts = [np.flatnonzero(owners == partition) for partition in range(nodes)]
    train = Split((images[:, None] * 255).round().to(torch.uint8), labels)
    test = Split((test_images[:, None] * 255).round().to(torch.uint8), test_labels)
    data = ResidentData.build(train, parts, Normalization((0.0,), (1.0,)), torch.device("cpu"))
    local = LocalTraining(steps=LOCAL_STEPS, batch_size=task.BATCH_SIZE, lr=task.LR, momentum=task.MOMENTUM)
    model = task.make_model()
    federation = Federation(
        model,
        CohortTrainer(model, data),
        test,
        algorithm=FedAvg(local=local),
        aggregator=rule,
        rounds=ROUNDS,
        num_classes=10,
        threat=Threat(frozenset(range(flippers)), LabelFlip()),
        streams=Streams(0),
    )
    accuracy = [result.metrics["accuracy"] for result in federation.run()][-1]
    assert accuracy is not None
    return accuracy


def app_task() -> Any:
    """The app's own task, found where Flower finds it."""
    sys.path.insert(0, str(APP))
    try:
        import flower_app.task as task  # type: ignore[import-not-found, unused-ignore]
    finally:
        sys.path.remove(str(APP))
    return task
