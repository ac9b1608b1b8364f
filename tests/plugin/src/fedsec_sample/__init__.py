"""A package that brings one thing of each kind to fedsec."""

from fedsec_sample.attacks import Still as Still
