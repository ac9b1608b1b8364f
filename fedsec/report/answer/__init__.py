"""What a run found, in plain sentences that its records bear out, and no more than they do."""

from fedsec.report.answer.sentences import answer

__all__ = ["answer"]
