"""One cell of a scenario's matrix: run it, or continue it, and leave its files behind."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from fedsec.environment import environment
from fedsec.errors import InputError
from fedsec.federation.example_privacy import UNPAID
from fedsec.federation.rounds import RoundResult
from fedsec.federation.selection.participation import Participation
from fedsec.federation.updates import Federation
from fedsec.metrics.durability import durability
from fedsec.metrics.metric import described
from fedsec.privacy import Ledger
from fedsec.runs.cell_files import CellFiles
from fedsec.runs.detection import Exclusions, worst_class_mix
from fedsec.runs.experiment import Experiment, build_experiment, finite
from fedsec.runs.outcomes.attack_report import attack_report
from fedsec.runs.outcomes.client_tests import ClientOutcomes, in_line
from fedsec.runs.provenance import provenance
from fedsec.runs.recorded import CellRecorder, reaches
from fedsec.runs.round_summary import in_short, leakage, models_refused, reported, secure_sums
from fedsec.runs.sharded.experiment import sharded_experiment
from fedsec.runs.shared_updates import SharedUpdates
from fedsec.runs.store import Store
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig
from fedsec.scenario.shared_training import is_shared

OnRound = Callable[[int, int, Mapping[str, float | None]], None]
"""Called after a round with its number, the number of rounds, and what was measured (None each where nothing was)."""
CHECKPOINT_SHARE = 20
"""A checkpoint is written when training since the last one took this many times as long as writing it."""


def cell_experiment(config: CellConfig, settings: TaskSettings, made_with: Mapping[str, str]) -> Experiment:
    """Build a cell's experiment, its local training shared with other cells where that is possible.

    Shared training runs on one thread, whatever the cell's number: independent clients fill the cores.
    """
    if settings.actors > 1:
        return sharded_experiment(config, settings, alone=is_shared(config))
    build = partial(
        build_experiment,
        config,
        device=torch.device(settings.device),
        memory_gib=settings.memory_gib,
        folder=settings.root,
    )
    if not is_shared(config):
        return build(threads=settings.threads)
    torch.set_num_threads(1)
    shared = SharedUpdates(Store(settings.root).shared, config, settings.device, made_with, keep=settings.keep)
    experiment = build(threads=1, local_updates=shared)
    federation = experiment.federation
    assert isinstance(federation, Federation)

    shared.attach(federation.train, experiment.threat)
    return experiment


def run_cell(
    config: CellConfig,
    axes: dict[str, str],
    settings: TaskSettings,
    on_round: OnRound,
    *,
    made_with: Mapping[str, str] | None = None,
    origin: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    on_begin: Callable[[int], None] = lambda number: None,
) -> dict[str, Any]:
    """Run one cell to its end, from its last checkpoint if there is one.

    Args:
        config: the resolved configuration.
        axes: the cell's place in the matrix, for the record.
        settings: where and how.
        on_round: called after each round, see `OnRound`.
        made_with: what its numbers depend on beside the configuration; found out if it is not given.
        origin: id of a finished cell that differs in having fewer rounds only, to go on from.
        say: called with what the reader should know, such as why an interrupted cell begins anew.
        on_begin: called before the first round here, with the number of rounds that were done before.

    Returns:
        The record that is also written to `result.json`.

    Raises:
        FedsecError: the cell cannot be run, with a message for the user.
    """
    store = Store(settings.root)
    files = store.cell(config.id)
    made_with = provenance(config, settings.device) if made_with is None else made_with
    checkpoint = files.checkpoint(made_with, keep=settings.keep, say=say)
    if checkpoint is None and origin is not None:
        checkpoint = store.cell(origin).checkpoint(made_with, keep=settings.keep, say=say)
        if checkpoint is not None:
            files.adopt_pictures(store.cell(origin))
    if checkpoint is not None and settings.record is not None and not reaches(settings, config, checkpoint.round):
        say("begins anew, since its first rounds are not recorded")
        checkpoint = None
    if checkpoint is not None:
        settings = replace(settings, threads=checkpoint.threads)
    torch.set_num_threads(settings.threads)
    experiment = cell_experiment(config, settings, made_with)
    federation = experiment.federation
    curious = None
    if config.inversion is not None:
        # What draws and scores pictures takes a second to import; most workers never need it.
        from fedsec.runs.curious_server import CuriousServer

        curious = CuriousServer(config, experiment.dataset, federation, files.folder)
    audit = experiment.audit
    if audit is not None:
        audit.attach(experiment, files.folder)
    unseen = {} if audit is None else audit.state()
    history: list[dict[str, Any]] = []
    if checkpoint is not None:
        try:
            state = checkpoint.state if audit is None else audit.restore(checkpoint.state)
            federation.restore(state, checkpoint.round)
            history = checkpoint.history
            made_with = checkpoint.made_with  # of other code where that was to be kept: the next run shall know
        except InputError as error:
            say(f"begins anew: {error}")
            if audit is not None:  # it may have taken over what the federation then refused
                audit.restore(unseen)
    if not history and federation.over:
        raise InputError(f"defense: {UNPAID}")
    recorder = None
    if settings.record is not None:
        recorder = CellRecorder.of(settings, config, axes, experiment, len(history), say)
    files.begin(config, settings, made_with)
    _write_partition(files, experiment)
    rows = federation.exchange.note() if isinstance(federation, Federation) else ""
    if rows:
        say(rows)
    on_begin(len(history))
    last_save, save_cost = time.perf_counter(), 0.0
    with closing(federation), files.open_log(history) as log:
        primary = described(federation.metric_names[0])
        # Of a finished round only what the record needs: with a thousand clients its line takes 80 kB of memory.
        exclusions, outcomes = Exclusions(history), ClientOutcomes(primary, history)
        participation = Participation(federation.num_clients, experiment.threat, history)
        history = [in_short(line, primary) for line in history]
        before = time.perf_counter()
        for result in federation.run():
            now = time.perf_counter()
            line = _line(result, now - before, primary.name)
            if curious is not None:
                line["leakage"] = curious.take(result.round)
            if recorder is not None:
                recorder.take(result)
            if audit is not None:
                audit.after(result)
            before = now
            history.append(in_short(line, primary))
            exclusions.add(line)
            outcomes.add(line)
            participation.add(line)
            log.append(line)
            on_round(result.round, federation.rounds, _finite(result.metrics))
            if (
                result.round < federation.rounds
                and not result.diverged
                and now - last_save >= CHECKPOINT_SHARE * save_cost
            ):
                files.save_checkpoint(log, _state(experiment), settings, made_with)
                last_save = time.perf_counter()
                save_cost = last_save - now
        # More rounds go on from here, but for what ended early or was one round, trained client by client.
        goes_on = federation.round == federation.rounds and not (federation.diverged or is_shared(config))
        if goes_on:
            files.save_checkpoint(log, _state(experiment), settings, made_with)
    if recorder is not None:
        recorder.close()
    shared = federation.local_updates if isinstance(federation, Federation) else None
    if isinstance(shared, SharedUpdates):
        made_with = {**made_with, **shared.kept_from}
    counted = exclusions, outcomes, participation
    record = {**_record(experiment, axes, history, *counted, settings), "goes_on": goes_on}
    return files.finish(record, federation.weights(), made_with)


def _state(experiment: Experiment) -> dict[str, Tensor]:
    """Of the federation and of who audits it."""
    audited = {} if experiment.audit is None else experiment.audit.state()
    return {**experiment.federation.state(), **audited}


def _finite(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """As JSON can hold it: what is no finite number becomes None."""
    return {name: None if value is None else finite(value) for name, value in values.items()}


def _line(result: RoundResult, seconds: float, primary: str) -> dict[str, Any]:
    """A round as `rounds.jsonl` keeps it: its metrics by name, then who took part and what it cost."""
    return {
        "round": result.round,
        "evaluated": result.evaluated,
        **({"diverged": True} if result.diverged else {}),
        **_finite(result.metrics),
        **{
            name: None if values is None else [finite(value) for value in values]
            for name, values in result.per_class.items()
        },
        **({} if result.time is None else {"simulated_seconds": result.time}),
        "clients": list(result.clients),
        "byzantine_in_round": list(result.byzantine),
        "rejected": list(result.rejected),
        "influence": [round(value, _decimals(len(result.clients))) for value in result.influence],
        "dropped": list(result.dropped),
        **({} if result.refused is None else {"refused": {str(key): why for key, why in result.refused.items()}}),
        f"client_{primary}": None if result.client_values is None else list(result.client_values),
        **in_line(result),
        "cost": None if result.cost is None else asdict(result.cost),
        **({} if result.attacker_flops is None else {"attacker_flops": result.attacker_flops}),
        **_spent(result),
        **_of_aggregation(result),
        **({"attack": reported(result.attack)} if result.attack else {}),
        **({} if result.secure_sums is None else {"secure_sums": dict(result.secure_sums)}),
        "seconds": round(seconds, 4),
    }


def _decimals(clients: int) -> int:
    """Of an influence: one more for each tenth that a client has less of the whole, from a thousand clients on."""
    return 6 + max(0, len(str(clients)) - 3)


def _of_aggregation(result: RoundResult) -> dict[str, Any]:
    """What the server's rule says of a round, where it says anything."""
    said = {
        "suspected": None if result.suspected is None else list(result.suspected),
        "withstands": result.withstands,
        "broken": result.broken or None,
        "aggregation_seconds": result.aggregation_seconds and round(result.aggregation_seconds, 6),
    }
    return {name: value for name, value in said.items() if value is not None}


def _spent(result: RoundResult) -> dict[str, Any]:
    """What was spent of privacy so far, where something claims any; an infinite epsilon is no number in JSON."""
    spending: dict[str, Any] = {}
    if result.epsilon is not None:
        spending |= {"epsilon": finite(result.epsilon), "spent": list(result.spent)}
    if result.user_epsilon is not None:
        spending["user_epsilon"] = finite(result.user_epsilon)
    return spending


def _guarantees(experiment: Experiment) -> list[dict[str, Any]]:
    """Epsilon, delta, unit and accountant of every claim of the run, and the noisy steps that it follows from."""
    federation = experiment.federation
    if not isinstance(federation, Federation):
        return []
    ledgers: list[tuple[str, Ledger]] = []
    if federation.privacy is not None:
        ledgers.append(("example", federation.privacy.ledger))
    if federation.releases is not None:
        ledgers.append(("client", federation.releases.ledger))
    claims = []
    for unit, ledger in ledgers:
        epsilon = ledger.maximum()
        steps = [asdict(spending) for spending in ledger.largest_spending]
        claims.append({"unit": unit, **asdict(epsilon), "value": finite(epsilon.value), "steps": steps})
    return claims


def _uneven(config: CellConfig) -> bool:
    """Whether clients need not be as likely to take part as each other."""
    return config.federation.selection is not None or bool(config.federation.traits.get("by_arrival"))


def _record(
    experiment: Experiment,
    axes: dict[str, str],
    history: list[dict[str, Any]],
    exclusions: Exclusions,
    outcomes: ClientOutcomes,
    participation: Participation,
    settings: TaskSettings,
) -> dict[str, Any]:
    federation = experiment.federation
    primary = described(federation.metric_names[0])
    evaluated = [line for line in history if line["evaluated"]]
    last = evaluated[-1]
    recent = [line[primary.name] for line in evaluated[-5:]]
    shares = [line["byzantine_influence"] for line in history]
    conclusion = None if experiment.audit is None else experiment.audit.conclude()
    majorities = [line["round"] for line in history if line["byzantine_majority"]]
    return {
        "id": experiment.config.id,
        "cell": axes,
        "status": "done",
        "metrics": {
            **{name: last[name] for name in (*federation.metric_names, *federation.per_class_names)},
            primary.worst_of_last.name: None if None in recent else primary.worst(recent),
            primary.worst_client.name: last["worst_client"],
            **outcomes.metrics(),
            "byzantine_influence": sum(shares) / len(shares),
            "diverged_in_round": next((line["round"] for line in history if line.get("diverged")), None),
            "rejected_updates": sum(line["num_rejected"] for line in history),
            "rounds_with_byzantine_majority": len(majorities) if experiment.threat.num_byzantine else 0,
            **_worst_class_mix(experiment, last),
            **(participation.metrics() if _uneven(experiment.config) else {}),
            **{name: last[name] for name in ("simulated_seconds",) if name in last},
            **models_refused(history),
            **_of_rules(history, exclusions),
            **_costs(history),
            **_effort(history),
            **durability(history, experiment.threat.schedule.until),
            **{name: last[name] for name in ("epsilon", "user_epsilon") if name in last},
            **leakage(history),
            **({} if conclusion is None else conclusion.metrics),
        },
        **({} if conclusion is None else {"audit": dict(conclusion.record)}),
        "primary_metric": primary.name,
        "metric_rows": _rows(experiment),
        "constant_answer": federation.evaluator.constant_answer(),
        "error": None,
        "privacy": _guarantees(experiment),
        **({"secure_sums": sums} if (sums := secure_sums(history)) else {}),
        **({"attack_report": report} if (report := attack_report(experiment, history)) else {}),
        "seconds": round(sum(line["seconds"] for line in history), 3),
        "byzantine": sorted(experiment.threat.fixed),
        **({"participation": participation.by_client()} if _uneven(experiment.config) else {}),
        **({"exclusions": by_client} if (by_client := exclusions.by_client()) else {}),
        **outcomes.in_record(),
        **federation.conclusion(),
        "parameters": experiment.federation.num_parameters,
        "engine": federation.engine,
        **({"rows": rows} if isinstance(federation, Federation) and (rows := federation.exchange.note()) else {}),
        "dataset_source": experiment.dataset.source,
        "config": experiment.config.model_dump(mode="json"),
        "environment": environment(settings.device, settings.threads),
    }


def _worst_class_mix(experiment: Experiment, last: Mapping[str, Any]) -> dict[str, float | None]:
    """The accuracy of a global model for the honest client that it serves worst; nothing for other models and tasks."""
    recall = last.get("per_class_accuracy")
    if recall is None or last["worst_client"] is not None:
        return {}
    byzantine = sorted(experiment.threat.fixed)
    return {"accuracy_worst_class_mix": worst_class_mix(recall, experiment.counts, byzantine)}


def _of_rules(history: list[dict[str, Any]], exclusions: Exclusions) -> dict[str, float | None]:
    """What the server's rule did over the rounds; nothing where nothing is aggregated."""
    seconds = [line["aggregation_seconds"] for line in history if "aggregation_seconds" in line]
    if not seconds:
        return {}
    return {
        **exclusions.metrics(),
        "rounds_with_broken_condition": sum("broken" in line for line in history),
        "rounds_with_too_many_byzantine": sum(line["too_many_byzantine"] for line in history),
        "aggregation_seconds": fmean(seconds),
    }


def _rows(experiment: Experiment) -> dict[str, Any]:
    """What is to be known of metrics that the table has no row for."""
    evaluator = experiment.federation.evaluator
    return {name: measure.described(name).as_json() for name, measure in evaluator.measures.items()}


def _costs(history: list[dict[str, Any]]) -> dict[str, float | None]:
    """What a round costs a client, on average over the rounds."""
    costs = [line["cost"] for line in history if line["cost"] is not None]
    names = {"upload_bytes": "upload_bytes", "download_bytes": "download_bytes", "edge_flops": "flops"}
    return {name: fmean(cost[key] for cost in costs) if costs else None for name, key in names.items()}


def _effort(history: list[dict[str, Any]]) -> dict[str, float]:
    """What an attacker spends in a round in which it attacks, on average; nothing where attackers do not train."""
    spent = [line["attacker_flops"] for line in history if "attacker_flops" in line]
    return {"attacker_flops": fmean(spent)} if spent else {}


def _write_partition(files: CellFiles, experiment: Experiment) -> None:
    files.write_partition(
        {
            "counts": experiment.counts,
            "classes": list(experiment.strata),
            "partition": experiment.config.partition.model_dump(mode="json"),
            "seed": experiment.config.data_seed,
            "byzantine": sorted(experiment.threat.fixed),
        }
    )
