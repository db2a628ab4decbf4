"""DU-VAE and what it is compared with: methods whose difference is their posterior."""

from vaelib.objectives.base import recipe

PAPER = "Shen et al. 2021"

recipe(
    "du",
    aliases=("DU-VAE",),
    title="DU-VAE",
    paper=PAPER,
    equation="DU-VAE Eqs. 6 and 9, Algorithm 1",
    formula=r"\hat\sigma^2 = g(\sigma^2 - \alpha) + \alpha,\ g \sim B(1, p)/p,"
    r"\ \hat\mu = \gamma_\mu\,\mathrm{BN}(\mu) + b,\ \overline{\gamma_\mu^2} = \gamma^2",
    summary="Means are batch-normalised to scales of a fixed mean square; after the warm-up, "
    "variances get a floor and are dropped to it at random.",
    changes={"posterior": "variance_dropout", "strategy": "after_warmup"},
)
recipe(
    "bn_shift",
    aliases=("BN-VAE (fixed shift)", "BN-VAE with fixed shift", "BN with fixed shift"),
    title="BN-VAE with fixed shift",
    paper=PAPER,
    equation="DU-VAE Appendix F, Tables S1 and S2",
    formula=r"\mu = \gamma_\mu\,\mathrm{BN}(\hat\mu) + \beta",
    summary="The KL has a floor as in BN-VAE, but from the shift of the means: they may collapse.",
    changes={"posterior": "fixed_shift"},
)
recipe(
    "nf",
    aliases=("VAE-NF", "VAE-NF (planar)", "Planar NF"),
    title="VAE-NF",
    paper="Rezende & Mohamed 2015; Wu et al. 2020",
    equation="Coupled-VAE Section 5.2",
    formula=r"z_K = f_K(\cdots f_1(z_0)),\ f(z) = z + \hat u \tanh(w^\top z + b)",
    summary="The Gaussian sample passes through planar flows; the KL is estimated at one sample.",
    changes={"posterior": "planar"},
)
recipe(
    "iaf",
    aliases=("VAE-IAF", "IAF", "IAF-VAE"),
    title="VAE-IAF",
    paper="Kingma et al. 2016",
    equation="DU-VAE Eq. S22",
    formula=r"z_t = g_t \odot z_{t-1} + (1 - g_t) \odot m_t",
    summary="The Gaussian sample passes through autoregressive flows that see the sentence.",
    changes={"posterior": "iaf"},
)
recipe(
    "iaf_fb",
    aliases=("IAF+FB",),
    title="IAF+FB",
    paper="Kingma et al. 2016",
    equation="DU-VAE Section 4.1",
    formula=r"\sum_d \max(\lambda / D,\ \overline{\mathrm{KL}}_d)",
    summary="VAE-IAF with free bits: no dimension gains from a mean KL below lambda/D. "
    "The default is the paper's 0.15 a dimension at D = 32.",
    changes={"posterior": "iaf", "regulariser": "free_bits"},
    options={"variant": "dim_batch_clamp", "target": 4.8},
)
recipe(
    "iaf_bn",
    aliases=("IAF+BN",),
    title="IAF+BN",
    paper=PAPER,
    equation="DU-VAE Section 4.1",
    formula=r"\mu_0 = \gamma\,\mathrm{BN}(\hat\mu_0) + b",
    summary="VAE-IAF with the means before the flow batch-normalised to a fixed scale.",
    changes={"posterior": "iaf"},
    options={"gamma": 0.6},
)
recipe(
    "du_iaf",
    aliases=("DU-IAF",),
    title="DU-IAF",
    paper=PAPER,
    equation="DU-VAE Section 3.4, Algorithm S1",
    formula=r"z_0 \sim \mathcal{N}(\hat\mu_0, \hat\sigma_0^2),\ z_T = \mathrm{IAF}(z_0)",
    summary="VAE-IAF from the Gaussian of DU-VAE: normalised means, dropped variances.",
    changes={"posterior": "du_iaf", "strategy": "after_warmup"},
)
