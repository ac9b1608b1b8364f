"""Named random streams: reproducible, independent of each other."""

import hashlib

import numpy as np
import pytest
import torch

from fedsec import seeds
from fedsec.errors import InputError
from fedsec.seeds import Streams, noise_generator


def test_a_stream_depends_on_its_name_and_the_root_only() -> None:
    draws = {
        name: Streams(root).numpy(*name[1:]).integers(2**62)
        for root in (0, 1)
        for name in [
            (root, "init"),
            (root, "partition"),
            (root, "client", 1),
            (root, "client", 11),
            (root, "client", 1, 1),
        ]
    }
    assert len(set(draws.values())) == len(draws)
    again = Streams(0)
    again.numpy("noise").random(1000)
    assert again.numpy("init").integers(2**62) == draws[0, "init"]


def test_known_values_never_change_between_versions() -> None:
    """A published result names its seed, so the derivation is part of the format."""
    assert Streams(0).seed("init") == 2290983989986486496
    assert Streams(3).torch("x").initial_seed() == Streams(3).seed("x")
    assert np.array_equal(Streams(5).numpy("a", 1).random(4), Streams(5).numpy("a", 1).random(4))


def test_noise_has_more_than_the_32_bits_that_torch_keeps_of_a_seed() -> None:
    low, high = 123, 123 + (5 << 32)
    same = [torch.randn(100, generator=torch.Generator().manual_seed(seed)) for seed in (low, high)]
    assert torch.equal(*same)  # why `noise_generator` is needed
    keys = low, high, 123 + (1 << 64), 123 + (1 << 120), 124
    drawn = torch.stack([torch.randn(5000, generator=noise_generator(key)) for key in keys])
    others = torch.corrcoef(drawn) - torch.eye(len(keys))
    assert float(others.abs().max()) < 5 / 5000**0.5
    assert torch.equal(drawn[1], torch.randn(5000, generator=noise_generator(high)))


def test_noise_is_the_mersenne_twister_of_the_whole_seed() -> None:
    """NumPy's generator from the same 624 words gives the same numbers."""
    words = np.random.SeedSequence(7).generate_state(624)
    words[0] |= np.uint32(1 << 31)
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    expected = (twister.random_raw(2000) % 2**24) / 2**24
    found = torch.rand(2000, generator=noise_generator(7))
    assert np.array_equal(found.double().numpy(), expected)


def test_noise_is_normal() -> None:
    drawn = torch.randn(200_000, generator=Streams(1).noise("noise", "client", 3)).double()
    size = len(drawn) ** 0.5
    assert abs(float(drawn.mean())) < 4 / size
    assert abs(float(drawn.std()) - 1) < 4 / (2**0.5 * size)
    for lag in (1, 2, 8, 16, 623, 624):
        assert abs(float((drawn[lag:] * drawn[:-lag]).mean())) < 4.5 / size
    inside = [float((drawn.abs() < bound).double().mean()) for bound in (1, 2, 3)]
    assert inside == pytest.approx([0.6827, 0.9545, 0.9973], abs=0.004)


def test_keys_of_streams_are_128_bits_and_all_different() -> None:
    keys = {Streams(root).key("noise", "client", client) for root in (0, 1) for client in range(500)}
    assert len(keys) == 1000
    assert len({key % 2**64 for key in keys}) == len({key >> 64 for key in keys}) == 1000
    assert max(keys).bit_length() > 120
    named = [Streams(4).noise("a", 1), noise_generator(Streams(4).key("a", 1))]
    assert torch.equal(*(torch.randn(9, generator=each) for each in named))


def test_a_generator_of_another_form_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "STATE_BEGINS", 32)
    seeds._check_layout.cache_clear()
    with pytest.raises(RuntimeError, match="in another form"):
        noise_generator(0)
    monkeypatch.undo()
    noise_generator(0)


def test_no_stream_of_a_secret_root_tells_anything_of_another() -> None:
    """Streams of small roots are found by trying roots; these are keyed hashes of their names, and no root is left."""
    root = 2**64 + 12345
    streams = Streams(root)
    names = [("attack", "round", 1), ("attack", "round", 2), ("noise", "client", 0), ("client", 0, "round", 1)]
    for name in names:
        keyed = hashlib.blake2b("/".join(map(str, name)).encode(), key=root.to_bytes(64, "little")).digest()
        sequence = streams.sequence(*name)
        assert sequence.entropy == int.from_bytes(keyed, "little")
        assert sequence.spawn_key == ()  # nothing of the root is left in what an attacker is given
    assert len({streams.seed(*name) for name in names}) == len(names)
    assert streams.seed("init") != Streams(root + 1).seed("init")
    assert streams.seed("init") != Streams(12345).seed("init")
    assert torch.equal(*(torch.rand(3, generator=Streams(root).noise("x")) for _ in range(2)))


@pytest.mark.parametrize("root", [-1, 2**512])
def test_roots_that_are_none(root: int) -> None:
    with pytest.raises(InputError, match="expected a root from 0"):
        Streams(root)
