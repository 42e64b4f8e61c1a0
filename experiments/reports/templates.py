"""Pages made from templates, in which all text is escaped."""

from pathlib import Path

import jinja2


def template(folder: Path) -> jinja2.Template:
    """The template `page.html` of a folder; a name that it is not given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")
