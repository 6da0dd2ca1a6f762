"""Classes come as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari_activeft.annotation_db import ClassRecord
from projectmaking import assert_sentence

from napari_activeft.class_table import changed_classes, classes_for
from napari_activeft.errors import UserError

RV = ClassRecord(1, "RV", "#e69f00")
LV = ClassRecord(3, "LV", "#112233")


def values(table) -> dict[int, str]:
    return {record.value: record.name for record in table}


def test_names_alone_take_the_next_values_and_colours_of_their_own():
    table = changed_classes([], ["RV", "Myocardium", "LV"])

    assert values(table) == {1: "RV", 2: "Myocardium", 3: "LV"}
    assert len({record.colour for record in table}) == 3
    assert all(record.colour.startswith("#") for record in table)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1=RV:#A1B2C3", ClassRecord(1, "RV", "#a1b2c3")),
        ("RV:#a1b2c3", ClassRecord(1, "RV", "#a1b2c3")),
        ("1=right ventricle", ClassRecord(1, "right ventricle", "#e69f00")),
        (" rv ", ClassRecord(1, "rv", "#e69f00")),
    ],
)
def test_a_class_keeps_what_is_not_written_anew(written, expected):
    assert changed_classes([RV, LV], [written]) == [expected, LV]


def test_a_new_name_comes_after_the_highest_value():
    assert values(changed_classes([RV, LV], ["Müsli & Öl"])) == {1: "RV", 3: "LV", 4: "Müsli & Öl"}


def test_the_table_is_sorted_by_value_and_order_of_writing_does_not_matter():
    table = changed_classes([], ["300=c", "2=b", "1=a"])
    assert list(values(table)) == [1, 2, 300]


def test_two_classes_may_swap_their_names():
    assert values(changed_classes([RV, LV], ["1=LV", "3=RV"])) == {1: "LV", 3: "RV"}


def test_a_class_is_removed_by_its_value():
    assert changed_classes([RV, LV], [], [1]) == [LV]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "cannot be read"),
        ("1=", "cannot be read"),
        ("a=b", "cannot be read"),
        ("0=background", "choose 1 to 65534"),
        ("0=tissue", "choose 1 to 65534"),
        ("65535=x", "choose 1 to 65534"),
        ("Background", "cannot be called 'Background'"),
        ("ignore", "cannot be called 'ignore'"),
        ("5=lv", "two classes would be called 'lv'"),
    ],
)
def test_a_class_that_cannot_be_is_refused(written, said):
    with pytest.raises(UserError, match=said) as refusal:
        changed_classes([RV, LV], [written])
    assert_sentence(str(refusal.value))


def test_removing_what_is_not_there_is_refused():
    with pytest.raises(UserError, match="class 7 was to be removed"):
        changed_classes([RV], [], [7])


def test_hundreds_of_classes_have_hundreds_of_colours():
    table = changed_classes([], [f"class {number}" for number in range(300)])
    assert len({record.colour for record in table}) > 290


@given(st.sets(st.integers(0, 65534), max_size=12), st.sets(st.integers(1, 65534), max_size=5))
def test_every_value_of_a_label_map_gets_a_class(found, known):
    before = [ClassRecord(value, f"known {value}", "#000000") for value in sorted(known)]

    table = changed_classes(before, classes_for(found, before))

    assert set(values(table)) == (found | known) - {0}
    assert all(record in table for record in before)


@given(st.text(max_size=10))
def test_any_text_is_a_class_or_one_sentence(text):
    try:
        (record,) = changed_classes([], [text])
    except UserError:
        return
    assert record.name.strip() == record.name != ""
    assert 1 <= record.value <= 65534


@pytest.mark.parametrize("written", ["1=a:red", "1=a:#12345", "a:b", "1=#a1b2c3"])
def test_a_mistyped_colour_does_not_become_part_of_the_name(written):
    with pytest.raises(UserError, match="cannot be read"):
        changed_classes([], [written])
