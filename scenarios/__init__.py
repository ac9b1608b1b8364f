"""Scenarios that come with fedsec; `fedsec run NAME` finds them by their names."""
