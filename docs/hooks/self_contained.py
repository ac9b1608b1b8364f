"""The site asks nobody else for anything: a built page that would load something from another host fails the build."""

from html.parser import HTMLParser

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Tags of which the browser fetches the address by itself."""


class _Requests(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADED.get(tag, ""), None) or ""
        if address.startswith(("http:", "https:", "//")):
            self.foreign.append(address)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would make a request to another host."""
    requests = _Requests()
    requests.feed(output)
    if requests.foreign:
        raise PluginError(
            f"{page.file.src_uri} would load {', '.join(requests.foreign)}; expected nothing from elsewhere"
        )
    return output
