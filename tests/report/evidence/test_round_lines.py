"""Rounds are read from a cell's folder, whatever else stands in the file."""

from pathlib import Path

from fedsec.report.evidence.round_lines import round_lines


def test_lines_that_are_no_rounds_are_left_out(tmp_path: Path) -> None:
    assert round_lines(tmp_path) == []
    lines = ['{"round": 1, "accuracy": 0.5}', "{", "[1]", '{"round": true}', '{"round": "2"}', '{"accuracy": 1}', ""]
    (tmp_path / "rounds.jsonl").write_text("\n".join([*lines, '{"round": 3}', '{"round": 4, "accu']))
    assert round_lines(tmp_path) == [{"round": 1, "accuracy": 0.5}, {"round": 3}]
    (tmp_path / "rounds.jsonl").write_bytes(b"\xff\xfe")
    assert round_lines(tmp_path) == []
