"""What `fedsec list` groups, and what a dry run says of federations that no one poisons."""

from pathlib import Path

import pytest

from fedsec.cli.display.listing import show_entries
from fedsec.cli.display.plan_table import show_plan
from fedsec.plugins import registry
from fedsec.scenario import load_scenario


@pytest.fixture(params=[80, 180])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("TERM", "dumb")
    return int(request.param)


def blocks(shown: str, headings: list[str]) -> dict[str, str]:
    """The text below each heading, which stand in this order."""
    places = [shown.index(heading) for heading in headings]
    assert places == sorted(places)
    ends = [*places[1:], len(shown)]
    return {heading: shown[start:end] for heading, start, end in zip(headings, places, ends, strict=True)}


def test_attacks_and_inversions_are_grouped_by_what_they_act_on(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    groups = {
        "attack": {
            "by Byzantine clients, on their data or their updates": ("label_flip", "sign_flip"),
            "by Byzantine clients of FedGKT, on the feature maps and logits they send": (
                "feature_poison",
                "logit_poison",
            ),
        },
        "inversion": {
            "by a curious server, on updates (also with `fedsec invert`)": ("dlg", "inverting_gradients", "labels"),
            "by a server that trains split learning's clients for its ends": ("feature_hijacking",),
            "by FedGKT's curious server, on feature maps (in scenarios only)": ("feature_inversion",),
        },
    }
    for kind, headings in groups.items():
        show_entries(f"{kind}s", registry.entries(kind).values())
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= width
        assert shown.startswith(f"{kind}s\n")
        text = blocks(shown, list(headings))
        for heading, names in headings.items():
            for name in names:
                assert any(line.strip().startswith(f"{name} ") for line in text[heading].splitlines())


def test_defenses_are_grouped_by_what_they_defend(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    show_entries("defenses", registry.entries("defense").values())
    rules, server = "aggregation rules, one a scenario", "for FedGKT's server, which aggregates nothing"
    training = "by clients, in their own training (one, before all others)"
    sending = "by clients, on their own update (any number, before the server's rule)"
    private = "aggregation rules that hide whole clients, one a scenario"
    found = blocks(capsys.readouterr().out, [rules, private, training, sending, server])
    assert "dp_sgd" in found[training]
    assert "soteria" in found[sending]
    assert "dp_fedavg" in found[private]
    assert "soteria" not in found[rules]
    assert "trimmed_mean" in found[rules]
    assert "robust_loss" in found[server]
    assert "trimmed_mean" not in found[server]


def test_algorithms_say_where_their_options_stand(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    show_entries("algorithms", registry.entries("algorithm").values())
    shown = capsys.readouterr().out
    assert ("arXiv:1812.06127" in shown) == (width == 180)
    assert "In a scenario these options stand under `federation`" in " ".join(shown.split())


PLANNED = """\
name: planned
dataset: digits
partition: {clients: 4}
"""


def planned(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    path = folder / "planned.yaml"
    path.write_text(PLANNED + text)
    show_plan(load_scenario(path))
    return " ".join(capsys.readouterr().out.split())


def test_a_plan_names_whose_images_are_reconstructed(
    tmp_path: Path, width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = planned(
        tmp_path,
        "federation: {algorithm: fedsgd, rounds: 3}\nmatrix:\n"
        "  attack+inversion: [[none, none], [none, {name: dlg, target: {client: 2, rounds: [1, 3]}}],\n"
        "    [{name: label_flip, fraction: 0.25}, none]]\n",
        capsys,
    )
    assert "inverts client 2 in rounds 1, 3; 4 x 3 x 1 x" in shown
    assert shown.count("0 of 4 Byzantine") == 1
    assert "1 of 4 Byzantine" in shown
    assert "on the server" not in shown
    assert "work: clients x rounds x steps x batch;" in shown


def test_a_plan_counts_what_a_server_trains_on(tmp_path: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    shown = planned(
        tmp_path,
        "model: resnet8\nfederation: {algorithm: fedgkt, rounds: 2, server: {epochs: [3, 1]}}\n"
        "inversion: {name: feature_inversion, target: {images: 2}}\n",
        capsys,
    )
    assert "inverts 2 images of client 0 in round 1; 4 x 2 x" in shown
    assert f"+ {4 * 1437 / 1000:.3g} k on the server" in shown
    assert "what fedgkt's server trains on" in shown
