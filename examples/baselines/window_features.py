# SPDX-License-Identifier: MIT
"""A random forest of scikit-learn on seglearn's statistics of windows: a baseline."""

import numpy as np
from seglearn.feature_functions import base_features
from sklearn.ensemble import RandomForestClassifier


def features(windows):
    """Eleven numbers of each column of windows (n, T, F), such as the mean and the extremes."""
    return np.hstack([of(windows) for of in base_features().values()])


def forest(x, target, seed):
    """Learn the classes of windows; return a function that gives the probabilities of others."""
    trees = RandomForestClassifier(random_state=seed).fit(features(x), target)
    return lambda windows: trees.predict_proba(features(windows))
