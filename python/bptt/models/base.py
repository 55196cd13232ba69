# SPDX-License-Identifier: MIT
"""What all estimators share: scikit-learn's conventions, without importing it."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any, ClassVar

import numpy as np

from .._files.access import Path
from .._words import listed
from . import files

__all__ = ["Estimator", "NotFittedError", "of_sklearn"]


def of_sklearn(name: str, own: type[Any]) -> type[Any]:
    """The class of ``sklearn.exceptions``, if something has imported that, else `own`."""
    return getattr(sys.modules.get("sklearn.exceptions"), name, own)


class NotFittedError(ValueError, AttributeError):
    """Raised by an estimator that has not been fitted.

    It is a ValueError and an AttributeError, as in scikit-learn. Once scikit-learn is imported, it
    is scikit-learn's NotFittedError too.
    """


class Estimator:
    """The base of the estimators.

    A subclass stores each argument of its constructor under its name and checks them in `fit`.
    It lists in `FITTED` the attributes that `fit` adds and that a file holds.
    """

    FITTED: ClassVar[dict[str, Any]] = {}  # the type or types, by the attribute's name
    KIND: ClassVar[str | None] = None  # scikit-learn's: "classifier", "regressor"

    def __init_subclass__(cls) -> None:
        if cls.FITTED:
            files.ESTIMATORS[cls.__name__] = cls

    @classmethod
    def argument_names(cls) -> list[str]:
        return [*inspect.signature(cls).parameters]

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Store the arguments of the constructor, its `locals()`, as they are."""
        vars(self).update({name: arguments[name] for name in self.argument_names()})

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor by name; `deep` is not used."""
        return {name: getattr(self, name) for name in self.argument_names()}

    def set_params(self, **params: Any) -> Any:
        """Set arguments of the constructor, and return the estimator.

        Raises
        ------
        ValueError
            If a name is not an argument; nothing has changed then.
        """
        known = self.argument_names()
        unknown = [name for name in params if name not in known]
        if unknown:
            raise ValueError(
                f"{type(self).__name__}.set_params: params has {listed(unknown)}, expected some of "
                f"{listed(known, 40)}"
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name, argument in inspect.signature(type(self)).parameters.items()
            if not _equal(getattr(self, name), argument.default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def save(self, path: Path) -> None:
        """Write the fitted estimator to one file; `bptt.models.load` reads it.

        The file, safetensors or npz, has the weights, the arguments of the constructor, all else
        that `fit` has learnt, such as a vocabulary, and a format version. There is no pickle.

        Parameters
        ----------
        path : str or path-like
            As in `bptt.save`: the suffix decides the format.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        TypeError
            If an argument of the constructor has anything but numbers and text.
        ValueError, ImportError, OSError
            As in `bptt.save`.
        """
        self._check_fitted("save")
        files.save(self, path)

    # --- scikit-learn -----------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return all(name in vars(self) for name in self.FITTED)

    def _check_fitted(self, method: str) -> None:
        """Raise unless `fit` has been called."""
        if not self.__sklearn_is_fitted__():
            name, theirs = type(self).__name__, of_sklearn("NotFittedError", NotFittedError)
            both = issubclass(NotFittedError, theirs)
            kind = NotFittedError if both else type("NotFittedError", (NotFittedError, theirs), {})
            raise kind(f"{name}.{method}: the estimator is not fitted, expected {name}.fit first")

    def __sklearn_tags__(self) -> Any:  # which scikit-learn alone calls
        utils = importlib.import_module("sklearn.utils")
        return utils.Tags(
            estimator_type=self.KIND,
            target_tags=utils.TargetTags(required=self.KIND is not None),
            classifier_tags=utils.ClassifierTags() if self.KIND == "classifier" else None,
            regressor_tags=utils.RegressorTags() if self.KIND == "regressor" else None,
            non_deterministic=False,
        )

    def _check_loaded(self) -> None:
        """Raise ValueError unless the parts that a file holds fit together."""


def _equal(value: Any, default: Any) -> bool:
    if isinstance(value, np.ndarray):
        return False
    return value is default or (type(value) is type(default) and value == default)
