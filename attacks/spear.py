"""SPEAR: a whole batch exactly, from the zeros that ReLU leaves in the gradient of a linear layer.

Reference: Dimitrov, Baader, Mueller, Vechev, SPEAR: exact gradient inversion of batches in federated learning, NeurIPS
2024, arXiv:2403.03945. How the sparse columns are found, and where we deviate, is said in
`fedsec.matching.separation.sparse_columns`. Labels are ours: each image's own gradient tells its label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.labels import labels_of
from fedsec.matching.limits import Deadline, check_limits
from fedsec.matching.row_space import row_space
from fedsec.matching.separation.first_layer import first_linear, images_of_neurons, pixels
from fedsec.matching.separation.neurons import activations, gradients_at
from fedsec.matching.separation.sparse_columns import SparseColumns, search_sparse_columns
from fedsec.threat import Inversion, Observation, Reconstruction, Snapshot
from fedsec.threat.inversion import Watch

_EXPLAINED = 0.98
"""An image explains its zeros where so many neurons are silent for it just where its column says so."""

_LEAST_PRECISION = 1e-12
"""Of a gradient in double precision, relative: what the decompositions leave of it."""


class SPEAR(Inversion):
    """Separates the images of a batch by the neurons of a first layer that each of them leaves silent.

    With z = W x + b before a ReLU, the gradients of a batch are products of thin matrices,

        g_W = D X^T,    g_b = D 1,    D[r, i] = 0 where image i does not activate neuron r

    Any factors L R of g_W have D = L Q and X^T = Q^-1 R. A column of Q is a direction in which many rows of L vanish:
    it is the kernel of b - 1 rows that are silent for its image, drawn at random until more rows vanish than were made
    to. The lengths of the columns follow from g_b. Nothing is assumed about the images: what comes back is exact to
    what the gradient's precision allows.

    Columns that are mixtures vanish in fewer rows, and what they give does not activate the neurons that it should: the
    share of neurons that agree (the paper's lambda) must be 98% for every image, or the search goes on. Each image's
    label is the one whose gradient, computed forward from the image, has the direction of its column.

    The sum of several clients' gradients is the gradient of a larger batch, and is separated like one: secure
    aggregation changes the batch size and nothing else. Local SGD steps only change D, whose zeros are then those of
    neurons that stay silent in all steps.

    Args:
        draws: of rows, at most, for each batch.
        seconds: stop after this time; never, if not given.

    Raises:
        InputError: a number out of range; on use: no linear layer with a bias receives the image itself, no ReLU
            follows it, or the defense dropped entries of its gradient or left only signs.

    Cost:
        About 2^(b-1) / b draws of b - 1 rows for b images, of b^3 operations each: seconds for ten
        images on a CPU (docs/results/spear_digits.csv). One decomposition of the first layer's gradient.

    Limits:
        Exponential in the batch size. Needs a linear first layer before a ReLU with several times as many neurons as
        images, which all of them leave silent in part. What comes back is all or nothing: as long as one column is
        missing no image is known. Noise on the gradient, pruning and quantization make the zeros vanish; clipping does
        not, since a factor changes no direction.

    Example:
        seconds: 60

    Reference: Dimitrov et al., NeurIPS 2024, arXiv:2403.03945
    """

    def __init__(self, draws: int = 1_000_000, seconds: float | None = None) -> None:
        if draws < 1:
            raise InputError(f"SPEAR: draws must be at least 1, not {draws}")
        check_limits("SPEAR", seconds=seconds)
        self.draws, self.seconds = draws, seconds

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        deadline = Deadline(self.seconds)
        observations, doubts = consistent(observations, deadline.for_preparation())
        layer = first_linear("spear", observations[0], generator)
        for observation in observations:
            _check_kept(observation, layer)
        _check_silent(observations[0], layer, generator)
        batches = [_Batch(observation, layer, generator) for observation in observations]
        interrupted = False
        try:
            for number, batch in enumerate(batches):
                for draws in batch.search(self.draws, generator, deadline.share(len(batches) - number)):
                    watch(_snapshot(batches, draws, self.draws))
        except KeyboardInterrupt:
            interrupted = True
        return with_notes([batch.result(interrupted=interrupted) for batch in batches], doubts)


@dataclass(frozen=True, eq=False)
class _Separated:
    """A batch that was separated.

    Attributes:
        inputs: of the model, one row an image.
        columns: of D, at the neurons that are looked at.
        explained: of each image, the share of neurons that are silent just where its column says so.
    """

    inputs: Float[Tensor, "rank pixels"]
    columns: Float[Tensor, "rank neurons"]
    explained: Float[Tensor, "rank"]


class _Batch:
    """One observation, and how far its images are separated."""

    def __init__(self, observation: Observation, layer: str, generator: torch.Generator) -> None:
        self.observation, self.layer = observation, layer
        prefix, gradient = f"{layer}." if layer else "", observation.gradient
        dtype = gradient[f"{prefix}weight"].dtype
        weight, bias = (gradient[prefix + kind].double().cpu() for kind in ("weight", "bias"))
        lengths = weight.norm(dim=1)
        self.active = (lengths > torch.finfo(dtype).eps * lengths.max()) & (bias != 0)
        self.weight, self.bias = weight[self.active], bias[self.active]
        self.labels = labels_of(observation, generator)
        self.known: SparseColumns | None = None
        self.best: _Separated | None = None
        self.fallback, self.rank, self.precision = self._neurons(), 0, 1.0
        if not len(self.weight):
            return
        # What further directions hold is rounding, or noise.
        basis = row_space(self.weight, min(observation.batch_size, *self.weight.shape))
        lengths = (self.weight @ basis.T).norm(dim=0)
        self.precision = max(float(torch.finfo(dtype).eps), _LEAST_PRECISION, self._noise(basis))
        self.rank = int((lengths > 10 * self.precision * lengths[0]).sum())
        self.rows = basis[: self.rank]
        self.factor = self.weight @ self.rows.T

    @property
    def images(self) -> Float[Tensor, "batch channels height width"]:
        """The best so far; gray where there is none."""
        images = self.fallback.clone()
        if self.best is not None:
            images[:] = 0.5
            images[: self.rank] = pixels(self.observation, self.best.inputs.to(images))
        return images.clamp(0, 1)

    @property
    def unexplained(self) -> float:
        """Share of neurons that the images do not explain; one as long as there are none."""
        return 1.0 if self.best is None else 1 - float(self.best.explained.mean())

    def search(self, draws: int, generator: torch.Generator, deadline: Deadline) -> Iterator[int]:
        """Go on until all images explain their zeros; yields the number of draws so far."""
        if not 0 < 2 * self.rank <= len(self.weight):
            return
        tried = torch.empty(0)
        columns = search_sparse_columns(
            self.factor, precision=self.precision, generator=generator, deadline=deadline, draws=draws
        )
        for self.known in columns:
            if self.known.complete and not torch.equal(self.known.directions, tried):
                tried = self.known.directions
                self._separate(self.known)
            yield self.known.draws
            if self.best is not None and bool((self.best.explained >= _EXPLAINED).all()):
                return

    def result(self, *, interrupted: bool) -> Reconstruction:
        images, size, labels = self.images, self.observation.batch_size, self.labels
        notes = []
        if self.best is None:
            notes.append(self._why_not())
        else:
            explained = int((self.best.explained >= _EXPLAINED).sum())
            notes.append(f"{explained} of {size} images explain which neurons are silent for them")
            if self.rank < size:
                notes.append(
                    f"the first layer's gradient tells {self.rank} images apart, not {size}: others are like them, or "
                    "moved nothing; gray instead"
                )
            labels = self._own_labels()
        if self.precision > 1e-5:
            notes.append(
                f"the gradient has a relative error of {self.precision:.0e}, noise or something else that is no batch "
                "of this size"
            )
        dtype = next(iter(self.observation.update.values())).dtype
        images = images.to(self.observation.device, dtype)
        losses = torch.tensor([self.unexplained])
        draws = 0 if self.known is None else self.known.draws
        return Reconstruction(images, labels, losses, draws, interrupted=interrupted, notes=tuple(notes))

    def _separate(self, known: SparseColumns) -> None:
        """Images of a complete set of columns, kept if they explain more zeros than those before."""
        directions = known.directions.T
        lengths = torch.linalg.lstsq(self.factor @ directions, self.bias[:, None]).solution[:, 0]
        mixing = directions * lengths
        if float(lengths.abs().min()) == 0 or float(torch.linalg.svdvals(mixing)[-1]) == 0:
            return
        inputs = torch.linalg.solve(mixing, self.rows)
        awake = activations(self.observation.model, self.layer, inputs)[:, self.active]
        explained = (awake != known.zeros).double().mean(1)
        if self.best is None or float(explained.mean()) > float(self.best.explained.mean()):
            self.best = _Separated(inputs, (self.factor @ mixing).T, explained)

    def _own_labels(self) -> Int64[Tensor, "batch"]:
        """The label of each image: that whose gradient, at the first layer's neurons, has its column's direction."""
        assert self.best is not None
        from scipy.optimize import linear_sum_assignment

        observation, labels = self.observation, self.labels.clone()
        images = pixels(observation, self.best.inputs).clamp(0, 1)
        expected = gradients_at(observation, self.layer, images)[..., self.active]
        cosines = torch.cosine_similarity(expected, self.best.columns[:, None], dim=2)
        if observation.labels is None:
            labels[: self.rank] = cosines.argmax(1).to(labels)
            return labels
        granted = observation.labels.cpu()
        images_at, labels_at = linear_sum_assignment(-cosines[:, granted].numpy())
        rest = sorted({*range(len(granted))} - {*labels_at.tolist()})
        order = [*labels_at[images_at.argsort()].tolist(), *rest]
        return granted[order].to(labels)

    def _neurons(self) -> Float[Tensor, "batch channels height width"]:
        """What single neurons show, which is all there is as long as columns are missing."""
        if not len(self.weight):
            return torch.full((self.observation.batch_size, *self.observation.input_shape), 0.5, dtype=torch.double)
        return images_of_neurons(self.observation, self.weight, self.bias)[0]

    def _noise(self, basis: Float[Tensor, "rank pixels"]) -> float:
        """Relative error of the rows within the basis, from what of them lies outside."""
        rank, columns = basis.shape
        if rank >= columns:
            return 0.0
        outside: Tensor = (self.weight - self.weight @ basis.T @ basis).norm(dim=1) / self.weight.norm(dim=1)
        return float(outside.median() * (rank / (columns - rank)) ** 0.5)

    def _why_not(self) -> str:
        if 2 * self.rank > len(self.weight):
            return (
                f"{len(self.weight)} neurons of the first layer moved, too few to tell {self.rank} images apart: shown "
                "is what single neurons show"
            )
        if self.known is None:
            return "no rows were drawn: shown is what single neurons show"
        count = len(self.known.directions)
        return (
            f"{count} of {self.rank} columns were found in {self.known.draws:,} draws, and no image is known without "
            "all of them: shown is what single neurons show"
        )


def _snapshot(batches: Sequence[_Batch], draws: int, most: int) -> Snapshot:
    return Snapshot(
        "separating",
        min(draws, most),
        most,
        torch.tensor([batch.unexplained for batch in batches]),
        torch.stack([batch.images for batch in batches]).float(),
        torch.stack([batch.labels for batch in batches]),
    )


def _check_kept(observation: Observation, layer: str) -> None:
    distortion = observation.distortion
    if distortion is None:
        return
    prefix = f"{layer}." if layer else ""
    masks = [distortion.kept[name] for name in (f"{prefix}weight", f"{prefix}bias") if name in distortion.kept]
    if distortion.signs or not all(bool(mask.all()) for mask in masks):
        left = "only its signs were sent" if distortion.signs else "the defense dropped entries of it"
        raise InputError(
            f"spear separates a batch by whole rows of the first layer's gradient, and {left}; expected its values, or "
            "an attack that matches updates, such as inverting_gradients"
        )


def _check_silent(observation: Observation, layer: str, generator: torch.Generator) -> None:
    """Refuse layers that no ReLU follows: their gradient has no zeros where they are silent."""
    images = torch.rand(4, *observation.input_shape, generator=generator).double()
    inputs = observation.scale.apply(images).flatten(1)
    silent = ~activations(observation.model, layer, inputs)
    moved = gradients_at(observation, layer, images)[:, 0] != 0
    if not bool((silent & ~moved).any()) or float((moved & silent).double().mean()) > 0.01:
        raise InputError(
            "spear needs a ReLU after the first layer: it separates images by the zeros that ReLU leaves in the "
            "gradient, and there are none where this layer's output is negative; expected such a model, or another "
            "inversion, such as decoupled"
        )
