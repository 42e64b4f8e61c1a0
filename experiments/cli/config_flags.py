"""The flags that set the fields of a `Config`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.cli.command import Flags
from experiments.train.config import SETTINGS, Config

DATA = ("dataset", "mnist_path", "data_dir")


class ConfigFlags:
    """The flags of one command that set fields of a `Config`.

    Args:
        own: The command's flags.
        fields: Which fields they set, by default all that have flags.
        without: Fields of these that the command sets itself.
        defaults: Default values by flag, where they are not those of `Config`.
    """

    def __init__(
        self,
        own: Flags,
        fields: Sequence[str] = tuple(SETTINGS),
        without: Sequence[str] = (),
        **defaults: Any,
    ) -> None:
        self._own = own
        self._flags = {
            name: [
                own.define(*flag._replace(default=defaults.get(flag.name, flag.default)))
                for flag in SETTINGS[name].flags
            ]
            for name in fields
            if name not in without and SETTINGS[name].flags
        }

    def values(self) -> dict[str, Any]:
        """The fields' values, by their names."""
        return {
            name: SETTINGS[name].combine(*(holder.value for holder in holders))
            for name, holders in self._flags.items()
        }

    def config(self, kept: Config | None = None, **own: Any) -> Config:
        """The configuration that the flags say.

        Args:
            kept: A configuration that keeps its values where no flag is given.
            own: Fields that the command sets itself.
        """
        if kept is None:
            return Config(**self.values(), **own)
        given = {
            name
            for name, holders in self._flags.items()
            if any(self._own.values[holder.name].present for holder in holders)
        }
        # The two name the data together.
        if given & {"dataset", "mnist_path"}:
            given |= {"dataset", "mnist_path"}
        changes = {name: value for name, value in self.values().items() if name in given}
        return dataclasses.replace(kept, data_fingerprint="", **changes, **own)
