"""`fedsec invert --dataset shakespeare` and `fedsec.invert_texts`: texts, scores beside a guess, files, refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import fedsec
from fedsec.attacks import DAGER
from fedsec.cli import app
from fedsec.errors import InputError
from fedsec.inversion.texts.client import observe_texts
from fedsec.models import build
from fedsec.runs.folders.page_file import page_html
from fedsec.tasks import NextToken

SHORT = ("--length", "8", "--model-option", "width=32")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def invert(*arguments: str) -> Any:
    given = ["invert", "--dataset", "shakespeare", *arguments]
    return CliRunner().invoke(app, given, env={"COLUMNS": "120", "TERM": "dumb"})


def content(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text())
    return found


def test_both_texts_stand_beside_each_other_with_their_scores() -> None:
    done = invert(*SHORT, "--out", "o")
    assert done.exit_code == 0, done.output
    assert not done.stderr
    told = " ".join(done.stdout.split())
    assert "inversion dager on char_transformer, a batch of 2 from shakespeare (embedded in fedsec)" in told
    assert "Both texts are recovered exactly, where characters drawn one by one would be right at" in told
    assert "the attacker has the model and one gradient over 2 texts of 8 characters" in told
    assert "results in o: report.html, result.json" in told
    found = content("o")
    for text in found["texts"]:
        assert text["client"] == text["recovered"]
        assert text["client"].replace("\n", "/") in done.stdout
        assert (len(text["client"]), text["token_accuracy"], text["rouge_2"]) == (8, 1, 1)
    metrics = found["metrics"]
    for name in ("token_accuracy", "exact_match", "rouge_1", "rouge_2", "rouge_l", "token_set"):
        assert metrics[f"{name}_null"] < metrics[name] == 1
    assert found["command"] == "fedsec invert --dataset shakespeare --length 8 --model-option width=32 --out o"
    page = Path("o/report.html").read_text()
    assert page_html(Path("o")) == page
    assert found["texts"][0]["client"].split()[0] in page
    assert "Means over all texts" in page


def test_rows_name_characters_and_tell_no_order() -> None:
    done = invert(*SHORT, "--inversion", "token_rows", "--trials", "2", "--local-steps", "2", "--out", "o")
    assert done.exit_code == 0, done.output
    found = content("o")
    assert found["texts"] == []
    assert found["metrics"]["token_set"] == 1 > found["metrics"]["token_set_null"]
    assert [batch["client"] for batch in found["tokens"]] == [batch["named"] for batch in found["tokens"]]
    assert "The set of the client's characters is told exactly, in no order" in done.stdout
    assert "2 local steps" in done.stdout
    assert "Characters and those that were named" in page_html(Path("o"))


def test_noise_is_told_and_wrong_characters_are_counted() -> None:
    noise = "{name: gaussian_noise, std: 0.01}"
    done = invert(*SHORT, "--defense", noise, "--trials", "2", "--json", "--out", "o")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["texts"]) == 4
    assert found["metrics"]["token_accuracy"] < 0.6
    assert found["verdict"].startswith("None of the 4 texts is recovered exactly; the right character stands at")
    assert "defended its update by gaussian_noise(std=0.01" in found["given"]
    assert any("full rank" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--inversion", "dlg"), "reads no texts, and shakespeare has nothing else; expected token_rows or dager"),
        (("--model", "lenet"), "--model lenet: takes no texts; expected char_lstm or char_transformer"),
        (("--gif",), "--gif: is not for texts, which shakespeare has"),
        (("--labels",), "--labels: is not for texts"),
        (("--defense", "soteria"), "--defense soteria: works on a client's images"),
        (("--dataset", "digits", "--inversion", "dager"), "--inversion dager: reads texts, and these are images"),
        (("--length", "100000"), "length 100000: no role says enough"),
        (("--length", "1"), "length must be at least 2 characters, got 1"),
        (("--batch-size", "9999999"), "9999999 texts are needed, and the test split of shakespeare has"),
        (("--local-lr", "0.1"), "expected --local-steps too"),
        (("--dataset", "digits", "--length", "5"), "--length is that of texts"),
    ],
)
def test_what_texts_have_not_is_refused(arguments: tuple[str, ...], says: str) -> None:
    done = invert(*arguments)
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())
    assert not list(Path().iterdir())


def test_from_python_with_a_model_of_ones_own() -> None:
    torch.manual_seed(1)
    model = build("char_lstm", (8,), 82, hidden=32)
    result = fedsec.invert_texts(length=8, model=model, batch_size=1)
    assert result.texts == result.originals
    assert "The text is recovered exactly" in repr(result)
    assert (result.files, result.content["command"]) == ((), "")
    assert result.originals[0].split()[0] in result._repr_html_()
    with pytest.raises(InputError, match=r"expected logits of shape \(1, 82, 8\) of one text"):
        fedsec.invert_texts(length=8, model=torch.nn.Linear(8, 3))
    with pytest.raises(InputError, match="invert_texts reads texts"):
        fedsec.invert(dataset="shakespeare")
    with pytest.raises(InputError, match="DAGER inverts no updates of images"):
        fedsec.invert(inversion=DAGER())  # type: ignore[arg-type]


def test_local_steps_are_those_of_plain_sgd() -> None:
    torch.manual_seed(0)
    model = build("char_transformer", (4,), 9, width=8, layers=1, heads=1)
    rows = torch.randint(1, 9, (3, 5))
    seen = observe_texts(model, rows[:, :-1].float(), rows[:, 1:], num_tokens=9, steps=2, lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        NextToken(9).losses(model(rows[:, :-1].float()), rows[:, 1:]).mean().backward()
        optimizer.step()
    for (name, parameter), old in zip(model.named_parameters(), before, strict=True):
        torch.testing.assert_close(seen.update[name], parameter.detach() - old)


def test_a_search_says_how_far_it_is() -> None:
    model = build("char_lstm", (6,), 20, embedding=4, hidden=16, layers=1)
    texts = torch.randint(1, 20, (2, 6), generator=torch.Generator().manual_seed(0))
    told: list[tuple[int, int]] = []
    observed = observe_texts(model, texts.float(), texts, num_tokens=20, steps=None, lr=0.1)
    DAGER().reconstruct(replace(observed, watch=lambda done, total: told.append((done, total))))
    assert told == [(place, 6) for place in range(6)]
