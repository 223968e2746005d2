"""Links: each link within the built site leads to a page and a place that exist.

``python docs/links.py docs/_build/html`` lists those that do not, and whatever a page would fetch
from a network to be shown. Links to other sites are counted, not tried: the build is offline.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SHOWN = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}
_UNSHOWN = {"canonical", "next", "prev", "index", "search", "author", "copyright"}


class Page(HTMLParser):
    """What a page links to, what it fetches, and the places in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.fetched, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note one element."""
        given = dict(attrs)
        self.places.update(filter(None, (given.get("id"), given.get("name"))))
        for name in ("href", "src"):
            if (tag, name) in _SHOWN and given.get("rel") not in _UNSHOWN:
                self.fetched.append(given.get(name) or "")
            if name in given:
                self.links.append(given[name] or "")


def broken_links(site):
    """List what is wrong in a folder of pages, and how many links lead outside.

    Parameters
    ----------
    site : Path

    Returns
    -------
    (list of str, int)
    """
    site = Path(site).resolve()
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.relative_to(site).parts
    }
    wrong, outside = [], 0
    for path, page in pages.items():
        name = path.relative_to(site)
        wrong += [f"{name}: fetches {one}" for one in page.fetched if urlsplit(one).netloc]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                outside += parts.scheme in ("http", "https")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                wrong.append(f"{name}: no file {link}")
            elif parts.fragment and target in pages and not parts.fragment.startswith(":~:"):
                place = unquote(parts.fragment).split(":~:")[0]
                if place and place not in pages[target].places:
                    wrong.append(f"{name}: no place {link}")
    return wrong, outside


if __name__ == "__main__":
    found, elsewhere = broken_links(sys.argv[1])
    print(*found, f"{len(found)} broken links; {elsewhere} to other sites, not tried", sep="\n")
    sys.exit(bool(found))
