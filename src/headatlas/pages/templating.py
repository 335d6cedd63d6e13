"""Loads the templates of the package's HTML files."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """A template of headatlas/pages/templates; it escapes every value, and a missing value is an error."""
    return Environment(
        loader=PackageLoader("headatlas.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)
