"""The lab: opens a model, measures its heads, intervenes on them. The only package that imports torch.

The verbs that most work needs are here. The rest lies in rooms; each imports only rooms above it:

hooks          ways into a running model
anatomy        where its attention, norms and matrices are
loading        opening and identifying a model
running        batches, a forward pass, metrics
activations    recording and editing activations
safety         the doctor
attention      scores read from attention weights
ablation       replacing what heads give; sweeps over all heads
attribution    taking a logit apart
weights        scores read from weights
paths          path patching
graphs         circuits as graphs
fits           probes, directions, learned scales, toy models
"""

from headatlas.lab.ablation.first_order import attribution_patching
from headatlas.lab.ablation.screening import screen
from headatlas.lab.ablation.sweeps import ablate_sets, sweep
from headatlas.lab.activations import edits
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.attention.pairs import attention_scores
from headatlas.lab.attention.prompt_patterns import pattern_scores
from headatlas.lab.attention.streaming import score_heads
from headatlas.lab.attribution.logit_attribution import direct_logit_attribution, logit_lens
from headatlas.lab.fits.probes import probe_heads
from headatlas.lab.graphs.edge_scores import edge_attribution
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.loading.opening import open_model
from headatlas.lab.paths.path_patching import path_patch
from headatlas.lab.paths.path_sweeps import path_sweep
from headatlas.lab.running.behaviour import metric_per_prompt
from headatlas.lab.running.forward import forward
from headatlas.lab.running.metrics import accuracy, log_probability, logit_difference, probability
from headatlas.lab.running.scores import Scores
from headatlas.lab.safety.doctor import doctor
from headatlas.lab.weights.head_composition import composition
from headatlas.lab.weights.ov_qk import copying_scores

__all__ = [
    "OpenModel",
    "Scores",
    "ablate_sets",
    "accuracy",
    "attention_scores",
    "attribution_patching",
    "composition",
    "copying_scores",
    "direct_logit_attribution",
    "doctor",
    "edge_attribution",
    "edits",
    "forward",
    "intervene",
    "log_probability",
    "logit_difference",
    "logit_lens",
    "metric_per_prompt",
    "open_model",
    "path_patch",
    "path_sweep",
    "pattern_scores",
    "probability",
    "probe_heads",
    "record",
    "score_heads",
    "screen",
    "sweep",
]
