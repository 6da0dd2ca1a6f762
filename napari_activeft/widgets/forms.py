"""Forms that are made from the settings classes: a control for each field, with its own help."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from magicgui.widgets import CheckBox, ComboBox, Container, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from qtpy.QtWidgets import QWidget

from napari_activeft.errors import UserError
from napari_activeft.settings import Settings
from napari_activeft.settings.told import help_of

_LARGEST: Final = 2**31 - 1


class SettingsForm:
    """Some fields of a settings class.

    Parameters
    ----------
    settings
        The class.
    names
        Which fields, from top to bottom.
    """

    def __init__(self, settings: type[Settings], names: Sequence[str]) -> None:
        self._settings = settings
        self._usual = {name: settings.model_fields[name].default for name in names}
        told = help_of(settings)
        self._controls = {
            name: _control(name, settings.model_fields[name], self._usual[name], told.get(name, ""))
            for name in names
        }
        self._container: Any = Container(widgets=list(self._controls.values()), labels=True)
        self._container.margins = (0, 0, 0, 0)

    @property
    def native(self) -> QWidget:
        """The form."""
        widget: QWidget = self._container.native
        return widget

    def control(self, name: str) -> Any:  # noqa: ANN401 - magicgui's own
        """Return the control of a field."""
        return self._controls[name]

    def put(self, values: dict[str, Any]) -> None:
        """Set fields; those that the form does not show are passed over."""
        for name, value in values.items():
            if name in self._controls:
                self._controls[name].value = _shown(self._controls[name], value)

    def reset(self) -> None:
        """Set every field to what is usual."""
        self.put(self._usual)

    def values(self) -> dict[str, Any]:
        """Return what differs from the defaults of the class.

        Raises
        ------
        UserError
            If a field does not hold what it needs.
        """
        found = {name: _read(control) for name, control in self._controls.items()}
        for name, value in found.items():
            try:
                self._settings.__pydantic_validator__.validate_assignment(
                    self._settings.model_construct(), name, value
                )
            except ValidationError as refusal:
                own = [fault for fault in refusal.errors() if fault["loc"][:1] == (name,)]
                if own:
                    raise UserError(
                        f"{_title(name)} is {value!r}, which does not fit: {own[0]['msg']}"
                    ) from refusal
        fields = self._settings.model_fields
        return {name: value for name, value in found.items() if value != fields[name].default}


def built(settings: type[Settings], **values: Any) -> Any:  # noqa: ANN401 - an object of that class
    """Return settings of these values.

    Raises
    ------
    UserError
        If they do not fit each other.
    """
    try:
        return settings(**values)
    except ValidationError as refusal:
        fault = refusal.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        raise UserError(f"{_title(name)}: {said}" if name else said) from refusal


def _title(name: str) -> str:
    return name.replace("_", " ")


def _control(name: str, field: FieldInfo, usual: Any, told: str) -> ValueWidget[Any]:  # noqa: ANN401
    made: ValueWidget[Any] = _plain_control(field, usual)
    made.name, made.label, made.tooltip = name, _title(name), told
    return made


def _plain_control(field: FieldInfo, usual: Any) -> ValueWidget[Any]:  # noqa: ANN401
    kind: Any = field.annotation
    low, high = _limits(field)
    if kind is bool:
        return CheckBox(value=usual, text="")
    if get_origin(kind) is Literal:
        return ComboBox(choices=list(get_args(kind)), value=usual)
    if kind is int:
        return SpinBox(
            value=usual, min=int(max(low, -_LARGEST)), max=int(min(high, _LARGEST)), step=1
        )
    # Other numbers are written: a spin box rounds what it shows, and what it gives back.
    return LineEdit(value=_written(usual))


def _limits(field: FieldInfo) -> tuple[float, float]:
    low, high = -math.inf, math.inf
    for rule in field.metadata:
        if isinstance(rule, (Ge, Gt)):
            low = max(low, float(rule.ge if isinstance(rule, Ge) else rule.gt))  # type: ignore[arg-type]
        if isinstance(rule, (Le, Lt)):
            high = min(high, float(rule.le if isinstance(rule, Le) else rule.lt))  # type: ignore[arg-type]
    return low, high


def _written(value: Any) -> str:  # noqa: ANN401
    return "" if value is None else str(value)


def _shown(control: ValueWidget[Any], value: Any) -> Any:  # noqa: ANN401
    return _written(value) if isinstance(control, LineEdit) else value


def _read(control: ValueWidget[Any]) -> Any:  # noqa: ANN401
    """Return what a control holds; text is read as Python writes it, where it can be."""
    if not isinstance(control, LineEdit):
        return control.value
    text = str(control.value).strip()
    if not text or text.lower() == "none":
        return None
    if text.lower() in ("inf", "infinite"):
        return math.inf
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    return text
