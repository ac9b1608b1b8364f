"""The exceptions fedsec raises on purpose. Anything else that escapes is a defect."""


class FedsecError(Exception):
    """Base of every deliberate error; its text is meant for the user and needs no traceback."""


class InputError(FedsecError, ValueError):
    """The user asked for something impossible or malformed (command line: exit code 2)."""


class ScenarioError(InputError):
    """A scenario file is malformed or contradicts itself; the text names file, key and expectation."""


class DataError(InputError):
    """A dataset is missing, corrupt or unusable; the text says what was looked for, and where."""


class PartitionError(InputError):
    """A partition cannot be made as asked (too few examples, impossible minimum, ...)."""


class BusyError(InputError):
    """Another process is using the same run folder."""


class AggregationError(FedsecError, RuntimeError):
    """A round cannot be aggregated, for instance because too few finite updates are left."""
