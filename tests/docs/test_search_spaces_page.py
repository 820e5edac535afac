"""`docs/search-spaces.md`: every file on the page is loaded, sampled and searches nothing in vain."""

import json
import re

import jsonschema
import pytest
import yaml

from tests.support.paths import ROOT
from tune_btxrd.search.space.effects import space_notes
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.search.study import blind_trials

PAGE = (ROOT / "docs" / "search-spaces.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
SCHEMA = json.loads((ROOT / "search_spaces" / "schema.json").read_text(encoding="utf-8"))


def test_the_page_goes_from_nothing_to_a_constraint() -> None:
    assert len(BLOCKS) >= 6
    for word in ("when:", "step:", "choices:", "fixed:", 'constraint: {val_recall_malignant: ">= 0.6"}'):
        assert any(word in block for block in BLOCKS), word
    assert any(len(SearchSpec.from_text(block).start) > 1 for block in BLOCKS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_file_of_the_page_is_loaded_and_sampled(number: int) -> None:
    spec = SearchSpec.from_text(BLOCKS[number])
    jsonschema.Draft202012Validator(SCHEMA).validate(yaml.safe_load(BLOCKS[number]))
    for trial in blind_trials(spec, 30):
        assert spec.suggest(trial).epochs == spec.epochs
    assert space_notes(spec) == []


def test_settings_of_the_table_are_all_there_are() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {field for field in SearchSpec.__dataclass_fields__} <= named
