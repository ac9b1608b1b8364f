"""`fedsec.invert` with a server that makes the model it sends."""

from typing import Any

import pytest
import torch
from torch import nn

import fedsec
from fedsec.attacks import Imprint
from fedsec.data import load
from fedsec.data.normalization import Normalization
from fedsec.errors import InputError
from fedsec.inversion.malicious import sent_model
from fedsec.inversion.settings import InversionSettings
from fedsec.models import build
from fedsec.threat import ServerView


def attacked(**known: Any) -> Any:
    options = {"bins": 256}
    return fedsec.invert(dataset="digits", model="mlp", inversion="imprint", inversion_options=options, **known)


@pytest.mark.parametrize("work", [{}, {"local": {"steps": 4, "batch_size": 6, "lr": 0.05}}])
def test_a_large_batch_comes_back(work: dict[str, Any]) -> None:
    result = attacked(batch_size=24, knowledge={"auxiliary": 300}, trials=2, **work)
    assert result.metrics["recovered"] > 0.6
    assert result.metrics["psnr"] > 40
    assert "300 other images of the dataset" in result.content["given"]


def test_a_server_without_images_guesses_how_bright_they_are() -> None:
    assert 0.1 < attacked(batch_size=12).metrics["recovered"] <= 1


def test_auxiliary_images_are_the_dataset_s_and_for_servers_that_make_a_model() -> None:
    with pytest.raises(InputError, match="inverts the model as it is; expected 0"):
        fedsec.invert(dataset="digits", model="mlp", inversion="analytic", knowledge={"auxiliary": 3})
    with pytest.raises(InputError, match="that no client has"):
        attacked(knowledge={"auxiliary": 10**6})
    with pytest.raises(InputError, match="--auxiliary must not be negative"):
        InversionSettings(auxiliary=-1)


def test_folders_of_other_inversions_keep_their_names() -> None:
    assert "auxiliary" not in InversionSettings(inversion="dlg").as_json()["knowledge"]
    few, many = (InversionSettings(inversion="imprint", auxiliary=count) for count in (1, 2))
    assert few.fingerprint() != many.fingerprint()


def test_auxiliary_images_are_drawn_with_their_labels() -> None:
    views = list[ServerView]()

    class Spy(Imprint):
        def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
            views.append(view)
            return super().build(view, generator=generator)

    others, model = load("digits").train, build("mlp", (1, 8, 8), 10, hidden=(4,))
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        shape: dict[str, Any] = {"input_shape": (1, 8, 8), "num_classes": 10, "batch_size": 2}
        sent_model(
            Spy(4), model, **shape, normalization=Normalization(), auxiliary=5, others=others, generator=generator
        )
    one, other = views
    assert one.auxiliary is not None
    assert other.auxiliary is not None
    assert one.auxiliary_labels is not None
    assert not torch.equal(one.auxiliary, other.auxiliary)
    same = (one.auxiliary[:, None] == others.images.float() / 255).flatten(2).all(2)
    assert all(int(label) in others.labels[row] for label, row in zip(one.auxiliary_labels, same, strict=True))
