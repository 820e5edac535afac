"""What was replaced in a library is there again, whatever became of the block."""

from types import SimpleNamespace

import pytest

from tune_btxrd.distributed.replaced import replaced


def test_attributes_are_others_within_the_block_alone() -> None:
    library = SimpleNamespace(first=1, second=2, third=3)
    with pytest.raises(ValueError, match="in the block"), replaced(library, first=10, second=20):
        assert (library.first, library.second, library.third) == (10, 20, 3)
        raise ValueError("in the block")
    assert (library.first, library.second, library.third) == (1, 2, 3)


def test_a_name_that_the_library_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError), replaced(SimpleNamespace(), first=10):
        pytest.fail("it began")
