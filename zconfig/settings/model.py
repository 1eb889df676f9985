"""The pydantic-settings model: every alias validated, all complaints together.

One model with a dictionary of connections, and one source a layer: one model per alias would
need the aliases beforehand, could not see typos, and is quadratic in their number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from zconfig.errors import Problem
from zconfig.settings.complaints import problem_of
from zconfig.settings.fields import ConnectionSettings, Variable
from zconfig.settings.grouping import Declared
from zconfig.settings.names import variable_name
from zconfig.settings.precedence import Resolution, Slot, Values
from zconfig.settings.spelling import nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


Contribution = tuple[str, Values]

# Of more aliases than these, any is near some other; and comparing them all would take its time.
_FEW = 100

# A field that is missed is complained of where the one stands that asks for it.
_SIBLING = {"tls_key": "tls_cert"}


class LayerSource(PydanticBaseSettingsSource):
    """One layer of the configuration, grouped by alias."""

    def __init__(self, settings_cls: type[BaseSettings], contribution: Contribution) -> None:
        super().__init__(settings_cls)
        self.__name__, self._values = contribution  # pydantic-settings keys its state by the name

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: a layer is taken whole, by calling it."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what the layer contributes."""
        return {"connections": self._values} if self._values else {}


class Settings(BaseSettings):
    """Every alias that is configured. Built from layers: `Settings(layers=[...])`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )

    connections: dict[str, ConnectionSettings] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Replace pydantic-settings' own sources by our layers, highest first."""
        del env_settings, dotenv_settings, file_secret_settings
        layers = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        # A source of no values besides: pydantic-settings refuses an empty list of them.
        contributions: list[Contribution] = [*layers.get("layers", ()), ("nothing", {})]
        return tuple(LayerSource(settings_cls, each) for each in contributions)


def validate(
    resolution: Resolution,
) -> tuple[Mapping[str, ConnectionSettings], tuple[Problem, ...]]:
    """Validate every alias of a resolution.

    Returns:
        The settings of the aliases that are right, and every problem of the others. One bad
        alias never costs another.
    """
    if not any(values for _, values in resolution.layers):
        return {}, ()
    connections, details = _attempt(resolution.layers)
    spoilt = {str(detail["loc"][1]) for detail in details} | {slot[0] for slot in resolution.broken}
    if spoilt:
        good = [(name, _without(values, spoilt)) for name, values in resolution.layers]
        connections, _ = _attempt(good)
    return connections, tuple(_problems(details, resolution)) if details else ()


def _attempt(
    layers: Iterable[Contribution],
) -> tuple[Mapping[str, ConnectionSettings], list[ErrorDetails]]:
    """Return the aliases, or pydantic's complaints, which leave this function without the input."""
    try:
        return Settings(layers=tuple(layers)).connections, []  # type: ignore[call-arg]  # see the class
    except ValidationError as error:
        return {}, error.errors(include_input=False, include_url=False)


def _without(values: Values, aliases: set[str]) -> Values:
    return {alias: fields for alias, fields in values.items() if alias not in aliases}


def _problems(details: Iterable[ErrorDetails], resolution: Resolution) -> Iterable[Problem]:
    declared = _by_alias(resolution.provenance)
    for detail in details:
        alias, field = str(detail["loc"][1]), str(detail["loc"][2])
        if (alias, field) in resolution.broken:
            continue  # it is missing because it could not be had, which was said already
        if detail["type"] == "missing":
            yield _missing_uri(alias, declared)
        else:
            at_fault = field if (alias, field) in resolution.provenance else _SIBLING.get(field)
            provenance = resolution.provenance.get((alias, at_fault or field))
            origin = provenance.origin if provenance else None
            variable = Variable.of(ConnectionSettings, field)
            yield problem_of(detail, variable, origin=origin, alias=alias, field=field)


def _by_alias(provenance: Mapping[Slot, Declared]) -> dict[str, dict[str, Declared]]:
    declared: dict[str, dict[str, Declared]] = defaultdict(dict)
    for (alias, field), each in provenance.items():
        declared[alias][field] = each
    return declared


def _missing_uri(alias: str, declared: Mapping[str, Mapping[str, Declared]]) -> Problem:
    """Name what is set for the alias, and the alias that was probably meant."""
    field, first = next(iter(declared[alias].items()))
    wanted = variable_name(alias, "uri")
    meant = _alias_meant(alias, field, declared)
    remedy = f"did you mean {variable_name(meant, field)}?" if meant else f"set {wanted}"
    what = f"is set, but {wanted} is not"
    return Problem("missing_uri", what, remedy, alias, "uri", first.origin)


def _alias_meant(
    alias: str, field: str, declared: Mapping[str, Mapping[str, Declared]]
) -> str | None:
    """Return the alias whose name is near, and that has a URI but not this field there."""
    if len(declared) > _FEW:
        return None
    layer = declared[alias][field].layer
    lacking = (
        other
        for other, fields in declared.items()
        if "uri" in fields and (field not in fields or fields[field].layer != layer)
    )
    return nearest(alias, lacking)
