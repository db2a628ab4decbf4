import torch

from vaelib.data import load, synthetic


def test_synthetic_is_what_du_vae_describes() -> None:
    corpus = load("synthetic")
    assert corpus.statistics() == {
        "n_train": 16_000,
        "n_valid": 2_000,
        "n_test": 2_000,
        "vocab_size": 1_004,
        "length_mean": 12.0,
        "length_std": 0.0,
    }
    assert corpus.label_names == ("0", "1", "2", "3", "4")
    component, z = synthetic.latents()["train"]
    assert corpus.train.labels is not None
    assert torch.equal(corpus.train.labels, component)
    assert (component.bincount() / 16_000 - 0.2).abs().max() < 0.015  # 5 standard errors
    for k, mean in enumerate(synthetic.MEANS):
        centre = z[component == k]
        assert (centre.mean(0) - torch.tensor(mean)).abs().max() < 0.1
        assert (centre.var(0) - 1.0).abs().max() < 0.12


def test_the_text_tells_about_the_component() -> None:
    """The first word alone must carry information: a collapsed generator would be no test."""
    corpus = load("synthetic")
    assert corpus.train.labels is not None
    first = corpus.train.tokens.view(-1, 12)[:, 1]
    joint = torch.zeros(1_004, 5, dtype=torch.float64)
    joint.index_put_(
        (first, corpus.train.labels), torch.tensor(1 / 16_000, dtype=torch.float64), accumulate=True
    )
    independent = joint.sum(1, keepdim=True) * joint.sum(0)
    mi = (joint * (joint / independent).log()).nan_to_num().sum()
    assert 0.2 < mi < 1.61


def test_slices_keep_the_whole_vocabulary() -> None:
    corpus = load("synthetic", train_size=50, valid_size=20, test_size=20)
    assert len(corpus.vocabulary) == 1_004
    assert len(load("synthetic", train_size=50, min_count=2).vocabulary) < 200
