"""What a user may ask for, and what is refused before anything is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projectmaking import assert_sentence
from pydantic import ValidationError

from napari_activeft import settings
from napari_activeft.errors import UserError
from napari_activeft.settings import AddSettings, Budget, SubmitSettings


@pytest.mark.parametrize(
    ("written", "share"),
    [
        ("0.05", 0.05),
        ("5%", 0.05),
        ("1.0", 1.0),
        ("100%", 1.0),
        (".05", 0.05),
        ("1e-3", 0.001),
        ("2.5%", 0.025),
        ("1.", 1.0),
        (" 0.5 ", 0.5),
        ("5 %", 0.05),
        (0.25, 0.25),
        (1.0, 1.0),
        (1e-05, 1e-05),
    ],
)
def test_a_point_or_a_per_cent_sign_makes_a_share(written, share):
    assert Budget.parse(written) == Budget(share=share)


@pytest.mark.parametrize(("written", "count"), [("1", 1), ("5", 5), ("+32", 32), (7, 7)])
def test_a_whole_number_is_a_count(written, count):
    assert Budget.parse(written) == Budget(count=count)


@pytest.mark.parametrize(
    "written",
    [
        "0",
        "1.5",
        "-1",
        "abc",
        "0.0",
        "101%",
        "0%",
        "",
        "%",
        ".",
        "nan",
        "inf",
        "1,5",
        "-0.1",
        "1e3",
    ],
)
def test_anything_else_is_no_budget(written):
    with pytest.raises(UserError, match="a budget of") as refusal:
        Budget.parse(written)
    assert_sentence(str(refusal.value))


def test_a_budget_is_its_own_budget():
    assert Budget.parse(Budget(count=3)) == Budget(count=3)


@pytest.mark.parametrize("given_", [{}, {"share": 0.1, "count": 3}])
def test_a_budget_is_a_share_or_a_count_and_not_both(given_):
    with pytest.raises(ValidationError):
        Budget(**given_)


@given(st.text(max_size=6))
def test_any_text_is_a_sound_budget_or_one_sentence(text):
    try:
        budget = Budget.parse(text)
    except UserError as refusal:
        assert_sentence(str(refusal).replace(repr(text.strip()), ""))
    else:
        assert (budget.share is None) != (budget.count is None)
        assert budget.share is None or 0 < budget.share <= 1


@pytest.mark.parametrize(
    ("written", "pool", "slices"),
    [
        ("0.05", 100, 5),
        ("5%", 10, 1),  # half is rounded up
        ("5%", 29, 1),
        ("5%", 30, 2),
        ("5%", 49, 2),
        ("1.0", 17, 17),
        ("1", 17, 1),
        ("7%", 100, 7),
        ("29%", 100, 29),
        ("0.285", 1000, 285),
    ],
)
def test_a_share_is_of_all_pool_slices_and_rounded_to_the_nearest(written, pool, slices):
    assert Budget.parse(written).slices(pool, free=pool) == slices


@given(share=st.floats(0, 1, exclude_min=True), pool=st.integers(1, 10_000))
def test_rounding_is_off_by_half_a_slice_at_most(share, pool):
    try:
        slices = Budget(share=share).slices(pool, pool)
    except UserError:
        assert share * pool < 0.5
    else:
        assert 1 <= slices <= pool
        assert abs(slices - share * pool) <= 0.5 + 1e-9


def test_a_share_that_rounds_to_nothing_is_refused():
    with pytest.raises(UserError, match=r"5% of 9 pool slices rounds to no slice") as refusal:
        Budget.parse("5%").slices(9, 9)
    assert_sentence(str(refusal.value))


@pytest.mark.parametrize(("written", "wanted"), [("8", 8), ("80%", 8), ("1.0", 10)])
def test_a_budget_beyond_the_free_slices_is_refused(written, wanted):
    said = (
        f"a budget of {wanted} slices.* was given, but only 7 slices of the pool were not queried"
    )
    with pytest.raises(UserError, match=said) as refusal:
        Budget.parse(written).slices(10, 7)
    assert_sentence(str(refusal.value))


def test_a_share_counts_slices_that_were_queried_too():
    assert Budget.parse("0.5").slices(10, 5) == 5


@pytest.mark.parametrize(
    "asked",
    [
        {"val_share": 0.6, "test_share": 0.6},
        {"val_share": -0.1},
        {"test_share": 1.1},
        {"val_share": 0.1, "split": "s.csv"},
        {"unknown": 1},
    ],
)
def test_a_split_that_cannot_be_is_refused(asked):
    with pytest.raises(ValidationError):
        AddSettings(**asked)


@pytest.mark.parametrize(
    "asked", [{}, {"empty": True, "skip": "blurred"}, {"mask": "m.png", "hand_back": True}]
)
def test_a_query_has_exactly_one_answer(asked):
    with pytest.raises(ValidationError, match="give exactly one"):
        SubmitSettings(ticket="t.json", **asked)


def test_settings_do_not_change():
    for kind in vars(settings).values():
        if isinstance(kind, type) and issubclass(kind, settings.Settings):
            assert kind.model_config["frozen"]
            assert kind.model_config["extra"] == "forbid"
