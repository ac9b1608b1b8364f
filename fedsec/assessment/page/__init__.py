"""The page of an audit: which sections it has, in which order."""

from pathlib import PurePath

from fedsec.assessment.page.details import detail
from fedsec.assessment.page.limits import limits, not_tested
from fedsec.assessment.page.summary import summary
from fedsec.assessment.page.surroundings import federation, granted, reproduce
from fedsec.assessment.result import Audit
from fedsec.report.page.render import Page

__all__ = ["audit_page"]


def audit_page(audit: Audit) -> Page:
    """The page of an audit.

    Args:
        audit: finished, or as far as it came.
    """
    sections = [
        summary(audit),
        *(detail(finding) for finding in audit.findings),
        granted(audit),
        not_tested(audit),
        limits(audit),
        federation(audit),
        reproduce(audit),
    ]
    if audit.deployed is None:
        subtitle = f"a recording of {audit.recording['rounds']} rounds and {audit.recording['clients']} clients"
    else:
        config = audit.deployed.config
        data = PurePath(config.dataset.root).name if config.dataset.root else config.dataset.name
        subtitle = f"{audit.deployed.clients} clients, {config.federation.algorithm}, {config.model.name} on {data}"
    return Page("Audit of a federation", subtitle, [section for section in sections if section is not None])
