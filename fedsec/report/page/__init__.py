"""The report as a page: one HTML file that needs nothing beside it, for a browser, a phone, a printer."""

from fedsec.report.page.parts import Code, DataTable, Drawing, Folded, Heading, ImageGrid, PageSection, Paragraph, Photo
from fedsec.report.page.render import Page, render
from fedsec.report.page.run_page import RunView, run_page
from fedsec.report.page.run_summary import RunSummary

__all__ = [
    "Code",
    "DataTable",
    "Drawing",
    "Folded",
    "Heading",
    "ImageGrid",
    "Page",
    "Paragraph",
    "Photo",
    "RunSummary",
    "RunView",
    "PageSection",
    "render",
    "run_page",
]
