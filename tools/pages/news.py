"""What is new: head types, findings, rules, runs, censuses and errata by day, as a page and as an Atom feed."""

import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from xml.etree import ElementTree

import yaml

from headatlas.catalog.schema import VerdictLabel
from headatlas.census.schema import Census
from headatlas.evidence.signs import counted
from pages.atlas import Atlas
from pages.render import page

_ATOM = "http://www.w3.org/2005/Atom"
_ROOT = Path(__file__).resolve().parents[2]
_ADDED = re.compile(r"\+ +- id: (\S+)")
_CHANGED_RULE = re.compile(r"(\d{4}-\d\d-\d\d), version (\d+): (.*)", re.DOTALL)
_FOLDED = 8  # events of a kind and day, above which they are folded
KINDS = {
    "type": "Head types",
    "findings": "Findings",
    "rule": "Rules",
    "runs": "Runs",
    "census": "Censuses",
    "errata": "Errata",
}


@dataclass(frozen=True)
class Event:
    """Something new on one day.

    Attributes:
        day: on which it came in.
        kind: a key of `KINDS`.
        about: id of the head type or model, or what tells it from others of its kind and day.
        title, summary: what the page says.
        page: address relative to the site.
    """

    day: date
    kind: str
    about: str
    title: str
    summary: str
    page: str

    @property
    def id(self) -> str:
        """A name that no other event has and that never changes."""
        return f"{self.kind}-{self.about}-{self.day}"


@dataclass(frozen=True)
class News:
    """All events, newest first."""

    events: Sequence[Event]

    @cached_property
    def days(self) -> Mapping[date, list[Event]]:
        """The events of each day."""
        found: dict[date, list[Event]] = defaultdict(list)
        for event in self.events:
            found[event.day].append(event)
        return found

    @property
    def version(self) -> str:
        """The version of the data: the day of the newest event."""
        newest = max(self.days)
        return f"{newest.year}.{newest.month}.{newest.day}"

    def digest(self, most: int) -> list[tuple[date, str, str]]:
        """The newest kinds of events in a line each: day, words, and the address of the day."""
        lines = []
        for day, events in self.days.items():
            for kind, name in KINDS.items():
                titles = [event.title for event in events if event.kind == kind]
                if titles:
                    more = f" and {len(titles) - 3} more" if len(titles) > 3 else ""
                    lines.append((day, f"{name}: {', '.join(titles[:3])}{more}", f"news/#d{day}"))
        return lines[:most]

    def updated(self, head: str) -> date | None:
        """The last day on which something about a head type came in; None if no day is known."""
        return max((each.day for each in self.events if each.page == f"heads/{head}/"), default=None)

    def atom(self, address: str) -> str:
        """An Atom feed; links are relative if the address of the site is not known."""
        ElementTree.register_namespace("", _ATOM)
        feed = ElementTree.Element(f"{{{_ATOM}}}feed")
        _add(feed, "title", "headatlas: what is new")
        _add(feed, "id", address or "tag:headatlas,2026:feed")
        _add(feed, "updated", f"{max(self.days)}T00:00:00Z")
        _add(_add(feed, "author"), "name", "The headatlas authors")
        _add(feed, "link", rel="self", href=f"{address}feed.xml")
        for event in self.events:
            entry = _add(feed, "entry")
            _add(entry, "title", event.title)
            _add(entry, "id", f"tag:headatlas,2026:{event.id}")
            _add(entry, "updated", f"{event.day}T00:00:00Z")
            _add(entry, "link", href=f"{address}{event.page}")
            _add(entry, "summary", event.summary)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(feed, encoding="unicode") + "\n"


def gather_news(atlas: Atlas, censuses: Sequence[Census], root: Path = _ROOT) -> News:
    """All events that the catalog, the records and the history of the repository know.

    Without the history (an archive, or a clone of the last commit alone) the days of findings and errata are not known,
    and these events are left out.
    """
    found = [*_types(atlas), *_findings(atlas, root), *_rules(atlas), *_runs(atlas), *_censuses(atlas, censuses)]
    found += _errata(atlas, root)
    order = list(KINDS)
    return News(sorted(found, key=lambda each: (-each.day.toordinal(), order.index(each.kind), each.title)))


def news_page(news: News) -> str:
    """The page: the events of each day, by kind."""
    days = [
        (day, [(name, chosen) for kind, name in KINDS.items() if (chosen := [e for e in events if e.kind == kind])])
        for day, events in news.days.items()
    ]
    return page("news.md", days=days, folded=_FOLDED)


def cite_page(news: News, sources: int) -> str:
    """The page on how to cite; the BibTeX is made of CITATION.cff."""
    card = yaml.safe_load((_ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    authors = " and ".join(f"{{{each['name']}}}" for each in card["authors"])
    bibtex = (
        f"@software{{headatlas,\n  author = {{{authors}}},\n  title = {{{card['title']}}},\n"
        f"  year = {{{max(news.days).year}}},\n  version = {{{card['version']}, data {news.version}}},\n}}\n"
    )
    return page("cite.md", bibtex=bibtex, version=news.version, sources=sources)


def _types(atlas: Atlas) -> Iterator[Event]:
    for head in atlas.catalog.heads.values():
        yield Event(head.added, "type", head.id, head.name, head.summary, f"heads/{head.id}/")


def _findings(atlas: Atlas, root: Path) -> Iterator[Event]:
    """Findings that came in after their head type, by type and day."""
    for id, head in atlas.catalog.heads.items():
        days = _first_days(root, f"catalog/heads/{id}.yaml")
        late: dict[date, list[str]] = defaultdict(list)
        for finding in head.findings:
            if (day := days.get(finding.id)) and day > head.added:
                late[day].append(finding.statement)
        for day, statements in late.items():
            count = f"{len(statements)} new findings" if len(statements) > 1 else "a new finding"
            yield Event(day, "findings", id, f"{head.name}: {count}", " ".join(statements[:2]), f"heads/{id}/")


def _rules(atlas: Atlas) -> Iterator[Event]:
    for id, head in atlas.catalog.heads.items():
        for entry in head.reproduction.rule.history if head.reproduction.rule else ():
            if told := _CHANGED_RULE.fullmatch(entry):
                about = f"{id}-{told[2]}"
                title = f"{head.name}: rule version {told[2]}"
                yield Event(_day(told[1]), "rule", about, title, told[3][0].upper() + told[3][1:], f"heads/{id}/")


def _runs(atlas: Atlas) -> Iterator[Event]:
    made: dict[tuple[date, str], Counter[VerdictLabel]] = defaultdict(Counter)
    for result in atlas.results:
        record = result.record
        made[_day(record.environment.started), record.model.id][record.verdict.label] += 1
    for (day, model), labels in made.items():
        title = f"{labels.total()} {'runs' if labels.total() > 1 else 'run'} on {atlas.model_name(model)}"
        yield Event(day, "runs", model, title, f"Verdicts: {counted(labels)}.", _model_page(atlas, model))


def _day(started: str) -> date:
    return date.fromisoformat(started[:10])


def _model_page(atlas: Atlas, model: str) -> str:
    return f"models/{model}/" if model in atlas.catalog.models else "matrix/"


def _censuses(atlas: Atlas, censuses: Sequence[Census]) -> Iterator[Event]:
    for census in censuses:
        model, summary = census.model.id, census.summary
        said = f"{summary.labelled} of {summary.heads} heads carry a name."
        title = f"Census of {atlas.model_name(model)}"
        yield Event(_day(census.environment.started), "census", model, title, said, f"census/{model}.html")


def _errata(atlas: Atlas, root: Path) -> Iterator[Event]:
    days = _first_days(root, "catalog/errata.yaml")
    for id, each in atlas.catalog.errata.items():
        if day := days.get(id):
            yield Event(day, "errata", id, f"Erratum: {id.replace('-', ' ')}", each.correction.text, f"errata/#{id}")


def _first_days(root: Path, file: str) -> dict[str, date]:
    """The day on which each id first stood in a file; nothing where the history is not at hand."""
    return _history(root).get(file, {})


@cache
def _history(root: Path) -> dict[str, dict[str, date]]:
    """For each file of the catalog, the first day of each id."""
    command = ["git", "log", "--reverse", "--patch", "--unified=0", "--format=@%cs", "--", "catalog"]
    try:
        told = subprocess.run(command, cwd=root, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return read_history(told)


def read_history(told: str) -> dict[str, dict[str, date]]:
    """Read `git log --reverse --patch --format=@%cs`: file -> id -> the first day on which it was added."""
    found: dict[str, dict[str, date]] = defaultdict(dict)
    day, file = date.min, ""
    for line in told.splitlines():
        if re.fullmatch(r"@\d{4}-\d\d-\d\d", line):
            day = date.fromisoformat(line[1:])
        elif line.startswith("+++ b/"):
            file = line.removeprefix("+++ b/")
        elif added := _ADDED.match(line):
            found[file].setdefault(added[1], day)
    return dict(found)


def _add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    made = ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)
    made.text = text
    return made
