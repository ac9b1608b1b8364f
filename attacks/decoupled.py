"""Decoupled inversion: every image's features from the last layer first, then the images from their features.

Matching the gradient of a batch as a whole fails because its images compensate for each other. But the last linear
layer's gradient is a product of two thin matrices that the softmax ties together, so that each image's features can be
computed from it exactly (see `fedsec.matching.features`, also for how this relates to the cocktail-party attack and to
SPEAR). With them the batch falls apart into images that share only the gradient of the body: where the body is a chain
of linear layers they follow in closed form (see `fedsec.matching.separation.chain_images`), elsewhere by search (see
`fedsec.matching.pixels`).

Reference: this project; cf. Kariyappa et al., Cocktail party attack, ICML 2023, arXiv:2209.05578 and Dimitrov et al.,
SPEAR, NeurIPS 2024, arXiv:2403.03945, which separate batches by other means.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from itertools import islice
from math import ceil, isfinite

import torch
from jaxtyping import Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.features import Features, recover_features
from fedsec.matching.head import Head, find_head
from fedsec.matching.labels import recover_labels
from fedsec.matching.limits import Deadline
from fedsec.matching.pixels import Schedule, recover_pixels
from fedsec.matching.separation.chain_images import images_in_closed_form
from fedsec.matching.separation.linear_chain import find_chain
from fedsec.threat import Inversion, Observation, Reconstruction
from fedsec.threat.inversion import Watch


class Decoupled(Inversion):
    """Computes each image's features from the last layer's gradient, then finds the images that have them.

    First (classes - 1)(B + 1) equations for the B^2 unknowns that mix the batch's features, by Levenberg-Marquardt;
    labels that are not granted are tried in the order of their likelihood until the equations hold. Then

        min over x of  feature_weight ||body(x_i) - h_i||^2 + gradient_weight ||grad - update||^2 + tv_weight TV(x)

    with relative squares and a fading last term. Where the model is a chain of linear layers and increasing elementwise
    activations (ReLU, leaky ReLU, ELU, sigmoid, tanh, softplus) of the flattened image, nothing is searched for:
    features tell the slopes at every layer, and with those its gradient is linear in what entered it. These images are
    taken if their own gradient is the client's, as far as its precision and its noise let one tell; if not, they are
    searched for, with a ReLU by the whole update, and the notes say which. An image that activates no neuron stays
    unknown, and the notes tell.

    Works for fewer images than classes; for more, or where the equations have no solution (noise, pruning, many local
    steps), the whole update is matched instead, and the notes say so; so they do at once where the attacker knows that
    the client's defense dropped values or their scale.

    Args:
        iterations: of 20 L-BFGS iterations each, for the pixels, at most; 30 an image and at least 60 by default.
        restarts: starts of the pixels: gray first, then random ones; the least mismatch counts.
        starts: of the equations for the features, at most, for each labeling.
        hypotheses: labelings to try where labels are not granted.
        feature_weight: of the features' squared error.
        gradient_weight: of the body's squared gradient error.
        tv_weight: of the squared total variation, at first.
        tv_end: share of it that is left after the last iteration; it fades geometrically.
        tolerance: stop when the mismatch is below this.
        seconds: stop after this time; never, if not given.

    Raises:
        InputError: a number out of range; or the model does not end in a linear layer.

    Cost:
        The equations: a few seconds for batches of up to 24, a minute for 32 of one class of 100
        (docs/results/inversion_features.csv). Then in each iteration the update of the images so far, and its gradient
        with respect to the images: a few passes forward and backward through the network.

    Limits:
        The equations hold for fewer images than classes, of one gradient or local step whose length is known: several
        steps and known clipping leave a whole update to be matched. In closed form ReLU networks give all images of up
        to four exactly, of eight with repeated classes in three gradients of four, and at 54 dB and more under noise of
        a hundredth of the root mean square (docs/reproduction.md). Elsewhere, where half of each layer is pruned, one
        image of sixteen is recovered; under noise of a hundredth of its root mean square a fifth of them, and of a
        tenth one of sixteen (docs/results/inversion_obstacles.csv).

    Example:
        iterations: 60

    Reference: this project; cf. Kariyappa et al., ICML 2023, arXiv:2209.05578 and Dimitrov et al., NeurIPS 2024,
    arXiv:2403.03945
    """

    def __init__(
        self,
        iterations: int | None = None,
        restarts: int = 1,
        starts: int = 32,
        hypotheses: int = 24,
        feature_weight: float = 1e3,
        gradient_weight: float = 1e2,
        tv_weight: float = 10.0,
        tv_end: float = 2e-3,
        tolerance: float = 1e-10,
        seconds: float | None = None,
    ) -> None:
        counts = {
            "iterations": 1 if iterations is None else iterations,
            "restarts": restarts,
            "starts": starts,
            "hypotheses": hypotheses,
        }
        for name, count in counts.items():
            if count < 1:
                raise InputError(f"Decoupled: {name} must be at least 1, not {count}")
        for name, weight in {"feature_weight": feature_weight, "gradient_weight": gradient_weight}.items():
            if not (isfinite(weight) and weight > 0):
                raise InputError(f"Decoupled: {name} must be positive and finite, not {weight}")
        if not (isfinite(tv_weight) and tv_weight >= 0 and 0 < tv_end <= 1):
            raise InputError(
                f"Decoupled: tv_weight must not be negative and tv_end be in (0, 1], not {tv_weight} and {tv_end}"
            )
        if not tolerance >= 0 or (seconds is not None and not seconds > 0):
            raise InputError(f"Decoupled: expected tolerance >= 0 and seconds > 0, got {tolerance} and {seconds}")
        self.starts, self.hypotheses = starts, hypotheses
        self.iterations = iterations
        self.schedule = Schedule(
            iterations or 0, restarts, feature_weight, gradient_weight, tv_weight, tv_end, tolerance
        )
        self.seconds = seconds

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> list[Reconstruction]:
        deadline = Deadline(self.seconds)
        preparation = deadline.for_preparation()
        observations, doubts = consistent(observations, preparation)
        head = find_head(observations[0])
        if head is None:
            raise InputError(
                "Decoupled: features are computed from the gradient of a last linear layer whose output is the "
                "model's, and this model has none; use InvertingGradients"
            )
        examples = _examples(observations[0], head, generator, preparation)
        # Half of the time at most is for the equations, and half for the pixels.
        equations = deadline.share(2)
        first_stages = [
            self._first_stage(observation, head, examples, generator, equations.share(len(observations) - number))
            for number, observation in enumerate(observations)
        ]
        features = [stage if stage is not None and stage.solved else None for stage, _, _ in first_stages]
        labels = torch.stack([labels for _, labels, _ in first_stages])
        notes = [(*doubt, *stage[2]) for doubt, stage in zip(doubts, first_stages, strict=True)]
        chain = None if not any(features) else find_chain(observations[0], head)
        computed, ways = images_in_closed_form(observations, chain, features)
        results: list[Reconstruction | None] = list(computed)
        rest = [number for number, result in enumerate(computed) if result is None]
        if rest:
            by_features = chain is None or not chain.kinked
            iterations = self.iterations or max(60, 30 * observations[0].batch_size)
            pixels = recover_pixels(
                [observations[number] for number in rest],
                head,
                [features[number] if by_features else None for number in rest],
                labels[rest],
                replace(self.schedule, iterations=iterations),
                deadline=deadline,
                generator=generator,
                watch=watch,
            )
            for number, result in zip(rest, pixels, strict=True):
                known = features[number]
                results[number] = result if known is None else replace(result, features=known.values)
        complete = [result for result in results if result is not None]
        return with_notes(complete, [(*some, *way) for some, way in zip(notes, ways, strict=True)])

    def _first_stage(
        self,
        observation: Observation,
        head: Head,
        examples: Tensor,
        generator: torch.Generator,
        deadline: Deadline,
    ) -> tuple[Features | None, Tensor, list[str]]:
        """Features, if the batch is small enough, labels, and notes."""
        size, classes = observation.batch_size, observation.num_classes
        distortion = observation.distortion
        gradient = observation.gradient
        weight_gradient, bias_gradient = head.weight_gradient(gradient), head.bias_gradient(gradient)
        softmax, smoothing = observation.loss.softmax, observation.loss.smoothing
        notes = []
        if observation.labels is not None:
            hypotheses = [observation.labels]
        else:
            estimate = recover_labels(observation, generator=generator, deadline=deadline.for_preparation())
            least = [0] * classes
            if (
                bias_gradient is not None
                and observation.local is None
                and distortion is None
                and softmax
                and not smoothing
            ):
                least = [max(0, ceil(-size * entry - 1e-4)) for entry in bias_gradient.tolist()]
            hypotheses = list(
                islice(_labelings(estimate.counts, estimate.scores, least, self.hypotheses), self.hypotheses)
            )
        if size >= classes or size > head.weight.shape[1]:
            limit = min(classes - 1, head.weight.shape[1])
            notes.append(
                f"the last layer tells at most {limit} images apart, not {size}: features are not recovered, and the "
                "whole update is matched instead"
            )
            return None, hypotheses[0].to(observation.device), notes
        if weight_gradient is None:
            notes.append(
                f"the update leaves out {head.weight_name!r}, as where a client does not train the last layer: "
                "features are not recovered, and the whole update is matched instead"
            )
            return None, hypotheses[0].to(observation.device), notes
        if distortion is not None and not distortion.exact:
            notes.append(
                "the client's defense leaves too little of the last layer for the features' equations: what it kept of "
                "the whole update is matched instead"
            )
            return None, hypotheses[0].to(observation.device), notes
        if not softmax or head.tied:
            why = f"the loss is {observation.loss.name}" if head.tied is False else "its weight is used elsewhere too"
            notes.append(
                f"the features' equations do not hold for this last layer, because {why}: the whole update is matched "
                "instead"
            )
            return None, hypotheses[0].to(observation.device), notes
        features = recover_features(
            head.weight,
            head.bias,
            weight_gradient,
            bias_gradient,
            hypotheses,
            examples=examples,
            starts=self.starts,
            generator=generator,
            deadline=deadline,
            smoothing=smoothing,
        )
        if observation.local is not None:
            notes.append("an update over local steps is taken for one gradient where features are computed")
        if not features.solved:
            why = f"no features explain the last layer's gradient (relative residual {features.residual:.1e})"
            if features.untried:
                possible = self.starts * len(hypotheses)
                why += f" after {possible - features.untried} of {possible} starts, all that {classes} classes allow"
            if deadline.passed:
                why = "the time for the features' equations was over before they were solved"
            notes.append(f"{why}: the whole update is matched instead")
            return features, hypotheses[0].to(observation.device), notes
        if len(hypotheses) > 1 and head.bias is None and size == classes - 1:
            notes.append(
                "without a bias the equations are just enough for this batch size and cannot confirm the labels"
            )
        return features, features.labels, notes


def _examples(observation: Observation, head: Head, generator: torch.Generator, deadline: Deadline) -> Tensor:
    """Features of random images: where to look for those of the batch."""
    shape = observation.input_shape
    images = torch.rand(32, shape[0], 1, 1, generator=generator) + torch.rand(32, *shape, generator=generator)
    return head.features_of_random(images / 2, observation, deadline)


def _labelings(
    counts: Int64[Tensor, "classes"], scores: Tensor, least: list[int], most: int
) -> Iterator[Int64[Tensor, "batch"]]:
    """Labels with these counts, then others, the nearest to the scores first.

    Args:
        counts: how many of each class, as far as one can tell.
        scores: the same before rounding.
        least: how many of each class there must be.
        most: how many labelings are asked for: of the classes that one example can move to, no more are looked at.
    """
    wanted = scores.tolist()
    takers = sorted(range(len(wanted)), key=lambda label: (counts[label].item() - wanted[label], label))
    start = torch.arange(len(counts)).repeat_interleave(counts.cpu()).tolist()
    queue, queued = [(0.0, _key(start), start)], {_key(start)}
    while queue:
        distance, _, current = heappop(queue)
        yield torch.tensor(current)
        have = Counter(current)
        # Classes whose count has changed are no longer in their places in the order: those are looked at in any case.
        nearest = dict.fromkeys([*takers[: most + len(have) + 1], *start])
        for giver in sorted(label for label, count in have.items() if count > least[label]):
            for taker in (label for label in nearest if label != giver):
                moved = list(current)
                moved[moved.index(giver)] = taker
                moved.sort()
                key = _key(moved)
                if key not in queued:
                    queued.add(key)
                    change = wanted[giver] - have[giver] + have[taker] - wanted[taker]
                    heappush(queue, (distance + 2 * change + 2, key, moved))


def _key(labels: list[int]) -> tuple[int, ...]:
    """Orders labelings of equal distance: those with fewer examples of the first classes come first."""
    return tuple(-label for label in labels)
