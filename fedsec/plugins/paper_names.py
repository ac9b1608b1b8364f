"""What papers call a setting of an algorithm that has another name here."""

__all__ = ["PAPERS_NAMES"]

PAPERS_NAMES = {
    "fedadam": "fedopt with optimizer: adam",
    "fedyogi": "fedopt with optimizer: yogi",
    "fedadagrad": "fedopt with optimizer: adagrad",
    "fedavgm": "fedopt with optimizer: avgm",
    "fedbuff": "async",
    "splitfed": "split_learning with turns: parallel",
    "post_local_sgd": "local_sgd with switch_round",
}
"""What papers call an algorithm that is an option of another one here."""
