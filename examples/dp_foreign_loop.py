"""DP-SGD in someone else's training loop: per-example gradients of a plain PyTorch model, one private client.

The loop below is not fedsec's: it draws its own batches and steps its own parameters. fedsec calibrates the noise,
clips and perturbs the gradients, and keeps the account.

    uv run python examples/dp_foreign_loop.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedsec.defenses import DpSgd

BATCH, EPOCHS, LR = 64, 20, 1.0


def main(target_epsilon: float = 3.0) -> tuple[float, float]:
    """Train a classifier of digits privately; its accuracy on held-out images and the epsilon it spent."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    train, test = slice(0, 1400), slice(1400, None)
    count = len(labels[train])
    steps = EPOCHS * count // BATCH

    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    parameters = {name: value.detach().clone() for name, value in model.named_parameters()}

    defense = DpSgd(target_epsilon=target_epsilon, max_grad_norm=1.0, delta=1e-4)
    private = defense.private(count, BATCH, steps)
    ledger = defense.ledger(num_clients=1, largest=count)

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, parameters, (image[None],)), label[None])

    per_example = vmap(grad(loss), in_dims=(None, 0, 0))
    sampling, noise = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    for _ in range(steps):
        taken = torch.rand(count, generator=sampling) < BATCH / count  # a Poisson sample, which the account presumes
        gradients = per_example(parameters, images[train][taken], labels[train][taken])
        rows = torch.cat([part.flatten(1) for part in gradients.values()], dim=1)
        mean = defense.noisy_mean(rows, BATCH, noise, noise_multiplier=private.noise_of(0))
        pieces = torch.split(mean, [value.numel() for value in parameters.values()])
        for value, piece in zip(parameters.values(), pieces, strict=True):
            value.sub_(LR * piece.view_as(value))
    ledger.spend(0, BATCH / count, private.noise_of(0), steps)

    right = functional_call(model, parameters, (images[test],)).argmax(1) == labels[test]
    accuracy, spent = right.double().mean().item(), ledger.epsilon(0)
    print(f"noise multiplier {private.noise_of(0):g}, {steps} steps: accuracy {100 * accuracy:.1f}%")
    print(f"epsilon {spent.value:.2f} at delta {spent.delta:g} by {spent.accountant}, for one example added or removed")
    return accuracy, spent.value


if __name__ == "__main__":
    main()
