"""What updates say of a client beside its examples, held against what chance makes of the same numbers."""
