"""What a recorded federation gave away: who moved the model beyond its weight, and which labels a server could read."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from fedsec.assessment.command import FOLDER, audit_command
from fedsec.assessment.difference import Estimate
from fedsec.assessment.effort import LEVELS
from fedsec.assessment.finding import AuditFinding, EvidenceTable
from fedsec.assessment.report import sorted_findings, write_report
from fedsec.assessment.result import Audit, LeftOut
from fedsec.assessment.severity import INFO, judged
from fedsec.errors import InputError
from fedsec.files import made_folder
from fedsec.recording import Recording, open_recording
from fedsec.replays import invert_recorded, replay
from fedsec.report.console import default_console
from fedsec.report.intervals import half_width
from fedsec.report.progress_lines import activity

__all__ = ["audit_recording"]

_FEWEST, _SHOWN = 3, 10


def audit_recording(
    folder: Path | str,
    *,
    model: Any = None,
    out: Path | str = FOLDER,
    console: Console | None = None,
) -> Audit:
    """Look back at what a server received, and write a report of what that shows. Nothing is trained.

    Args:
        folder: of a recording.
        model: whose parameters were recorded, `package.module:factory` or a name; by default what the recording says.
        out: folder of the report.
        console: where to show how far it is.

    Raises:
        InputError: it is no recording, or cannot be replayed.
    """
    begun = time.monotonic()
    console = default_console(console)
    recording = open_recording(folder)
    root = made_folder(out, "out")
    findings: list[AuditFinding] = []
    left_out: list[LeftOut] = []
    with activity(console, "looking back at the rounds"):
        findings += _influence(recording, console, left_out)
        findings += _labels(recording, model, left_out)
    left_out.append(
        LeftOut(
            "recorded-images",
            "Images from a recording",
            "a recording does not hold the images that an inversion would be measured by",
            f"fedsec replay {Path(folder).name} --inversion inverting_gradients --client ID --batch-size N",
        )
    )
    result = Audit(
        root=root,
        deployed=None,
        findings=sorted_findings(findings),
        left_out=tuple(left_out),
        effort=LEVELS[0],
        budget=0.0,
        seconds=time.monotonic() - begun,
        command=audit_command({"recording": recording.folder.resolve(), "model": model}, out=root),
        recording=_about(recording),
    )
    write_report(result)
    return result


def _about(recording: Recording) -> dict[str, Any]:
    manifest = recording.manifest
    return {
        "recording": recording.folder.resolve().name,
        "rounds": len(recording),
        "clients": manifest.num_clients or len(recording.clients()),
        "parameters": recording.num_parameters,
        "holds": manifest.holds,
    }


def _influence(recording: Recording, console: Console, left_out: list[LeftOut]) -> list[AuditFinding]:
    """Who accounts for more of the steps than its weight."""
    title, name = "Influence beyond a client's weight", "recorded-influence"
    excess: dict[str, list[float]] = {}
    shares: dict[str, list[tuple[float, float]]] = {}
    for one in replay(recording, console=Console(quiet=True)).rounds:
        for part in one.clients:
            if part.share is not None:
                excess.setdefault(str(part.client), []).append(part.share - part.weight)
                shares.setdefault(str(part.client), []).append((part.share, part.weight))
    known = {client: values for client, values in excess.items() if len(values) >= _FEWEST}
    if not known:
        left_out.append(LeftOut(name, title, f"no client takes part in {_FEWEST} recorded rounds"))
        return []
    estimates = {client: _mean(values, len(known)) for client, values in known.items()}
    worst = max(estimates, key=lambda client: estimates[client].low)
    severity, why = judged("influence_excess", estimates[worst])
    share, weight = (sum(column) / len(shares[worst]) for column in zip(*shares[worst], strict=True))
    sentence = (
        f"Client {worst} accounts for {share:.1%} of the model's steps with {weight:.1%} of the weight, on average "
        f"over {len(known[worst])} rounds: {estimates[worst].points()} points more."
    )
    if severity == "none":
        sentence = f"No client accounts for more of the steps than its weight, beyond chance. {sentence}"
    ordered = sorted(estimates, key=lambda client: -estimates[client].value)[:_SHOWN]
    rows = [[f"client {client}", estimates[client].points(), str(len(known[client]))] for client in ordered]
    table = EvidenceTable(
        "Share of the steps less weight, in points.", ["client", "more than its weight", "rounds"], rows
    )
    return [
        AuditFinding(
            id=name,
            probe="recording",
            title=title,
            severity=severity,
            statement=sentence,
            effect=estimates[worst],
            measure="influence_excess",
            null="each client's weight, which its share is under equal updates",
            position="clients: each that took part",
            granted=("what the server received, as it was recorded",),
            taxonomy=("model_poisoning",),
            why=why,
            tables=(table,),
            notes=(
                "Student's interval over rounds, for all clients together. A client with unusual data moves the model "
                "more than others as well: influence is no proof of an attack.",
            ),
            command="fedsec replay <the recording>",
        )
    ]


def _mean(values: list[float], comparisons: int) -> Estimate:
    mean = sum(values) / len(values)
    width = half_width(values, comparisons=comparisons)
    return Estimate(mean, mean - width, mean + width)


def _labels(recording: Recording, model: Any, left_out: list[LeftOut]) -> list[AuditFinding]:
    """What labels a server reads from one recorded message; nothing is known of the truth."""
    title, name = "Labels from a recorded update", "recorded-labels"
    client = recording.clients()[0]
    try:
        leak = invert_recorded(recording, client=client, inversion="labels", model=model, console=Console(quiet=True))
    except InputError as error:
        left_out.append(LeftOut(name, title, str(error)))
        return []
    if leak.labels is None:
        left_out.append(LeftOut(name, title, "no labels came back"))
        return []
    counts = sorted(Counter(leak.labels.tolist()).items())
    return [
        AuditFinding(
            id=name,
            probe="recording",
            title=title,
            severity=INFO,
            statement=f"From what client {client} sent in round {leak.round}, a curious server reads "
            f"{len(leak.labels)} labels of {len(counts)} classes. How many are right the recording does not say.",
            effect=Estimate(0.0, 0.0, 0.0),
            measure="unscored",
            null="none: the truth is not recorded",
            position="the server, curious: it follows the protocol",
            granted=("one recorded message", "the model that was sent"),
            taxonomy=("reconstruction", "property"),
            why="shown and not judged, since the truth is not known",
            tables=(
                EvidenceTable("Labels read.", ["class", "examples"], [[str(label), str(n)] for label, n in counts]),
            ),
            notes=leak.remarks,
            command=f"fedsec replay <the recording> --inversion labels --client {client}",
        )
    ]
