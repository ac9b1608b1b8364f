"""SEER: a model trained together with a secret decoder of one image of a batch."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks.seer import Seer
from fedsec.errors import InputError
from fedsec.threat import Distortion, LocalSteps, Observation, ServerView

SHAPE, CLASSES, SIZE = (1, 4, 4), 4, 6


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A bar of the class's row, on a picture of chance."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    images = 0.6 * torch.rand(count, *SHAPE, generator=draw)
    images[torch.arange(count), 0, labels] += 0.4
    return images, labels


def view(**changes: object) -> ServerView:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, CLASSES))
    images, labels = pictures(300, 1)
    return replace(ServerView(model, SHAPE, CLASSES, SIZE, auxiliary=images, auxiliary_labels=labels), **changes)


def seen(model: nn.Module, images: Tensor, labels: Tensor, factor: float = 1.0, **known: object) -> Observation:
    gradient = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    return Observation.of_gradient(
        model,
        [factor * row for row in gradient],
        input_shape=SHAPE,
        num_classes=CLASSES,
        batch_size=len(images),
        **known,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def crafted() -> tuple[Seer, nn.Module]:
    server = Seer(target_class=2, steps=60, coordinates=300)
    return server, server.craft(view())


def test_the_image_that_has_the_property_is_read_from_the_batch(crafted: tuple[Seer, nn.Module]) -> None:
    honest = Seer(target_class=2, steps=0, coordinates=300)
    trained, untrained = error(*crafted), error(honest, honest.craft(view()))
    assert trained < 0.36, trained
    assert trained < 0.9 * untrained, (trained, untrained)


def error(server: Seer, model: nn.Module) -> float:
    """Of the image that has the property, in parts of that of the mean of the server's own such images."""
    own, own_labels = pictures(300, 1)
    images, labels = pictures(400, 2)
    (decoder,) = server._decoders.values()
    wanted, draw = decoder.image_property, torch.Generator().manual_seed(0)
    has = wanted.holds(images, labels)
    mean = own[wanted.holds(own, own_labels)].mean(0)
    errors, null = 0.0, 0.0
    for place in has.nonzero()[:20, 0].tolist():
        others = (~has).nonzero()[:, 0][torch.randperm(int((~has).sum()), generator=draw)[: SIZE - 1]]
        batch = torch.cat([torch.tensor([place]), others])
        result = server.reconstruct(seen(model, images[batch], labels[batch]))
        assert result.images is not None
        assert bool((result.images[1:] == 0.5).all())
        errors += float((result.images[0] - images[place]).square().mean())
        null += float((mean - images[place]).square().mean())
    return errors / null


@pytest.mark.parametrize("summed", [1, 5])
def test_its_decoder_learns_to_null_all_others_of_a_sum(monkeypatch: pytest.MonkeyPatch, summed: int) -> None:
    counts: list[int] = []

    def count(*_: object, others: int, steps: int) -> None:
        counts.append(others)

    monkeypatch.setattr("fedsec.attacks.seer._trained", count)
    asked = replace(view(), batch_size=summed)
    Seer(target_class=2, steps=1, coordinates=10).craft(asked)
    assert counts == [asked.summed - 1] == [summed - 1]


def test_brightness_is_asked_for_where_a_class_is_too_frequent() -> None:
    few, many = (Seer(target_class=2, steps=0, coordinates=20) for _ in range(2))
    few.craft(view(batch_size=4)), many.craft(view(batch_size=16))
    levels = [decoder.image_property.brightness for server in (few, many) for decoder in server._decoders.values()]
    assert levels[0] == 0
    assert levels[1] > 0.3
    asked = Seer(target_class=2, share=0.1, steps=0, coordinates=20)
    asked.craft(view(batch_size=4))
    (decoder,) = asked._decoders.values()
    assert decoder.image_property.brightness > 0.3


def test_weights_change_and_modes_do_not(crafted: tuple[Seer, nn.Module]) -> None:
    _, model = crafted
    honest = view().model
    assert not any(torch.equal(row, model.state_dict()[name]) for name, row in honest.state_dict().items())
    assert model.training
    unchanged = Seer(target_class=2, steps=0, coordinates=50).craft(view())
    assert all(torch.equal(row, unchanged.state_dict()[name]) for name, row in honest.state_dict().items())


def test_a_length_that_says_nothing_makes_no_difference(crafted: tuple[Seer, nn.Module]) -> None:
    server, model = crafted
    images, labels = pictures(SIZE, 3)
    once, again = (
        server.reconstruct(seen(model, images, labels, factor, distortion=Distortion(rescaled=True))).images
        for factor in (1.0, 0.01)
    )
    torch.testing.assert_close(once, again)


def test_what_it_cannot_read_is_refused(crafted: tuple[Seer, nn.Module]) -> None:
    server, model = crafted
    images, labels = pictures(SIZE, 3)
    with pytest.raises(InputError, match="the same Seer object"):
        Seer().reconstruct(seen(model, images, labels))
    with pytest.raises(InputError, match="got signs"):
        server.reconstruct(seen(model, images, labels, distortion=Distortion(signs=True)))
    with pytest.raises(InputError, match="got several local steps"):
        server.reconstruct(replace(seen(model, images, labels), local=LocalSteps(0.1, 2)))


def test_what_it_cannot_craft_is_refused() -> None:
    with pytest.raises(InputError, match="labeled images"):
        Seer().craft(view(auxiliary=None, auxiliary_labels=None))
    with pytest.raises(InputError, match="labeled images"):
        Seer().craft(view(auxiliary_labels=None))
    with pytest.raises(InputError, match="clients train for 2"):
        Seer().craft(view(local=LocalSteps(0.1, 2)))
    with pytest.raises(InputError, match="batch normalization"):
        Seer().craft(view(model=nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, CLASSES))))
    with pytest.raises(InputError, match="target_class 4 is no class of 4"):
        Seer(target_class=4).craft(view())
    with pytest.raises(InputError, match="none of the 300 auxiliary images is of class 1"):
        Seer(target_class=1).craft(view(auxiliary_labels=torch.zeros(300, dtype=torch.int64)))
    with pytest.raises(InputError, match="some that are and some that are not"):
        Seer(target_class=0).craft(view(auxiliary_labels=torch.zeros(300, dtype=torch.int64), batch_size=1))
    for wrong in ({"share": 1.0}, {"target_class": -1}, {"steps": -1}, {"coordinates": 0}):
        with pytest.raises(InputError, match="Seer: "):
            Seer(**wrong)  # type: ignore[arg-type]
