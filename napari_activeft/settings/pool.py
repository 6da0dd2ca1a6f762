"""How a pool is made: init, add, embed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from napari_activeft.settings.base import Name, Plane, Precision, Scan, Settings, Share


class InitSettings(Settings):
    """How a project is made.

    Attributes
    ----------
    name
        Of the project; the folder's name if empty.
    plane
        Along which axis volumes are sliced, see `pool.plane_axis`.
    """

    name: str = ""
    plane: Plane = "auto"


class AddSettings(Settings):
    """How a folder is read; see `files.find_volumes` and `cases.case_rule`.

    Attributes
    ----------
    labels
        Glob of the files that are label maps.
    ignore
        Globs of files that are passed over.
    channels
        One glob per channel of multi-channel volumes.
    stack
        Take each folder of 2-D pictures as one volume.
    case
        auto, folder, file, FILE.csv:COLUMN, or a regular expression with one group.
    split
        CSV with the columns case and split.
    val_share, test_share
        Shares of new cases that a seeded hash of their names puts aside, where no CSV says it.
    split_seed
        Seed of that hash.
    """

    labels: str | None = None
    ignore: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    stack: bool = False
    case: str = "auto"
    split: Path | None = None
    val_share: Share = 0.0
    test_share: Share = 0.0
    split_seed: int = 0

    @model_validator(mode="after")
    def _shares_leave_a_pool(self) -> AddSettings:
        if self.val_share + self.test_share > 1:
            raise ValueError(
                f"val and test shares of {self.val_share} and {self.test_share} were given: "
                "together they must be at most 1"
            )
        if self.split is not None and self.val_share + self.test_share > 0:
            raise ValueError("both a split table and shares were given: give one of them")
        return self


class AddAllSettings(AddSettings):
    """What is taken in by one job, and how.

    Attributes
    ----------
    paths
        Folders and image files, one after the other.
    """

    paths: tuple[Path, ...] = Field(min_length=1)


class EmbedSettings(Settings):
    """How slices become vectors; see `pool_features.embed_pool`.

    Attributes
    ----------
    encoder
        pixels_pca, hog, the name of a network or of an encoder that was pre-trained in the project,
        or auto: the official vmamba_small_s2l15 if its weights are here, else what did best of all
        that needs no download.
    weights
        File with the network's weights; the user's own cache by default.
    random_weights
        Let a network that was never trained embed.
    size
        Height and width of the pictures; the encoder's own by default.
    device
        auto, cpu, cuda, cuda:1 or mps.
    precision
        auto, float32 or bfloat16.
    scan
        auto, or the selective scan to use, see ``models/scan_backends.py``.
    batch
        Slices at once; 0 is as many as fit into free memory and still pay.
    threads
        Of the CPU; 0 leaves it to torch.
    seed
        Of what is drawn: the slices pixels_pca learns from, random weights.
    out
        Also write the vectors of the pool to this ``.npy`` file.
    l2
        Divide the vectors in ``out`` by their lengths.
    """

    encoder: Name = "auto"
    weights: Path | None = None
    random_weights: bool = False
    size: int | None = Field(default=None, ge=32, le=2048)
    device: Name = "auto"
    precision: Precision = "auto"
    scan: Scan = "auto"
    batch: int = Field(default=0, ge=0, le=4096)
    threads: int = Field(default=0, ge=0, le=1024)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    out: Path | None = None
    l2: bool = False

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> EmbedSettings:
        if self.random_weights and self.weights is not None:
            raise ValueError("both --weights and --random-weights were given: give one of them")
        if self.out is not None and self.out.suffix != ".npy":
            raise ValueError(f"{self.out} was given for the vectors: name a file that ends in .npy")
        if self.l2 and self.out is None:
            raise ValueError("--l2 was given without --out: it changes only what is written there")
        return self
