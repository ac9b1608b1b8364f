"""Logs of runs for other tools, fed by the runner's events: what a log is, and those that come with fedsec."""

from fedsec.runs.logs.choice import logs_of
from fedsec.runs.logs.feed import LogFeed
from fedsec.runs.logs.run_log import LoggedCell, LoggedRun, LogState, RunLog

__all__ = ["LogFeed", "LogState", "LoggedCell", "LoggedRun", "RunLog", "logs_of"]
