"""What is said of an address before Ray is asked, and of a Ray that is not there."""

import os
import socket
import sys

import pytest

from fedsec.cluster import Connection, Node, require_ray
from fedsec.errors import InputError


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "expected auto, local, or host:port"),
        ("head", "expected auto, local, or host:port"),
        ("head:0", "expected auto, local, or host:port"),
        ("head:66000", "expected auto, local, or host:port"),
        ("head:6379:1", "expected auto, local, or host:port"),
        ("ray://head:10001", "ray job submit"),
        ("http://head:8265", "ray job submit"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_started(address: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Connection(address)


def test_a_head_that_does_not_answer_is_named_at_once() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=f"Ray at {address}: nobody answers"), Connection(address):
            pass


def test_a_missing_ray_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "fedsec\[ray\]"'), Connection():
        pass


def test_statistics_are_off_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs Ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    require_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_node_has_what_ray_may_give_away_of_it() -> None:
    record = {
        "NodeID": "0123456789ab",
        "NodeManagerHostname": "worker-1",
        "NodeManagerAddress": "10.0.0.7",
        "Resources": {"CPU": 4.0, "memory": 2.0**33, "node:10.0.0.7": 1.0},
    }
    node = Node.of(record)
    assert (node.cpus, node.gpus, node.memory) == (4, 0, 2**33)
    assert str(node) == "worker-1 (10.0.0.7, node 01234567)"
