"""Another Flower than was tested is refused, with what to do about it."""

from importlib.metadata import PackageNotFoundError

import pytest

from fedsec.flower import versions


def pretend(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    def installed(name: str) -> str:
        assert name == "flwr"
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(versions, "version", installed)


@pytest.mark.parametrize("version", ["1.42.0", "1.42.9"])
def test_tested_versions_and_their_patches_are_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, version)
    versions.check_flower()


@pytest.mark.parametrize("version", ["1.20.0", "1.43.0", "2.0"])
def test_others_are_refused_by_name(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, version)
    with pytest.raises(ImportError, match=rf"tested with Flower 1\.42, and {version} is installed.*pip install"):
        versions.check_flower()
    monkeypatch.setenv(versions.OVERRIDE, "1")
    with pytest.warns(UserWarning, match="tested with Flower"):
        versions.check_flower()


def test_who_has_none_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, None)
    with pytest.raises(ImportError, match=r'not installed: pip install "fedsec\[flower\]"'):
        versions.check_flower()
