"""Building every part of a scenario once, before the run: what only a constructor or two parts together can tell."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.wording import Problem
from fedsec.scenario.config import CellConfig
from fedsec.scenario.federation_config import ServerModelConfig
from fedsec.scenario.named_sections import NamedSection
from fedsec.scenario.reader import KeyPath
from fedsec.scenario.refusals import refusals
from fedsec.scenario.scenario import Scenario, origin
from fedsec.scenario.threat_config import NO_ATTACK, DefenseConfig

if TYPE_CHECKING:
    from fedsec.defense import Aggregator

FAILURES = (ArithmeticError, RuntimeError, TypeError, ValueError)
"""What constructors and networks raise about options and shapes."""
_MOST_WEIGHTS = 10**8


def check_scenario(scenario: Scenario) -> None:
    """Build every attack, defense, partition, algorithm and model of a scenario once, without data.

    This finds what the annotations of a constructor cannot say, such as a trimmed mean that would trim everybody.

    Raises:
        ScenarioError: something cannot be built; one line for each mistake.
    """
    seen: set[str] = set()
    problems: list[Problem] = []
    refused = refusals(scenario.cells())
    for cell in scenario.cells():
        if cell.id in refused:
            if len(refused) == len(scenario.cells()):
                problems.append((origin(cell.draft, ("defense",)), refused[cell.id]))
            continue
        for path, key, build in _parts(cell.config):
            if (once := json.dumps([path, key], default=str)) in seen:
                continue
            seen.add(once)
            try:
                more = build()
            except FAILURES as error:
                more = [((), " ".join(str(error).split()))]
            if isinstance(more, list):
                problems += [(origin(cell.draft, (*path, *where)), message) for where, message in more]
    if refusal := scenario.source.error(problems):
        raise refusal


def _measure(name: str) -> object:
    """A metric of one's own; it is built without arguments."""
    return registry.load("metric", name)()


def _parts(config: CellConfig) -> Iterator[tuple[KeyPath, Any, Callable[[], Any]]]:
    """(key path, what it depends on, how to build it) of everything that a cell is made of."""
    content = config.model_dump(mode="json")
    if config.attack.name != NO_ATTACK:
        yield ("attack",), content["attack"], partial(_build, "attack", config.attack)
    if config.inversion is not None:
        yield ("inversion",), content["inversion"], partial(_build, "inversion", config.inversion)
    yield ("partition",), content["partition"], partial(_build, "partition", config.partition)
    for place, name in enumerate(config.metrics):
        yield ("metrics", place), name, partial(_measure, name)
    data = [config.dataset.name, config.dataset.options]
    yield ("dataset",), data, partial(_source, config)
    networks = [content["model"], *data, config.federation.server is not None]
    yield ("model",), networks, partial(_fitting_model, config)
    if (server := config.federation.server) is not None:
        yield (
            ("federation", "server", "model"),
            [networks, content["federation"]["server"]["model"]],
            partial(_server_model, config, server.model),
        )
        for index, part in enumerate(config.defense):
            yield ("defense", index), content["defense"][index], partial(_build, "defense", part)
        yield ("defense",), content["defense"], partial(_together, config.defense)
        parts = [content["federation"], content["attack"]]
        yield (), [*parts, config.partition.clients], partial(_guarded, config)
        return
    for index, part in enumerate(config.defense):
        where, key = ("defense", index), content["defense"][index]
        yield where, key, partial(_build, "defense", part)
        if part.role == "rule":
            run = [config.pooled, config.partition.clients, config.cohort, config.federation.rounds]
            yield where, [key, run], partial(_accountable, config, part)
        if part.role == "rule" and _varies(config) and config.federation.broken_condition == "stop":
            drawn = [config.heard, config.partition.clients, config.cohort, config.federation.rounds, config.seed]
            chosen = [content["federation"]["selection"], content["attack"]]
            yield where, [key, drawn, chosen], partial(_smallest_round, config)
    yield ("federation",), content["federation"], partial(_mistakes_of_the_algorithm, config)
    yield ("federation",), [networks, content["federation"]], partial(_fitting_algorithm, config)
    if config.federation.traits["exchanges"] == "activations":
        yield ("defense",), [content["defense"], content["dataset"]], partial(_of_so_many_classes, config)
    parts = [content[section] for section in ("defense", "federation", "attack")]
    yield (), [*parts, config.partition.clients], partial(_guarded, config)
    if config.federation.graph is not None:
        yield (), [*parts, config.partition.clients, config.seed], partial(_neighborly, config)
    if any(part.role == "update" for part in config.defense):
        yield ("defense",), [content["defense"], networks], partial(_defensible, config)
    for index, part in enumerate(config.defense):
        if part.role == "local":
            yield ("defense", index), [networks, "private"], partial(_independent, config)


def _build(kind: str, part: NamedSection) -> Any:
    return registry.load(kind, part.name)(**part.options)


def rule_of(config: CellConfig) -> "Aggregator":
    """By which the server aggregates."""
    from fedsec.scenario.server_rule import server_rule

    return server_rule([_build("defense", part) for part in config.defense])


def bound_of(config: CellConfig, cohort: int) -> int:
    """How many Byzantine clients of a cohort the server withstands."""
    return rule_of(config).max_rejected(cohort)


def _varies(config: CellConfig) -> bool:
    """Whether chance decides how many clients take part in a round."""
    poisson = config.federation.sampling == "poisson" and config.cohort < config.partition.clients
    selection = config.federation.selection
    return poisson or (selection is not None and selection.name == "availability")


def _smallest_round(config: CellConfig) -> None:
    """Check the server's rule against the fewest clients that a round draws; without any, no rule is asked."""
    from fedsec.scenario.participation.rounds import drawn_clients

    try:
        bound_of(config, config.heard)
    except FAILURES:
        return  # complained about already
    clients, selection = config.partition.clients, config.federation.selection
    try:
        sizes = [
            (size, number)
            for number in range(1, config.federation.rounds + 1)
            if (size := len(drawn_clients(config, number) or ()))
        ]
    except FAILURES:
        return  # of the selection, and complained about already
    size, number = min(sizes, default=(config.heard, 0))
    try:
        bound_of(config, config.heard_of(size))
    except FAILURES as error:
        how = "Poisson sampling" if selection is None else selection.name
        raise InputError(
            f"{how} draws {size} of {clients} clients in round {number} with seed {config.seed}: {error}"
        ) from error


def _accountable(config: CellConfig, part: DefenseConfig) -> None:
    """Let a rule that is private for whole clients find the noise of its run."""
    from fedsec.defense import PrivateAggregator
    from fedsec.federation.user_privacy import Releases

    try:
        rule = _build("defense", part)
    except FAILURES:
        return  # complained about already
    if isinstance(rule, PrivateAggregator):
        Releases.of_rule(
            rule, 1 if config.pooled else config.partition.clients, config.cohort, config.federation.rounds
        )


def _algorithm(config: CellConfig) -> Any:
    from fedsec.scenario.algorithm import make_algorithm

    return make_algorithm(config.federation)


def _mistakes_of_the_algorithm(config: CellConfig) -> list[Problem]:
    """What its constructor says, with the option that it says it of."""
    try:
        _algorithm(config)
    except FAILURES as error:
        message = " ".join(str(error).split())
        option, _, rest = message.partition(" ")
        return [((option,), rest) if option in config.federation.options else ((), message)]
    return []


def _guarded(config: CellConfig) -> list[Problem]:
    """What the parts of a run must not be combined with."""
    from fedsec.federation import guards
    from fedsec.scenario.algorithm import make_secure_aggregation
    from fedsec.scenario.participation.rounds import selection_of
    from fedsec.scenario.server_rule import server_rule
    from fedsec.scenario.threat import schedule_of

    sums = make_secure_aggregation(config.federation)
    try:
        selection = selection_of(config.federation.selection)
        algorithm = _algorithm(config)
        attack = None if config.attack.name == NO_ATTACK else _build("attack", config.attack)
        defenses = [(part.role, _build("defense", part)) for part in config.defense]
    except FAILURES:
        return []  # complained about already
    aggregates = config.federation.traits["exchanges"] in ("updates", "models")
    rule = server_rule([defense for _, defense in defenses]) if aggregates else None
    federation, clients = config.federation, config.partition.clients
    run = guards.RunDescription(
        algorithm,
        1 if config.pooled else clients,
        config.cohort,
        attack=attack,
        num_byzantine=config.attack.count(clients),
        schedule=schedule_of(config.attack),
        claimed_examples=config.attack.claimed_examples,
        rule=rule,
        transforms=[defense for role, defense in defenses if role == "update"],
        inspector=next((defense for role, defense in defenses if role == "inspection"), None),
        private=any(role == "local" for role, _ in defenses),
        sampling=federation.sampling or "fixed",
        selection=selection,
        bn=federation.bn or "average",
        server_data=federation.server_data is not None,
        secure_aggregation=sums,
    )
    return [(tuple(place.split(".")), message) for place, message in guards.problems(run)]


def _fitting_algorithm(config: CellConfig) -> list[Problem]:
    """What the algorithm says against the network: cuts that leave a party nothing, layers that it cannot match."""
    from fedsec.scenario.training.fitting import misfits

    try:
        model, algorithm = _model(config), _algorithm(config)
    except FAILURES:
        return []  # complained about already
    return [] if model is None else misfits(model, algorithm)


def _of_so_many_classes(config: CellConfig) -> None:
    """Refuse defenses of a cut that are made for fewer classes than the data have."""
    try:
        classes = _source(config).num_classes
        defenses = [_build("defense", part) for part in config.defense if part.role == "activations"]
    except FAILURES:
        return  # complained about already
    for defense in defenses:
        defense.check_classes(classes)


def _neighborly(config: CellConfig) -> list[Problem]:
    """Whether there is such a graph of so many clients, and neighbors enough for each one's rule."""
    from fedsec.federation.gossip.conditions import NOTHING_TO_COMPARE
    from fedsec.federation.gossip.mixing import mixing_matrix
    from fedsec.federation.gossip.neighborhoods import check_rule
    from fedsec.seeds import Streams

    try:
        graph, rule = _algorithm(config).graph, rule_of(config)
    except FAILURES:
        return []  # complained about already
    try:
        weights = mixing_matrix(graph, graph.adjacency(config.partition.clients, Streams(config.seed)))
    except InputError as error:
        return [(("federation", "graph"), str(error).removeprefix("graph: "))]
    if config.federation.pairwise is not None and [part.name for part in config.defense] != ["mean"]:
        return [(("defense",), NOTHING_TO_COMPARE)]
    try:
        check_rule(rule, weights > 0)
    except InputError as error:
        return [(("defense",), str(error).removeprefix("defense: "))]
    return []


def _independent(config: CellConfig) -> None:
    """Refuse a network whose examples depend on each other, as DP-SGD will when it trains."""
    import torch

    from fedsec.privacy.gradients.clipping import check_independent

    try:
        meta = _model(config)
    except FAILURES:
        return  # complained about already
    if meta is None or sum(weight.numel() for weight in meta.parameters()) > _MOST_WEIGHTS:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = _source(config).input_shape
        check_independent(_model(config, device="cpu").train(), torch.rand(2, *shape))


def _defensible(config: CellConfig) -> None:
    """Ask the clients' defenses whether they can do anything for the network."""
    try:
        model = _model(config)
        built = [_build("defense", part) for part in config.defense if part.role == "update"]
    except FAILURES:
        return  # complained about already
    for transform in built if model is not None else ():
        transform.check_model(model)


def _together(defenses: Sequence[DefenseConfig]) -> None:
    """Compose the defenses of knowledge that can be built each for itself; the others are complained about already."""
    from fedsec.defense.knowledge import compose

    try:
        built = [_build("defense", part) for part in defenses]
    except FAILURES:
        return
    compose(built)


def _source(config: CellConfig) -> Any:
    """The dataset's source with its options, which may change shape and classes; nothing of it is read."""
    return registry.load("dataset", config.dataset.name)(**config.dataset.options)


def _model(config: CellConfig, device: str = "meta") -> Any:
    """The model, by default without memory for its weights; None where only the data tell its shape."""
    source = _source(config)
    if source.input_shape is None or source.num_classes is None:
        return None
    import torch

    from fedsec.models import build

    with torch.device(device):
        outputs = registry.load("task", source.task).of_data(source.num_classes).outputs or source.num_classes
        module = build(config.model.name, source.input_shape, outputs, **config.model.options)
    if config.federation.server is not None:
        from fedsec.models.split import split

        split(module)
    return module


def _fitting_model(config: CellConfig) -> None:
    """Build the model, and of one for texts see that it tells a token at every place."""
    try:
        source = _source(config)
    except FAILURES:
        return  # complained about already
    if (module := _model(config)) is None or not registry.load("task", source.task).takes_tokens:
        return
    given, expected = _shape_after(module, (2, *source.input_shape))[1:], (source.num_classes, *source.input_shape)
    if given != expected:
        about = f"{config.model.name} gives {list(given)} numbers a text; expected {list(expected)}"
        raise InputError(f"{about}, one for each token at each place, as char_lstm and char_transformer do")


def _server_model(config: CellConfig, server: ServerModelConfig) -> None:
    """Build a server's network for the feature maps of its clients, and let one batch pass through both."""
    import torch

    from fedsec.models import build
    from fedsec.models.split import split

    try:
        module = _model(config)
    except FAILURES:
        return  # complained about already
    if module is None:
        return
    source = _source(config)
    # Two images, since batch normalization in train mode needs more than one value a channel.
    features = _shape_after(split(module)[0], (2, *source.input_shape))
    if len(features) != 4:
        raise InputError(f"expected feature maps from {config.model.name}, got {features[1:]} numbers an image")
    _, channels, height, width = features
    try:
        with torch.device("meta"):
            network = build(server.name, (channels, height, width), source.num_classes, **server.options)
        logits = _shape_after(network, features)
    except FAILURES as error:
        size = "x".join(map(str, features[1:]))
        raise InputError(f"cannot take the feature maps of {config.model.name}, {size}: {error}") from error
    if logits != (2, source.num_classes):
        raise InputError(f"expected {source.num_classes} logits an example, got {logits[1:]}")


def _shape_after(module: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a module without memory makes of a batch.

    It gets memory for this, since a first convolution of tensors without any makes PyTorch import its compiler, which
    takes seconds; a large module does without memory all the same.
    """
    import torch

    device = "cpu" if sum(weight.numel() for weight in module.parameters()) <= _MOST_WEIGHTS else "meta"
    with torch.no_grad():
        return tuple(module.to_empty(device=device)(torch.zeros(shape, device=device)).shape)
