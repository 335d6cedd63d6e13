"""The lab: the only place that imports torch. Opens models, measures heads, intervenes on them.

Rooms: opening (a model, and a record of what was opened), anatomy (its matrices, read off its shapes), doctor (is it
safe to measure), streaming (attention scores of all heads without a T x T pattern), edits and interventions, paths
(path patching, of one path or of every head), readouts and attribution (what the logits say, and who wrote them),
sweeps (the exact effect of every head) and screening (attribution patching, joined to exact verification), circuits and
composition (scores read from weights), recall (a model of memory to hold attention against), probes, and graphs
(information flow, edge attribution, pruning).
"""

from headatlas.lab.ablation.masked_keys import hiding
from headatlas.lab.ablation.replacement import Patch
from headatlas.lab.ablation.screening import Screening, attribution_patching, screen
from headatlas.lab.ablation.sweeps import Sweep, ablate_sets, naive_sweep, sweep
from headatlas.lab.activations import edits
from headatlas.lab.activations.interventions import Ablation, Reference, ablate, intervene
from headatlas.lab.activations.recording import record
from headatlas.lab.activations.sites import SITES, Recording, Site
from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.anatomy.low_rank import Factored
from headatlas.lab.attention.accumulator import Totals
from headatlas.lab.attention.cmr import recall_curves, recall_fit
from headatlas.lab.attention.pairs import pair_weights
from headatlas.lab.attention.prompt_patterns import pattern_scores
from headatlas.lab.attention.streaming import ArgmaxKey, Distance, Entropy, KeyMass, PairWeight, SinkMass, score_heads
from headatlas.lab.attribution.direct import direct_effects, followed_effects, head_lens
from headatlas.lab.attribution.logit_attribution import Attribution, direct_logit_attribution, logit_lens
from headatlas.lab.fits.lofit import learn_vectors, scaling_slopes
from headatlas.lab.fits.probes import Directions, Probes, collect_z, mean_difference, probe_directions, probe_heads
from headatlas.lab.graphs.acdc import prune_edges
from headatlas.lab.graphs.edge_scores import edge_attribution
from headatlas.lab.graphs.flow import flow_scores, information_flow
from headatlas.lab.loading.opening import OpenModel, open_model
from headatlas.lab.loading.provenance import Opened
from headatlas.lab.paths.copying_movers import movers
from headatlas.lab.paths.path_patching import PathRuns, Receiver, path_patch, path_runs
from headatlas.lab.paths.path_sweeps import PathSweep, path_sweep
from headatlas.lab.paths.paths_to_attention import attention_paths
from headatlas.lab.paths.prompt_effects import path_effects, set_path_effects
from headatlas.lab.running.measuring import Scores, attention_scores, behave, forward, mean_z
from headatlas.lab.running.metrics import (
    Behaviour,
    accuracy,
    accuracy_among_rivals,
    candidate_given,
    kl_to_clean,
    log_odds_of_candidates,
    log_probability,
    logit_difference,
    loss_per_position,
    probability,
    probability_difference,
)
from headatlas.lab.safety.diagnosis import Check, Diagnosis
from headatlas.lab.safety.examination import doctor
from headatlas.lab.weights.composition import Composition, composition
from headatlas.lab.weights.composition_null import composition_chance
from headatlas.lab.weights.ov_qk import (
    Copying,
    copying_scores,
    ov_logits,
    ov_positivity,
    prefix_matching_scores,
    qk_positivity,
)
from headatlas.lab.weights.previous_token import previous_position_scores

__all__ = [
    "SITES",
    "Ablation",
    "Anatomy",
    "ArgmaxKey",
    "Attribution",
    "Behaviour",
    "Check",
    "Composition",
    "Copying",
    "Diagnosis",
    "Directions",
    "Distance",
    "Entropy",
    "Factored",
    "KeyMass",
    "OpenModel",
    "Opened",
    "PairWeight",
    "Patch",
    "PathRuns",
    "PathSweep",
    "Probes",
    "Receiver",
    "Recording",
    "Reference",
    "Scores",
    "Screening",
    "SinkMass",
    "Site",
    "Sweep",
    "Totals",
    "ablate",
    "ablate_sets",
    "accuracy",
    "accuracy_among_rivals",
    "attention_paths",
    "attention_scores",
    "attribution_patching",
    "behave",
    "candidate_given",
    "collect_z",
    "composition",
    "composition_chance",
    "copying_scores",
    "direct_effects",
    "direct_logit_attribution",
    "doctor",
    "edge_attribution",
    "edits",
    "flow_scores",
    "followed_effects",
    "forward",
    "head_lens",
    "hiding",
    "information_flow",
    "intervene",
    "kl_to_clean",
    "learn_vectors",
    "log_odds_of_candidates",
    "log_probability",
    "logit_difference",
    "logit_lens",
    "loss_per_position",
    "mean_difference",
    "mean_z",
    "movers",
    "naive_sweep",
    "open_model",
    "ov_logits",
    "ov_positivity",
    "pair_weights",
    "path_effects",
    "path_patch",
    "path_runs",
    "path_sweep",
    "pattern_scores",
    "prefix_matching_scores",
    "previous_position_scores",
    "probability",
    "probability_difference",
    "probe_directions",
    "probe_heads",
    "prune_edges",
    "qk_positivity",
    "recall_curves",
    "recall_fit",
    "record",
    "scaling_slopes",
    "score_heads",
    "screen",
    "set_path_effects",
    "sweep",
]
