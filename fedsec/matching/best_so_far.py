"""The best that each problem has found so far, what the user sees of it, and the results."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.threat import Observation, Reconstruction, Snapshot
from fedsec.threat.inversion import Watch

__all__ = ["BestSoFar"]

_LOST = "the search never had a finite matching loss; the images are plain gray"


class BestSoFar:
    """Keeps the best candidate of every problem by its matching loss: no attacker can judge by the truth.

    Args:
        observations: those under attack.
        restarts: problems for each of them; problem p belongs to observation p // restarts.
        watch: shown the best so far at every record.
        stage: what is being done, for the user.
        iterations: how many there will be at most.
        labels: of each observation's images, as far as they are known before the search.

    Attributes:
        losses: the best matching loss of each problem.
        iteration: of the last record.
    """

    def __init__(
        self,
        observations: Sequence[Observation],
        restarts: int,
        watch: Watch,
        *,
        stage: str,
        iterations: int,
        labels: Int64[Tensor, "trials batch"] | None = None,
    ) -> None:
        first = observations[0]
        self._observations, self._restarts = observations, restarts
        self._watch, self._stage, self._iterations = watch, stage, iterations
        problems = len(observations) * restarts
        batch = (problems, first.batch_size)
        dtype = next(iter(first.update.values())).dtype
        gray = torch.full((*batch, *first.input_shape), 0.5, dtype=dtype, device=first.device)
        self._images: Float[Tensor, "problems batch c h w"] = gray
        self._labels = torch.zeros(batch, dtype=torch.int64, device=first.device)
        if labels is not None:
            self._labels = labels.to(first.device).repeat_interleave(restarts, 0)
        self.losses: Float[Tensor, "problems"] = torch.full((problems,), torch.inf, dtype=dtype, device=first.device)
        self._done = torch.zeros(problems, dtype=torch.int64)
        self._history: list[Tensor] = []
        self.iteration = 0

    def record(
        self,
        iteration: int,
        losses: Tensor,
        images: Tensor,
        labels: Tensor,
        which: Tensor | None = None,
        *,
        own: int | None = None,
    ) -> None:
        """Take note of where problems stand.

        Args:
            iteration: how many are done.
            losses: matching loss of each problem.
            images: pixels, [problems, batch, channels, height, width]; clamped to [0, 1].
            labels: int64 [problems, batch], or scores [problems, batch, classes], the largest of which counts.
            which: the problems' numbers; all of them by default.
            own: how many iterations are done on these problems, where others were computed before them.
        """
        which = torch.arange(len(self.losses)) if which is None else which
        losses, images = losses.detach().to(self.losses), images.detach().clamp(0, 1).to(self._images)
        labels = labels.argmax(-1) if labels.is_floating_point() else labels
        better = (losses < self.losses[which]) & images.flatten(1).isfinite().all(1)
        rows = which[better.cpu()]
        self.losses[rows] = losses[better]
        self._images[rows] = images[better]
        self._labels[rows] = labels[better]
        self._history.append(torch.full((len(self.losses),), torch.nan).index_copy_(0, which, losses.float().cpu()))
        self.iteration = iteration
        self._done[which] = iteration if own is None else own
        chosen = self._chosen()
        best = self.losses[chosen].cpu(), self._images[chosen].clone(), self._labels[chosen].clone()
        self._watch(Snapshot(self._stage, iteration, self._iterations, *best))

    def solved(self, tolerance: float) -> Tensor:
        """Whether each problem, or another restart of its observation, has come below a loss."""
        reached = (self.losses <= tolerance).view(-1, self._restarts).any(1)
        return reached.repeat_interleave(self._restarts)

    def results(self, *, interrupted: bool = False, notes: Sequence[str] = ()) -> list[Reconstruction]:
        """The best restart of each observation, by its matching loss."""
        history = torch.stack(self._history) if self._history else torch.zeros(0, len(self.losses))
        return [
            Reconstruction(
                images=self._images[problem].clone(),
                labels=self._labels[problem].clone(),
                losses=history[~history[:, problem].isnan(), problem],
                iterations=int(self._done[problem]),
                interrupted=interrupted,
                notes=(*notes, *([] if self.losses[problem].isfinite() else [_LOST])),
            )
            for problem in self._chosen().tolist()
        ]

    def _chosen(self) -> Tensor:
        losses = self.losses.nan_to_num(nan=torch.inf).view(-1, self._restarts)
        return losses.argmin(1).cpu() + self._restarts * torch.arange(len(losses))
