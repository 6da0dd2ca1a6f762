"""Slices become vectors: by which encoder, and an encoder adapted to these very images."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QWidget

from napari_activeft.annotation_db import JobRecord
from napari_activeft.embedding.encoder import WEIGHTLESS
from napari_activeft.encoder_sources import known_encoders
from napari_activeft.extras import missing_compute
from napari_activeft.session.outlook import Outlook
from napari_activeft.settings import EmbedSettings, PretrainSettings
from napari_activeft.widgets import notices
from napari_activeft.widgets.background import EXPECTED
from napari_activeft.widgets.controls import button, choice, column, folded, row, sentence
from napari_activeft.widgets.forms import SettingsForm, built
from napari_activeft.widgets.session_state import SessionState
from napari_activeft.wording import counted

_DEVICES = ("auto", "cpu", "cuda", "mps")
_MINUTES = 10.0
_ADAPTED = ("encoder", "objective", "minutes", "turns", "device")


class EmbedBox(QWidget):
    """Starts embedding and pre-training.

    Parameters
    ----------
    changed
        Called when there is another encoder than before.
    """

    def __init__(self, state: SessionState, changed: Callable[[], object]) -> None:
        super().__init__()
        self._state, self._changed = state, changed
        self._own: tuple[str, ...] | None = None  # as listed; None before a project is seen
        self.encoder = choice(
            "auto takes what is best of all that is on this computer; hog, pixels_pca and "
            "vmamba_micro_medical need nothing; other networks need their weights, see the command "
            "`napari-activeft weights`",
            [(name, name, "") for name in known_encoders()],
        )
        self.device = choice(
            "Where networks compute; auto takes a GPU if there is one",
            [(name, name, "") for name in _DEVICES],
        )
        self.button = button(
            "Embed", "Compute the vectors, in the background; those there are kept", self.embed
        )
        self.told = sentence()
        self.form = SettingsForm(PretrainSettings, _ADAPTED)
        self.form.put({"minutes": _MINUTES})
        self.adapt_button = button(
            "Adapt", "Let an encoder learn from these images, in the background", self.adapt
        )
        inside = QWidget()
        column(
            sentence(
                "A network that looks at your own slices for a while, without any label, tells "
                "them apart better. The result is one more encoder of this project."
            ),
            self.form.native,
            self.adapt_button,
            parent=inside,
            margin=0,
        )
        column(
            row(self.encoder, self.device, self.button),
            self.told,
            folded("Adapt an encoder to these images", inside, "Pre-training without labels"),
            parent=self,
            margin=0,
        )
        state.job_ended.connect(self._job_ended)

    def show_outlook(self, found: Outlook | None) -> None:
        """Show which encoders there are, and what is embedded."""
        for one in (self.button, self.adapt_button):
            one.setEnabled(not missing_compute())
        if found is None:
            self._own = None
            self.told.setText("")
            return
        self._list(found.own_encoders)
        embedded = ", ".join(found.embedded)
        missing = found.layout.missing if found.layout is not None else len(found.pool)
        self.told.setText(
            f"Embedded by {embedded}." + (f" {missing} slices lack a vector." if missing else "")
            if embedded
            else f"{counted(len(found.pool), 'slice')} in the pool, none embedded yet."
        )

    def _list(self, own: tuple[str, ...]) -> None:
        """Offer the encoders of this project first; one that is new is chosen."""
        if own == self._own:
            return
        before, known = self.encoder.currentText(), self._own
        new = [] if known is None else [one for one in own if one not in known]
        self._own = own
        self.encoder.clear()
        first, *others = known_encoders()
        for name in (first, *own, *others):
            self.encoder.addItem(name, name)
        wanted = new[-1] if new else before
        self.encoder.setCurrentText(wanted if wanted in (*own, *others) else first)

    def _job_ended(self, job: JobRecord) -> None:
        if job.verb == "pretrain":
            self._changed()
            if job.state == "done":
                notices.tell("the encoder is adapted: choose it above and press Embed")

    def embed(self) -> None:
        """Start computing the vectors."""
        encoder = self.encoder.currentText()
        device = {} if encoder in WEIGHTLESS else {"device": self.device.currentText()}
        self._state.start("embed", built(EmbedSettings, encoder=encoder, **device))

    def adapt(self) -> None:
        """Start pre-training."""
        try:
            settings = built(PretrainSettings, **self.form.values())
        except EXPECTED as refusal:
            notices.error(str(refusal))
            return
        self._state.start("pretrain", settings)
