"""DAGER: whole texts exactly, from the span of what enters a transformer's attention.

Reference: Petrov, Dimitrov, Baader, Müller, Vechev, DAGER: exact gradient inversion for large language models, NeurIPS
2024, arXiv:2405.15586.

Deviations: the first attention's queries, keys and values are one layer here, whose gradient is taken whole; its keys
and values reach the first place, which queries do not (a softmax over one place is constant). Texts are extended
place by place and checked at the second attention for all their candidates at once, which the paper does after a
search by places. An extension that no candidate passes ends the text. Of more texts than the batch has, those are
taken that span the most. Where the gradient has full rank (noise, or as many tokens as the layer is wide) nothing is
excluded by a threshold, and the best extensions are taken, as many as there are texts.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.attacks.token_rows import occurring
from fedsec.errors import InputError
from fedsec.threat.texts import TextInversion, TextObservation, TextReconstruction

PADDING = 0
_PRECISION = 1e-6
"""Relative to the largest singular value of a gradient in float32: below it directions may be rounding."""
_ABOVE_FLOOR, _LARGEST_FLOOR = 4.0, 1e-5
"""How far directions must stand out from those that hold nothing, and how large these may be without being noise."""
_LEAST_GAIN = 0.5
"""Directions of the span that a further text must add; what adds less is there already."""
_AT_ONCE = 2_048
"""Texts that pass through the model at a time."""


class DAGER(TextInversion):
    """Recovers a batch's texts token by token: what enters a linear layer lies in the row space of its gradient.

    A linear layer's gradient is a sum over all places of all texts, dL/dW = sum_t delta_t x_t^T. As long as there are
    fewer places than the layer is wide, its row space is the span of the x_t, and a vector that did not enter lies
    outside of it. At the first attention, x_t depends on a token and its place alone: all pairs are tried. At the
    second, it depends on everything before the place (causal attention): texts are extended by one candidate at a time
    and kept if they lie in the span there. No label, no prior and no optimization; a batch's texts are told apart by
    the second check, and of those that pass it the ones are taken that together make up the span.

    Nothing in this asks for attention: a recurrent layer's input matrix is given every state before it, each of which
    depends on a text's beginning, so that recurrent networks are read in the same way (ours, not the paper's).

    With few different tokens, as characters are, the first check alone admits false pairs: token and place are added
    before the first layer, so that (a, 1), (b, 1) and (a, 2) span (b, 2) as well. The second check sorts these out.

    Args:
        tolerance: a vector lies in a span whose relative distance is less than this, in (0, 1).
        most: beginnings of texts that are followed at once, at least 1.

    Raises:
        InputError: a number out of range; on use: a model without embedded tokens or with fewer than two linear layers.

    Cost:
        For each place as many forward passes as candidates times beginnings that are followed: seconds for windows of
        20 characters and a small transformer on a CPU.

    Limits:
        Exact only while batch size x length stays below the width of the layers (less for LayerNorm's mean), for a
        causal model and a single gradient or one local step. A text's last token before its padding has no loss and is
        not found. Noise gives the gradient full rank: then the best
        extensions are taken, which are soon wrong. Clipping changes nothing. Sums of clients are larger batches.

    Example:
        tolerance: 0.01

    Reference: Petrov et al., NeurIPS 2024, arXiv:2405.15586
    """

    def __init__(self, tolerance: float = 0.01, most: int = 64) -> None:
        if not 0 < tolerance < 1:
            raise InputError(f"DAGER: tolerance must lie in (0, 1), not {tolerance}")
        if most < 1:
            raise InputError(f"DAGER: most must be at least 1, not {most}")
        self.tolerance, self.most = tolerance, most

    def recover(self, observation: TextObservation, *, generator: torch.Generator) -> TextReconstruction:
        search = _Search(observation, self.tolerance, self.most)
        texts = search.texts()
        occurred = tuple(sorted(set(texts.flatten().tolist()) - {PADDING}))
        return TextReconstruction(occurred, texts, search.notes())


@dataclass(frozen=True, eq=False)
class _Span:
    """The row space of a layer's gradient.

    Attributes:
        layer: its name.
        basis: orthonormal rows.
        low_rank: whether it excludes anything.
    """

    layer: str
    basis: Float[Tensor, "rank inputs"]
    low_rank: bool

    @classmethod
    def of(cls, observation: TextObservation, layer: str) -> "_Span":
        gradient = observation.gradient_of(layer)
        _, lengths, rows = torch.linalg.svd(gradient, full_matrices=False)
        places = observation.batch_size * observation.length
        # LayerNorm takes one direction away from every vector, whatever entered.
        most = min(len(lengths), gradient.shape[1] - 1)
        floor = _PRECISION * float(lengths[0])
        if places < most:  # what is beyond as many directions as there are places is rounding, or noise
            floor = _ABOVE_FLOOR * float(lengths[places])
        rank = int((lengths[: min(places, most)] > floor).sum())
        low_rank = rank < most and floor <= _LARGEST_FLOOR * float(lengths[0])
        return cls(layer, rows[: rank if low_rank else min(places, most)], low_rank)

    def distances(self, vectors: Float[Tensor, "*many inputs"]) -> Float[Tensor, "*many"]:
        """Relative distance of each vector from the span."""
        vectors = vectors.double()
        outside: Tensor = (vectors - vectors @ self.basis.T @ self.basis).norm(dim=-1)
        relative: Tensor = outside / vectors.norm(dim=-1).clamp(min=1e-12)
        return relative


class _Search:
    """The texts of one observation, extended place by place."""

    def __init__(self, observation: TextObservation, tolerance: float, most: int) -> None:
        self.observation, self.tolerance, self.most = observation, tolerance, most
        self.model = observation.model
        first, second = _layers(observation)
        self.first, self.second = _Span.of(observation, first), _Span.of(observation, second)
        self.tokens = torch.tensor(occurring(observation))
        self.ended = 0

    @torch.no_grad()
    def texts(self) -> Int64[Tensor, "batch length"]:
        """As many texts as the batch has; those of fewer distinct ones are repeated."""
        size, length = self.observation.batch_size, self.observation.length
        alone = self._first_distances()
        beginnings = torch.zeros(1, 0, dtype=torch.int64)
        scores, done = torch.zeros(1), []
        for place in range(length):
            self.observation.watch(place, length)
            candidates = self.tokens
            if self.first.low_rank:
                candidates = candidates[alone[:, place] < self.tolerance]
            if not len(candidates):
                break
            longer = torch.cat(
                [beginnings.repeat_interleave(len(candidates), 0), candidates.repeat(len(beginnings))[:, None]], 1
            )
            total = scores.repeat_interleave(len(candidates))
            distances = self._second_distances(longer)
            if self.second.low_rank:
                passed = distances < self.tolerance
                went_on = passed.view(len(beginnings), -1).any(1)
                done += list(beginnings[~went_on]) if place else []
                longer, total, distances = longer[passed], total[passed], distances[passed]
            best = (total + distances).argsort(stable=True)[: self.most if self.second.low_rank else size]
            beginnings, scores = longer[best], (total + distances)[best]
            if not len(beginnings):
                break
        done = [text for text in [*beginnings, *done] if len(text)]
        self.ended = len(done)
        if not done:
            return torch.zeros(size, length, dtype=torch.int64)
        chosen = self._covering(done) if self.second.low_rank else done
        return torch.stack([self._padded(chosen[number % len(chosen)]) for number in range(size)])

    def _covering(self, texts: list[Tensor]) -> list[Tensor]:
        """As many texts as the batch has, at most, that together span most of what the second attention's span has.

        A model that has learned gives places that are close to each other, so that texts with a wrong token pass the
        check as well. They add nothing to the span, and the batch's own do.
        """
        rest, chosen = self.second.basis, []
        entering = [self._entering(self.second.layer, text[None])[0].double() for text in texts]
        bases = [torch.linalg.svd(vectors, full_matrices=False)[2] for vectors in entering]
        distances = torch.stack([self.second.distances(vectors).mean() for vectors in entering])
        whole = torch.tensor([len(text) == self.observation.length for text in texts])
        for _ in range(self.observation.batch_size):
            gains = torch.stack([(rest @ basis.T).square().sum() for basis in bases])
            useful = gains >= _LEAST_GAIN
            if not bool(useful.any()):
                break
            # Beginnings that ended are the batch's own only where no whole text is left.
            useful &= whole if bool((useful & whole).any()) else ~whole
            alike = useful & (gains >= gains[useful].max() - _LEAST_GAIN)
            best = int(torch.where(alike, distances, torch.inf).argmin())
            chosen.append(texts[best])
            rest = rest - rest @ bases[best].T @ bases[best]
        return chosen or texts[:1]

    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        places, width = self.observation.batch_size * self.observation.length, self.second.basis.shape[1]
        notes = []
        if not self.second.low_rank:
            why = "noise or pruning, or several local steps"
            if places >= width - 1:
                why = f"{places} places and a width of {width}"
            notes.append(f"the gradient has full rank ({why}): no token is excluded, the most likely are taken")
        else:
            rank = len(self.second.basis)
            notes.append(f"rank {rank} of {width} at {self.second.layer}, {places} places: {self.ended} texts found")
        return tuple(notes)

    def _first_distances(self) -> Float[Tensor, "tokens places"]:
        """Of each token at each place, from the span at the first attention: there it does not matter what else is."""
        rows = self.tokens[:, None].expand(-1, self.observation.length)
        return self.first.distances(self._entering(self.first.layer, rows))

    def _second_distances(self, texts: Int64[Tensor, "texts places"]) -> Float[Tensor, "texts"]:
        """Of the last place of each beginning, from the span at the second attention."""
        parts = [self._entering(self.second.layer, part)[:, -1] for part in torch.split(texts, _AT_ONCE)]
        return self.second.distances(torch.cat(parts))

    def _entering(self, layer: str, texts: Int64[Tensor, "texts places"]) -> Float[Tensor, "texts places inputs"]:
        """What enters a layer."""
        seen: list[Tensor] = []
        handle = self.model.get_submodule(layer).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        device = next(self.model.parameters()).device
        try:
            self.model(texts.float().to(device))
        finally:
            handle.remove()
        return seen[0].cpu()

    def _padded(self, text: Int64[Tensor, "places"]) -> Int64[Tensor, "length"]:
        return torch.nn.functional.pad(text, (0, self.observation.length - len(text)), value=PADDING)


def _layers(observation: TextObservation) -> tuple[str, str]:
    """The first linear layer that is run, and the same one of the next block; of one block, the next linear layer."""
    names = {layer: name for name, layer in observation.model.named_modules() if isinstance(layer, nn.Linear)}
    order: list[str] = []

    def note(layer: nn.Linear, given: tuple[Tensor, ...]) -> None:
        if tuple(given[0].shape[:2]) == (1, observation.length):  # recurrent weights are given one place at a time
            order.append(names[layer])

    handles = [layer.register_forward_pre_hook(note) for layer in names]
    try:
        with torch.no_grad():
            device = next(observation.model.parameters()).device
            observation.model(torch.zeros(1, observation.length, device=device))
    finally:
        for handle in handles:
            handle.remove()
    observation.embedding  # noqa: B018  (refuses what embeds no tokens)
    order = list(dict.fromkeys(order))
    if len(order) < 2:
        raise InputError(
            "dager needs two linear layers that a whole text passes, all of its places at once and one layer after the "
            f"other; the model runs {len(order)}"
        )
    parts = order[0].split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            other = ".".join([*parts[:place], str(int(part) + 1), *parts[place + 1 :]])
            if other in order:
                return order[0], other
    return order[0], order[1]
