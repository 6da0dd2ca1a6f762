"""The documentation builds without a warning, and holds what is made from the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from napari_activeft.annotation_db import tables

from napari_activeft import settings as all_settings

REPOSITORY = Path(__file__).parents[1]

pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages, built with warnings as errors."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def text_of(path):
    return re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8"))


def test_every_command_and_every_option_is_on_its_page(site):
    help_text = subprocess.run(
        [sys.executable, "-m", "napari_activeft", "pretrain", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
    ).stdout
    page = text_of(site / "reference" / "commands.html")

    options = set(re.findall(r"--[a-z][a-z-]+", help_text)) - {"--help"}
    assert len(options) > 10
    assert all(option in page for option in options)
    assert all(f"napari-activeft {verb}" in page for verb in ("init", "weights fetch", "jobs show"))


def test_every_setting_is_on_its_page_with_its_meaning(site):
    page = text_of(site / "reference" / "settings.html")

    for name in ("TrainSettings", "PretrainSettings", "SelectSettings"):
        assert name in page
        assert all(field in page for field in getattr(all_settings, name).model_fields)
    assert "Changes of the weights" in page


def test_every_table_and_column_is_drawn(site):
    page = (site / "reference" / "database.html").read_text(encoding="utf-8")

    for table in tables.Base.metadata.tables.values():
        assert f">{table.name}</text>" in page
        assert all(f">{column.name}</text>" in page for column in table.columns)


def test_no_page_fetches_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://", text), page
