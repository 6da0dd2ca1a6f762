"""Pre-training on slices without labels: its parts, its runs, the encoders that it leaves."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from napari_activeft.models.checkpoints import save_safetensors
from napari_activeft.models.registry import build_model
from projectmaking import assert_sentence

from napari_activeft import jobs, workflow
from napari_activeft.embedding.quality import effective_rank, places_in, quality
from napari_activeft.encoder_sources import (
    BUNDLED,
    DEFAULT,
    OFFICIAL,
    WITH_THE_PROGRAM,
    listed_weights,
    own_encoders,
    read_encoder,
    start_by_file,
)
from napari_activeft.errors import Cancelled, UserError
from napari_activeft.job_steps import going_on
from napari_activeft.project import Project
from napari_activeft.settings import (
    EmbedSettings,
    ImportSettings,
    PretrainSettings,
    TrainSettings,
)
from napari_activeft.training import looking
from napari_activeft.training import pretrain as module
from napari_activeft.training.averaging import RunningMean
from napari_activeft.training.companions import Companions
from napari_activeft.training.loop import Diverged
from napari_activeft.training.objective import Batch
from napari_activeft.training.oriented import ORIENTATIONS, oriented_histograms
from napari_activeft.training.position import PositionContrast, contrast
from napari_activeft.training.pretrain import pretrain
from napari_activeft.training.run_files import RESUME, read_curve
from napari_activeft.training.unlabelled import Pictures, Turns
from napari_activeft.training.views import Bounds, crops, turns, views
from napari_activeft.vectors import load_vectors

QUICK = {
    "encoder": "vmamba_nano",
    "size": 32,
    "view": 32,
    "batch": 4,
    "locals": 1,
    "prototypes": 16,
    "check_every": 4,
    "threads": 1,
    "device": "cpu",
    "precision": "float32",
    "start": "random",
}
QUICK_WORDS = [
    "--encoder", "vmamba_nano", "--view", "32", "--set", "size=32", "--batch", "4", "--threads",
    "1", "--device", "cpu", "--precision", "float32", "--set", "check_every=4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_ACTIVEFT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def drawn(cases=4, depth=6, channels=1, seed=0):
    """Pictures of a bright disc that wanders through the stack, two stacks a case."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    values, stacks, positions, of = [], [], [], []
    for stack in range(2 * cases):
        for at in range(depth):
            disc = (y - 16) ** 2 + (x - 4 - 4 * at) ** 2 < 36
            picture = 0.7 * disc + rng.normal(0.1, 0.03, (channels, 32, 32))
            values.append(np.clip(255 * picture, 0, 255).astype(np.uint8))
            stacks.append(stack)
            positions.append(at)
            of.append(f"case{stack // 2}")
    return Pictures(np.stack(values), stacks, positions, of)


def learnt(folder, *, pictures=None, on_progress=lambda *_: None, channels=3, **changes):
    settings = PretrainSettings(**{**QUICK, "steps": 8, **changes})
    network = build_model(settings.encoder, channels=channels, classes=1, seed=0)
    about = {"name": folder.name, "network": settings.encoder, "channels": 1, "slices": 48,
             "cases": 4}  # fmt: skip
    folder.mkdir(exist_ok=True)
    return pretrain(
        drawn() if pictures is None else pictures,
        network,
        settings,
        folder,
        about,
        on_progress=on_progress,
    )


# What vectors are worth


def test_vectors_that_tell_the_place_find_it_in_other_cases():
    places = np.tile(np.linspace(0, 1, 11), 6)
    cases = np.repeat(np.arange(6), 11)
    angle = places * np.pi / 2
    told = quality(np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32), cases, places)

    assert told.retrieval == 1.0
    assert told.chance == pytest.approx(31 / 121)
    assert not told.collapsed


def test_vectors_that_are_all_alike_are_told_as_collapsed():
    rng = np.random.default_rng(0)
    vectors = 1 + 1e-5 * rng.normal(size=(40, 16)).astype(np.float32)
    found = quality(vectors, np.arange(40) % 4, np.tile(np.linspace(0, 1, 10), 4))

    assert found.collapsed
    assert found.spread < 1e-5


def test_one_case_alone_has_no_other_to_be_found_in():
    found = quality(np.eye(6, dtype=np.float32), ["a"] * 6, np.linspace(0, 1, 6))

    assert (found.retrieval, found.chance) == (None, None)


def test_slices_of_short_stacks_have_no_place():
    places = places_in([0, 1, 5, 6, 7, 3], [0, 0, 1, 1, 1, 2])

    np.testing.assert_array_equal(places, [np.nan, np.nan, 0, 0.5, 1, np.nan])


@given(st.integers(1, 8), st.floats(0.01, 100))
def test_the_effective_rank_counts_equal_directions_whatever_their_scale(directions, scale):
    matrix = np.zeros((20, 8), np.float32)
    matrix[np.arange(directions), np.arange(directions)] = scale

    assert effective_rank(matrix) == pytest.approx(directions, rel=1e-4)


# Views and targets


def test_a_view_that_may_not_differ_is_the_picture_itself():
    pictures = torch.rand(3, 1, 32, 32)
    still = Bounds(area=(1, 1), aspect=1.0, degrees=0, mirrored=False)
    theta = turns(3, still, torch.Generator().manual_seed(0))

    torch.testing.assert_close(crops(pictures, 32, theta), pictures, atol=1e-5, rtol=0)


def test_views_are_of_their_size_and_range_and_the_same_again_by_their_seed():
    pictures = torch.rand(4, 3, 40, 40)
    bounds = Bounds(area=(0.1, 0.6), inverted=0.5, blurred=0.5)
    one, same, other = (
        views(pictures, 32, bounds, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )

    assert one.shape == (4, 3, 32, 32)
    assert one.min() >= 0
    assert one.max() <= 1
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_histograms_tell_the_direction_of_an_edge_whatever_its_contrast():
    down = torch.zeros(1, 1, 16, 16)
    down[:, :, 8:] = 1
    made = [oriented_histograms(one, 8) for one in (down, 0.5 * down, down.transpose(2, 3))]

    assert made[0].shape == (1, ORIENTATIONS, 2, 2)
    strongest = [one.sum(dim=(2, 3)).argmax().item() for one in made]
    assert strongest[0] == strongest[1] != strongest[2] == 0
    torch.testing.assert_close(made[0], made[1], atol=0.1, rtol=0)


def test_histograms_agree_with_scikit_image_on_which_directions_prevail():
    from skimage.feature import hog

    rng = np.random.default_rng(0)
    same, turned = [], []
    for _ in range(4):
        picture = np.cumsum(rng.normal(size=(32, 32)), axis=1) / 10
        theirs = hog(picture, 9, (16, 16), (1, 1), feature_vector=False)[:, :, 0, 0].sum((0, 1))
        for held, one in ((same, picture), (turned, picture.T.copy())):
            ours = oriented_histograms(torch.from_numpy(one)[None, None].float(), 16)
            # Theirs are hard bins, ours are shared by the two that are nearest.
            soft = (theirs + np.roll(theirs, 1)) / 2
            held.append(np.corrcoef(ours[0].sum((1, 2)).numpy(), soft)[0, 1])

    assert min(same) > 0.8
    assert max(turned) < min(same) - 0.5


def test_companions_are_neighbours_and_the_same_place_of_the_case_and_of_no_other():
    pictures = drawn(cases=3, depth=20)
    companions = Companions(pictures)
    rng = np.random.default_rng(0)

    for row in range(0, len(pictures), 7):
        for other in companions.drawn([row] * 30, rng):
            assert pictures.cases[other] == pictures.cases[row]
            reach = 1 if pictures.stacks[other] == pictures.stacks[row] else 0
            assert abs(pictures.positions[other] - pictures.positions[row]) <= reach


def of_two_kinds(discs, stripes, depth):
    """Stacks of discs, and of discs behind stripes, of so many cases."""
    one, other = drawn(cases=discs, depth=depth), drawn(cases=stripes, depth=depth, seed=1)
    grid = np.where(np.arange(32) % 8 < 4, 0, 200).astype(np.uint8)
    return Pictures(
        np.concatenate([one.values, np.maximum(other.values, grid)]),
        [*one.stacks, *(100 + stack for stack in other.stacks)],
        [*one.positions, *other.positions],
        [*(f"disc {case}" for case in one.cases), *(f"stripe {case}" for case in other.cases)],
    )


@pytest.mark.parametrize(("discs", "stripes", "depth"), [(4, 4, 11), (2, 2, 6), (8, 2, 6)])
def test_companions_of_other_cases_lie_at_the_same_place_and_keep_to_their_kind(
    discs, stripes, depth
):
    pictures = of_two_kinds(discs, stripes, depth)
    companions, rng = Companions(pictures, across=True), np.random.default_rng(0)
    abroad = []

    for row in range(0, len(pictures), 5):
        for other in companions.drawn([row] * 20, rng):
            abroad.append(pictures.cases[row] != pictures.cases[other])
            assert pictures.cases[row].split()[0] == pictures.cases[other].split()[0]
            reach = 0.1 if abroad[-1] else 1 / (depth - 1)
            assert abs(pictures.places[row] - pictures.places[other]) <= reach + 1e-9

    assert np.mean(abroad) == pytest.approx(0.5, abs=0.15)


def test_what_may_show_the_same_is_a_slice_itself_its_neighbours_and_its_place_elsewhere():
    pictures = Pictures(
        np.zeros((9, 1, 8, 8), np.uint8),
        [0, 0, 0, 0, 1, 1, 1, 2, 3],  # the last two are single pictures, without a place
        [0, 1, 2, 3, 0, 4, 8, 0, 0],
        ["a"] * 4 + ["b"] * 3 + ["c", "d"],
    )
    rows = [0, 1, 2, 4, 5, 7, 8, 7]

    found = pictures.alike(rows)

    assert np.array_equal(found, found.T)
    alike = {(rows[i], rows[j]) for i, j in zip(*np.nonzero(np.triu(found, 1)), strict=True)}
    assert alike == {(0, 1), (1, 2), (0, 4), (7, 7)}
    assert found.diagonal().all()


@pytest.mark.parametrize("depth", [1, 2, 6, 20])
def test_no_companion_is_an_opponent(depth):
    pictures = drawn(cases=4, depth=depth)
    companions, rng = Companions(pictures, across=True), np.random.default_rng(0)
    rows = Turns(pictures.stacks, 8, 0).rows(0, 32)

    others = companions.drawn(rows, rng)
    alike = pictures.alike(np.concatenate([rows, others]))

    seen = np.concatenate([rows, others])
    for anchor, positive in zip(range(64), [*range(32, 64), *range(32)], strict=True):
        # Wherever the batch holds the same slice as the companion, it is no opponent either.
        assert alike[anchor][seen == seen[anchor]].all()
        if not np.isnan(pictures.places[seen[anchor]]):
            assert alike[anchor][seen == seen[positive]].all()


def test_a_pool_of_one_case_has_companions_of_its_own_only():
    pictures = drawn(cases=1, depth=5)

    assert Companions(pictures, across=True).drawn([0], np.random.default_rng(0)) in (0, 1, 5)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(0, 3),
)
def test_all_slices_are_seen_once_before_the_first_comes_again(stacks, together, seed):
    seen = Turns(stacks, together, seed)
    n = len(stacks)

    first, second = seen.rows(0, n), seen.rows(n, n)

    assert sorted(first) == sorted(second) == list(range(n))
    assert Turns(stacks, together, seed).rows(n - 1, 2) == [first[-1], second[0]]


def test_slices_of_a_stack_come_together_where_they_are_set_against_each_other():
    stacks = np.repeat(np.arange(10), 16)

    in_eights = stacks[Turns(stacks, 8, 0).rows(0, 160)].reshape(-1, 8)
    one_by_one = stacks[Turns(stacks, 1, 0).rows(0, 160)].reshape(-1, 8)

    assert all(len(set(row)) == 1 for row in in_eights)
    assert all(len(set(row)) > 1 for row in one_by_one)


def test_slices_that_may_show_the_same_are_no_opponents():
    vectors = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    vectors[[1, 4]] = vectors[[0, 3]]  # the second pair shows what the first does
    apart = torch.eye(6, dtype=torch.bool)
    alike = apart.clone()
    for one, other in ((0, 1), (0, 4), (3, 1), (3, 4)):
        alike[one, other] = alike[other, one] = True

    assert contrast(vectors, alike) < contrast(vectors, apart) - 0.1


def test_the_contrast_is_least_where_companions_agree_and_others_differ():
    far_apart = torch.eye(4).repeat(2, 1)
    apart = torch.eye(8, dtype=torch.bool)

    best = contrast(far_apart, apart)
    assert best < 0.1
    assert contrast(torch.ones(8, 4), apart) == pytest.approx(np.log(7), abs=1e-5)
    assert contrast(far_apart[[0, 1, 2, 3, 1, 0, 3, 2]], apart) > 3
    assert contrast(3 * far_apart, apart) == pytest.approx(best.item())  # only directions count


# Runs


@pytest.mark.parametrize("seed", [0, 1])
def test_an_encoder_from_random_weights_learns_which_slices_show_the_same(seed):
    pictures = drawn(cases=2, depth=6)
    shown = torch.from_numpy(pictures.values).float() / 255
    network = build_model("vmamba_nano", channels=1, classes=1, seed=seed)
    width = network.forward_features(shown[:1]).pooled.shape[1]
    settings = PretrainSettings(**QUICK, turns="none")
    torch.manual_seed(seed)
    learning = PositionContrast(network, width, settings, lambda x: x)
    optimiser = torch.optim.AdamW(learning.parameters(), lr=1e-3)
    # The same places of two cases: all six are each other's opponents.
    batch = Batch(shown[:6], shown[12:18], torch.eye(12, dtype=torch.bool))
    mean = RunningMean(learning, 0.99)

    losses = []
    for step in range(40):
        loss = learning.loss(batch, torch.Generator().manual_seed(step), mean, 0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    with torch.no_grad():
        told = learning.head(network.forward_features(torch.cat([shown[:6], shown[12:18]])).pooled)
    assert contrast(told, batch.alike) < 1.0  # by chance the logarithm of 11, 2.4
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


@pytest.mark.parametrize("objective", ["position", "distill", "masked"])
def test_an_encoder_learns_and_is_kept_with_what_it_is(tmp_path, objective):
    losses = []
    made = learnt(
        tmp_path / "one",
        objective=objective,
        steps=30,
        lr=3e-4,
        on_progress=lambda progress, _: losses.append(progress.loss),
    )

    record = json.loads((tmp_path / "one" / "encoder.json").read_text())
    assert (record["over"], record["steps"], record["objective"]) == (True, 30, objective)
    assert record["weight_hash"] == made.weight_hash
    assert not (tmp_path / "one" / RESUME).exists()
    rows = read_curve(tmp_path / "one")
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[-1]["effective_rank"] == pytest.approx(made.after.effective_rank)
    assert np.isfinite(losses).all()
    if objective == "masked":
        assert np.mean(losses[-5:]) < 0.8 * losses[0]


@pytest.mark.parametrize("objective", ["position", "masked", "distill"])
def test_the_first_generation_learns_too(tmp_path, objective):
    how = {"objective": objective, "encoder": "vmamba_v0_tiny"}
    learnt(tmp_path / "one", steps=1, batch=2, locals=0, **how)

    assert read_encoder(tmp_path / "one").over


def test_single_pictures_fewer_than_a_batch_teach_too(tmp_path):
    stacks = drawn(cases=1, depth=5, channels=3)
    single = Pictures(stacks.values, range(10), [0] * 10, [f"{n}" for n in range(10)])

    made = learnt(tmp_path / "one", pictures=single, batch=16, steps=3)

    assert made.steps == 3
    assert made.after.retrieval is None


def test_a_stopped_run_goes_on_to_the_very_same_weights(tmp_path):
    def stop(progress, _):
        if progress.step == 5:
            raise Cancelled

    few = drawn(cases=2, depth=3)  # in eight steps of four each is seen twice and more
    whole = learnt(tmp_path / "whole", pictures=few)
    with pytest.raises(Cancelled):
        learnt(tmp_path / "parts", pictures=few, on_progress=stop)
    assert not read_encoder(tmp_path / "parts").over
    parts = learnt(tmp_path / "parts", pictures=few, resume=True)

    assert parts.weight_hash == whole.weight_hash
    losses = [[row["loss"] for row in read_curve(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_a_run_that_is_stopped_within_a_step_goes_on_from_the_one_before(tmp_path, monkeypatch):
    whole = learnt(tmp_path / "whole", checkpoint_every=0)
    update, calls = module.RunningMean.update, []

    def interrupted(mean, network, step):
        calls.append(step)
        if step == 5:
            raise KeyboardInterrupt
        update(mean, network, step)

    monkeypatch.setattr(module.RunningMean, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learnt(tmp_path / "parts", checkpoint_every=0)
    monkeypatch.setattr(module.RunningMean, "update", update)
    parts = learnt(tmp_path / "parts", checkpoint_every=0, resume=True)

    assert calls[-1] == 5
    assert parts.weight_hash == whole.weight_hash


@pytest.mark.parametrize(
    ("change", "said"),
    [({"lr": 0.5}, "another lr"), ({"pictures": drawn(seed=1)}, "the pool has changed")],
)
def test_a_run_of_other_settings_or_slices_does_not_go_on(tmp_path, change, said):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        learnt(tmp_path / "one", on_progress=stop)
    with pytest.raises(UserError, match=said) as refusal:
        learnt(tmp_path / "one", resume=True, **change)
    assert_sentence(str(refusal.value))


def test_minutes_decide_how_many_steps_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PACED", 2)
    seconds = iter(range(10_000))
    monkeypatch.setattr(module, "now", lambda: next(seconds) / 10)

    made = learnt(tmp_path / "one", minutes=0.05, steps=2000)

    assert 3 <= made.steps < 60
    assert any(f"{made.steps} steps fit" in note for note in made.notes)

    short = learnt(tmp_path / "two", minutes=1e-6, steps=2000)
    assert short.steps == 3
    assert any("0 steps fit" in note and "too few: 3 are taken" in note for note in short.notes)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_sound(tmp_path, monkeypatch):
    whole = module.OBJECTIVES["masked"]
    calls = []

    class Breaks(whole):
        def loss(self, *args):
            calls.append(1)
            return super().loss(*args) * (float("nan") if len(calls) == 6 else 1)

    monkeypatch.setitem(module.OBJECTIVES, "masked", Breaks)
    with pytest.raises(Diverged, match="the loss of step 6 is nan") as refusal:
        learnt(tmp_path / "one", objective="masked")

    assert_sentence(str(refusal.value))
    assert read_encoder(tmp_path / "one").weights.is_file()  # of the look after step 4


def test_an_encoder_that_collapses_is_stopped_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(
        looking, "quality", lambda *_: module.Quality(0.1, 0.1, effective_rank=1.0, spread=0.0)
    )
    with pytest.raises(Diverged, match="nearly the same vector to every slice") as refusal:
        learnt(tmp_path / "one")

    assert_sentence(str(refusal.value))
    assert not read_encoder(tmp_path / "one").weights.exists()


# In a project


def test_the_pool_adapts_an_encoder_that_embeds_and_starts_a_network(project):
    settings = PretrainSettings(**QUICK, steps=4)

    made = workflow.pretrain(project, settings)
    embedded = workflow.embed(project, EmbedSettings(encoder="own-1", device="cpu"))
    chosen, vectors = load_vectors(project, project.store.pool_slices(), "own-1")
    workflow.import_labels(project, ImportSettings())
    trained = workflow.train(
        project,
        TrainSettings(
            network="vm_unet_conv_nano", start="encoder:own-1", steps=1, batch=2, device="cpu",
            monitor="none", size=32,
        ),
    )  # fmt: skip

    assert (made.name, made.steps, made.slices) == ("own-1", 4, 12)
    assert made.page.is_file()
    assert (embedded.encoder, embedded.embedded) == ("own-1", 12)
    assert embedded.weight_hash == chosen.weight_hash == made.weight_hash
    assert vectors.shape == (12, embedded.size)
    assert any("starts from own-1" in note for note in trained.notes)


def test_a_simulation_starts_from_an_encoder_of_the_project_by_its_file(project, tmp_path):
    made = workflow.pretrain(project, PretrainSettings(**QUICK, steps=1))
    (tmp_path / "mine.safetensors").touch()

    told = start_by_file("encoder:own-1", project.folder)
    assert told == f"encoder:{made.folder / 'weights.safetensors'}"
    for other in ("auto", "random", "run:2", f"encoder:{tmp_path / 'mine.safetensors'}"):
        assert start_by_file(other, project.folder) == other
    with pytest.raises(UserError, match="no weights are called 'own-2'"):
        start_by_file("encoder:own-2", project.folder)


def test_encoders_get_names_of_their_own(project, command_line):
    command_line("pretrain", *QUICK_WORDS, "--steps", "1")
    command_line("pretrain", *QUICK_WORDS, "--steps", "1", "--start", "encoder:own-1")
    told = command_line.json("pretrain", *QUICK_WORDS, "--steps", "1", "--name", "heart")

    assert told["name"] == "heart"
    assert [one.name for one in own_encoders(project.folder)] == ["own-1", "own-2", "heart"]
    assert (
        "starts from own-1" in read_encoder(project.folder / "encoders" / "own-2").record["notes"]
    )


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["--encoder", "vm_unet"], "no network that embeds", 1),
        (["--name", "hog"], "an encoder is called hog already", 1),
        (["--resume"], "no pre-training of this project was stopped", 1),
        (["--view", "50"], "a multiple of 32", 2),
        (["--view", "256"], "views of 256 pixels were asked", 2),
        (["--start", "encoder:nobody"], "nobody", 1),
        (["--start", "own-1"], "a start of 'own-1' was given", 2),
        (["--scan", "triton"], "triton", 1),
    ],
)
def test_what_cannot_be_pre_trained_is_told_in_one_sentence(
    project, command_line, words, said, code
):
    told = command_line.refusal("pretrain", *QUICK_WORDS, *words, code=code)

    assert said in told
    assert not list((project.folder / "encoders").glob("*/"))


def test_an_empty_pool_is_told(command_line):
    command_line.bare("init", command_line.project)

    assert "the pool is empty" in command_line.refusal("pretrain", *QUICK_WORDS)


def test_a_damaged_encoder_is_told_and_others_are_not_disturbed(project, command_line):
    command_line("pretrain", *QUICK_WORDS, "--steps", "1")
    command_line("pretrain", *QUICK_WORDS, "--steps", "1")
    (project.folder / "encoders" / "own-1" / "encoder.json").write_text("{")

    assert "no encoder is called 'own-1'" in command_line.refusal("embed", "--encoder", "own-1")
    command_line("embed", "--encoder", "own-2")


def test_an_encoder_that_never_got_weights_cannot_embed(project, command_line):
    with pytest.raises(Cancelled):
        workflow.pretrain(project, PretrainSettings(**{**QUICK, "check_every": 100}), _Stops(3))
    assert "--resume" in command_line.refusal("embed", "--encoder", "own-1")


class _Stops:
    """Stops a run after some steps; what is told while slices are read does not count."""

    def __init__(self, step):
        self._step = step

    def __call__(self, done, total):
        if total == PretrainSettings().steps and done == self._step:
            raise Cancelled


KILLED = """
import os, signal, sys
from napari_activeft import cli
from napari_activeft.training import pretrain

step = pretrain._Run._step
def killing(run):
    row = step(run)
    if row["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return row
pretrain._Run._step = killing
sys.argv = ["napari-activeft", *sys.argv[1:]]
cli.main()
"""


def test_a_killed_run_goes_on_where_it_was_kept(project, command_line):
    words = [*QUICK_WORDS, "--steps", "8", "--set", "checkpoint_every=0"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "pretrain", *words, "-p", project.folder], check=False
    )
    assert killed.returncode < 0
    gone_on = command_line.json("pretrain", "--resume")
    whole = command_line.json("pretrain", *words, "--name", "whole")

    assert gone_on["name"] == "own-1"
    assert "goes on after step 5" in gone_on["notes"]
    assert gone_on["weight_hash"] == whole["weight_hash"]


def test_a_job_pre_trains_and_a_stopped_one_is_gone_on_with(project):
    settings = PretrainSettings(**QUICK, steps=4)
    job = jobs.wait(project, jobs.start_job(project, "pretrain", settings))
    assert job.state == "done", job.reason

    settings = PretrainSettings(**QUICK)
    written = settings.model_dump(mode="json")
    job_id = project.store.add_job("pretrain", written, "ann", threads=1).job_id
    project.store.begin_job(job_id, 1)
    with pytest.raises(Cancelled):
        workflow.pretrain(project, settings, _Stops(3))
    again = going_on(project, project.store.job(job_id), settings)

    assert (again.resume, again.name) == (True, "own-2")


# Which encoder a name stands for


def test_auto_is_the_official_encoder_where_its_weights_are_and_says_so(project, tmp_path):
    told = workflow.embed(project, EmbedSettings())
    assert told.encoder == DEFAULT
    assert f"auto is {DEFAULT}" in told.why
    again = workflow.embed(project, EmbedSettings(device="cpu", precision="bfloat16"))
    assert again.computed == 0  # wishes for a network, which auto is not here

    network = build_model("vmamba_nano", seed=0)
    (tmp_path / "weights").mkdir()
    save_safetensors(network.state_dict(), tmp_path / "weights" / f"{OFFICIAL}.safetensors", {})
    with pytest.raises(UserError, match=OFFICIAL):  # found, and of another size
        workflow.embed(project, EmbedSettings())


def test_the_encoder_that_comes_with_the_program_embeds_and_is_where_adapting_starts(project):
    embedded = workflow.embed(project, EmbedSettings(encoder=BUNDLED, device="cpu"))
    quick = {**QUICK, "encoder": "vmamba_micro", "start": "auto"}
    adapted = workflow.pretrain(project, PretrainSettings(**quick, steps=1))
    first = listed_weights()[0]

    assert (embedded.encoder, embedded.size) == (BUNDLED, 320)
    assert any(BUNDLED in note for note in adapted.notes), adapted.notes
    assert (first.name, first.present, first.source) == (BUNDLED, True, WITH_THE_PROGRAM)
    assert first.size == first.path.stat().st_size < 15e6


def test_a_pool_in_colour_adapts_an_encoder_too(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(
            images / f"{number}.png"
        )
    with Project.open(workflow.init(tmp_path / "p").folder) as made:
        workflow.add(made, images)
        result = workflow.pretrain(made, PretrainSettings(**QUICK, steps=2))
        embedded = workflow.embed(made, EmbedSettings(encoder="own-1", device="cpu"))

    assert result.before.retrieval is None
    assert embedded.embedded == 6
