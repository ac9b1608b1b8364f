"""LOKI: the sum of clients' gradients leaves each client's images in columns of its own."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import Imprint, Loki
from fedsec.data.normalization import normalization
from fedsec.errors import InputError
from fedsec.inversion.client import observe
from fedsec.models import build
from fedsec.threat import Distortion, LocalSteps, Observation, PixelScale, ServerView

HALF = PixelScale((0.5,), (0.5,))
SHAPE, SCALE, CLIENTS, IMAGES = (3, 6, 6), PixelScale((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)), 3, 6


def pictures(seed: int) -> tuple[Tensor, Tensor]:
    """Images whose brightness differs within a client and not between clients."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(IMAGES, *SHAPE, generator=generator) - 0.5
    levels = torch.linspace(0.3, 0.7, IMAGES)[:, None, None, None]
    labels = torch.randint(10, (IMAGES,), generator=generator)
    return levels + 0.5 * (noise - noise.mean((1, 2, 3), keepdim=True)), labels


def network() -> nn.Module:
    torch.manual_seed(0)
    return build("mlp", SHAPE, 10, hidden=(16,))


def update(model: nn.Module, images: Tensor, labels: Tensor, steps: int = 1, lr: float = 0.1) -> list[Tensor]:
    """Of plain gradient descent on all images."""
    begun = [parameter.detach().clone() for parameter in model.parameters()]
    work = list(model.parameters())
    sent = [torch.zeros_like(parameter) for parameter in work]
    for _ in range(steps):
        rows = torch.autograd.grad(F.cross_entropy(model(SCALE.apply(images)), labels), work)
        with torch.no_grad():
            for parameter, row, total in zip(work, rows, sent, strict=True):
                parameter -= lr * row
                total -= lr * row
    with torch.no_grad():
        for parameter, before in zip(work, begun, strict=True):
            parameter.copy_(before)
    return sent


def view(place: int, clients: int = CLIENTS, local: LocalSteps | None = None) -> ServerView:
    return ServerView(network(), SHAPE, 10, IMAGES, SCALE, local, clients=clients, place=place)


@pytest.mark.parametrize("steps", [1, 5])
def test_each_client_of_a_sum_comes_back_by_itself(steps: int) -> None:
    local = LocalSteps(0.1, steps)
    clients = [pictures(seed) for seed in range(CLIENTS)]
    server = Loki(bins=64)
    models = [server.craft(view(place, local=local)) for place in range(CLIENTS)]
    sent = [update(model, *client, steps) for model, client in zip(models, clients, strict=True)]
    summed = [torch.stack(rows).mean(0) for rows in zip(*sent, strict=True)]
    for model, (images, labels) in zip(models, clients, strict=True):
        names = [name for name, _ in model.named_parameters()]
        seen = Observation(
            model.eval(),
            dict(zip(names, (CLIENTS * row for row in summed), strict=True)),
            SHAPE,
            10,
            IMAGES,
            scale=SCALE,
            local=local,
        )
        result = server.reconstruct(seen)
        assert result.images is not None
        distances = (result.images[None] - images[:, None]).abs().flatten(2).amax(2)
        assert float(distances.amin(1).max()) < (1e-3 if steps == 1 else 0.02)
        if steps == 1:
            assert result.labels is not None
            assert torch.equal(result.labels[distances.argmin(1)], labels)


def test_models_of_a_sum_differ_in_kernels_alone_and_compute_the_same() -> None:
    first, second = (Loki(bins=32).craft(view(place)) for place in (0, 2))
    differ = [
        name
        for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True)
        if not torch.allclose(one, other)
    ]
    assert differ == ["entrance.constants", "entrance.convolution.weight", "entrance.convolution.bias"]
    inputs = SCALE.apply(pictures(0)[0])
    torch.testing.assert_close(first(inputs), second(inputs))


def test_shut_kernels_get_no_gradient() -> None:
    model = Loki(bins=32).craft(view(1))
    images, labels = pictures(0)
    F.cross_entropy(model(SCALE.apply(images)), labels).backward()
    sent = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    others = torch.ones(CLIENTS * 3, dtype=torch.bool)
    others[3:6] = False
    assert not bool(sent["entrance.convolution.weight"][others].any())
    assert bool(sent["entrance.convolution.weight"][~others].any())
    assert sent["entrance.constants"].nonzero().flatten().tolist() == [1]


def test_it_reads_no_other_model_and_no_signs() -> None:
    imprinted = Imprint(bins=8).craft(view(0))
    model = Loki(bins=8).craft(view(0))
    rows = update(imprinted, *pictures(0))
    with pytest.raises(InputError, match="begins with kernels of its own"):
        Loki().reconstruct(
            Observation.of_gradient(imprinted, rows, input_shape=SHAPE, num_classes=10, batch_size=IMAGES)
        )
    seen = Observation.of_gradient(
        model,
        update(model, *pictures(0)),
        input_shape=SHAPE,
        num_classes=10,
        batch_size=IMAGES,
        distortion=Distortion(signs=True),
    )
    with pytest.raises(InputError, match="only their signs"):
        Loki().reconstruct(seen)


def test_places_outside_of_the_sum_and_few_bins_are_refused() -> None:
    with pytest.raises(InputError, match=r"place must lie in \[0, clients\), got 3 and clients = 3"):
        view(3)
    with pytest.raises(InputError, match="bins must be at least 2"):
        Loki(bins=1)
    with pytest.raises(InputError, match="gain must be positive"):
        Loki(gain=0.0)
    assert Loki.separates_clients
    assert not Imprint.separates_clients


@pytest.mark.parametrize("local", [None, LocalSteps(0.05, 6, 4)])
def test_four_clients_of_eight_images_are_each_told_by_its_own(local: LocalSteps | None) -> None:
    model = build("cnn", SHAPE, 10)
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(32, *SHAPE, generator=generator) - 0.5
    levels = torch.linspace(0.32, 0.68, 8).repeat(4)[:, None, None, None]  # the same in every client
    images = (255 * (levels + 0.5 * (noise - noise.mean((1, 2, 3), keepdim=True)))).round().clamp(0, 255).byte()
    labels = torch.randint(10, (32,), generator=generator)
    server, parts = Loki(bins=256), []
    for place in range(4):
        crafted = server.craft(ServerView(model, SHAPE, 10, 8, HALF, local, pictures(9)[0], clients=4, place=place))
        own = slice(8 * place, 8 * place + 8)
        work = {"num_classes": 10, "normalization": normalization("half"), "generator": generator}
        parts.append(observe(crafted, images[own], labels[own], local=local, **work))
    summed = {name: torch.stack([part.update[name] for part in parts]).sum(0) for name in parts[0].update}
    exact = torch.zeros(4, 32, dtype=torch.bool)
    for place, part in enumerate(parts):
        result = server.reconstruct(replace(part, update=summed))
        assert result.images is not None
        exact[place] = (result.images.mul(255).round()[None] == images[:, None]).flatten(2).all(2).any(1)
    assert int(exact.sum()) >= (28 if local is None else 20)
    others = torch.arange(32) // 8 != torch.arange(4)[:, None]
    assert not bool(exact[others].any())
