"""Analytic recovery: a linear first layer with a bias hands out its input.

References: Phong, Aono, Hayashi, Wang, Moriai, Privacy-preserving deep learning via additively homomorphic encryption,
IEEE TIFS 13(5), 2018 (the closed form); Geiping et al., NeurIPS 2020, arXiv:2003.14053, proposition 3.1; Zhu, Blaschko,
R-GAP: recursive gradient attack on privacy, ICLR 2021, arXiv:2010.07733.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.head import find_head
from fedsec.matching.labels import labels_of
from fedsec.matching.separation.first_layer import first_linear, images_of_neurons, pixels
from fedsec.threat import Inversion, Observation, Reconstruction
from fedsec.threat.inversion import Watch


class Analytic(Inversion):
    """Reads a single image off the gradient of a first linear layer with a bias, in closed form.

    With z = W x + b, the gradients are g_W = g_z x^T and g_b = g_z, so that

        x = g_b^T g_W / (g_b^T g_b)

    in which every neuron votes. This is exact for one image and one gradient, whatever follows the layer.

    In a batch each neuron's g_W[r] / g_b[r] is a mixture of the images that activate it, and an image itself where only
    one does. Such neurons agree with each other; those whose mixture leaves the range of pixels cannot be one. A linear
    model gives the row of each label, in the order of the labels; elsewhere nothing ties an image to its label. (A
    linear model's first layer is its last, and `Decoupled` unmixes a batch of fewer images than classes exactly.)

    A client's update over several steps is read as one mean gradient, which makes the result approximate. Of an update
    whose defense the attacker knows, only entries that were kept vote; pixels without any are gray.

    Raises:
        InputError: on use: no linear layer with a bias receives the image itself; only signs of its gradient were sent;
            or a batch is to be unmixed from rows of which the defense dropped entries.

    Cost:
        One pass over the gradient of the first layer.

    Limits:
        Needs a linear first layer with a bias that receives the image itself. In a batch, only images that have a
        neuron to themselves come back; steps of local training make it approximate.

    Reference: Phong et al., IEEE TIFS 2018
    """

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        observations, doubts = consistent(observations)
        name = first_linear("analytic", observations[0], generator)
        head = find_head(observations[0])
        results = [
            _recover(observation, name, None if head is None else head.name, generator) for observation in observations
        ]
        return with_notes(results, doubts)


def _recover(observation: Observation, name: str, head: str | None, generator: torch.Generator) -> Reconstruction:
    gradient, prefix = observation.gradient, f"{name}." if name else ""
    weight, bias = gradient[f"{prefix}weight"].double(), gradient[f"{prefix}bias"].double()
    labels = None if head is None and observation.labels is None else labels_of(observation, generator)
    size, notes = observation.batch_size, []
    keeps_weight, keeps_bias = _kept(observation, f"{prefix}weight"), _kept(observation, f"{prefix}bias")
    weight, bias = weight * keeps_weight, bias * keeps_bias
    _check_kept(observation, keeps_weight, keeps_bias)
    if not bool(bias.abs().max() > 0):
        images = torch.full((size, *observation.input_shape), 0.5, device=bias.device)
        notes.append("the first layer's bias has no gradient, so that nothing can be recovered; gray images instead")
        return Reconstruction(images, labels, notes=tuple(notes))
    if size == 1:
        votes = bias.square() @ keeps_weight
        images = pixels(observation, (bias @ weight / votes)[None])
        unseen = (votes == 0).view(images.shape)
        if bool(unseen.any()):
            images = torch.where(unseen, 0.5, images)
            notes.append(f"{float(unseen.double().mean()):.0%} of the pixels were dropped by the defense: gray")
    elif name == head and labels is not None:
        images = _rows(observation, weight, bias, labels)
        notes.append("images of a batch are mixtures, each dominated by its label's images")
    else:
        images, pure = images_of_neurons(observation, weight, bias)
        notes.append(f"{pure} of {size} images are what several neurons agree on, the others may be mixtures")
        if labels is not None:
            notes.append("labels and images are not in the same order")
    if observation.local is not None:
        notes.append("several local steps were read as one mean gradient: approximate")
    if observation.distortion is not None and any(observation.distortion.noise.values()):
        notes.append("the gradient carries noise: approximate")
    dtype = gradient[f"{prefix}weight"].dtype
    return Reconstruction(images.clamp(0, 1).to(dtype), labels, notes=tuple(notes))


def _kept(observation: Observation, name: str) -> Tensor:
    """One where a parameter's gradient was kept, zero elsewhere."""
    row = observation.update[name].double()
    mask = None if observation.distortion is None else observation.distortion.kept.get(name)
    return torch.ones_like(row) if mask is None else mask.to(row)


def _check_kept(observation: Observation, *masks: Tensor) -> None:
    if observation.distortion is None:
        return
    if observation.distortion.signs:
        raise InputError(
            "analytic divides the first layer's gradients by each other, and only their signs were sent; expected "
            "their values, or an attack that matches updates, such as inverting_gradients"
        )
    if observation.batch_size > 1 and not all(bool(mask.all()) for mask in masks):
        raise InputError(
            "analytic unmixes a batch from whole rows of the first layer's gradient, of which the defense dropped "
            "entries; expected one image, or an attack that matches updates, such as inverting_gradients"
        )


def _rows(
    observation: Observation, weight: Tensor, bias: Tensor, labels: Tensor
) -> Float[Tensor, "batch channels height width"]:
    """The row of each label; where its bias has no gradient, the combination of all rows."""
    mean = bias @ weight / (bias @ bias)
    chosen = bias[labels, None]
    return pixels(observation, torch.where(chosen != 0, weight[labels] / chosen.where(chosen != 0, 1), mean))
