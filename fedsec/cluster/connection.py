"""Finding a Ray cluster, or starting one on this machine, without its noise and without anything sent home."""

import logging
import os
import re
import socket
import warnings
from types import TracebackType
from typing import Any, Self

from fedsec.errors import InputError

AUTO, LOCAL = "auto", "local"
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s\[\]]+):(?P<port>\d{1,5})")
_UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
"""Whether Ray, under `uv run`, copies the working folder, runs and all, to every node and calls uv there."""
_PATIENCE = 5.0
"""Seconds until a cluster's head must have answered."""
_OBJECT_STORE = 200 * 2**20
"""Bytes of shared memory for objects on a cluster of our own: it has one machine, whose files all workers see."""


def require_ray() -> Any:
    """The module `ray`, set so that nothing goes to a usage-statistics service.

    Raises:
        InputError: it is not installed.
    """
    # Read when Ray is imported, and by what it starts.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault(_UV, "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f'Ray is not installed ({error}); expected it from pip install "fedsec[ray]", here and on every node'
        ) from error
    if os.environ[_UV] in ("0", "false", "False"):  # which Ray, if it was imported before, has not read
        setattr(ray._private.ray_constants, _UV, False)
    return ray


class Connection:
    """A connection to a Ray cluster for as long as it is entered; a context manager.

    One that the process has already (`ray.init`, with a runtime environment of your own, say) is used and left alone.

    Args:
        address: `host:port` of a cluster's head; `auto`: the cluster that `RAY_ADDRESS` names or that runs on this
            machine, or else one of our own on this machine; `local`: one of our own in any case.
        cores: CPUs of a cluster of our own; all that there are by default.

    Attributes:
        started: whether the cluster is our own; it ends with the connection.

    Raises:
        InputError: the address is none.
    """

    def __init__(self, address: str = AUTO, *, cores: int | None = None) -> None:
        self.address, self.cores, self.started = check_address(address), cores, False
        self._entered = False

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            InputError: Ray is not installed, there is no such cluster, or it runs other versions.
        """
        ray = require_ray()
        if ray.is_initialized():
            self._check_same(ray.get_runtime_context().gcs_address)
            return self
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about GPUs of tasks that ask for none
            self._init(ray)
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, and end the cluster if it is our own."""
        if self._entered:
            require_ray().shutdown()
            self._entered = False

    def _init(self, ray: Any) -> None:
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        address = self.address
        if address == AUTO and (announced := os.environ.get("RAY_ADDRESS")):
            address = check_address(announced)
        if address not in (AUTO, LOCAL):
            _reach(address)
        try:
            if address == AUTO:
                try:
                    ray.init(address=AUTO, **quiet)
                except ConnectionError:
                    address = LOCAL
            if address == LOCAL:
                store = {"object_store_memory": _OBJECT_STORE, "include_dashboard": False}
                ray.init(address=LOCAL, num_cpus=self.cores, **store, **quiet)
                self.started = True
            elif address != AUTO:
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise InputError(f"Ray at {address}: {_one_line(error)}") from error

    def _check_same(self, present: str) -> None:
        if self.address not in (AUTO, LOCAL, present):
            raise InputError(
                f"Ray at {self.address}: this process is connected to the cluster at {present} already; expected that "
                "address, or auto"
            )


def check_address(address: str) -> str:
    """An address, if it can be one.

    Raises:
        InputError: it cannot; the text says what would do.
    """
    address = address.strip()
    if address in (AUTO, LOCAL):
        return address
    if "://" in address:
        raise InputError(
            f"Ray at {address}: clients of a cluster cannot watch its tasks; expected host:port of its head or auto, "
            "on a machine of the cluster (from elsewhere: ray job submit --address http://HEAD:8265 -- fedsec run ...)"
        )
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 2**16:
        raise InputError(f"Ray at {address!r}: expected auto, local, or host:port of a cluster's head")
    return address


def _reach(address: str) -> None:
    """Refuse at once what Ray would wait for.

    Raises:
        InputError: nobody answers there.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise InputError(
            f"Ray at {address}: nobody answers there ({_one_line(error)}); expected the address that "
            "`ray start --head` printed, or auto"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
