"""A volume belongs to one case, and a case to one side of the split, for good."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projectmaking import add, assert_sentence, make_project, sentences, write_folder

from napari_activeft.cases import SPLITS, case_rule, drawn_split, read_splits, read_table
from napari_activeft.errors import UserError


def cases(text: str, *names: str) -> list[str | None]:
    rule, _ = case_rule(text, names)
    return [rule(name) for name in names]


def test_folder_takes_the_first_folder_and_is_silent_without_one():
    assert cases("folder", "p1/ed", "p1/deep/es", "loose") == ["p1", "p1", None]


def test_file_makes_every_volume_a_case():
    assert cases("file", "p1/ed", "p1/es", "loose") == ["p1/ed", "p1/es", "loose"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["p1/a", "p1/b", "p2/a"], "one case per folder"),
        (["p1/a", "p1/b"], "one case per volume"),
        (["p1/a", "p2/b", "loose"], "one case per volume"),
        (["a", "b"], "one case per volume"),
        ([], "one case per volume"),
    ],
)
def test_auto_takes_folders_only_where_everything_lies_in_several(names, words):
    assert case_rule("auto", names)[1] == words


def test_a_pattern_is_searched_anywhere_in_the_path():
    found = cases(r"(patient\d+)", "set/patient007_ed", "patient12/es", "control1")
    assert found == ["patient007", "patient12", None]


@pytest.mark.parametrize("pattern", ["patient", r"(a)(b)", "(unclosed", "cases.csv"])
def test_a_pattern_without_exactly_one_group_is_refused(pattern):
    with pytest.raises(UserError) as refusal:
        case_rule(pattern, [])
    assert_sentence(str(refusal.value))
    assert pattern in str(refusal.value).replace("\\\\", "\\")


def test_a_pattern_whose_group_took_no_part_is_silent():
    assert cases(r"x(\d+)?", "x", "x3") == [None, "3"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_may_be_written_by_any_spreadsheet(tmp_path, separator, encoding, newline):
    rows = [["file", "patient"], ["a.nii.gz", "Müller"], ["b.nii.gz", " Lévy "]]
    text = newline.join(separator.join(row) for row in rows) + newline
    table = tmp_path / "t.csv"
    table.write_bytes(text.encode(encoding))

    assert read_table(table) == [
        {"file": "a.nii.gz", "patient": "Müller"},
        {"file": "b.nii.gz", "patient": "Lévy"},
    ]


def test_blanks_around_column_names_mean_nothing(tmp_path):
    (tmp_path / "s.csv").write_text("case, split\np1, val\n")

    assert read_splits(tmp_path / "s.csv") == {"p1": "val"}


def test_a_table_may_have_short_long_and_empty_lines(tmp_path):
    (tmp_path / "t.csv").write_text("file,case,note\na\n\nb,B,x,too,many\n")

    rows = read_table(tmp_path / "t.csv")

    assert rows == [
        {"file": "a", "case": "", "note": ""},
        {"file": "b", "case": "B", "note": "x"},
    ]


@pytest.mark.parametrize("written", ["p1/ed.nii.gz", "p1/ed", "ed.nii.gz", "ed"])
def test_a_table_finds_a_file_by_path_or_name_with_or_without_suffix(tmp_path, written):
    table = tmp_path / "my cases.csv"
    table.write_text(f"image,age,patient\n{written},61,Jo\n")

    assert cases(f"{table}:patient", "p1/ed", "other") == ["Jo", None]
    assert case_rule(f"{table}:patient", [])[1] == "column patient of my cases.csv"


def test_a_path_in_a_table_wins_over_a_name(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("image,patient\np1/ed.nii,A\np2/ed.nii,B\n")

    assert cases(f"{table}:patient", "p1/ed", "p2/ed") == ["A", "B"]


@pytest.mark.parametrize(
    ("content", "column", "said"),
    [
        (b"image,case\na,b\n", "patient", "has no column 'patient', it has image, case"),
        (b"", "patient", "is empty"),
        (b"\xff\xfe\x00\x01", "patient", "it is not UTF-8 text"),
        (None, "patient", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, content, column, said):
    table = tmp_path / "t.csv"
    if content is not None:
        table.write_bytes(content)

    with pytest.raises(UserError, match=said) as refusal:
        case_rule(f"{table}:{column}", [])
    assert_sentence(str(refusal.value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case,split\np1,train\n", "line 2 puts case p1 into 'train': write pool, val or test"),
        (
            "case,split\np1,val\np1,pool\n",
            "line 3 puts case p1 into pool, an earlier line into val",
        ),
        ("patient,split\np1,val\n", "has the columns patient, split, and case and split"),
        ("case;split\np1;\n", "puts case p1 into ''"),
    ],
)
def test_a_split_table_with_a_fault_is_refused(tmp_path, text, said):
    (tmp_path / "s.csv").write_text(text)

    with pytest.raises(UserError) as refusal:
        read_splits(tmp_path / "s.csv")
    assert said in str(refusal.value)
    assert_sentence(str(refusal.value))


def test_a_split_table_may_repeat_itself(tmp_path):
    (tmp_path / "s.csv").write_text("case,split\np1,val\np1,val\np2,pool\np3,test\n")

    assert read_splits(tmp_path / "s.csv") == {"p1": "val", "p2": "pool", "p3": "test"}


def test_drawn_shares_come_out_right():
    drawn = Counter(
        drawn_split(f"patient{number}", val_share=0.2, test_share=0.1, seed=0)
        for number in range(10_000)
    )

    # Four standard deviations of a binomial draw of 10,000.
    assert drawn["val"] == pytest.approx(2000, abs=160)
    assert drawn["test"] == pytest.approx(1000, abs=120)


@given(
    case=st.text(max_size=8),
    val=st.floats(0, 1),
    test=st.floats(0, 1),
    seed=st.integers(-5, 5),
)
def test_a_draw_depends_on_the_name_the_shares_and_the_seed_alone(case, val, test, seed):
    val, test = val / 2, test / 2
    drawn = drawn_split(case, val_share=val, test_share=test, seed=seed)

    assert drawn in SPLITS
    assert drawn == drawn_split(case, val_share=val, test_share=test, seed=seed)
    assert drawn_split(case, val_share=0, test_share=0, seed=seed) == "pool"
    assert drawn_split(case, val_share=0, test_share=1, seed=seed) == "test"
    # A larger share only adds cases.
    if drawn == "test":
        assert drawn_split(case, val_share=val, test_share=test + 0.25, seed=seed) == "test"


def test_another_seed_draws_other_cases():
    names = [f"p{number}" for number in range(200)]
    drawn = [
        [drawn_split(name, val_share=0.5, test_share=0, seed=seed) for name in names]
        for seed in (0, 1)
    ]
    assert drawn[0] != drawn[1]


def test_cases_added_later_do_not_move_the_earlier_ones(tmp_path):
    write_folder(tmp_path / "some", patients=6, labels=False)
    write_folder(tmp_path / "all", patients=9, labels=False)
    drawn = {"val_share": 0.4, "test_share": 0.2, "split_seed": 3}
    with make_project(tmp_path / "p", tmp_path / "some", **drawn) as project:
        before = project.store.case_splits()
        add(project, tmp_path / "all", **drawn)
        after = project.store.case_splits()

    assert len(before) == 6
    assert len(after) == 9
    assert before.items() <= after.items()
    assert after == {
        case: drawn_split(case, val_share=0.4, test_share=0.2, seed=3) for case in after
    }


def test_a_case_stays_where_it_is_whatever_a_later_table_says(tmp_path):
    images = write_folder(tmp_path / "images", frames=2, labels=False)
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("case,split\npatient1,val\npatient2,pool\npatient3,test\n")
    second.write_text("case,split\npatient1,pool\npatient2,test\npatient3,test\n")
    with make_project(tmp_path / "p", images, split=first) as project:
        before = project.store.case_splits()

        write_folder(images, frames=3, labels=False)
        result = add(project, images, split=second)

        assert project.store.case_splits() == before
        assert result.added == 3
        assert {
            volume.split for volume in project.store.volumes() if volume.case == "patient1"
        } == {"val"}
        said = [problem.sentence for problem in result.problems]
        assert len(said) == 2
        assert "puts the case patient1 into pool, but it is val" in said[0]
        assert "puts the case patient2 into test, but it is pool" in said[1]


def test_a_table_that_disagrees_is_told_also_when_nothing_is_new(tmp_path):
    images = write_folder(tmp_path / "images", patients=2, frames=2, labels=False)
    table = tmp_path / "s.csv"
    table.write_text("case,split\npatient1,val\npatient2,pool\n")
    with make_project(tmp_path / "p", images) as project:
        result = add(project, images, split=table)

        assert (result.added, result.known) == (0, 4)
        (problem,) = result.problems
        assert "puts the case patient1 into val, but it is pool" in problem.sentence


def test_a_case_that_no_table_lists_is_named_and_not_added(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    table = tmp_path / "s.csv"
    table.write_text("case,split\npatient1,val\npatient3,pool\n")
    with make_project(tmp_path / "p") as project:
        result = add(project, images, split=table)

        assert project.store.case_splits() == {"patient1": "val", "patient3": "pool"}
        assert result.cases == {"val": 1, "pool": 1}
        assert "patient2 is not in the split table" in sentences(result)["p2_frame1.nii.gz"]


def test_a_volume_whose_case_cannot_be_told_is_named_and_not_added(tmp_path):
    images = write_folder(tmp_path / "images", labels=False)
    with make_project(tmp_path / "p") as project:
        result = add(project, images, case=r"(patient[12])")

        assert set(project.store.case_splits()) == {"patient1", "patient2"}
        assert "no case could be told" in sentences(result)["p3_frame1.nii.gz"]
