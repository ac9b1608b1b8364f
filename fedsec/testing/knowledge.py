"""The checks of `fedsec.testing` for what attacks and defends knowledge transfer (FedGKT)."""

from functools import partial

import torch
from torch import Tensor, nn

from fedsec.defense.knowledge import Admission, KnowledgeDefense
from fedsec.errors import InputError
from fedsec.testing.checks import (
    devices,
    expect,
    expect_error,
    global_randomness_untouched,
    identical,
    pictures,
    random_matrix,
    seeded,
)
from fedsec.threat import FeatureInversion, FeatureObservation, Knowledge, KnowledgePoisoning, PixelScale

__all__ = ["check_feature_inversion", "check_knowledge_defense", "check_knowledge_poisoning"]

_PARTS = ("features", "logits", "labels")
_CLASSES = 5


def check_knowledge_poisoning(attack: KnowledgePoisoning, *, changes: tuple[str, ...]) -> None:
    """Put an attack on knowledge transfer through its contract.

    Args:
        attack: the attack.
        changes: which parts it changes, of "features", "logits" and "labels"; it leaves the others exactly as they are.

    Raises:
        AssertionError: the attack breaks the contract.
    """
    for device in devices():
        for dtype in (torch.float32, torch.float64, torch.float16):
            for count in (1, 40):
                honest = _knowledge(count, device)
                _check_distort(
                    attack, Knowledge(honest.features.to(dtype), honest.logits.to(dtype), honest.labels), changes
                )


def check_knowledge_defense(defense: KnowledgeDefense) -> None:
    """Put a defense of knowledge transfer through its contract.

    Args:
        defense: the defense.

    Raises:
        AssertionError: the defense breaks the contract.
    """
    for device in devices():
        for sizes in ((40,), (40, 3), (1, 40, 40, 64)):
            _check_admit(defense, [_knowledge(size, device, seed) for seed, size in enumerate(sizes)])
        _check_supervise(defense, device)
    expect(defense.admit([]) == [], "no admissions of no clients")


def check_feature_inversion(attack: FeatureInversion, *, exact: bool = True, gain: float | None = 6.0) -> None:
    """Put an inversion of feature maps through its contract.

    Args:
        attack: the attack, with a budget of seconds.
        exact: whether the attacker knows the client's own extractor, or only the one that its training began with.
        gain: the reconstructions' mean PSNR must be so many dB above that of a gray image; None: not checked.

    Raises:
        AssertionError: the attack breaks the contract.
    """
    for device in devices():
        images, labels = pictures(2, device)
        scale = PixelScale((0.5,), (0.4,))  # the pictures' own, as a data set's is
        own, first = _extractors(device)
        with torch.no_grad():
            features = own(scale.apply(images))
        known = own if exact else first
        seen = FeatureObservation(known, features, (1, 16, 16), scale, labels, exact)
        before = _held(seen)
        with global_randomness_untouched():
            result = attack.reconstruct(seen, generator=seeded(1))
        after = _held(seen)
        same = before.keys() == after.keys() and all(torch.equal(row, after[name]) for name, row in before.items())
        expect(same and not seen.extractor.training, "the observation must not change")
        untold = FeatureObservation(known, features, (1, 16, 16), scale, None, exact)
        again = attack.reconstruct(untold, generator=seeded(1))
        if result.images is None or again.images is None:
            raise AssertionError("expected: images")
        expect(torch.allclose(result.images, again.images, atol=1e-5), "equal generators must give equal results")
        expect(
            result.labels is not None and torch.equal(result.labels, labels),
            "the observed labels, in their order",
        )
        expect(again.labels is None, "no labels where none are observed")
        if gain is not None:
            errors = (result.images - images).square().flatten(1).mean(1)
            gray = (images - 0.5).square().flatten(1).mean(1)
            better = 10 * float((gray / errors).log10().mean())
            expect(better >= gain, f"a PSNR of at least {gain} dB above a gray image's, not {better:.1f} dB")


def _held(seen: FeatureObservation) -> dict[str, Tensor]:
    """Copies of the features and of the extractor's state."""
    state = {f"extractor {name}": row.clone() for name, row in seen.extractor.state_dict().items()}
    return {"features": seen.features.clone(), **state}


def _extractors(device: str) -> tuple[nn.Module, nn.Module]:
    """A client's extractor, and the one that its training began with."""
    generator = seeded(0)
    with torch.random.fork_rng(devices=[]):
        first, own = (nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(2))
    for name, row in first.named_parameters():
        if name == "0.weight":
            row.data.copy_(torch.randn(row.shape, generator=generator) / 3)
    own.load_state_dict(first.state_dict())
    moving: list[Tensor] = [*own.parameters(), own.get_buffer("1.running_mean"), own.get_buffer("1.running_var")]
    for moved in moving:
        moved.detach().add_(0.05 * torch.rand(moved.shape, generator=generator))
    return own.to(device).eval(), first.to(device).eval()


def _knowledge(count: int, device: str, seed: int = 0) -> Knowledge:
    """What an honest client could send: its logits are a function of its features, and right."""
    noise = random_matrix(count, 4 * 36, device=device, seed=seed).view(count, 4, 6, 6)
    features = (noise + 1.5 * random_matrix(count, 4, device=device, seed=seed + 1)[..., None, None]).relu()
    logits = features.mean((2, 3)) @ random_matrix(4, _CLASSES, device=device, seed=1)
    return Knowledge(features, logits, logits.argmax(1))


def _check_distort(attack: KnowledgePoisoning, honest: Knowledge, changes: tuple[str, ...]) -> None:
    def distort(num_classes: int = _CLASSES) -> Knowledge:
        return attack.distort(honest, num_classes=num_classes, generator=seeded(3))

    before = {part: getattr(honest, part).clone() for part in _PARTS}
    with global_randomness_untouched():
        distorted = distort()
    expect(all(identical(getattr(honest, part), before[part]) for part in _PARTS), "the knowledge must not change")
    again = distort()
    for part in _PARTS:
        sent = getattr(distorted, part)
        expect(identical(sent, getattr(again, part)), "equal generators must give equal results")
        if part not in changes:
            expect(identical(sent, before[part]), f"{part} must stay as they are")
        elif len(honest) > 1:
            expect(not identical(sent, before[part]), f"{part} must change")
    expect_error(InputError, partial(distort, _CLASSES + 1), "another number of classes")


def _check_admit(defense: KnowledgeDefense, clients: list[Knowledge]) -> None:
    before = [getattr(client, part).clone() for client in clients for part in _PARTS]
    with global_randomness_untouched():
        verdicts = defense.admit(clients)
    after = [getattr(client, part) for client in clients for part in _PARTS]
    unchanged = all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    expect(unchanged, "what clients sent must not change")
    _expect_admissions(verdicts, clients, [0] * len(clients))
    pairs = list(zip(verdicts, defense.admit(clients), strict=True))
    expect(all(torch.equal(one.examples, other.examples) for one, other in pairs), "the same admissions twice")
    expect(all(torch.equal(one.distillation, other.distillation) for one, other in pairs), "the same admissions twice")
    features, logits = clients[0].features.clone(), clients[0].logits.clone()
    features[0, -1, -1, -1] = torch.nan
    logits[-1, -1] = torch.inf
    broken = [Knowledge(features, logits, clients[0].labels), *clients[1:]]
    verdicts = defense.admit(broken)
    lost = {0, len(logits) - 1}
    _expect_admissions(verdicts, broken, [len(lost)] + [0] * (len(clients) - 1))
    for row in lost:
        admitted = float(verdicts[0].examples[row]) + float(verdicts[0].distillation[row])
        expect(admitted == 0, "an example that is not finite has no weight")


def _expect_admissions(verdicts: list[Admission], clients: list[Knowledge], rejected: list[int]) -> None:
    expect(len(verdicts) == len(clients), "one admission for each client")
    for verdict, client, count in zip(verdicts, clients, rejected, strict=True):
        for weights in (verdict.examples, verdict.distillation):
            expect(weights.shape == client.labels.shape, "one weight for each example")
            expect(weights.device == client.features.device, "weights on the clients' device")
        expect(verdict.rejected == count, f"{count} examples that are not finite, not {verdict.rejected}")


def _check_supervise(defense: KnowledgeDefense, device: str) -> None:
    logits = random_matrix(6, _CLASSES, device=device).requires_grad_()
    labels = torch.arange(6, device=device) % _CLASSES
    losses = defense.supervise(logits, labels)
    expect(losses.shape == (6,) and bool(losses.isfinite().all()), "one finite loss for each example")
    expect(losses.requires_grad, "a loss that can be differentiated")
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    raising = gradient[torch.arange(6, device=device), labels] < 0
    expect(bool(gradient.isfinite().all() and raising.all()), "a loss that falls as the label's logit rises")
