"""What Coupled-VAE is compared with: methods whose difference is a part, and a language model."""

# Imported for what they register.
from vaelib import decoders_gru, posteriors_coupled, posteriors_flow  # noqa: F401
from vaelib.objectives.base import recipe

recipe(
    "vmf_learned",
    aliases=("vMF-VAE (learnable kappa)", "vMF-VAE-kappa"),
    title="vMF-VAE, learned kappa",
    paper="Davidson et al. 2018; Wu et al. 2020",
    equation="Coupled-VAE Section 5.2",
    formula=r"q(z|x) = \mathrm{vMF}(\mu(x), \kappa(x)),\ \kappa(x) \ge 1",
    summary="A von Mises-Fisher posterior whose concentration is learned, so that it can collapse.",
    changes={"posterior": "vmf_learned", "prior": "uniform_sphere"},
)
recipe(
    "dae",
    aliases=("DAE", "Deterministic autoencoder"),
    title="DAE",
    paper="Wu et al. 2020",
    equation="Coupled-VAE Section 2.2",
    formula=r"-\log p(x\,|\,z),\quad z = W e(x) + b",
    summary="A deterministic autoencoder: no noise, and a KL that is 0 by convention; its "
    "importance-weighted NLL is infinite.",
    changes={"posterior": "point"},
)
recipe(
    "wae_nf",
    aliases=("WAE-NF",),
    title="WAE-NF",
    paper="Rezende & Mohamed 2015; Tolstikhin et al. 2018; Wu et al. 2020",
    equation="Coupled-VAE Section 5.2",
    formula=r"0.8\,\mathrm{KL}(q(z|x)\,\|\,p(z)) + 10 \sum_s \mathrm{MMD}_{k_s}(q(z), p(z)),"
    r"\ z = f_K(\cdots f_1(z_0))",
    summary="WAE with seven scales whose samples pass through planar flows.",
    changes={"posterior": "planar", "extra_terms": ("mmd_multiscale",)},
    options={"beta": 0.8},
)
recipe(
    "gru_lm",
    aliases=("GRU-LM",),
    title="GRU-LM",
    paper="Cho et al. 2014; Wu et al. 2020",
    equation="Coupled-VAE Section 5.2",
    formula=r"-\log p(x),\quad q(z|x) = p(z)",
    summary="A language model like the GRU decoder, told nothing: the KL is 0 and the NLL exact.",
    changes={
        "backbone": "gru",
        "encoder": "none",
        "posterior": "prior",
        "decoder": "gru_lm",
        "strategy": "decoder_only",
    },
)
