"""What a client does with the model it receives."""

from dataclasses import dataclass, replace

from fedsec.data.augmentation import Augmentation
from fedsec.engine.optimizers import OptimizerName, RateSchedule
from fedsec.errors import InputError
from fedsec.privacy.private_training import PrivateTraining

FLOAT32_MAX = 3.4028234663852886e38
"""What models, and the factors that tensors are multiplied by, can hold."""


@dataclass(frozen=True)
class LocalTraining:
    """What a client does with the model it receives.

    Args:
        steps: number of optimizer steps, or
        epochs: number of passes over the client's examples (exactly one of the two).
        batch_size: examples in a batch (at most the client's own number), or
        batch_fraction: the batch as a share of the client's examples (exactly one of the two).
        optimizer: `sgd`, `adam`, or for large batches `lars` (with a rate of some units) or `lamb`; its state starts
            afresh each round, as in FedAvg.
        lr: learning rate.
        momentum: heavy-ball momentum of SGD and LARS, as in PyTorch (no dampening).
        weight_decay: L2 penalty added to the gradient (with `lamb`, to the step).
        drop_last: whether each epoch leaves out the examples that do not fill a batch; `steps` are full anyway.
        augmentation: of the images, drawn anew for every batch; None for none.
        worker_momentum: beta; what a client sends is the running average m <- beta m + (1 - beta) u of its updates u
            over the rounds in which it takes part, from m = 0. Local steps do not depend on it.
        private: DP-SGD. Batches are then Poisson samples: a step's batch takes each example independently with
            probability batch / examples, and `epochs` count steps only. Weight decay depends on no example, so it joins
            after the noise. None: ordinary training.
        schedule: how the rate changes from round to round; None for not at all. See `in_round`.
        clip_norm: length to which each step's gradient is cut that is longer: that of the batch's mean loss with what
            an algorithm corrects of it (a proximal term, control variates), as the authors of FedDyn do it with all
            algorithms, and before weight decay. Not with `private`, which clips example by example. None for none.
        label_smoothing: share of each target that is spread over all classes; evaluation and attackers' tests go by the
            plain loss.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    batch_fraction: float | None = None
    optimizer: OptimizerName = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    drop_last: bool = False
    augmentation: Augmentation | None = None
    worker_momentum: float = 0.0
    private: PrivateTraining | None = None
    schedule: RateSchedule | None = None
    clip_norm: float | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise InputError("local training needs either steps or epochs, and not both")
        if (self.batch_size is None) == (self.batch_fraction is None):
            raise InputError("local training needs either batch_size or batch_fraction, and not both")
        for name in ("steps", "epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"local {name} must be at least 1, got {value}")
        if self.batch_fraction is not None and not 0 < self.batch_fraction <= 1:
            raise InputError(f"local batch_fraction must lie in (0, 1], got {self.batch_fraction}")
        if self.optimizer not in ("sgd", "adam", "lars", "lamb"):
            raise InputError(f"local optimizer must be sgd, adam, lars or lamb, got {self.optimizer!r}")
        if self.optimizer in ("adam", "lamb") and self.momentum:
            raise InputError(f"local momentum belongs to sgd and lars; {self.optimizer} has its own")
        if not 0 < self.lr <= FLOAT32_MAX or not 0 <= self.momentum < 1 or not 0 <= self.weight_decay <= FLOAT32_MAX:
            raise InputError(
                "local training needs lr > 0, 0 <= momentum < 1 and weight_decay >= 0, numbers that float32 holds; "
                f"got lr {self.lr}, momentum {self.momentum} and weight_decay {self.weight_decay}"
            )
        check_worker_momentum(self.worker_momentum)
        if self.clip_norm is not None and not 0 < self.clip_norm <= FLOAT32_MAX:
            raise InputError(f"local clip_norm must be positive, a number that float32 holds, got {self.clip_norm}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"local label_smoothing must lie in [0, 1), got {self.label_smoothing}")

    def in_round(self, round_number: int) -> "LocalTraining":
        """What a client does in a round, with that round's learning rate and no schedule any more.

        Args:
            round_number: from 1.

        Raises:
            InputError: the schedule leaves nothing of the rate.
        """
        if self.schedule is None:
            return self
        return replace(self, lr=self.lr * self.schedule.factor(round_number), schedule=None)

    def batch_of(self, examples: int) -> int:
        """Batch size of a client with this many examples."""
        if self.batch_fraction is not None:
            return max(1, int(self.batch_fraction * examples + 1e-9))
        assert self.batch_size is not None
        return min(self.batch_size, examples)

    def steps_of(self, examples: int) -> int:
        """Number of local steps of a client with this many examples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        batch = self.batch_of(examples)
        return self.epochs * (examples // batch if self.drop_last else -(-examples // batch))

    def smallest_batch(self, examples: int) -> int:
        """Size of the smallest batch of a client with this many examples, where batches are not drawn at random."""
        batch = self.batch_of(examples)
        left_over = 0 if self.epochs is None or self.drop_last else examples % batch
        return left_over or batch


def check_worker_momentum(beta: float) -> None:
    """Refuse a momentum with which a client would send nothing of its update, or more and more of the earlier ones.

    Raises:
        InputError: it is not in [0, 1).
    """
    if not 0 <= beta < 1:
        raise InputError(f"worker_momentum must lie in [0, 1), got {beta}")


def without_worker_momentum(local: LocalTraining, why: str) -> None:
    """Refuse local training with worker momentum where it would mean nothing.

    Raises:
        InputError: there is some.
    """
    if local.worker_momentum:
        raise InputError(f"{why}; expected local worker_momentum 0, got {local.worker_momentum}")
