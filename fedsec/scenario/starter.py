"""The scenario that `fedsec init` writes: a first matrix of one's own, every line explained."""

import re
from pathlib import Path

__all__ = ["adopted", "starter"]

_SCHEMA_LINE = "# yaml-language-server: $schema=schema.json\n"
_STARTER = """\
# A scenario of fedsec: one federation, the attacks and defenses to compare, and what you expect to see.
#   fedsec validate {file}          finds every mistake, with its line
#   fedsec run {file} --dry-run     shows what would be done
#   fedsec run {file}               does it, in seconds; the results lie in runs/{name}/
{name_key:<38} # names the folder of the results
description: >-                        # in your own words; what a reader of the results should know
  Three of ten clients attack. Which rule of the server withstands them, and what does it cost when nobody attacks?

dataset: digits                        # 8x8 images that come with fedsec; others: fedsec list datasets
partition:                             # how the training images are dealt to the clients: fedsec list partitions
  name: dirichlet                      # clients have unlike shares of each class ...
  alpha: 10                            # ... the more unlike, the smaller this is
  clients: 10                          # all clients, attackers among them
model: {{name: mlp, hidden: [32]}}       # one hidden layer; others: fedsec list models

federation:
  algorithm: fedavg                    # clients train, the server averages; others: fedsec list algorithms
  rounds: 10                           # of communication
  local:                               # the training of a client in a round
    steps: 20                          # optimizer steps
    batch_size: 20                     # images in a step
    lr: 0.2                            # learning rate of its SGD

matrix:                                # each combination of the values below is one cell: here 3 x 3 = 9
  attack:                              # what the attackers do: fedsec list attacks
    - none                             # the baseline
    - {{name: label_flip, num_byzantine: 3}}      # they train on wrong labels
    - {{name: sign_flip, num_byzantine: 3}}       # they send the opposite of their update
  defense:                             # what the server does: fedsec list defenses
    - mean                             # trusts everybody
    - median                           # each coordinate's middle value
    - {{name: multi_krum, num_byzantine: 3}}      # the mean of the updates that lie close together
  seed: [0]                            # of everything random; with [0, 1, 2] tables show intervals

expect:                                # bounds on the results; where one is not met, fedsec run ends with exit code 1
  - {{attack: none, defense: mean, accuracy: ">= 0.6"}}
  - {{attack: sign_flip, defense: median, accuracy: ">= 0.5"}}
"""


def starter(name: str, file: str, *, schema: bool = False) -> str:
    """A commented scenario on embedded data that runs in seconds.

    Args:
        name: of the scenario.
        file: as the next commands name it.
        schema: whether a schema.json lies beside it, for the reader's editor.
    """
    return (_SCHEMA_LINE if schema else "") + _STARTER.format(name=name, name_key=f"name: {name}", file=file)


def adopted(source: Path, name: str, *, schema: bool = False) -> str:
    """A scenario's text under another name.

    Args:
        source: its file.
        name: of the new one.
        schema: whether a schema.json lies beside the new one.
    """
    text = source.read_text("utf-8-sig")
    text = re.sub(r"\A# yaml-language-server:.*\n", "", text)
    renamed, times = re.subn(r"^name:.*$", f"name: {name}", text, count=1, flags=re.MULTILINE)
    return (_SCHEMA_LINE if schema else "") + (renamed if times else f"name: {name}\n{text}")
