"""Semi-supervised training by MixMatch, against closed forms."""

import numpy as np
import torch
from torch import nn

from fedsec.threat.cuts.mixmatch import MixMatch, augmented, mixed, sharpened


def test_guesses_are_sharpened_to_the_inverse_temperature() -> None:
    probabilities = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    expected = torch.tensor([[16 / 17, 1 / 17], [0.5, 0.5]])
    torch.testing.assert_close(sharpened(probabilities, 0.5), expected)
    torch.testing.assert_close(sharpened(probabilities, 1.0), probabilities)


def test_most_of_a_mixed_example_is_its_own_and_targets_are_mixed_alike() -> None:
    examples, targets = mixed(torch.eye(8), torch.eye(8), 0.75, np.random.default_rng(0))
    torch.testing.assert_close(examples, targets)
    torch.testing.assert_close(examples.sum(1), torch.ones(8))
    assert bool((examples.diagonal() >= 0.5).all())
    assert bool((examples.diagonal() < 1).any())


def test_images_move_by_a_pixel_and_borders_are_repeated() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")[0, 0]
    crops = [padded[down : down + 4, right : right + 4] for down in range(3) for right in range(3)]
    views = augmented(image.repeat(60, 1, 1, 1), torch.zeros(1, 4, 4), np.random.default_rng(0))
    places = [[bool(torch.equal(view[0], crop)) for crop in crops] for view in views]
    assert all(sum(row) == 1 for row in places)
    assert all(any(row[place] for row in places) for place in range(9))


def test_noise_is_that_of_each_entry() -> None:
    rows = augmented(torch.zeros(4000, 2), torch.tensor([0.0, 10.0]), np.random.default_rng(0))
    assert bool((rows[:, 0] == 0).all())
    assert 0.95 < float(rows[:, 1].std()) < 1.05


def test_examples_without_labels_say_where_the_line_is() -> None:
    """Two long clusters, and a labelled example of either, not at the same height: the line between these is askew."""
    draw = np.random.default_rng(1)
    along, across = draw.uniform(-1.5, 1.5, 200), np.repeat([-1.0, 1.0], 100) + 0.1 * draw.standard_normal(200)
    others = torch.from_numpy(np.stack([along, across], 1)).float()
    labelled, labels = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), torch.tensor([0, 1])
    truth, right = torch.arange(200) // 100, {}
    for weight in (0.0, 50.0):
        model = nn.Linear(2, 2)
        model.weight.data, model.bias.data = labelled / 10, torch.zeros(2)
        MixMatch(steps=100, lr=0.02, weight=weight).train(model, labelled, labels, others, 2, np.random.default_rng(0))
        right[weight] = float((model(others).argmax(1) == truth).double().mean())
    assert right[0.0] < 0.95
    assert right[50.0] > 0.99
