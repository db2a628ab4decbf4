"""The methods of Coupled-VAE: coupled twins of other methods, and the models of responses.

Imported after everything that registers a method, since each twin is made of its base.
"""

# Imported for what they register.
from vaelib import strategies_inner, strategies_pretrained  # noqa: F401
from vaelib.objectives import recipe
from vaelib.objectives.coupled import couple

couple("vae", "coupled", "Coupled-VAE")
couple("beta", title="Coupled-beta-VAE")
couple("vmf_learned", title="Coupled-vMF-VAE", options={"coupled_match": 7.5})
couple("cnn", title="Coupled-CNN-VAE", options={"coupled_match": 0.0})
couple("wae_multiscale", "coupled_wae", "Coupled-WAE")
couple("nf", title="Coupled-VAE-NF")
couple("wae_nf", title="Coupled-WAE-NF")
couple("cyclic_delayed", "coupled_cyclic")
couple("prefb", title="Coupled-PreFB-VAE")
couple("lagging", title="Coupled-Lagging-VAE")

recipe(
    "seq2seq",
    aliases=("GRU encoder-decoder", "GRU-encdec"),
    title="GRU encoder-decoder",
    paper="Cho et al. 2014; Wu et al. 2020",
    equation="Coupled-VAE Appendix I",
    formula=r"-\log p(x\,|\,y),\quad h = r(y)",
    summary="A response is written from its post alone, without a code: the NLL is exact.",
    changes={
        "backbone": "conditional",
        "encoder": "none",
        "posterior": "prior",
        "decoder": "seq2seq_gru",
        "strategy": "decoder_only",
    },
)
recipe(
    "cvae",
    aliases=("CVAE",),
    title="CVAE",
    paper="Zhao et al. 2017; Wu et al. 2020",
    equation="Coupled-VAE Eq. 15",
    formula=r"\mathrm{KL}(q(z|x, y)\,\|\,p(z|y)),\quad h = \mathrm{MLP}(z) + r(y)",
    summary="A VAE of responses: posterior, prior and decoder read the post as well.",
    changes={"backbone": "conditional"},
)
couple("cvae", title="Coupled-CVAE")
