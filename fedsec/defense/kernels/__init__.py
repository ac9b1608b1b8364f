"""Compiled kernels of rules: built in the background, kept in the user's cache, loaded in milliseconds."""

from fedsec.defense.kernels.compiled import compiled_middle_mean, prepare
from fedsec.defense.kernels.specification import MiddleMeanKernel

__all__ = ["MiddleMeanKernel", "compiled_middle_mean", "prepare"]
