"""Sentences from the prior, judged by n-gram models: forward and reverse perplexity."""

from vaelib.metrics.ngram import Sentences, kneser_ney


def forward_perplexity(real: Sentences, generated: Sentences, order: int = 5) -> float:
    """Perplexity of generated sentences under a model of real ones: are they fluent?

    VAE-MINE, section 5.3, has 100,000 generated sentences and a model of the training set; whether
    they are decoded greedily or sampled is not said, and changes the number a great deal. A model
    that writes one good sentence over and over scores best, hence the reverse perplexity beside it.

    Args:
        real: Training sentences as token lists without markers.
        generated: Sentences from the prior.
        order: Longest n-gram of the Kneser-Ney model.

    Returns:
        Perplexity per token, end markers and unknown words counted.

    Raises:
        VaelibError: `order` is below 1, a set is empty, or a sentence is a string.
    """
    return kneser_ney(real, order).perplexity(generated)


def reverse_perplexity(generated: Sentences, real: Sentences, order: int = 5) -> float:
    """Perplexity of real sentences under a model of generated ones: do they cover the data?

    VAE-MINE, section 5.3, has 100,000 generated sentences and the test set. Fewer sentences give
    higher numbers, so only equal sizes compare. Words that were never generated share the
    probability of one unknown word, which is the larger the fewer words there are: a generator of
    hardly any words can score best. To forbid that, put each word of the vocabulary once before
    `generated`, as a sentence of its own.

    Args:
        generated: Sentences from the prior as token lists without markers.
        real: Test sentences.
        order: Longest n-gram of the Kneser-Ney model.

    Returns:
        Perplexity per token, end markers and unknown words counted.

    Raises:
        VaelibError: `order` is below 1, a set is empty, or a sentence is a string.
    """
    return kneser_ney(generated, order).perplexity(real)
