# SPDX-License-Identifier: MIT
"""The perplexity of a 5-gram with interpolated Kneser-Ney smoothing, by nltk: a baseline."""

from collections import Counter, defaultdict

import numpy as np


def kneser_ney(train, test, order=5, discount=0.75):
    """Perplexity of the tokens of `test` after the first; NaN without nltk."""
    try:
        from nltk import lm, ngrams
    except ImportError:
        return np.nan

    class Indexed(lm.smoothing.KneserNey):
        """The same counts, each made once: nltk searches all n-grams for every word."""

        def _continuation_counts(self, word, context=()):
            index = self.__dict__.setdefault("index", {})
            if len(context) not in index:
                index[len(context)] = defaultdict(Counter)
                for before, after in self.counts[len(context) + 2].items():
                    index[len(context)][before[1:]].update(w for w, n in after.items() if n)
            found = index[len(context)][context]
            if (context, None) not in index:
                index[context, None] = sum(found.values())
            return found[word], index[context, None]

    grams = [gram for n in range(1, order + 1) for gram in ngrams(train, n)]
    model = lm.KneserNeyInterpolated(order, discount)
    model.fit([grams], train)
    model.estimator = Indexed(model.vocab, model.counts, order=order, discount=discount)
    test = [token if token in model.vocab else "<UNK>" for token in test]
    scores = [
        model.unmasked_score(test[t], tuple(test[max(t + 1 - order, 0) : t]))
        for t in range(1, len(test))
    ]
    return float(np.exp(-np.mean(np.log(scores))))
