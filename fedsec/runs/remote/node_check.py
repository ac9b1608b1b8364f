"""Before a run begins: does every node that may run its cells have what they need?"""

import json
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from fedsec.cluster.nodes import Node
from fedsec.cluster.streams import Demand, LostTaskError, TaskStreams, WrongAnswerError
from fedsec.errors import InputError
from fedsec.runs.remote.assignment import Assignment, Assignments
from fedsec.runs.remote.node_report import gpu_report, node_report

_PACKAGES = ("fedsec", "torch")
_SECONDS = 300.0
"""Until a node must have said what it has: it may have to download data."""
_LEAVES_WITHIN = 10.0
"""Seconds until a cluster knows that a node is gone."""


def check_nodes(
    streams: TaskStreams,
    assignments: Assignments,
    work: Sequence[Assignment],
    checked: set[str],
    *,
    shared_folder: bool | None = None,
) -> None:
    """Ask every node that has room for a task whether it would compute the same numbers.

    A task is marked as one whose files travel if some node does not see the run's folder.

    Args:
        streams: of the cluster.
        assignments: of the run.
        work: the tasks.
        checked: what was asked already; grows.
        shared_folder: whether nodes see the run's folder; None: they are asked.

    Raises:
        InputError: some would not, or cannot run anything; one line for each node and each thing that it lacks.
    """
    nodes = [node for node in streams.nodes() if any(assignment.demand.places(node) for assignment in work)]
    questions = _questions(work)
    expected = {package: metadata.version(package) for package in _PACKAGES}
    demand = Demand(gpus=work[0].demand.gpus)
    open_reports = {}
    for node in nodes:
        unasked = [content for key, content in questions.items() if f"{node.id} {key}" not in checked]
        if unasked:
            arguments = expected, assignments.marks, unasked, assignments.directory
            open_reports[streams.start(node_report, *arguments, demand=demand, node=node, by_value=True)] = node
    reports = _answers(streams, open_reports)
    problems = [f"{node}: {problem}" for node, report in reports for problem in report["problems"]]
    blind = [node for node, report in reports if not report["sees"][0]]
    for place, folder in enumerate(assignments.folders):
        if shared_folder or place > 0:  # recordings do not travel
            problems += [f"{node}: does not see {folder}" for node, report in reports if not report["sees"][place]]
    if problems:
        raise InputError("nodes of the Ray cluster lack what the run needs\n" + "\n".join(problems))
    checked |= {f"{node.id} {key}" for node in nodes for key in questions}
    if shared_folder is False or (blind and not shared_folder):
        assignments.carry = True
    for assignment in work:
        assignment.carry = assignments.carry


def gpu_name(streams: TaskStreams, demand: Demand) -> str:
    """The name of the GPU that a task with this demand is given, on whatever node.

    Raises:
        InputError: no node has one, or they differ, as numbers would.
    """
    nodes = [node for node in streams.nodes() if demand.places(node)]
    if not nodes:
        raise InputError(f"no node of the Ray cluster has {demand}; use --device cpu, or start nodes with GPUs")
    names = _answers(
        streams, {streams.start(gpu_report, demand=demand, node=node, by_value=True): node for node in nodes}
    )
    if len({name for _, name in names}) > 1 or not names[0][1]:
        listed = "; ".join(f"{node}: {name or 'PyTorch finds none'}" for node, name in names)
        raise InputError(f"expected nodes with one kind of GPU, since numbers depend on it, got {listed}")
    return str(names[0][1])


def _questions(work: Sequence[Assignment]) -> dict[str, dict[str, Any]]:
    """One task of kind `look` for all that differ in nothing that a node could lack."""
    questions = {}
    for assignment in work:
        task = assignment.task
        key = json.dumps([task.made_with, task.config.get("dataset")], sort_keys=True)
        if key not in questions:
            questions[key] = {**task.to_json(), "kind": "look"}
    return questions


def _answers(streams: TaskStreams, open_reports: dict[Any, Node]) -> list[tuple[Node, Any]]:
    """What each node said, in their order; nothing of one that has left the cluster since it was listed.

    Raises:
        InputError: one could not, or all have left.
    """
    answers: dict[str, Any] = {}
    left = dict(open_reports)
    while left:
        ready = streams.wait(list(left), _SECONDS)
        if not ready:
            streams.cancel(list(left))
            raise InputError(f"no answer from {', '.join(map(str, left.values()))} within {_SECONDS:g} s")
        for stream in ready:
            node = left.pop(stream)
            try:
                answers[node.id] = streams.take(stream)
            except (LostTaskError, WrongAnswerError) as error:
                if isinstance(error, LostTaskError) and _has_left(streams, node):
                    continue
                streams.cancel(list(left))
                raise InputError(f"{node}: cannot run anything of fedsec ({error})") from error
    if open_reports and not answers:
        raise InputError(f"{', '.join(map(str, open_reports.values()))}: left the cluster when asked what they have")
    return [(node, answers[node.id]) for node in open_reports.values() if node.id in answers]


def _has_left(streams: TaskStreams, node: Node) -> bool:
    """Whether a node that did not answer is gone: the cluster hears of its end some seconds later."""
    latest = time.monotonic() + _LEAVES_WITHIN
    while any(other.id == node.id for other in streams.nodes()):
        if time.monotonic() > latest:
            return False
        time.sleep(0.2)
    return True
