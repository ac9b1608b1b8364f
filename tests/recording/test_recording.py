"""Recordings hold what was received to the bit, whole rounds or none, and notice whatever becomes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.defense import aggregate_state_dicts
from fedsec.defenses import Median
from fedsec.errors import BusyError, InputError
from fedsec.recording import Recorder, open_recording, record, recorder
from fedsec.threat import StateLayout


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def moved(state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """What a client sends back: every entry is another one than it was."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: row + torch.randn(row.shape, generator=generator) if row.is_floating_point() else row + seed
        for name, row in state.items()
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Equal to the bit, NaN included, in the same order."""
    if list(one) != list(other):
        return False
    pairs = [(one[name], other[name]) for name in one]
    return all(a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b)) for a, b in pairs)


def bits(row: Tensor) -> Tensor:
    return row.contiguous().view(-1).view(torch.uint8)


def recorded(folder: Path, rounds: int = 3) -> list[dict[Any, dict[str, Tensor]]]:
    """A recording of a loop that averages; what its clients sent."""
    model, received = network(), []
    with record(folder, reference=model, num_clients=9, local={"lr": 0.1}, about={"note": "toy"}) as recording:
        for number in range(1, rounds + 1):
            sent = {name: row.clone() for name, row in model.state_dict().items()}
            states = {client: moved(sent, 10 * number + place) for place, client in enumerate([4, "north", 2])}
            sizes = {4: 10, "north": 30, 2: 20}
            recording.round(number, sent=sent, received=states, num_examples=sizes, metrics={"accuracy": number / 10})
            received.append(states)
            model.load_state_dict(states[4])
    return received


def test_a_state_dict_comes_back_to_the_bit(tmp_path: Path) -> None:
    received = recorded(tmp_path / "seen")
    recording = open_recording(tmp_path / "seen")
    assert recording.rounds == (1, 2, 3)
    assert recording.about == {"note": "toy"}
    assert recording.manifest.num_clients == 9
    assert set(recording.manifest.made_with) == {"fedsec", "torch", "safetensors", "python"}
    for seen, states in zip(recording, received, strict=True):
        assert seen.clients == (4, "north", 2)
        assert seen.num_examples is not None
        assert seen.num_examples.tolist() == [10, 30, 20]
        assert all(same(seen.message(client), states[client]) for client in states)
        assert seen.local == {"lr": 0.1}
    assert recording[2].metrics == {"accuracy": 0.2}
    files = sorted(path.name for path in (tmp_path / "seen").iterdir() if path.name != ".lock")
    assert files == ["manifest.json", *(f"round-{number:06d}.safetensors" for number in (1, 2, 3))]


def test_rows_are_parameters_without_buffers(tmp_path: Path) -> None:
    received = recorded(tmp_path)
    seen = open_recording(tmp_path)[2]
    names = [name for name, _ in network().named_parameters()]
    assert list(seen.shapes) == names
    sent = received[0][4]  # the loop went on with client 4's state
    for row, states in zip(seen.updates, received[1].values(), strict=True):
        assert torch.equal(row, torch.cat([(states[name] - sent[name]).flatten() for name in names]))
    assert seen.step is not None
    assert torch.equal(seen.step, seen.updates[0])
    assert open_recording(tmp_path)[3].step is None  # nobody knows what came of the last round


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_rows_are_those_that_aggregation_sees(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("seen")
    generator = torch.Generator().manual_seed(seed)
    sent = {
        "w": torch.randn(3, 2, generator=generator).half(),
        "bn.running_var": torch.rand(3, generator=generator),
        "mask": torch.tensor([0.0, -torch.inf]),
        "b": torch.randn(2, generator=generator).to(torch.bfloat16 if seed % 2 else torch.float64),
        "n": torch.tensor(3),
    }
    states = [moved(sent, seed + place) for place in range(3)]
    with record(folder) as recording:
        recording.round(sent=sent, received=states)
    layout = StateLayout.of(sent)
    seen = open_recording(folder)[1]
    assert same({"": seen.updates}, {"": layout.updates(states)})
    assert {name: torch.Size(shape) for name, shape in seen.shapes.items()} == layout.shapes
    new, verdict = aggregate_state_dicts(states, Median(), reference=sent, statistics="reference")
    assert same(seen.moved(verdict.vector), new)


def test_a_mask_of_infinities_has_not_moved(tmp_path: Path) -> None:
    mask = torch.tensor([0.0, -torch.inf])
    with record(tmp_path) as recording:
        for number in (1, 2):
            sent = {"w": torch.full((3,), float(number)), "mask": mask}
            recording.round(number, sent=sent, received={1: {"w": sent["w"] + 1, "mask": mask}})
    first = open_recording(tmp_path)[1]
    assert first.updates.tolist() == [[1, 1, 1, 0, 0]]
    assert first.step is not None
    assert first.step.tolist() == [1, 1, 1, 0, 0]


def test_frozen_parameters_are_in_no_row(tmp_path: Path) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    with record(tmp_path, reference=model) as recording:
        recording.round(sent=model, received={0: model})
    assert list(open_recording(tmp_path)[1].shapes) == [
        name for name, row in model.named_parameters() if row.requires_grad
    ]


def test_the_next_model_is_told_by_the_next_round_or_by_hand(tmp_path: Path) -> None:
    with record(tmp_path) as recording:
        recording.round(sent=torch.zeros(3), received={0: torch.ones(3), 1: torch.ones(3)}, after=torch.full((3,), 0.5))
        recording.round(sent=torch.ones(3), received={0: torch.ones(3)})
        recording.round(5, sent=torch.zeros(3), received={0: torch.ones(3)})
    seen = open_recording(tmp_path)
    assert seen.holds == "updates"
    assert [None if one.step is None else one.step.tolist() for one in seen] == [[0.5] * 3, None, None]


DTYPES = ("float16", "bfloat16", "float32", "float64", "int64", "bool")


@given(st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_every_dtype_comes_back(tmp_path_factory: pytest.TempPathFactory, dtypes: list[str]) -> None:
    folder = tmp_path_factory.mktemp("seen")
    generator = torch.Generator().manual_seed(len(dtypes))
    drawn = [(torch.randn(2, 3, generator=generator) * 3).to(getattr(torch, name)) for name in ("float32", *dtypes)]
    state = {str(place): row for place, row in enumerate(drawn)}
    state["scalar"] = torch.tensor(7)
    state["0"][0, 0] = torch.nan
    with record(folder) as recording:
        recording.round(sent=state, received={"a": state})
    seen = open_recording(folder)[1]
    assert same(seen.message("a"), state)
    assert same(seen.sent, state)


def test_arrays_lists_and_rows(tmp_path: Path) -> None:
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((), np.int64), np.float64([1, 2])]
    with record(tmp_path / "lists") as recording:
        recording.round(sent=arrays, received={np.int64(7): [row + 1 for row in arrays]})
    seen = open_recording(tmp_path / "lists")[1]
    assert seen.clients == (7,)
    assert list(seen.message(7)) == ["0", "1", "2"]
    assert seen.updates.tolist() == [[1.0] * 8]
    assert seen.updates.dtype == torch.float64

    reference = {"w": arrays[0], "steps": arrays[1], "b": arrays[2]}
    with record(tmp_path / "named", reference=reference) as recording:
        recording.round(sent=arrays, received=[[row + 1 for row in arrays]], clients=["x"])
    assert list(open_recording(tmp_path / "named")[1].message("x")) == ["w", "steps", "b"]

    matrix = torch.randn(4, 6)
    with record(tmp_path / "rows", shapes={"w": (2, 2), "b": (2,)}) as recording:
        recording.round(received=matrix, clients=[5, 6, 7, 8])
    row = open_recording(tmp_path / "rows")[1]
    assert torch.equal(row.updates, matrix)
    assert row.sent == {}
    assert row.message(6)["w"].shape == (2, 2)


def test_tied_parameters_are_one(tmp_path: Path) -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    with record(tmp_path, reference=model) as recording:
        sent = {name: row.clone() for name, row in model.state_dict().items()}
        recording.round(sent=sent, received={0: {name: row + 1 for name, row in sent.items()}})
    seen = open_recording(tmp_path)[1]
    assert seen.updates.shape == (1, 15)
    after = seen.moved(seen.updates[0])
    assert torch.equal(after["head.weight"], sent["head.weight"] + seen.updates.view(5, 3))


def test_gradients_are_stepped_against(tmp_path: Path) -> None:
    with record(tmp_path, holds="gradients", local={"lr": 0.5}) as recording:
        sent, gradient = {"w": torch.ones(3)}, {"w": torch.tensor([2.0, 0, -2])}
        recording.round(sent=sent, received={0: gradient}, after={"w": torch.tensor([0.0, 1, 2])})
        recording.round(sent=sent, received={0: gradient}, after={"w": torch.tensor([0.0, 1, 2])}, local={"lr": 0.25})
    one, two = open_recording(tmp_path)
    assert one.updates.tolist() == [[2, 0, -2]]
    assert one.step is not None
    assert two.step is not None
    assert one.step.tolist() == [2, 0, -2]
    assert two.step.tolist() == [4, 0, -4]
    assert one.moved(one.updates[0])["w"].tolist() == [0, 1, 2]
    with (
        record(tmp_path / "b", holds="gradients") as recording,
        pytest.raises(InputError, match="expected local to have lr"),
    ):
        recording.round(sent=sent, received={0: gradient})


def test_partial_messages(tmp_path: Path) -> None:
    sent = {"frozen": torch.ones(4), "adapter": torch.zeros(2)}
    with record(tmp_path) as recording:
        recording.round(sent=sent, received={0: {"adapter": torch.ones(2)}})
    seen = open_recording(tmp_path)[1]
    assert seen.updates.tolist() == [[1.0, 1.0]]
    assert seen.moved(seen.updates[0])["frozen"].tolist() == [1.0] * 4


# What happens in between


def test_what_breaks_off_leaves_whole_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with record(tmp_path) as recording:
        for _ in range(2):
            recording.round(sent=torch.zeros(4), received=torch.ones(3, 4))
        with monkeypatch.context() as patched:
            patched.setattr(recorder, "write_manifest", dies)  # the third round's file is there, and not listed
            with pytest.raises(KeyboardInterrupt):
                recording.round(sent=torch.zeros(4), received=torch.ones(3, 4))
    assert (tmp_path / "round-000003.safetensors").exists()
    (tmp_path / ".round-000004.safetensors.0123abcd.tmp").write_bytes(b"half")
    assert open_recording(tmp_path).rounds == (1, 2)
    with record(tmp_path, go_on=True) as recording:
        assert recording.round(sent=torch.zeros(4), received=torch.full((3, 4), 5.0)) == 3
    seen = open_recording(tmp_path)
    seen.check()
    assert seen[3].updates.tolist() == [[5.0] * 4] * 3
    assert not list(tmp_path.glob(".*.tmp"))


def test_going_on_wants_the_same_kind(tmp_path: Path) -> None:
    recorded(tmp_path, rounds=1)
    with pytest.raises(InputError, match="holds a recording with rounds 1 to 1; expected go_on=True"):
        record(tmp_path)
    with pytest.raises(InputError, match="holds states; expected holds='states'"):
        record(tmp_path, holds="updates", go_on=True)
    with pytest.raises(InputError, match=r"'0.weight' is float32 of shape .*expected float32 of shape"):
        record(tmp_path, reference=nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4), nn.Linear(4, 2)), go_on=True)
    for other, message in (({"num_clients": 8}, "is of 9 clients"), ({"local": {"lr": 3.0}}, "its clients train by")):
        with pytest.raises(InputError, match=message):
            record(tmp_path, go_on=True, **other)  # type: ignore[arg-type]
    with record(tmp_path, reference=network(), go_on=True, num_clients=9, about={"more": 1}) as recording:
        assert recording.rounds == (1,)
        sent = network().state_dict()
        with pytest.raises(InputError, match="round 1 comes after round 1"):
            recording.round(1, sent=sent, received={0: sent})
        assert recording.round(sent=sent, received={0: moved(sent, 1)}) == 2
        recording.forget_after(1)
        assert recording.rounds == open_recording(tmp_path).rounds == (1,)
        assert open_recording(tmp_path).about["more"] == 1
    assert not (tmp_path / "round-000002.safetensors").exists()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with record(tmp_path), pytest.raises(BusyError, match="another recorder is writing here"):
        record(tmp_path)
    record(tmp_path).close()


# What becomes of it


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("round-000002.safetensors", cut, "bytes of the .* that were written; it is cut or changed"),
        ("round-000002.safetensors", changed, "was changed since it was written"),
        ("round-000002.safetensors", Path.unlink, "is missing; the manifest lists it as round 2"),
        ("manifest.json", cut, "cannot be read as JSON"),
        ("manifest.json", Path.unlink, "is no recording: it has no manifest.json"),
        ("manifest.json", lambda path: path.write_text('{"cells": []}'), "is no recording's manifest"),
        (
            "manifest.json",
            lambda path: path.write_text(path.read_text().replace('"num_clients": 9', '"num_clients": 8')),
            "was changed since it was written",
        ),
        (
            "manifest.json",
            lambda path: path.write_text(path.read_text().replace('"version": 1', '"version": 2')),
            "is of format version 2",
        ),
    ],
)
def test_damage_is_found_and_the_file_named(
    tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    recorded(tmp_path)
    open_recording(tmp_path).check()
    damage(tmp_path / name)
    with pytest.raises(InputError, match=message) as error:
        open_recording(tmp_path).check()
    assert name in str(error.value)


def test_a_file_is_no_recording(tmp_path: Path) -> None:
    recorded(tmp_path)
    with pytest.raises(InputError, match=r"manifest\.json: is a file; expected the folder that fedsec\.record wrote"):
        open_recording(tmp_path / "manifest.json")


def test_a_foreign_file_in_a_rounds_place(tmp_path: Path) -> None:
    recorded(tmp_path / "one")
    recorded(tmp_path / "other", rounds=1)
    (tmp_path / "other" / "round-000001.safetensors").write_bytes(
        (tmp_path / "one" / "round-000002.safetensors").read_bytes()
    )
    with pytest.raises(InputError, match=r"round-000001.safetensors: (has|was changed)"):
        open_recording(tmp_path / "other")[1]
    with pytest.raises(InputError, match="there is no such folder"):
        open_recording(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["../elsewhere.safetensors", "/etc/passwd", "..", "manifest.json"])
def test_a_listed_file_is_a_rounds_and_cannot_lead_out_of_the_folder(tmp_path: Path, file: str) -> None:
    recorded(tmp_path, rounds=1)
    from fedsec.recording import manifest

    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    content["rounds"][0]["file"] = file
    del content["sha256"]
    path.write_text(json.dumps({**content, "sha256": manifest._checksum(content)}))
    with pytest.raises(InputError, match="leads out of the folder"):
        open_recording(tmp_path)


# What cannot be recorded


SENT = {"w": torch.zeros(2, 5), "n": torch.tensor(0)}
GOOD = {"w": torch.ones(2, 5), "n": torch.tensor(1)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"received": {}}, "nobody sent anything"),
        ({"received": GOOD}, "received is one state dict"),
        ({"received": {0: GOOD, 1: {"w": GOOD["w"]}}}, "round 2, client 1: has no 'n'"),
        ({"received": {0: {**GOOD, "v": GOOD["w"]}}}, "client 0: has 'v', which"),
        ({"received": {"a": {**GOOD, "w": torch.ones(5, 2)}}}, r"client 'a': 'w' is float32 of shape \(5, 2\)"),
        ({"received": {0: {**GOOD, "w": GOOD["w"].double()}}}, "'w' is float64 of shape"),
        ({"received": {0: {**GOOD, "w": GOOD["w"].to_sparse()}}}, "expected a dense tensor"),
        ({"received": {0: {**GOOD, "w": "text"}}}, "expected floating-point numbers"),
        ({"received": {0: {}}}, "got an empty one"),
        ({"received": {0: torch.ones(2, 5)}}, "expected a state dict, a list of arrays or a flat row"),
        ({"received": {1.5: GOOD}}, "whole number or text, got 1.5"),
        ({"received": [GOOD, GOOD], "clients": [1, 1]}, "expected 2 different client ids"),
        ({"received": {0: GOOD}, "clients": [0]}, "names its clients already"),
        ({"received": {0: GOOD}, "sent": None}, "expected what the server sent"),
        ({"received": {0: GOOD}, "num_examples": {1: 3}}, "does not name client 0"),
        ({"received": {0: GOOD}, "num_examples": [-1]}, "none negative"),
        ({"received": {0: GOOD}, "after": {"w": GOOD["w"]}}, "round 2, after: has no 'n'"),
        ({"received": {0: GOOD}, "number": 0}, "counted from 1"),
        ({"received": {0: GOOD}, "local": {"lr": torch.ones(1)}}, "what JSON can hold"),
    ],
)
def test_bad_rounds_leave_the_recording_as_it_was(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with record(tmp_path) as recording:
        recording.round(sent=SENT, received={0: GOOD, 1: GOOD})
        with pytest.raises(InputError, match=message):
            recording.round(**{"sent": SENT, **arguments})
        assert recording.rounds == open_recording(tmp_path).rounds == (1,)
        assert recording.round(sent=SENT, received={0: GOOD}) == 2
    open_recording(tmp_path).check()


def test_the_client_that_is_misshapen_in_the_first_round_is_named(tmp_path: Path) -> None:
    bad = {**GOOD, "w": torch.ones(5, 2)}
    with record(tmp_path) as recording:
        with pytest.raises(InputError, match=r"round 1, client 0: 'w' has shape \(5, 2\); expected \(2, 5\)"):
            recording.round(sent=SENT, received={0: bad, 1: GOOD})
        recording.round(sent=SENT, received={1: GOOD})


def test_states_in_the_place_of_updates(tmp_path: Path) -> None:
    state = network().state_dict()
    with record(tmp_path, holds="updates") as recording:
        with pytest.raises(InputError, match='expected holds="states"'):
            recording.round(sent=state, received={0: {name: row * 1 for name, row in state.items()}})
        recording.round(sent=state, received={0: {name: row * 0 for name, row in state.items()}})


def test_bad_recorders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used as a folder"):
        record(tmp_path / "file")
    with pytest.raises(InputError, match="holds must be states, updates, gradients"):
        Recorder(tmp_path / "a", holds="weights")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="num_clients must be at least 1"):
        record(tmp_path / "a", num_clients=0)
    with record(tmp_path / "a") as recording, pytest.raises(InputError, match="expected what the server sent them"):
        recording.round(received={0: GOOD})
    with (
        record(tmp_path / "b", buffers=["nothing"]) as recording,
        pytest.raises(InputError, match="the reference has no 'nothing'"),
    ):
        recording.round(sent=SENT, received={0: GOOD})
