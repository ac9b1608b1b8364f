"""fedsec: what an attacker can do to a federation, and what each defense buys and costs."""

__version__ = "0.1.0"
