"""LPIPS with weights that the test makes: right layers, right files, and never anything random."""

import hashlib
import io
import urllib.error
import warnings
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import lpips as package
import pytest
import torch
import torchvision
from torch import Tensor, nn

from fedsec.errors import DataError, FedsecError, InputError
from fedsec.metrics.images import score
from fedsec.metrics.lpips import BACKBONES, Backbone, Lpips, MissingWeightsError, Network

MODELS: dict[Network, Callable[[], nn.Module]] = {
    "alex": torchvision.models.alexnet,
    "vgg": torchvision.models.vgg16,
    "squeeze": torchvision.models.squeezenet1_1,
}
# After which of torchvision's feature layers the metric looks, counted by hand from the papers' figures.
TAPS = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30), "squeeze": (2, 5, 8, 10, 11, 12, 13)}
URL = "https://models.example/"


def random_features(network: Network, seed: int = 0) -> nn.Sequential:
    """A backbone's convolutions with weights of their own; the classifier behind them is never allocated."""
    with torch.device("meta"):
        features = MODELS[network]().get_submodule("features")
    assert isinstance(features, nn.Sequential)
    features.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in features.parameters():
            spread = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.normal_(0, spread, generator=generator)
    return features


def save(features: nn.Sequential, folder: Path, network: Network) -> Backbone:
    """A weights file as torchvision publishes them, the digits of its hash in its name."""
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    content = io.BytesIO()
    torch.save(state | {"classifier.1.weight": torch.zeros(2, 3)}, content)
    prefix = hashlib.sha256(content.getvalue()).hexdigest()[:8]
    backbone = Backbone(f"{network}-{prefix}.pth", prefix, f"{URL}{network}-{prefix}.pth")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / backbone.file).write_bytes(content.getvalue())
    return backbone


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked for; nothing is there."""
    addresses: list[str] = []

    def urlopen(request: Any, timeout: float) -> Any:
        addresses.append(request.full_url)
        assert timeout <= 15
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return addresses


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> Path:
    """Torch's folder of checkpoints, in a home of its own where nothing is yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def squeeze(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """The smallest network, its weights in torch's folder and known to the registry."""
    backbone = save(random_features("squeeze"), checkpoints, "squeeze")
    monkeypatch.setitem(BACKBONES, "squeeze", backbone)
    return backbone


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(network: Network, features: nn.Sequential, images: Tensor, originals: Tensor) -> Tensor:
    """The paper's formula, from torchvision's layers and the linear weights that the package ships."""
    shipped = Path(package.__file__).parent / "weights" / "v0.1" / f"{network}.pth"
    heads = torch.load(shipped, map_location="cpu", weights_only=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    total = torch.zeros(len(images))
    for number, tap in enumerate(TAPS[network]):
        sides = []
        for batch in (images, originals):
            maps = features[:tap]((batch - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))
            sides.append(maps / maps.square().sum(1, keepdim=True).sqrt().clamp(min=1e-10))
        weights = heads[f"lin{number}.model.1.weight"].view(1, -1, 1, 1)
        total += (weights * (sides[0] - sides[1]).square()).sum(1).mean((1, 2))
    return total


@pytest.mark.parametrize("network", MODELS)
def test_against_the_formula(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = random_features(network)
    monkeypatch.setitem(BACKBONES, network, save(features, tmp_path, network))
    before = torch.random.get_rng_state()
    metric = Lpips.load(network, weights=tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    images, originals = pictures(3, 3, 64, 80), pictures(3, 3, 64, 80, seed=1)
    found = metric(images, originals)
    with torch.no_grad():
        expected = by_hand(network, features, images, originals)
    assert float(expected.min()) > 1e-3
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert metric(images, images).tolist() == [0, 0, 0]


def test_every_weight_comes_from_the_file(squeeze: Backbone) -> None:
    reference = random_features("squeeze")
    slices = Lpips.load("squeeze")._module.get_submodule("net")(x := pictures(2, 3, 64, 64))
    for tap, found in zip(TAPS["squeeze"], slices, strict=True):
        torch.testing.assert_close(found, reference[:tap](x), rtol=0, atol=0)


def test_small_gray_images(squeeze: Backbone) -> None:
    metric = Lpips.load("squeeze")
    images, originals = pictures(20, 1, 28, 28), pictures(20, 1, 28, 28, seed=1)  # more than one chunk
    found = metric(images, originals)
    assert found.shape == (20,)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    large = [nn.functional.interpolate(x, (64, 64), mode="bilinear").repeat(1, 3, 1, 1) for x in (images, originals)]
    torch.testing.assert_close(found, metric(*large))
    torch.testing.assert_close(found, metric(originals, images))
    torch.testing.assert_close(found[7:8], metric(images[7:8], originals[7:8]))
    assert metric(images, images).tolist() == [0] * 20
    assert metric(pictures(1, 3, 8, 12), pictures(1, 3, 8, 12, seed=1)).isfinite().all()


def test_names(squeeze: Backbone) -> None:
    metric = Lpips.load("squeeze")
    assert metric.name(28, 28) == metric.name(100, 63) == "lpips_squeeze@64"
    assert metric.name(64, 64) == metric.name(224, 64) == "lpips_squeeze"


def test_in_scores(squeeze: Backbone) -> None:
    metric = Lpips.load("squeeze")
    originals = pictures(2, 1, 28, 28)
    images = torch.stack([pictures(1, 28, 28, seed=3), originals[0]])
    scores = score(
        images, originals, labels=None, true_labels=torch.tensor([0, 1]), mean_image=originals.mean(0), lpips=metric
    )
    expected = metric(images.flip(0), originals)
    assert [image.found.lpips for image in scores.images] == pytest.approx(expected.tolist())
    metrics = scores.metrics
    assert metrics["lpips"] == pytest.approx(float(expected.mean()))
    assert metrics["lpips_best"] == 0
    assert metrics["lpips_gray"] == pytest.approx(float(metric(torch.full_like(originals, 0.5), originals).mean()))
    assert metrics["lpips_mean_image"] == pytest.approx(
        float(metric(originals.mean(0).expand_as(originals), originals).mean())
    )
    assert scores.as_json()["settings"]["lpips"] == "lpips_squeeze@64"


def test_absent_and_offline(checkpoints: Path, asked: list[str]) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        Lpips.load("alex", download=False)
    assert isinstance(caught.value, FedsecError)
    advice = str(caught.value)
    assert "\n" not in advice
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in advice
    assert str(checkpoints) in advice
    assert asked == []
    assert not checkpoints.exists()


def test_absent_and_the_download_fails(checkpoints: Path, asked: list[str]) -> None:
    with pytest.raises(MissingWeightsError, match=r"no route to host.*; get https://download\.pytorch\.org"):
        Lpips.load("vgg")
    assert asked == [BACKBONES["vgg"].url]
    assert list(checkpoints.iterdir()) == []


def test_absent_where_nothing_can_be_written(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(MissingWeightsError, match="Not a directory"):
        Lpips.load("vgg")
    assert asked == []


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    class Response(io.BytesIO):
        headers = Message()

    Response.headers["Content-Length"] = str(len(content))
    monkeypatch.setattr("urllib.request.urlopen", lambda request, timeout: Response(content))


def test_downloaded_once(squeeze: Backbone, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = (checkpoints / squeeze.file).read_bytes()
    (checkpoints / squeeze.file).unlink()
    serve(monkeypatch, published)
    calls: list[tuple[str, int, int | None]] = []
    Lpips.load("squeeze", progress=lambda *call: calls.append(call))
    assert calls[-1] == (squeeze.file, len(published), len(published))
    assert [path.name for path in checkpoints.iterdir()] == [squeeze.file]
    assert (checkpoints / squeeze.file).read_bytes() == published
    serve(monkeypatch, b"nothing that anybody should ask for again")
    Lpips.load("squeeze")


def test_another_file_on_the_server_is_not_kept(
    squeeze: Backbone, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoints / squeeze.file).unlink()
    serve(monkeypatch, b"<html>Please log in</html>")
    with pytest.raises(MissingWeightsError, match="the server gave another file"):
        Lpips.load("squeeze")
    assert list(checkpoints.iterdir()) == []


@pytest.mark.parametrize("where", ["checkpoints", "given"])
def test_a_file_with_another_hash_is_never_used(
    where: str, squeeze: Backbone, checkpoints: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoints / squeeze.file if where == "checkpoints" else tmp_path / "mine.pth"
    other = save(random_features("squeeze", seed=1), tmp_path, "squeeze")
    path.write_bytes((tmp_path / other.file).read_bytes())
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was interpreted"))
    with pytest.raises(DataError, match=rf"{path.name} is truncated, corrupt or not the published file .*{URL}"):
        Lpips.load("squeeze", weights=path if where == "given" else None)
    assert asked == []
    assert path.exists()


def test_given_file(squeeze: Backbone, checkpoints: Path, tmp_path: Path, asked: list[str]) -> None:
    (checkpoints / squeeze.file).rename(tmp_path / "mine.pth")
    Lpips.load("squeeze", weights=tmp_path / "mine.pth")
    with pytest.raises(InputError, match=r"no file .*other\.pth"):
        Lpips.load("squeeze", weights=tmp_path / "other.pth")
    with pytest.raises(InputError, match=f"no file .*{squeeze.file}"):
        Lpips.load("squeeze", weights=checkpoints)
    assert asked == []


def test_warnings_of_others_are_not_silenced(squeeze: Backbone) -> None:
    filters = list(warnings.filters)
    Lpips.load("squeeze")
    assert list(warnings.filters) == filters


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 2, 8, 8), (2, 2, 8, 8)), "one or three channels"),
        (((2, 1, 8, 8), (2, 3, 8, 8)), "one shape"),
    ],
)
def test_bad_images(squeeze: Backbone, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Lpips.load("squeeze")(*(torch.zeros(shape) for shape in shapes))


def test_unknown_network() -> None:
    network: Any = "resnet"
    with pytest.raises(InputError, match="no network 'resnet', only alex, vgg, squeeze"):
        Lpips.load(network)


def test_the_published_files_are_torchvisions() -> None:
    weights: dict[Network, Any] = {
        "alex": torchvision.models.AlexNet_Weights.IMAGENET1K_V1,
        "vgg": torchvision.models.VGG16_Weights.IMAGENET1K_V1,
        "squeeze": torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    }
    for network, backbone in BACKBONES.items():
        assert backbone.url == weights[network].url
        assert backbone.url.endswith(f"/{backbone.file}")
        assert backbone.file.endswith(f"-{backbone.sha256_prefix}.pth")
        assert len(backbone.sha256_prefix) == 8
