# SPDX-License-Identifier: MIT
"""A logistic regression on counts of words (tf-idf), by scikit-learn: a baseline."""

import numpy as np


def bag_of_words(train, target, test):
    """The class of each test sequence of tokens; NaN without scikit-learn."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError:
        return np.full(len(test), np.nan)
    counts = TfidfVectorizer(analyzer=list, min_df=2, max_features=20_000)  # as the network's
    model = make_pipeline(counts, LogisticRegression(max_iter=1000))
    return model.fit(train, target).predict(test)
