"""The documents as readers use them: links lead somewhere, and commands have the options that they show."""

import functools
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from runtime.programs import PROGRAMS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
TEXTS = {document: document.read_text() for document in DOCUMENTS}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def anchors(text: str) -> set[str]:
    """Those of a document's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(TEXTS[target]), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_named_are_there(document: Path) -> None:
    folders = "rmgn|kernels|export|engines|runtime|tests|benchmarks|models|docs"
    for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", TEXTS[document]):
        assert (ROOT / name).exists(), name


def test_versions_accepted_are_those_that_pip_accepts() -> None:
    required = (ROOT / "pyproject.toml").read_text() + (ROOT / "setup.py").read_text()
    for written, name in (("{opencv}", "opencv-python"), ('requires-python = "', '"Python')):
        assert written in required
        required = required.replace(written, name)
    bounds = defaultdict(set)
    for name, bound in re.findall(r'"([\w-]+)([<>=][^";]*)', required):
        bounds[name].add(bound)
    table = TEXTS[ROOT / "README.md"].partition("### Versions")[2].partition("\n#")[0]
    rows = re.findall(r"^\| ([\w-]+) \| (`.*?) \|", table, re.MULTILINE)
    assert len(rows) > 9
    for name, accepted in rows:
        assert set(re.findall("`(.*?)`", accepted)) == bounds[name], name


def commands() -> dict[str, set[str]]:
    """Options that the documents give each program of `rmgn`, under its short name or its module's."""
    short = {program.module: name for name, program in PROGRAMS.items()}
    shown = defaultdict(set)
    for text in TEXTS.values():
        lines = re.sub(r"\\\n\s*", "", text)
        for name, module, rest in re.findall(r"(?:\brmgn ([a-z0-9-]+)|-m ([a-z_.]+))([^`\n#]*)", lines):
            program = name if name in PROGRAMS else short.get(module)
            if program:
                shown[program].update(OPTION.findall(rest))
    return shown


@functools.cache
def offered(*program: str) -> set[str]:
    """Options that a program of `rmgn` names in its help."""
    call = [sys.executable, "-m", "runtime.programs", *program, "--help"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(OPTION.findall(done.stdout))


def option_table(document: str, heading: str) -> set[str]:
    """Options in the first column of the tables below a heading."""
    part = TEXTS[ROOT / document].partition(f"\n{heading}\n")[2]
    rows = re.findall(r"^\| (`--[^|]*)\|", re.split(r"\n## ", part)[0], re.MULTILINE)
    return {option for row in rows for option in OPTION.findall(row)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "document", "heading"),
    [
        ("mirror", "docs/mirror.md", "## Options"),
        ("tryon", "docs/mirror.md", "## Photos: `rmgn tryon`"),
        ("export", "docs/engines.md", "## Options of `rmgn export`"),
        ("evaluate", "docs/evaluation.md", "## Options"),
        ("generate", "docs/data.md", "## Generate"),
        ("train", "docs/training.md", "## Settings"),
    ],
)
def test_tables_have_all_options(program: str, document: str, heading: str) -> None:
    assert option_table(document, heading) == offered(program) - {"--help"}


@pytest.mark.slow
@pytest.mark.parametrize(("program", "options"), sorted(commands().items()))
def test_commands_have_the_options_shown(program: str, options: set[str]) -> None:
    words = [program, "page"] if program == "table2" else [program]  # which has commands of its own
    assert options <= offered(*words)
