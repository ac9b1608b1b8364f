"""`fedsec.replay`: other rules and attacks on what a server received, round by round."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from rich.console import Console
from torch import Tensor

from fedsec.errors import InputError, count_of
from fedsec.recording import RecordedRound, Recording, open_recording
from fedsec.recording.round_file import ClientId
from fedsec.replays.methods import attack_of, candidates_of
from fedsec.replays.models import Judge, ModelSource, TestSet, dataset_test, given_test, model_of
from fedsec.replays.movers import ClientPart, client_parts, weighted_mean
from fedsec.replays.trials import RuleStep, RuleTrial
from fedsec.report.console import default_console
from fedsec.report.progress_lines import tracked
from fedsec.seeds import Streams

__all__ = ["ONE_STEP", "Replay", "RoundReplay", "chosen_rounds", "replay"]

ONE_STEP = (
    "Each round starts from the model that was recorded: what another rule would have done is one step of its own, and "
    "what clients would have sent after it nobody knows."
)


@dataclass(frozen=True)
class RoundReplay:
    """One round in hindsight.

    Attributes:
        round: its number.
        step: where the step comes from that others are compared with: `recorded`, or the weighted `mean` where the next
            model is not known.
        norm: length of that step.
        clients: who moved it, in the order of the round's clients.
        rules: what each rule would have done, the mean first.
        attacked: the same with forged rows; empty without an attack.
        byzantine: whose rows were forged.
        attack: what the attack has to say of the round.
        metrics: of the model after this round, as the loop told them.
    """

    round: int
    step: str
    norm: float
    clients: tuple[ClientPart, ...]
    rules: tuple[RuleStep, ...]
    attacked: tuple[RuleStep, ...] = ()
    byzantine: tuple[ClientId, ...] = ()
    attack: Mapping[str, float | str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **vars(self),
            "clients": [part.as_json() for part in self.clients],
            "rules": [rule.as_json() for rule in self.rules],
            "attacked": [rule.as_json() for rule in self.attacked],
            "byzantine": list(self.byzantine),
            "attack": dict(self.attack),
            "metrics": dict(self.metrics),
        }


@dataclass(frozen=True, eq=False)
class Replay:
    """What a recording tells.

    Attributes:
        recording: that was replayed.
        rounds: in order.
        attack: how tables call what was forged; nothing without an attack.
        remarks: what a reader should know, one line each.
    """

    recording: Recording
    rounds: tuple[RoundReplay, ...]
    attack: str = ""
    remarks: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """What `fedsec replay` prints, for notebooks."""
        from fedsec.replays.tables import as_text
        from fedsec.report.notebook import text_html

        return text_html(as_text(self))

    def __repr__(self) -> str:
        """Of what, and how much of it."""
        rules = ", ".join(rule.defense for rule in self.rounds[0].rules) if self.rounds else ""
        return f"Replay({self.recording.folder}: {count_of(len(self.rounds), 'round')} with {rules})"

    def as_json(self) -> dict[str, Any]:
        """Plain data: what `fedsec replay --json` prints."""
        manifest = self.recording.manifest
        return {
            "recording": str(self.recording.folder),
            "holds": manifest.holds,
            "num_parameters": self.recording.num_parameters,
            "num_clients": manifest.num_clients,
            "made_with": dict(manifest.made_with),
            "attack": self.attack or None,
            "remarks": list(self.remarks),
            "rounds": [one.as_json() for one in self.rounds],
        }


def replay(
    recording: Recording | Path | str,
    *,
    defense: Any = (),
    attack: Any = None,
    byzantine: Collection[ClientId] | None = None,
    num_byzantine: int | None = None,
    rounds: str | Collection[int] | None = None,
    model: ModelSource = None,
    model_options: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    test: TestSet | str | None = None,
    seed: int | None = None,
    console: Console | None = None,
) -> Replay:
    """Who moved the model in each recorded round, and what other rules, or attackers, would have made of it.

        rules = ["median", {"name": "krum", "num_byzantine": 2}]
        outcome = fedsec.replay("seen", defense=rules, model=net, test=(x, y))
        outcome.rounds[0].clients[3].share, outcome.rounds[0].rules[1].suspected

    Every round starts from the model that was recorded. What another rule would have done is therefore one step of its
    own: clients after it would have sent something else, which nobody knows. Rules that remember see the replayed
    rounds in order.

    Args:
        recording: its folder, or opened already.
        defense: what to try: names, mappings such as {"name": "krum", "num_byzantine": 2}, rules, or a list of these;
            a list within the list is one pipeline.
        attack: forges the rows of `byzantine` as it would have in their place: a name, a mapping or an attack on
            updates. Their recorded rows are what they would have sent honestly.
        byzantine: ids of the attackers. By default the first `num_byzantine` clients of the recording, in order.
        num_byzantine: how many attackers there are, and what rules that want a number are told where none is given. By
            default as many as `byzantine` names, or as the recording knows of.
        rounds: "3-7", "1,4", or numbers; all by default.
        model: whose parameters were recorded: a module, a name of fedsec's, or `package.module:factory` (whose code
            this runs). By default what the recording says, where that is a name of fedsec's: a recording, which may
            come from anybody, does not choose what code runs.
        model_options: of one of fedsec's models.
        input_shape: of one input, for models that are made.
        num_classes: of the model, likewise.
        test: what next models are measured by: a function of a model that gives metrics by name; inputs, as the model
            takes them, and their targets; or the name of a dataset of fedsec's.
        seed: of rules and attacks that draw random numbers; by default the recorded run's own, or 0.
        console: where to show how far it is; by default in a notebook only.

    Raises:
        InputError: something unknown or contradictory, or a file of the recording is missing, cut or changed.
    """
    recording = recording if isinstance(recording, Recording) else open_recording(recording)
    numbers = chosen_rounds(recording, rounds)
    attackers = _attackers(recording, attack, byzantine, num_byzantine)
    assumed = num_byzantine if num_byzantine is not None else len(attackers) or _known_byzantine(recording)
    candidates = candidates_of(_listed(defense), recording, assumed)
    named_attack, forging = ("", None) if attack is None else attack_of(attack)
    judge = _judge(recording, model, model_options, input_shape, num_classes, test)
    streams, places = Streams(recording.about.get("seed", 0) if seed is None else seed), _numbered(recording)
    trials = [
        RuleTrial(candidate, recording, len(numbers), forging, attackers, streams, places) for candidate in candidates
    ]
    replayed = []
    for number in tracked(default_console(console), numbers, "round"):
        replayed.append(_replayed(recording[number], trials, attackers, judge))
    return Replay(recording, tuple(replayed), named_attack, tuple(_remarks(recording, numbers, trials, replayed)))


def _replayed(
    seen: RecordedRound, trials: Sequence[RuleTrial], attackers: frozenset[ClientId], judge: Judge | None
) -> RoundReplay:
    weights = _weights(seen)
    step = seen.step
    source = "mean" if step is None else "recorded"
    if step is None:
        step = weighted_mean(seen.updates, weights)

    def measure(of: RecordedRound, vector: Float[Tensor, "parameters"]) -> Mapping[str, float]:
        return {} if judge is None else judge(of, vector)

    outcomes = [trial.take(seen, weights, step, measure) for trial in trials]
    forged = tuple(attacked for _, attacked in outcomes if attacked is not None)
    return RoundReplay(
        seen.number,
        source,
        float(step.double().norm()),
        tuple(client_parts(seen.clients, seen.updates, weights, step, seen.byzantine)),
        tuple(clean for clean, _ in outcomes),
        forged,
        tuple(client for client in seen.clients if forged and client in attackers),
        {} if not forged else dict(trials[0].attack_report),
        dict(seen.metrics),
    )


def _weights(seen: RecordedRound) -> Float64[Tensor, "clients"]:
    weights = seen.weights
    if weights is None:
        weights = torch.ones(len(seen.clients), dtype=torch.float64)
    weights = weights / weights.max()  # whose sum is finite, whatever clients claim
    return weights / weights.sum()


def chosen_rounds(recording: Recording, rounds: str | Collection[int] | None) -> list[int]:
    """The recorded rounds that are meant, in order.

    Args:
        recording: that has them.
        rounds: "3-7", "1,4", "5-" or numbers; all by default.

    Raises:
        InputError: something else, or none of them is recorded.
    """
    if not recording.rounds:
        raise InputError(f"{recording.folder}: holds no round yet")
    if rounds is None:
        return list(recording.rounds)
    wanted = _spans(rounds, recording.rounds[-1]) if isinstance(rounds, str) else {int(number) for number in rounds}
    chosen = [number for number in recording.rounds if number in wanted]
    if not chosen:
        held = f"{recording.rounds[0]} to {recording.rounds[-1]}"
        shown = rounds if isinstance(rounds, str) else sorted(wanted)
        raise InputError(f"rounds {shown}: none of them is recorded; {recording.folder} holds {held}")
    return chosen


def _spans(text: str, last: int) -> set[int]:
    wanted: set[int] = set()
    for part in text.split(","):
        begin, dash, end = (piece.strip() for piece in part.partition("-"))
        if not begin.isdecimal() or not (end.isdecimal() or (dash and not end) or not dash):
            raise InputError(f"rounds {text!r}: expected numbers and spans such as 3-7, 1,4 or 5-")
        wanted |= set(range(int(begin), (int(end) if end else last if dash else int(begin)) + 1))
    return wanted


def _attackers(
    recording: Recording, attack: Any, byzantine: Collection[ClientId] | None, num_byzantine: int | None
) -> frozenset[ClientId]:
    if attack is None:
        if byzantine is not None:
            raise InputError("byzantine: names whose rows an attack forges; expected attack=NAME beside it")
        return frozenset()
    clients = list(_numbered(recording))
    if byzantine is not None:
        given = [_as_recorded(client, clients) for client in byzantine]
        if num_byzantine is not None and num_byzantine < 0:
            raise InputError(f"num_byzantine: expected at least 0, got {num_byzantine}")
        return frozenset(given)
    if num_byzantine is None:
        raise InputError("attack: expected byzantine=IDS of the attackers, or num_byzantine=HOW_MANY")
    if not 0 < num_byzantine < len(clients):
        raise InputError(
            f"num_byzantine: expected 1 to {len(clients) - 1} of {len(clients)} clients, got {num_byzantine}"
        )
    return frozenset(clients[:num_byzantine])


def _as_recorded(client: ClientId, clients: Sequence[ClientId]) -> ClientId:
    """An id as the recording has it: on a command line every id is text.

    Raises:
        InputError: it has none.
    """
    for known in clients:
        if known == client or str(known) == str(client):
            return known
    names = ", ".join(map(str, clients[:20])) + (", ..." if len(clients) > 20 else "")
    raise InputError(f"client {client!r} is not in the recording; its clients are {names}")


def _known_byzantine(recording: Recording) -> int | None:
    """The most Byzantine clients that a round is known to have; None where nobody said."""
    counts = [number for number in recording.known_byzantine() if number is not None]
    return max(counts) if counts else None


def _numbered(recording: Recording) -> dict[ClientId, int]:
    """A number for every client that ever took part: its id, where all of them are numbers that memories can hold."""
    clients = recording.clients()
    if all(isinstance(client, int) and -(2**63) <= client < 2**63 for client in clients):
        return {client: int(client) for client in sorted(clients, key=int)}
    return {client: place for place, client in enumerate(clients)}


def _listed(defense: Any) -> list[Any]:
    return list(defense) if isinstance(defense, list | tuple) else [defense]


def _judge(
    recording: Recording,
    model: ModelSource,
    options: Mapping[str, Any] | None,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    test: TestSet | str | None,
) -> Judge | None:
    if test is None:
        return None
    module = model_of(model, recording, options=options, input_shape=input_shape, num_classes=num_classes)
    if module is None:
        raise InputError("test: expected a model, too, whose parameters were recorded")
    return Judge(module, dataset_test(test, recording) if isinstance(test, str) else given_test(test))


def _remarks(
    recording: Recording, numbers: Sequence[int], trials: Sequence[RuleTrial], replayed: Sequence[RoundReplay]
) -> list[str]:
    remarks = [ONE_STEP]
    if any(one.step == "mean" for one in replayed):
        unknown = [one.round for one in replayed if one.step == "mean"]
        which = f"round {unknown[0]}" if len(unknown) == 1 else f"{len(unknown)} rounds"
        remarks.append(f"What the server made of {which} is not recorded: the weighted mean stands in its place.")
    for trial in trials:
        if trial.remembers and numbers[0] != recording.rounds[0]:
            remarks.append(f"{trial.label} remembers rounds, and saw none before round {numbers[0]}.")
    gaps = [later for before, later in zip(recording.rounds, recording.rounds[1:], strict=False) if later != before + 1]
    if gaps:
        remarks.append(f"Rounds are missing before {', '.join(map(str, gaps[:5]))}.")
    return remarks
