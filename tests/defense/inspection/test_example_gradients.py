"""Per-example gradients of a received model, beside one backward pass for each example."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.defense.inspection.example_gradients import ExampleGradients, layer_gradients
from fedsec.errors import InputError


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, groups=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


def slow_norms(model: nn.Sequential, images: Tensor, targets: Tensor) -> dict[str, list[float]]:
    """By an ordinary backward pass for each example alone."""
    norms: dict[str, list[float]] = {}
    for image, target in zip(images, targets, strict=True):
        model.zero_grad()
        F.cross_entropy(model(image[None]), target[None]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            norms.setdefault(name.removesuffix(".weight"), []).append(float(parameter.grad.norm()))
    return norms


@given(st.integers(0, 50), st.integers(2, 5))
@settings(max_examples=8, deadline=None)
def test_norms_are_those_of_one_backward_pass_an_example(seed: int, batch: int) -> None:
    model = network(seed)
    images, targets = torch.randn(batch, 1, 6, 6), torch.randint(3, (batch,))
    slow = slow_norms(model, images, targets)
    for gradients in layer_gradients(model, images, targets, losses):
        assert gradients.norms.tolist() == pytest.approx(slow[gradients.name], rel=1e-4, abs=1e-6)
        own = torch.tensor(slow[gradients.name])
        ratio = max(own[i] / (own.sum() - own[i]) for i in range(batch))
        assert gradients.d_snr() == pytest.approx(float(ratio), rel=1e-3)


def test_layers_without_a_rule_or_used_twice_are_measured_as_well() -> None:
    torch.manual_seed(1)
    shared = nn.Linear(6, 6)
    model = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.Flatten(), shared, nn.Tanh(), shared)
    images, targets = torch.randn(4, 1, 6), torch.randint(6, (4,))
    slow = slow_norms(model, images, targets)
    measured = {gradients.name: gradients for gradients in layer_gradients(model, images, targets, losses)}
    assert measured["0"].norms.tolist() == pytest.approx(slow["0"], rel=1e-4)
    assert measured["2"].norms.tolist() == pytest.approx(slow["2"], rel=1e-4)
    assert measured["2"].rows is None


@given(st.floats(0.1, 10.0), st.integers(0, 20))
@settings(max_examples=8, deadline=None)
def test_a_rescaled_hidden_layer_changes_no_share(factor: float, seed: int) -> None:
    """c W1 and W2 / c are the same network with ReLU: every example's gradient of a layer scales alike."""
    model, images, targets = network(seed), torch.randn(6, 1, 6, 6), torch.randint(3, (6,))
    before = layer_gradients(model, images, targets, losses)
    with torch.no_grad():
        for tensor in (model[5].weight, model[5].bias):
            tensor.mul_(factor)
        model[7].weight.div_(factor)
    after = layer_gradients(model, images, targets, losses)
    for one, other in zip(before, after, strict=True):
        assert other.d_snr() == pytest.approx(one.d_snr(), rel=1e-3)
        assert (other.exposed(), other.idle()) == (one.exposed(), one.idle())


def test_what_examples_leave_with_batch_normalization_adds_up_to_the_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    images, targets = torch.randn(4, 1, 3, 3), torch.tensor([0, 1, 2, 0])
    first = layer_gradients(model, images, targets, losses)[0]
    assert first.outputs is not None
    losses(model(images), targets).sum().backward()
    torch.testing.assert_close(first.outputs.float().T @ images.flatten(1), model[1].weight.grad)
    lengths = first.outputs.norm(dim=1) * images.flatten(1).norm(dim=1)
    torch.testing.assert_close(first.norms, lengths.double())


def test_one_large_example_is_seen() -> None:
    gradients = ExampleGradients("layer", nn.Linear(2, 2), torch.tensor([1.0, 1.0, 8.0]))
    assert gradients.d_snr() == pytest.approx(4.0)
    assert ExampleGradients("layer", nn.Linear(2, 2), torch.zeros(3)).d_snr() == 0


def measured(rows: Tensor, weight: Tensor | None = None, pulls: Tensor | None = None) -> ExampleGradients:
    """What a linear layer's neurons would learn, one in each column."""
    layer = nn.Linear(20, rows.shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.eye(rows.shape[1], 20) if weight is None else weight)
    return ExampleGradients("layer", layer, rows.abs().sum(1), rows.abs().double(), rows.double(), pulls)


def test_neurons_that_learn_from_one_example_are_exposed() -> None:
    rows = torch.zeros(8, 12)
    rows[0, :3] = 1.0  # alone
    rows[:, 3:9] = torch.rand(8, 6) + 0.1
    assert measured(rows).exposed() == pytest.approx(3 / 9)
    assert measured(rows).idle() == pytest.approx(3 / 12)
    assert measured(rows[:, 2:9]).exposed() == measured(rows[:7]).exposed() == 0  # of seven neurons, or examples


def test_the_share_of_exposed_neurons_does_not_grow_with_a_layer() -> None:
    """Each example is alone in some neuron of a wide layer; 6% of the neurons are all that shows it."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(16, 200, generator=draw) + 0.1
    rows[:, :12] *= torch.eye(16, 12)
    for copies in (1, 5):
        weight = torch.randn(200 * copies, 20, generator=draw)
        assert measured(rows.repeat(1, copies), weight).exposed() == pytest.approx(0.06)


def test_a_sure_model_does_not_expose_who_it_is_not_sure_of() -> None:
    """Gradients at the outputs shrink by thousands with confidence, and all others with them."""
    draw = torch.Generator().manual_seed(0)
    pulls = torch.tensor([1.0, *[0.01] * 19])
    rows = (torch.rand(20, 10, generator=draw) + 0.5) * pulls[:, None]
    plain, explained = measured(rows), measured(rows, pulls=pulls)
    assert plain.d_snr() == explained.d_snr() > 3
    assert plain.magnified() > 3 > 0.2 > explained.magnified()
    assert plain.exposed() == measured(rows * pulls[:, None] ** 2).exposed() == 0
    none = rows * (torch.arange(20) < 5)[:, None]  # of the others the loss is exactly 0, or they are silenced
    assert measured(none, pulls=(torch.arange(20) < 5).float()).exposed() == 0
    none[1:5] = 0
    assert measured(none, pulls=pulls).exposed() == 1
    silenced = rows * pulls[:, None].where(pulls[:, None] == 1, 1e-4)  # far more than the outputs explain
    assert measured(silenced, pulls=pulls).magnified() > 5
    saturated = measured(rows, pulls=torch.tensor([1.0, *[0.0] * 19]))  # outputs so steep that nothing comes back
    assert saturated.magnified() <= saturated.d_snr()
    nothing = torch.zeros(19, 10)
    assert measured(torch.cat([rows[:1], nothing]), pulls=torch.tensor([1.0, *[0.0] * 19])).magnified() > 1e5


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_bins_are_exposed_by_their_differences_also_where_noise_hides_that_rows_repeat(noise: float) -> None:
    """Each neuron reacts to all examples above its threshold: neighbors differ by one example."""
    draw = torch.Generator().manual_seed(0)
    layer, images, targets = nn.Linear(20, 12), torch.rand(12, 20, generator=draw), torch.arange(12) % 2
    images = images + torch.linspace(0, 1, 12)[:, None]
    order = images.mean(1).sort().values
    with torch.no_grad():
        layer.weight.copy_(0.05 + noise * 0.05 * torch.randn(12, 20, generator=draw))
        layer.bias.copy_(-(order + torch.cat([order[:1] - 0.1, order[:-1]])) / 2)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(12, 2))
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 12))  # what follows treats all bins alike
    (bins, *_) = layer_gradients(model, images, targets, losses)
    assert bins.exposed() > 0.7
    with torch.no_grad():
        layer.weight.copy_(torch.randn(12, 20, generator=draw))  # no twins any more
        layer.bias.zero_()
    (bins, *_) = layer_gradients(model, images, targets, losses)
    assert bins.exposed() < 0.2


def test_a_model_that_does_not_take_the_examples_is_named() -> None:
    with pytest.raises(InputError, match="cannot be asked about these examples"):
        layer_gradients(network(), torch.randn(3, 1, 4, 9), torch.zeros(3).long(), losses)
    with pytest.raises(InputError, match="a loss for each of 3 examples"):
        layer_gradients(network(), torch.randn(3, 1, 6, 6), torch.zeros(3).long(), lambda out, _: out.sum())


def test_a_layer_of_one_input_without_bias_has_no_thresholds() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 8, bias=False))
    with torch.no_grad():
        model[1].weight.fill_(1.0)
    gradients = layer_gradients(model, torch.randn(5, 4), torch.arange(5), losses)
    assert [one.name for one in gradients] == ["0", "1"]
    assert gradients[1].exposed() == 0


class Detached(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(inputs)


class Paired(nn.Linear):
    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().forward(inputs), inputs


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, ...]) -> Tensor:
        return pair[0]


@pytest.mark.parametrize("layers", [(Detached(16, 6),), (Paired(16, 6), First())], ids=["no gradient", "a tuple"])
def test_layers_that_put_out_anything_are_left_out_and_crash_nothing(layers: tuple[nn.Module, ...]) -> None:
    model = nn.Sequential(nn.Flatten(), *layers, nn.ReLU(), nn.Linear(6, 3))
    measured = layer_gradients(model, torch.rand(8, 1, 4, 4), torch.arange(8) % 3, losses)
    assert [gradient.name for gradient in measured] == [str(len(model) - 1)]


def test_confidence_explains_a_hundredfold_difference_and_accuses_nobody() -> None:
    alike, layer = torch.ones(8), nn.Linear(4, 16)
    # Who is sure of one example and leaves as much of it magnifies it: what is sent does not outshine, and that counts.
    sure = torch.tensor([0.02, *[1.0] * 7])
    assert ExampleGradients("", layer, alike, pulls=sure).magnified() == pytest.approx(1 / 7, rel=1e-4)
    # Of examples that want a millionth of the largest a factor of a hundred is explained, and not the rest.
    steep = torch.tensor([1.0, *[1e-6] * 7])
    assert ExampleGradients("", layer, steep, pulls=steep).magnified() == pytest.approx(1 / 7e-4, rel=1e-2)


def test_examples_without_loss_do_not_make_a_few_enough_to_judge() -> None:
    outputs = torch.zeros(12, 16)
    outputs[torch.arange(16) % 7, torch.arange(16)] = 1.0  # each neuron learns from one of seven
    seven = torch.tensor([1.0] * 7 + [0.0] * 5)
    gradients = ExampleGradients("", nn.Linear(4, 16), torch.ones(12), None, outputs, seven)
    assert gradients.exposed() == 0.0
    assert ExampleGradients("", nn.Linear(4, 16), torch.ones(12), None, outputs, torch.ones(12)).exposed() == 1.0
