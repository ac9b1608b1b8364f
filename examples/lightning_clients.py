"""fedsec's rules around Lightning: a client is a `Trainer.fit`, and what it sends is the module's state dict.

Two of six clients send garbage. Needs `pip install lightning`; then: uv run python examples/lightning_clients.py
"""

import logging
import warnings
from copy import deepcopy
from typing import Any

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedsec.attacks import Gaussian, forge_state_dicts
from fedsec.defenses import aggregate_state_dicts

CLIENTS, BYZANTINE = 6, 2
QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)


class Digits(lightning.LightningModule):
    """A classifier of somebody's own, with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch."""
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


if __name__ == "__main__":
    torch.set_num_threads(1)  # the model is too small for more
    logging.disable(logging.INFO)  # each fit would tell of its hardware
    warnings.filterwarnings("ignore", ".*(does not have many workers|LeafSpec).*")
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    shares = [TensorDataset(images[360 + i :: CLIENTS], labels[360 + i :: CLIENTS]) for i in range(CLIENTS)]
    for rule in ("mean", "median"):
        lightning.seed_everything(0, verbose=False)
        model = Digits()
        for number in (1, 2):
            sent, clients = deepcopy(model.state_dict()), [deepcopy(model) for _ in shares]
            for client, share in zip(clients, shares, strict=True):
                trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **QUIET)
                trainer.fit(client, DataLoader(share, batch_size=20, shuffle=True))
            states, garbage = [client.state_dict() for client in clients], Gaussian(std=10.0)
            received, _ = forge_state_dicts(states, garbage, reference=sent, byzantine=BYZANTINE, round=number)
            model.load_state_dict(aggregate_state_dicts(received, rule, reference=sent).state_dict)
        accuracy = (model.eval().layers(images[:360]).argmax(1) == labels[:360]).double().mean()
        print(f"{rule:6} accuracy {accuracy:6.1%}")
