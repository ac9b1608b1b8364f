"""Who trains when, and whose updates arrive first: a simulated clock, which depends on nothing that is trained."""

from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil
from typing import Literal

import numpy as np

from fedsec.seeds import Streams

Durations = Literal["constant", "lognormal", "half_normal"]
"""Of one training: one second each; exp(spread z), z drawn once a client, as devices differ; |spread z|, z drawn anew
for each training, as in FedBuff's simulations."""


@dataclass(frozen=True, order=True)
class Flight:
    """A client that received a model and trains.

    Attributes:
        finish: when its update arrives, in simulated seconds.
        client: its number; of two that arrive together the smaller comes first.
        version: how many steps the server had made when it sent the model.
        slot: where the model is remembered.
    """

    finish: float
    client: int
    version: int
    slot: int


@dataclass(frozen=True)
class BufferedStep:
    """What one step of the server is made of.

    Attributes:
        flights: whose updates it takes, by client.
        time: when it is made, in simulated seconds.
    """

    flights: tuple[Flight, ...]
    time: float


class Arrivals:
    """A simulation that begins anew in every process and goes as far as it is asked.

    Nobody trains twice at a time, and whose update waits in the buffer is not asked again before the step.

    Args:
        num_clients: of the federation.
        buffer: updates for a step.
        concurrency: clients that train at a time.
        streams: the experiment's.
        durations: see `Durations`.
        spread: of the durations.
        at_once: whether another client is asked whenever an update arrives, or only after steps.
        fast: clients that are so many times as fast as others.
        speed: how many times.
    """

    def __init__(
        self,
        num_clients: int,
        buffer: int,
        concurrency: int,
        streams: Streams,
        *,
        durations: Durations = "lognormal",
        spread: float = 1.0,
        at_once: bool = True,
        fast: frozenset[int] = frozenset(),
        speed: float = 1.0,
    ) -> None:
        self.num_clients, self.buffer, self.concurrency = num_clients, buffer, concurrency
        self.durations, self.spread, self.at_once, self.fast, self.speed = durations, spread, at_once, fast, speed
        self.slots = min(num_clients, concurrency + buffer - 1)
        self._of_clients = streams.numpy("async", "speeds").standard_normal(num_clients)
        self._who, self._how_long = streams.numpy("async", "clients"), streams.numpy("async", "durations")
        self._steps: list[BufferedStep] = []
        self._begun: list[list[Flight]] = [[]]
        self._flying: list[Flight] = []
        self._waiting: list[Flight] = []
        self._free = list(range(self.slots))
        self._time = 0.0
        self._fill()

    def step(self, number: int) -> BufferedStep:
        """The `number`-th step of the server, from 1."""
        while len(self._steps) < number:
            self._advance()
        return self._steps[number - 1]

    def begun(self, version: int) -> list[Flight]:
        """Those who receive the model that the server has after so many steps, up to the next step.

        Args:
            version: the number of steps.
        """
        self.step(version + 1)
        return self._begun[version]

    def _advance(self) -> None:
        while len(self._waiting) < self.buffer:
            flight = heappop(self._flying)
            self._time = flight.finish
            self._waiting.append(flight)
            if self.at_once and len(self._waiting) < self.buffer:
                self._fill()
        self._steps.append(BufferedStep(tuple(sorted(self._waiting, key=lambda flight: flight.client)), self._time))
        for flight in self._waiting:
            heappush(self._free, flight.slot)
        self._waiting = []
        self._begun.append([])
        self._fill()

    def _fill(self) -> None:
        busy = {flight.client for flight in (*self._flying, *self._waiting)}
        idle = [client for client in range(self.num_clients) if client not in busy]
        while len(self._flying) < self.concurrency and idle:
            client = idle.pop(int(self._who.integers(len(idle))))
            flight = Flight(self._time + self._duration(client), client, len(self._steps), heappop(self._free))
            heappush(self._flying, flight)
            self._begun[-1].append(flight)

    def _duration(self, client: int) -> float:
        if self.durations == "constant":
            duration = 1.0
        elif self.durations == "lognormal":
            duration = float(np.exp(self.spread * self._of_clients[client]))
        else:
            duration = abs(self.spread * float(self._how_long.standard_normal()))
        return duration / self.speed if client in self.fast else duration


DRAWS, STEPS = 10, 20
"""Clocks, and steps of each, over which the Byzantine clients of a buffer are counted where a defense is to be told."""


def expected_fast(
    num_clients: int,
    buffer: int,
    num_fast: int,
    speed: float,
    *,
    concurrency: int | None = None,
    durations: Durations = "lognormal",
    spread: float = 1.0,
    at_once: bool = True,
) -> int:
    """How many of a step's updates come from clients of another speed on average, rounded up.

    Averaged over clocks of seeds of their own, so that all cells that differ in their seed alone are told the same.

    Args:
        num_clients: of the federation.
        buffer: updates for a step.
        num_fast: clients of the other speed.
        speed: how many times as fast as others they are.
        concurrency: see `Arrivals`; None for all clients.
        durations: see `Arrivals`.
        spread: see `Arrivals`.
        at_once: see `Arrivals`.
    """
    total = 0
    for number in range(1, DRAWS + 1):
        streams = Streams(number)
        fast = frozenset(streams.numpy("attack", "clients").permutation(num_clients)[:num_fast].tolist())
        arrivals = Arrivals(
            num_clients,
            buffer,
            concurrency or num_clients,
            streams,
            durations=durations,
            spread=spread,
            at_once=at_once,
            fast=fast,
            speed=speed,
        )
        total += sum(flight.client in fast for step in range(1, STEPS + 1) for flight in arrivals.step(step).flights)
    return ceil(total / (DRAWS * STEPS) - 1e-9)
