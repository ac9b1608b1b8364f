"""fedsec's rules around Lightning: clients train a LightningModule, the server combines what they send.

A client is a `Trainer.fit` on its own data, and what it sends is the module's state dict. Two of six clients send
garbage; with Lightning nothing changes but the line that combines.

    pip install lightning
    uv run python examples/lightning_clients.py
"""

import logging
import warnings
from collections.abc import Mapping
from copy import deepcopy

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedsec.attacks import Gaussian, forge_state_dicts
from fedsec.defenses import aggregate_state_dicts

NUM_CLIENTS, NUM_BYZANTINE, NUM_ROUNDS = 6, 2, 2


class Digits(lightning.LightningModule):
    """A classifier of somebody's own, with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images [batch, 64]."""
        logits: Tensor = self.layers(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def train_client(model: Digits, data: TensorDataset, seed: int) -> Mapping[str, Tensor]:
    """One client's local training: an ordinary Trainer, on a copy of the global model."""
    client = deepcopy(model)
    loader = DataLoader(data, batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(seed))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(client, loader)
    return client.state_dict()


def main() -> None:
    """Train under attack, with the average and with the median."""
    torch.set_num_threads(1)  # the model is too small for more
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)  # each fit would tell of its hardware
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    shares = [TensorDataset(images[client::NUM_CLIENTS][60:], labels[client::NUM_CLIENTS][60:]) for client in range(6)]
    test = torch.cat([torch.arange(client, len(images), NUM_CLIENTS)[:60] for client in range(NUM_CLIENTS)])

    for rule in ("mean", "median"):
        torch.manual_seed(0)
        model = Digits()
        for round_number in range(1, NUM_ROUNDS + 1):
            sent = deepcopy(model.state_dict())
            trained = [train_client(model, data, round_number) for data in shares]
            received, _ = forge_state_dicts(
                trained, Gaussian(std=10.0), reference=sent, byzantine=NUM_BYZANTINE, round=round_number
            )
            result = aggregate_state_dicts(received, rule, reference=sent)
            model.load_state_dict(result.state_dict)
        accuracy = float((model.eval()(images[test]).argmax(1) == labels[test]).double().mean())
        print(f"{rule:6} accuracy {accuracy:6.1%}, statistics by {result.statistics}")


if __name__ == "__main__":
    main()
