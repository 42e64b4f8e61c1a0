"""The README's lines are those that CI runs, and links of all pages lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, README, ROOT, blocks, name_of

LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


def test_quick_start_is_two_lines_and_ci_runs_the_second() -> None:
    main_job, tests = (block.strip() for block in blocks(README, "sh")[:2])
    assert "\n" not in main_job + tests
    assert main_job.endswith("-m experiments.mnist --model=dropmax")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert tests.rpartition("/")[2] in script
    for file in re.findall(r"-r (\S+)", tests):
        assert f"-r {file}" in script


def anchors(page: Path) -> set[str]:
    """The names that code hosts give a page's headings."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_headings_that_a_page_links_to_exist(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        file, _, section = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if section:
            assert section in anchors(target), link
