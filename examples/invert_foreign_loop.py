"""fedsec's gradient inversion against somebody else's training.

The client below is plain PyTorch and knows nothing of fedsec: it has two photographs and sends the server one gradient
of a small network. A few lines show what the server can see in it.

    uv run python examples/invert_foreign_loop.py
"""

import torch
from skimage import data
from torch import Tensor, nn

from fedsec.attacks import Decoupled, InvertingGradients
from fedsec.threat import Observation

SIDE, CLASSES = 24, 10


def network() -> nn.Module:
    """A classifier of somebody's own, of images in [0, 1]."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.Sigmoid(), nn.Conv2d(12, 12, 5, padding=2), nn.Sigmoid()),
        *(nn.Flatten(), nn.Linear(12 * (SIDE // 2) ** 2, CLASSES)),
    )
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def photographs() -> Tensor:
    """A cat and a cup of coffee, small."""
    cameras = data.chelsea(), data.coffee()  # type: ignore[no-untyped-call]
    pictures = [torch.tensor(camera).permute(2, 0, 1)[None] / 255 for camera in cameras]
    return torch.cat([nn.functional.adaptive_avg_pool2d(one[..., : one.shape[-2]], SIDE) for one in pictures])


def main() -> None:
    """One step of a client, and what a curious server makes of it."""
    torch.set_num_threads(1)  # the model is too small for more
    torch.manual_seed(0)
    model, images, labels = network(), photographs(), torch.tensor([3, 8])
    gradient = torch.autograd.grad(nn.functional.cross_entropy(model(images), labels), list(model.parameters()))
    # All that the server has. It does not know the labels.
    seen = Observation.of_gradient(model, gradient, input_shape=(3, SIDE, SIDE), num_classes=CLASSES, batch_size=2)
    for attack in (Decoupled(iterations=20), InvertingGradients(iterations=300)):
        recovered = attack.reconstruct(seen)
        if recovered.images is None or recovered.labels is None:
            continue
        errors = (recovered.images[:, None] - images).square().flatten(2).mean(2).amin(0)
        psnr, gray = (-10 * error.log10() for error in (errors, (0.5 - images).square().flatten(1).mean(1)))
        print(f"{type(attack).__name__:18} PSNR {psnr[0]:.1f}, {psnr[1]:.1f} dB, a gray image", end=" ")
        print(f"{gray[0]:.1f}, {gray[1]:.1f} dB, labels {recovered.labels.tolist()}")


if __name__ == "__main__":
    main()
