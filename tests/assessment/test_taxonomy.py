"""What attacks are called elsewhere: one data file with verified identifiers of three frameworks."""

import re

import pytest

from fedsec.assessment.probes import PROBES, AuditProbe
from fedsec.assessment.taxonomy import attacks, references

PATTERNS = {
    "OWASP Machine Learning Security Top 10 2023": r"ML(0[1-9]|10):2023",
    "MITRE ATLAS": r"AML\.T\d{4}(\.\d{3})?",
    "NIST AI 100-2 E2025": r"NISTAML\.0\d{2}",
}


@pytest.mark.parametrize("attack", attacks())
def test_identifiers_look_as_their_framework_writes_them(attack: str) -> None:
    assert attacks()[attack]
    for reference in attacks()[attack]:
        assert re.fullmatch(PATTERNS[reference.framework], reference.id)
        assert reference.name
        assert bool(reference.section) == reference.framework.startswith("NIST")
        assert reference.id in str(reference)


@pytest.mark.parametrize("probe", PROBES)
def test_probes_say_who_attacks_with_what_and_what_that_is_called(probe: type[AuditProbe]) -> None:
    assert re.fullmatch(r"[a-z][a-z-]*", probe.name)
    assert probe.title
    assert probe.granted
    assert probe.position.startswith(("clients", "the server", "anybody"))
    assert probe.value > 0
    assert references(probe.taxonomy)


def test_probes_have_different_names() -> None:
    assert len({probe.name for probe in PROBES}) == len(PROBES)
