"""Where the reader of an error goes on: the page of the documentation, and the command that lists what there is."""

__all__ = ["PAGES", "SCENARIOS", "page_of", "where_to_read"]

PAGES = {
    "attack": "docs/attacks.md",
    "inversion": "docs/inversion.md",
    "inference": "docs/audit.md",
    "defense": "docs/byzantine.md",
    "dataset": "docs/federation.md",
    "partition": "docs/federation.md",
    "model": "docs/federation.md",
    "algorithm": "docs/federation.md",
    "task": "docs/federation.md",
    "metric": "docs/metrics.md",
}
"""Kind of `fedsec.plugins.registry.KINDS` -> the page about it, as it lies in the repository."""
SCENARIOS = "docs/design.md"
"""The page about the keys of a scenario."""
_BY_INTERFACE = {
    "DataPoisoning": "docs/backdoors.md",
    "ActivationPoisoning": "docs/split_learning.md",
    "KnowledgePoisoning": "docs/federation.md",
    "FeatureInversion": "docs/federation.md",
    "HijackingServer": "docs/split_learning.md",
    "MaliciousServer": "docs/malicious_server.md",
    "PrivateAggregator": "docs/privacy.md",
    "LocalDefense": "docs/privacy.md",
    "ModelInspector": "docs/malicious_server.md",
    "UpdateTransform": "docs/privacy.md",
    "KnowledgeDefense": "docs/federation.md",
    "ActivationDefense": "docs/split_learning.md",
    "LabelInference": "docs/split_learning.md",
}
"""Interface of a method -> its page, where that is another one than its kind's."""


def page_of(kind: str, interface: str = "") -> str:
    """The page about a kind of things, or about those of one interface.

    Args:
        kind: of `fedsec.plugins.registry.KINDS`.
        interface: `Entry.interface` of a method.
    """
    return _BY_INTERFACE.get(interface, PAGES[kind])


def where_to_read(kind: str) -> str:
    """What an error about an unknown name ends with: `fedsec list attacks, docs/attacks.md`."""
    return f"fedsec list {kind}s, {PAGES[kind]}"
