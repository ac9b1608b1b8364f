"""What must not be combined in a run, said once: the check before a run and the federation itself both ask here.

A guard looks at a plain description of a run and yields what is wrong with it, each with the part of a scenario that it
is about. What is not known yet (before the data are there) is None, and no guard complains about it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedsec.defense import Aggregator, ModelInspector, Pipeline, PrivateAggregator
from fedsec.defense.updates import UpdateTransform
from fedsec.engine.batch_norm import NormStatistics
from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.asynchronous.conditions import arrivals_decide
from fedsec.federation.algorithms.sequential.conditions import superclients_are_whole
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.gossip.conditions import neighbors_can_exchange
from fedsec.federation.rounds import Sampling
from fedsec.federation.secure_aggregation import SecureAggregation, why_not_of_sums
from fedsec.federation.secure_sums.conditions import sums_are_enough
from fedsec.federation.secure_sums.noise_account import noise_problems
from fedsec.federation.selection.conditions import rounds_can_be_drawn
from fedsec.federation.selection.selection import Selection
from fedsec.federation.split.conditions import attackers_have_what_they_poison
from fedsec.federation.threat import ALWAYS, AttackRounds
from fedsec.threat import ActivationPoisoning, DataPoisoning, KnowledgePoisoning, UpdatePoisoning

Problem = tuple[str, str]
"""Part of a scenario as a key path (`federation.bn`), and what is wrong with it."""


@dataclass(frozen=True, eq=False)
class RunDescription:
    """What a run is made of.

    Args:
        algorithm: of the federation.
        clients: how many there are.
        cohort: how many of them take part in a round, on average.
        attack: what Byzantine clients do; None for nothing.
        num_byzantine: how many clients are Byzantine.
        schedule: in which rounds they are.
        claimed_examples: how many times the examples they have they claim to have.
        rule: by which the server aggregates; None where nothing is aggregated.
        transforms: the clients' defenses of their updates.
        inspector: what clients ask before they train on a model; None for nothing.
        private: whether clients train with DP-SGD.
        sampling: how a round's clients are drawn.
        selection: a way of drawing them in its place; None for none.
        bn: what happens to running statistics.
        task: what is learned, by name; None where that is not known.
        running_statistics: whether the model has any; None where that is not known.
        server_data: whether the server has data of its own.
        secure_aggregation: of how many clients the server sees sums only.
    """

    algorithm: Algorithm
    clients: int
    cohort: int
    attack: object | None = None
    num_byzantine: int = 0
    schedule: AttackRounds = ALWAYS
    claimed_examples: float = 1.0
    rule: Aggregator | None = None
    transforms: Sequence[UpdateTransform] = ()
    inspector: ModelInspector | None = None
    private: bool = False
    sampling: Sampling = "fixed"
    selection: Selection | None = None
    bn: NormStatistics = "average"
    running_statistics: bool | None = None
    task: str | None = None
    server_data: bool = False
    secure_aggregation: SecureAggregation | None = None

    @property
    def name(self) -> str:
        """What the algorithm is called."""
        return type(self.algorithm).__name__


_CARRIED_OUT: Mapping[str, tuple[tuple[type, ...], str]] = {
    "knowledge": ((DataPoisoning, KnowledgePoisoning), "data or knowledge"),
    "activations": ((DataPoisoning, ActivationPoisoning), "data or activations"),
}
"""What else than updates is exchanged -> the attacks that Byzantine clients can carry out, and how messages say it."""


def attack_is_carried_out(run: RunDescription) -> Iterator[Problem]:
    """Nothing else than these is ever asked of Byzantine clients."""
    exchanged, attack = run.algorithm.exchanges, type(run.attack).__name__
    carried_out, expected = _CARRIED_OUT.get(exchanged, ((DataPoisoning, UpdatePoisoning), "data or updates"))
    expected = f"expected an attack on {expected}"
    if isinstance(run.attack, UpdatePoisoning) and isinstance(run.attack, carried_out):
        if exchanged in _CARRIED_OUT and run.attack.forges:
            yield "attack", f"{attack} also forges updates, and {run.name} sends none; {expected} alone"
        return
    if run.attack is None or isinstance(run.attack, carried_out):
        return
    if isinstance(run.attack, UpdatePoisoning):
        yield "attack", f"{attack} poisons updates, and {run.name} sends none; {expected}"
    elif isinstance(run.attack, KnowledgePoisoning):
        yield "attack", f"{attack} poisons knowledge, and {run.name} exchanges {exchanged}; {expected}"
    elif isinstance(run.attack, ActivationPoisoning):
        yield "attack", f"{attack} poisons activations, and {run.name} exchanges {exchanged}; {expected}"
    else:
        yield "attack", f"nobody would carry out {attack}: it is nothing that Byzantine clients do; {expected}"


def attackers_can_train(run: RunDescription) -> Iterator[Problem]:
    """Attackers that train do what honest clients do, with changes: these must train, too."""
    algorithm, attack = run.algorithm, run.attack
    if not (isinstance(attack, UpdatePoisoning) and attack.trains and isinstance(algorithm, UpdateAlgorithm)):
        return
    if algorithm.training is None:
        yield (
            "attack",
            f"{type(attack).__name__} trains for several local steps, and clients of {run.name} send one gradient; "
            "expected an algorithm with local training such as FedAvg",
        )


def attack_can_be_scheduled(run: RunDescription) -> Iterator[Problem]:
    """A server that knows examples one by one would be told others under the same numbers."""
    if run.algorithm.exchanges not in _CARRIED_OUT or run.attack is None:
        return
    if run.algorithm.exchanges == "knowledge" and isinstance(run.attack, DataPoisoning) and run.schedule != ALWAYS:
        yield (
            "attack",
            f"{run.name} keeps what was said of each example, so clients cannot change theirs between rounds; expected "
            "neither since, until nor redraw with an attack on data",
        )
    if run.claimed_examples != 1:
        yield "attack.claimed_examples", f"{run.name}'s server weighs nobody by a number of examples; expected none"


def attack_can_work(run: RunDescription) -> Iterator[Problem]:
    """An attack may need more clients than there are; where rounds are drawn, some may have enough."""
    if not isinstance(run.attack, UpdatePoisoning) or run.cohort < run.clients:
        return
    try:
        run.attack.check_clients(run.clients, run.num_byzantine)
    except InputError as error:
        yield "attack", str(error)


def task_can_be_learned(run: RunDescription) -> Iterator[Problem]:
    """A method that needs classes has nothing to do where there are none."""
    parts = [
        ("federation.algorithm", run.algorithm),
        ("attack", run.attack),
        *(("defense", one) for one in run.transforms),
    ]
    for place, part in parts:
        tasks: tuple[str, ...] = getattr(part, "tasks", ())
        if run.task is not None and tasks and run.task not in tasks:
            yield place, f"{type(part).__name__} goes with {' or '.join(tasks)}, and this task is {run.task}"


def weights_are_used(run: RunDescription) -> Iterator[Problem]:
    """A population estimate is an average of another scale."""
    algorithm, rule = run.algorithm, run.rule
    if not isinstance(algorithm, UpdateAlgorithm) or algorithm.weighting != "population" or rule is None:
        return
    if not rule.uses_weights:
        yield (
            "federation.weighting",
            f"population rescales an average; it needs a rule that uses weights (mean), got {type(rule).__name__}",
        )


def rule_has_a_global_model(run: RunDescription) -> Iterator[Problem]:
    """`bn: local` leaves the server without a model that could be evaluated."""
    if run.bn == "local" and run.rule is not None and run.rule.needs_global_model:
        yield (
            "federation.bn",
            f"local keeps no running statistics at the server, and {type(run.rule).__name__} evaluates the global "
            "model there; expected average, reset or recalibrate",
        )


def layers_at_home_are_not_looked_for(run: RunDescription) -> Iterator[Problem]:
    """Where some layers never leave the clients, nobody else has a whole model to look at."""
    if run.algorithm.whole_model:
        return
    if run.rule is not None and run.rule.needs_global_model:
        yield (
            "defense",
            f"{type(run.rule).__name__} evaluates the global model, and {run.name} leaves layers of it with clients; "
            "expected another rule",
        )
    if run.inspector is not None:
        yield (
            "defense",
            f"{type(run.inspector).__name__} looks at the one model that all clients receive, and with {run.name} each "
            "has layers of its own; expected no such check",
        )


def statistics_go_with_the_algorithm(run: RunDescription) -> Iterator[Problem]:
    """Running statistics belong to one model of each client."""
    if run.running_statistics is False:
        return
    if run.algorithm.local_statistics and run.bn != "local":
        yield "federation.bn", f"{run.name} keeps running statistics with the clients; expected local, got {run.bn}"
    if run.algorithm.two_models and run.running_statistics:
        yield (
            "model",
            f"{run.name} trains two models at each client, and there is one set of running statistics for both; "
            "expected norm: gn, or a model without batch normalization",
        )


def rule_has_what_it_trusts(run: RunDescription) -> Iterator[Problem]:
    """A rule that trusts the server's own data needs some, and a server that can train like a client."""
    if run.algorithm.exchanges == "models":
        return
    if run.rule is not None and run.rule.needs_server_update and not run.server_data:
        rule = run.rule.rule if isinstance(run.rule, Pipeline) else run.rule
        yield (
            "federation.server_data",
            f"{type(rule).__name__} trusts what the server makes of data of its own; expected "
            "server_data: {examples: 100}",
        )
    if run.server_data and not (isinstance(run.algorithm, UpdateAlgorithm) and run.algorithm.server_trains):
        yield (
            "federation.server_data",
            f"the server cannot train like a client of {run.name}; expected fedavg, fedprox, fedopt, fednova or "
            "fedsgd, or no server_data",
        )


def rule_can_work(run: RunDescription) -> Iterator[Problem]:
    """So few clients may be left that a rule cannot do anything for them."""
    if run.rule is None:
        return
    fewest = run.algorithm.fewest(run.cohort) if isinstance(run.algorithm, UpdateAlgorithm) else run.cohort
    if run.secure_aggregation is not None:
        fewest = run.secure_aggregation.count(fewest)
        if not fewest or [*why_not_of_sums(run.rule, fewest)]:
            return  # complained about in other words
    try:
        run.rule.max_rejected(fewest)
    except InputError as error:
        yield "defense", str(error)


def losses_are_of_clients(run: RunDescription) -> Iterator[Problem]:
    """What clients say of themselves is no part of what an attacker that tries rules can foresee."""
    if run.rule is None or not run.rule.needs_losses:
        return
    name = type(run.rule.rule if isinstance(run.rule, Pipeline) else run.rule).__name__
    if isinstance(run.rule, Pipeline) and run.rule.pre_aggregators:
        yield "defense", f"{name} weighs clients, and a pre-aggregator mixes their rows; expected none before it"
    if isinstance(run.attack, UpdatePoisoning) and run.attack.knows_defense:
        yield (
            "attack",
            f"{type(run.attack).__name__} tries the server's rule, and {name} believes what clients say of their loss, "
            "so that the best is to lie; expected an attack that does not try rules",
        )


def defenses_cover_what_is_sent(run: RunDescription) -> Iterator[Problem]:
    """A second vector tells what a defense of the update leaves out of it."""
    if isinstance(run.algorithm, UpdateAlgorithm) and len(run.algorithm.sends) > 1 and run.transforms:
        others = " and ".join(run.algorithm.sends[1:])
        yield (
            "defense",
            f"clients of {run.name} send their {others} beside the update, which {type(run.transforms[0]).__name__} "
            "would not cover; expected no defense of single updates",
        )


def private_updates_stay_private(run: RunDescription) -> Iterator[Problem]:
    """What looks at the data again after the noise voids its account."""
    looking = [type(transform).__name__ for transform in run.transforms if transform.needs_client]
    if run.private and looking:
        yield (
            "defense",
            f"{looking[0]} chooses by the client's data what of the update is sent, which no noise of DP-SGD covers: "
            "epsilon would be void; expected defenses that see the update alone",
        )


def refusals_tell_nothing(run: RunDescription) -> Iterator[Problem]:
    """Whether a client took part is seen by the server; where that depends on its examples, no noise covers it."""
    if run.private and run.inspector is not None and run.inspector.examples:
        yield (
            "defense",
            f"{type(run.inspector).__name__} looks at the client's examples, and that it refuses a model tells about "
            "them, which no noise of DP-SGD covers: epsilon would be void; expected the checks of examples off (null)",
        )


def private_examples_are_accounted(run: RunDescription) -> Iterator[Problem]:
    """DP-SGD's account holds for algorithms that say so."""
    if run.private and isinstance(run.algorithm, UpdateAlgorithm) and (problem := run.algorithm.private_problem):
        yield "defense", f"DP-SGD with {run.name}: {problem}"


def private_clients_are_accounted(run: RunDescription) -> Iterator[Problem]:
    """User-level accounts hold for aggregates of clients that are heard independently of each other."""
    rule, algorithm = run.rule, run.algorithm
    if isinstance(rule, Pipeline) and isinstance(rule.rule, PrivateAggregator):
        yield (
            "defense",
            f"nobody would keep {type(rule.rule).__name__}'s account within a Pipeline; expected its parts, "
            "transforms=pipeline.transforms and aggregator=pipeline.server",
        )
    if not isinstance(rule, PrivateAggregator) or not isinstance(algorithm, UpdateAlgorithm):
        return
    name, slow = type(rule).__name__, algorithm.slow
    if not algorithm.private_clients:
        yield (
            "defense",
            f"{name}: no account of user-level privacy is known to hold for what the server of {run.name} releases; "
            "expected an algorithm such as FedAvg",
        )
    if algorithm.momentum:
        yield (
            "federation",
            f"{name}: no account of user-level privacy is known to hold for clients that remember earlier rounds; "
            f"expected worker_momentum 0, got {algorithm.momentum}",
        )
    if slow is not None and slow.fraction:
        yield (
            "defense",
            f"{name}: its account holds for clients that are heard whoever else takes part, and a fixed share of "
            f"stragglers ({slow.handling}) depends on the others; expected no stragglers",
        )
    if run.cohort < run.clients and run.sampling != "poisson":
        yield (
            "defense",
            f"{name}: its account holds for clients that are drawn independently of each other, not for exactly "
            f"{run.cohort} of {run.clients}; expected federation.sampling: poisson, or all clients",
        )
    if run.running_statistics and run.bn != "local":
        yield (
            "defense",
            f"{name}: running statistics of batch normalization would leave the clients without noise, and void "
            "epsilon; expected norm: gn, or bn: local",
        )
    if run.num_byzantine and isinstance(run.attack, UpdatePoisoning) and run.attack.knowledge == "omniscient":
        yield (
            "defense",
            f"{name}: {type(run.attack).__name__} crafts its updates from all others', so that one client moves many "
            "rows and no account holds; expected an attack that knows its own clients, or another rule",
        )


GUARDS: tuple[Callable[[RunDescription], Iterator[Problem]], ...] = (
    neighbors_can_exchange,
    superclients_are_whole,
    attack_is_carried_out,
    attackers_can_train,
    attack_can_work,
    attack_can_be_scheduled,
    attackers_have_what_they_poison,
    task_can_be_learned,
    weights_are_used,
    rule_has_a_global_model,
    layers_at_home_are_not_looked_for,
    statistics_go_with_the_algorithm,
    rule_has_what_it_trusts,
    rule_can_work,
    losses_are_of_clients,
    sums_are_enough,
    defenses_cover_what_is_sent,
    private_updates_stay_private,
    refusals_tell_nothing,
    private_examples_are_accounted,
    private_clients_are_accounted,
    rounds_can_be_drawn,
    arrivals_decide,
    noise_problems,
)


def problems(run: RunDescription) -> Iterator[Problem]:
    """All that is wrong with a run."""
    for guard in GUARDS:
        yield from guard(run)


def check(run: RunDescription) -> None:
    """Refuse a run that must not be.

    Raises:
        InputError: the first thing that is wrong with it.
    """
    for place, message in problems(run):
        raise InputError(f"{place}: {message}")
