"""What classes of this package share; nothing of fedsec."""


class Named:
    """Says what it is."""

    title = "from fedsec-sample"

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({self.title})"
