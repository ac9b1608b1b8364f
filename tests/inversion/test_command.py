"""`fedsec invert` from options to files, with attacks that do only what can be predicted."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.inversion import figures, run
from fedsec.inversion.settings import InversionSettings

pytestmark = pytest.mark.usefixtures("quick_attacks")
runner = CliRunner()
EXACT = ("--inversion", "quotient", "--model", "logistic", "--batch-size", "1")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))  # no weights of LPIPS, wherever the test runs
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def rendered() -> None:
    """The test looks at the pictures."""


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are one pixel each, as rendering takes longer than these attacks."""

    def save(figure: Any, path: Path) -> Path:
        Image.new("L", (1, 1)).save(path)
        return path

    if "rendered" not in request.fixturenames:
        monkeypatch.setattr(figures, "save", save)


def invert(*arguments: str, width: int = 120) -> Any:
    return runner.invoke(app, ["invert", *arguments], env={"COLUMNS": str(width), "TERM": "dumb"})


def result(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text())
    return found


def test_an_exact_recovery(rendered: None) -> None:
    done = invert(*EXACT, "--seed", "3", "--out", "o", "--gif")
    assert done.exit_code == 0, done.output
    assert not done.stderr
    told = " ".join(done.stdout.split())
    assert "inversion quotient on logistic, a batch of 1 from photos (embedded in skimage)" in told
    assert "The image is recognizable: PSNR " in told
    assert "dB above the better of gray and the mean image." in told
    assert "labels inferred: 1 of 1 labels right" in told
    assert "the attacker has the model and one gradient over 1 image; no labels" in told
    assert "note: divided" in told
    assert "note: LPIPS needs weights; --lpips alex downloads them, or put https://" in told
    assert (
        "results in o: report.html, reconstruction.png, loss.png, recovery.gif, tensors.safetensors, result.json"
        in told
    )
    assert sorted(path.name for path in Path("o").iterdir()) == [
        "loss.png",
        "reconstruction.png",
        "recovery.gif",
        "report.html",
        "result.json",
        "tensors.safetensors",
    ]
    found = result("o")
    assert found["files"] == [
        "report.html",
        "reconstruction.png",
        "loss.png",
        "recovery.gif",
        "tensors.safetensors",
        "result.json",
    ]
    assert (found["inversion"], found["model"], found["batch_size"]) == ("quotient", "logistic", 1)
    metrics = found["metrics"]
    assert metrics["psnr"] > 60
    assert metrics["ssim"] > 0.999
    assert metrics["mse"] < 1e-6
    assert metrics["lpips"] is None
    assert metrics["label_accuracy"] == 1
    assert 5 < metrics["psnr_gray"] < 20
    assert 5 < metrics["psnr_mean_image"] < 20
    assert len(found["images"]) == 1
    assert found["images"][0]["psnr"] == metrics["psnr"]
    assert found["iterations"] == 3
    assert 0 <= found["seconds"] < 60
    assert found["interrupted"] is False
    assert found["notes"] == ["divided"]
    assert {"fedsec", "torch"} <= set(found["versions"])
    assert found["device"].startswith("cpu")
    config = found["config"]
    assert (config["inversion"], config["seed"], config["batch_size"]) == ("quotient", 3, 1)
    assert config["inversion_options"] == {"iterations": 3, "restarts": 1, "stop": "never"}
    tensors = load_file("o/tensors.safetensors")
    assert tensors["originals"].shape == tensors["reconstructions"].shape == (1, 1, 3, 32, 32)
    assert torch.allclose(tensors["originals"], tensors["reconstructions"], atol=1e-3)
    assert torch.equal(tensors["labels"], tensors["recovered_labels"])
    for name in ("reconstruction.png", "loss.png"):
        with Image.open(Path("o") / name) as picture:
            assert min(picture.size) > 200
    with Image.open("o/recovery.gif") as animation:
        assert getattr(animation, "n_frames", 1) >= 3


def test_the_pictures_show_the_pixels(rendered: None) -> None:
    assert invert(*EXACT, "--out", "o").exit_code == 0
    tensors = load_file("o/tensors.safetensors")
    with Image.open("o/reconstruction.png") as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    original = (tensors["originals"][0, 0].permute(1, 2, 0) * 255).round().int().numpy()
    enlarged = original.repeat(9, 0).repeat(9, 1)
    places = [
        (y, x)
        for y in range(shown.shape[0] - 288)
        for x in range(140, 160)
        if (shown[y, x] == enlarged[0, 0]).all() and (shown[y : y + 288, x : x + 288] == enlarged).all()
    ]
    assert len(places) >= 1, "the original is not shown pixel by pixel"


def test_json_is_alone_on_standard_output() -> None:
    done = invert(*EXACT, "--json", "--out", "o")
    assert done.exit_code == 0
    assert not done.stderr
    assert json.loads(done.stdout) == result("o")


def test_same_seed_same_numbers() -> None:
    told = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert invert("--inversion", "static", "--seed", str(seed), "--out", out).exit_code == 0
        told.append((result(out)["metrics"], load_file(f"{out}/tensors.safetensors")))
    assert told[0][0] == told[1][0] != told[2][0]
    assert all(torch.equal(told[0][1][name], told[1][1][name]) for name in told[0][1])


def test_noise_is_not_called_a_recovery() -> None:
    done = invert("--inversion", "static", "--out", "o")
    told = " ".join(done.stdout.split())
    assert "Neither image is recovered: none comes closer than the better of gray and the mean image." in told
    assert "labels inferred" not in told
    assert "features: relative error " in told
    assert "(those of the mean image: " in told
    found = result("o")
    assert found["metrics"]["label_accuracy"] is None
    assert 0 < found["metrics"]["feature_cosine"] < found["metrics"]["feature_cosine_mean_image"] < 1
    assert found["metrics"]["feature_error"] > found["metrics"]["feature_error_mean_image"] > 0
    assert not Path("o/loss.png").exists()


def test_labels_alone() -> None:
    done = invert("--inversion", "guess", "--labels", "--batch-size", "3", "--trials", "2", "--out", "o", "--gif")
    assert done.exit_code == 0, done.output
    assert "This attack recovers labels only: 6 of 6 labels right." in " ".join(done.stdout.split())
    assert sorted(path.name for path in Path("o").iterdir()) == ["report.html", "result.json", "tensors.safetensors"]
    metrics = result("o")["metrics"]
    assert (metrics["psnr"], metrics["label_accuracy"]) == (None, 1.0)


def test_several_batches() -> None:
    done = invert(*EXACT, "--trials", "3", "--out", "o")
    assert done.exit_code == 0
    assert "All 3 images are recognizable" in done.stdout
    assert [image["trial"] for image in result("o")["images"]] == [0, 1, 2]
    assert load_file("o/tensors.safetensors")["originals"].shape == (3, 1, 3, 32, 32)


def test_what_lay_there_before_is_replaced_and_nothing_else() -> None:
    mine = ["reconstruction-2.png", "reconstruction_of_mine.png", ".mine.tmp"]
    assert invert(*EXACT, "--out", "o", "--gif").exit_code == 0
    for name in mine:
        (Path("o") / name).write_text("mine")
    assert invert("--inversion", "guess", "--out", "o").exit_code == 0
    assert sorted(path.name for path in Path("o").iterdir()) == sorted(
        [*mine, "report.html", "result.json", "tensors.safetensors"]
    )


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"files": ["loss.png"]}', '{"attack": 1, "verdict": 1}'])
def test_a_folder_without_a_result_of_ours_loses_nothing(content: str | None) -> None:
    Path("o").mkdir()
    mine = ["loss.png", "reconstruction.png", "reconstruction_a.png", "progress.png", "recovery.gif"]
    for name in mine:
        (Path("o") / name).write_text("mine")
    if content is not None:
        Path("o/result.json").write_text(content)
    done = invert("--inversion", "guess", "--out", "o")
    assert done.exit_code == 0, done.output
    assert [name for name in mine if (Path("o") / name).read_text() != "mine"] == []
    assert "progress.png was there before and is left as it is" in done.stdout


def test_an_edited_list_does_not_lead_out_of_the_folder() -> None:
    assert invert(*EXACT, "--out", "o").exit_code == 0
    Path("mine.png").write_text("mine")
    Path("o/folder").mkdir()
    edited = {**result("o"), "files": ["../mine.png", str(Path("mine.png").resolve()), "..", "folder", "gone", 3]}
    Path("o/result.json").write_text(json.dumps(edited))
    assert invert("--inversion", "guess", "--out", "o").exit_code == 0
    assert Path("mine.png").exists()
    assert Path("o/folder").is_dir()


def test_the_picture_of_the_best_so_far_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsec.inversion.progress.PICTURE_SECONDS", 0.0)
    drawn: list[Path] = []
    monkeypatch.setattr(
        "fedsec.inversion.progress.write_atomic", lambda path, content: drawn.append(path) or path.write_bytes(content)
    )
    assert invert(*EXACT, "--out", "o").exit_code == 0
    assert drawn[0] == Path("o/progress.png")
    assert not Path("o/progress.png").exists()


def test_a_mistake_leaves_earlier_results() -> None:
    assert invert(*EXACT, "--out", "o").exit_code == 0
    before = sorted(path.name for path in Path("o").iterdir())
    assert invert("--inversion", "quotient", "--model", "lenet", "--out", "o").exit_code == 2
    assert sorted(path.name for path in Path("o").iterdir()) == before


def test_the_folder_names_attack_and_model() -> None:
    assert invert(*EXACT).exit_code == 0
    (folder,) = Path("inversions").iterdir()
    assert folder.name.startswith("quotient-logistic-")
    assert invert(*EXACT, "--seed", "1").exit_code == 0
    assert len(list(Path("inversions").iterdir())) == 2


@pytest.mark.parametrize("how", ["caught", "deaf"])
def test_interrupted_keeps_the_best(how: str) -> None:
    done = invert(*EXACT, "--inversion-option", f"stop={how}", "--iterations", "10", "--out", "o")
    assert done.exit_code == 130
    assert "interrupted: this is the best so far" in done.stdout
    found = result("o")
    assert found["interrupted"] is True
    assert 10 < found["metrics"]["psnr"] < 40
    assert Path("o/reconstruction.png").exists()


def test_interrupted_before_anything_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "observe", stop)
    done = invert(*EXACT, "--out", "o")
    assert done.exit_code == 130
    assert not (Path("o") / "result.json").exists()


def picture(path: str, mode: str = "RGB", size: tuple[int, int] = (40, 33)) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    Path(path).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_own_images() -> None:
    files = [picture("in/a.png", "L"), picture("in/b.png", "RGBA"), picture("in/c.jpg", size=(900, 700))]
    done = invert("--inversion", "static", "--images", *files, "--batch-size", "3", "--seed", "1", "--out", "o")
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert "note: 3 of 3 images cropped to their central square" in told
    assert "note: 3 of 3 images resized to 32x32 pixels" in told
    assert "note: converted to RGB: a.png (gray), b.png (transparency on white)" in told
    assert "mean image: the mean of the embedded photographs" in told
    found = result("o")
    assert [image["caption"] for image in found["images"]] == ["a.png", "b.png", "c.jpg"]
    assert found["config"]["images"] == files
    assert found["config"]["dataset"] is None
    again = invert("--inversion", "static", "--images", "in", "--batch-size", "3", "--seed", "1", "--out", "p")
    assert again.exit_code == 0
    assert result("p")["metrics"] == found["metrics"]


def test_a_normalized_model_of_ones_own() -> None:
    Path("my_models.py").write_text(
        "from torch import nn\n"
        "class Linear(nn.Module):\n"
        "    def __init__(self, input_shape, num_classes):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], num_classes)\n"
        "    def forward(self, images):\n"
        "        return self.linear(images.flatten(1))\n"
    )
    scale = "{mean: [0.4, 0.5, 0.6], std: [0.25]}"
    options = ("--inversion", "quotient", "--model", "my_models:Linear", "--batch-size", "1", "--normalization", scale)
    done = invert(*options)
    assert done.exit_code == 0, done.output
    (folder,) = Path("inversions").iterdir()
    assert folder.name.startswith("quotient-my_models.Linear-")
    assert result(str(folder))["metrics"]["psnr"] > 60
    assert invert(*options, "--model-option", "a=1").exit_code == 2


def test_training_first() -> None:
    done = invert(*EXACT, "--dataset", "digits", "--train-epochs", "2", "--out", "o")
    assert done.exit_code == 0, done.output
    assert "epoch 2/2: loss " in done.stdout
    assert "of the test images correctly" in done.stdout
    found = result("o")
    assert found["metrics"]["model_accuracy"] > 0.5
    untrained = invert(*EXACT, "--dataset", "digits", "--out", "p")
    assert untrained.exit_code == 0
    assert "model_accuracy" not in result("p")["metrics"]


def test_an_attack_that_cannot_be_used_says_so_before_training() -> None:
    done = invert("--inversion", "quotient", "--train-epochs", "500")
    assert done.exit_code == 2
    assert done.stderr == "error: Quotient: needs a logistic model\n"
    assert "epoch" not in done.stdout


def test_only_one_batch_is_shown_to_the_attack_before_training() -> None:
    seen: list[int] = []

    def spy(observations: Any, **_: Any) -> Any:
        seen.append(len(observations))
        raise run._EnoughError

    started = run._Run(
        InversionSettings(inversion="patchy", train_epochs=1, dataset="digits", trials=3), Console(quiet=True)
    )
    started.inversion = SimpleNamespace(reconstruct_many=spy)  # type: ignore[assignment]
    started._train()
    assert seen == [1]


def test_notes_and_features_of_some_trials_only() -> None:
    done = invert("--inversion", "patchy", "--trials", "3", "--out", "o")
    assert done.exit_code == 0, done.output
    told = [line for line in done.stdout.splitlines() if line.startswith("note: of")]
    assert told == ["note: of all", "note: of the first (in 1 of 3 trials)", "note: of the others (in 2 of 3 trials)"]
    assert result("o")["notes"] == [line.removeprefix("note: ") for line in told]
    assert "features (in 1 of 3 trials): relative error " in done.stdout
    assert result("o")["metrics"]["feature_trials"] == 1
    assert 0 < result("o")["metrics"]["feature_cosine"] < 1


def test_options_of_batch_normalization_without_any() -> None:
    note = "--bn-statistics batch has no effect: the model has no batch normalization"
    done = invert("--inversion", "guess", "--bn-statistics", "batch", "--out", "o")
    assert done.exit_code == 0, done.output
    assert done.stdout.count(note) == 1
    assert result("o")["notes"] == [note]
    assert invert("--inversion", "guess", "--client-mode", "eval", "--out", "p").exit_code == 0
    assert result("p")["notes"] == ["--client-mode eval has no effect: the model has no batch normalization"]


def test_every_image_of_a_file_enters_the_update() -> None:
    files = [picture("in/a.png"), picture("in/b.png")]
    local = ("--inversion", "guess", "--local-steps", "1", "--local-batch-size", "1", "--out", "o")
    assert invert(*local, "--images", files[0]).exit_code == 0
    done = invert(*local, "--images", *files)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --local-steps 1: with --local-batch-size 1 only 1 of the 2 images enter ")
    assert len(done.stderr.splitlines()) == 1


def test_a_defense_and_whether_the_attacker_knows_it_are_told() -> None:
    options = ("--defense", "{name: clip, max_norm: 0.5}", "--defense", "sign", "--out", "o")
    for flags, known, words in (((), True, "knew"), (("--defense-unknown",), False, "did not know")):
        done = invert("--inversion", "guess", *options, *flags)
        assert done.exit_code == 0, done.output
        found = result("o")
        clip = {"name": "clip", "options": {"max_norm": 0.5}}
        assert found["defense"] == [clip, {"name": "sign", "options": {"scaled": True, "error_feedback": False}}]
        assert found["knowledge"]["defense"] is known
        defended = "The client defended its update by clip(max_norm=0.5), then sign(scaled=true, error_feedback=false)"
        assert f"{defended}, which the attacker {words}" in " ".join(done.stdout.split())
        assert found["given"].endswith(words)
    assert invert("--inversion", "guess", "--out", "p").exit_code == 0
    assert result("p")["defense"] == []


def test_a_defense_changes_what_an_attack_finds() -> None:
    psnr = {}
    for name in ("{name: clip, max_norm: 1e-3}", "{name: gaussian_noise, std: 0.05}"):
        done = invert(*EXACT, "--defense", name, "--out", "o")
        assert done.exit_code == 0, done.output
        psnr[name] = result("o")["metrics"]["psnr"]
    # A quotient of gradients does not depend on their length.
    assert psnr["{name: clip, max_norm: 1e-3}"] > 50 > psnr["{name: gaussian_noise, std: 0.05}"] + 20


def test_local_steps_are_told() -> None:
    options = ("--local-steps", "3", "--local-lr", "0.05", "--local-batch-size", "1")
    done = invert("--inversion", "static", *options, "--labels", "--out", "o")
    assert done.exit_code == 0, done.output
    expected = "the difference that 3 local steps on 2 images made (learning rate 0.05, 1 a step, order unknown)"
    assert f"{expected}; labels granted" in " ".join(done.stdout.split())
    assert result("o")["given"].endswith("labels granted")


def test_batch_normalization_is_told() -> None:
    options = ("--inversion", "guess", "--model", "resnet20_4", "--model-option", "norm=bn", "--batch-size", "1")
    for statistics, words in (
        ("batch", "the batch's normalization statistics granted"),
        ("none", "no normalization statistics"),
        ("running", "normalization by running averages assumed"),
    ):
        done = invert(*options, "--bn-statistics", statistics, "--out", "o")
        assert done.exit_code == 0, done.output
        assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--inversion", "quotent"], "error: unknown inversion 'quotent' (did you mean 'quotient'?); known: "),
        (["--inversion", "label_flip"], "error: 'label_flip' is no inversion by a curious server but an attack"),
        (["--inversion", "quotient"], "error: Quotient: needs a logistic model"),
        (["--dataset", "photo"], "error: unknown dataset 'photo' (did you mean 'photos'?)"),
        (["--model", "lennet"], "error: unknown model 'lennet' (did you mean 'lenet'?)"),
        (["--model", "nowhere_at_all:Net"], "error: model 'nowhere_at_all:Net': importing nowhere_at_all raised"),
        (["--images", "nowhere.png"], "error: --images nowhere.png: no such file or folder"),
        (["--images", "bad.png"], "error: --images: unreadable image bad.png: "),
        (["--images", "bad.png", "--dataset", "photos"], "error: --images and --dataset exclude each other"),
        (["nowhere.png"], "error: unexpected argument 'nowhere.png'; image files go with --images"),
        (["--same-class", "--distinct-classes"], "error: --same-class and --distinct-classes exclude each other"),
        (["--batch-size", "9", "--distinct-classes"], "error: --distinct-classes: a batch of 9 cannot"),
        (["--batch-size", "49"], "error: 1 batch of 49: only 48 images in photos's test split"),
        (["--defense", "noise"], "error: --defense: unknown defense 'noise'"),
        (["--defense", "trimmed_mean"], "error: --defense trimmed_mean: is the server's, for updates of many clients"),
        (["--defense", "{name: prune, ratio: 2}"], "error: --defense prune: Prune: ratio must lie in [0, 1), not 2"),
        (["--defense", "{name: prune"], "error: --defense"),
        (
            ["--defense-unknown"],
            "error: --defense-unknown is an attacker who does not know the client's defense; expected --defense too",
        ),
        (["--normalization", "half_"], "error: normalization must be 'unit', 'half' or"),
        (["--normalization", "{mean: [0, 0], std: [1, 1]}"], "error: normalization: mean has 2 values, but the images"),
        (["--inversion-option", "x"], "error: --inversion-option 'x': expected KEY=VALUE"),
        (["--attack", "dlg"], "error: --attack is called --inversion now: --inversion dlg"),
        (["--attack-option", "a=1"], "error: --attack-option is called --inversion-option now: --inversion-option a=1"),
        (["--naive"], "error: --naive is called --defense-unknown now"),
        (["--labels", "known"], "error: unexpected argument 'known'; image files go with --images; --labels takes no"),
        (["--out", "bad.png"], "error: --out bad.png: is not a folder"),
        (["--local-batch-size", "1"], "expected --local-steps too"),
        (["--inversion", "guess", "--restarts", "2"], "error: --restarts: inversion 'guess' has no such option"),
    ],
)
def test_bad_input(arguments: list[str], message: str) -> None:
    Path("bad.png").write_text("no image")
    done = invert(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert sum(1 for _ in Path().glob("**/result.json")) == 0


@pytest.mark.parametrize(
    "arguments", [["--batch-size", "0"], ["--bn-statistics", "maybe"], ["--device", "tpu"], ["--nothing"]]
)
def test_bad_usage(arguments: list[str]) -> None:
    done = invert(*arguments)
    assert done.exit_code == 2
    assert "Usage:" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_no_gpu() -> None:
    done = invert(*EXACT, "--device", "cuda")
    assert (done.exit_code, done.stderr) == (2, "error: --device cuda: PyTorch finds no CUDA GPU; use --device cpu\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_made() -> None:
    Path("shut").mkdir(mode=0o500)
    done = invert(*EXACT, "--out", "shut/o")
    assert done.exit_code == 2
    assert "cannot be used as a folder" in done.stderr


def test_the_best_attack_is_chosen() -> None:
    def name(**options: Any) -> str:
        return run._Run(InversionSettings(**options), Console(quiet=True)).name

    assert name() == "decoupled"
    assert name(batch_size=7) == "decoupled"
    assert name(batch_size=8) == "inverting_gradients"
    assert name(local_steps=2) == "inverting_gradients"
    assert name(defense=("prune",)) == name(defense=("prune",), defense_known=False) == "inverting_gradients"
    assert name(model="mlp", model_options={"activation": "tanh"}) == "decoupled"
    assert name(model="mlp", model_options={"activation": "relu"}) == "decoupled"
    assert name(model="lenet", model_options={"activation": "relu"}) == "inverting_gradients"
    smooth_but_normalized = {"norm": "bn", "activation": "tanh"}
    assert name(model="resnet20_4", model_options=smooth_but_normalized) == "inverting_gradients"

    Path("models_to_choose_for.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def pooled(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def frozen(input_shape, num_classes):\n"
        "    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(num_classes))\n"
        "    model(torch.zeros(1, *input_shape))\n"
        "    model[2].weight.requires_grad_(False)\n"
        "    return model\n"
    )
    for model in ("pooled", "frozen"):
        assert name(model=f"models_to_choose_for:{model}") == "dlg"
        assert name(model=f"models_to_choose_for:{model}", labels=True) == "inverting_gradients"


def test_help_explains_every_option() -> None:
    shown = " ".join(invert("--help", width=200).output.split())
    for option in (
        "--inversion",
        "--same-class",
        "--bn-statistics",
        "--local-batch-size",
        "--gif",
        "--json",
        "--images",
    ):
        assert option in shown
    assert "PATH..." in shown
