"""A robust rule and an attack, brought to fedsec from outside."""
