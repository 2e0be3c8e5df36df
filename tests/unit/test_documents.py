"""What holds for all documents: samples are run by some test, links lead somewhere."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

# Which test runs the blocks of a language in a document.
RUN: Final = {
    ("README.md", "console"): "tests/cli/test_docs.py",
    ("README.md", "python"): "tests/cli/test_docs.py",
    ("quickstart.md", "console"): "tests/cli/test_docs.py",
    ("quickstart.md", "python"): "tests/cli/test_docs.py",
    ("tutorial.md", "console"): "tests/cli/test_docs.py",
    ("tutorial.md", "python"): "tests/cli/test_docs.py",
    ("partitions.md", "console"): "tests/cli/test_docs.py",
    ("partitions.md", "python"): "tests/cli/test_docs.py",
    ("topics.md", "console"): "tests/cli/test_docs.py",
    ("client.md", "python"): "tests/client/test_docs.py",
    ("coming-from-java.md", "python"): "tests/client/test_docs.py",
    ("coming-from-kafka-python.md", "python"): "tests/client/test_docs.py",
    ("consuming.md", "python"): "tests/client/test_docs.py",
    ("reading-from-a-slave.md", "console"): "tests/cli/test_reading_from_a_slave.py",
    ("reading-from-a-slave.md", "python"): "tests/cli/test_reading_from_a_slave.py",
    ("reading-from-a-slave.md", "java"): "tests/cli/test_reading_from_a_slave.py",
    ("synchronous-pair.md", "console"): "tests/cli/test_pair.py",
    ("synchronous-pair.md", "properties"): "tests/cli/test_pair.py",
    ("migration.md", "console"): "tests/interop/test_migration.py",
    ("asynchronous-slave.md", "properties"): "tests/unit/config/test_slave.py",
    ("metrics.md", "yaml"): "tests/unit/admin/test_families.py",
    ("offsets.md", "python"): "tests/client/offsets/test_docs.py",
    ("offsets.md", "json"): "tests/client/offsets/test_docs.py",
    ("configuration.md", "ini"): "tests/unit/config/test_documented.py",
    ("configuration.md", "text"): "tests/unit/config/test_documented.py",
    ("protocol.md", "wire"): "tests/unit/protocol/test_docs.py",
    ("protocol.md", "record"): "tests/unit/protocol/test_docs.py",
    ("registry.md", "hex"): "tests/unit/registry/test_docs.py",
    ("storage.md", "hex"): "tests/unit/store/test_docs.py",
    ("storage.md", "text"): "tests/unit/store/test_docs.py",
    ("storage.md", "python"): "tests/unit/store/test_docs.py",
}
NOT_RUN: Final = {
    ("README.md", "sh"),  # it installs from a package registry
    ("metrics.md", "sh"),  # so does it
    ("coming-from-java.md", "java"),  # what readers have now
}


def languages(document: Path) -> set[tuple[str, str]]:
    """Return the languages of a document's blocks; one without is a drawing."""
    openings = re.findall(r"^```(.*)\n(?:(?!```).*\n)*```$", document.read_text("utf-8"), re.MULTILINE)
    return {(document.name, opening.split()[0]) for opening in openings if opening.strip()}


def test_every_language_of_every_document_has_a_test_that_runs_it() -> None:
    found = set().union(*map(languages, DOCUMENTS))
    assert found == RUN.keys() | NOT_RUN
    for (document, _), test in RUN.items():
        assert document in (ROOT / test).read_text("utf-8"), f"{test} does not read {document}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_other_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text("utf-8"))
    gone = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert gone == []
