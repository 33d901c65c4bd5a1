"""What each operation does to labels: one small rule for each kind of operation.

A new family of networks needs a rule here when it uses an operation that no rule knows; until
then the channels that meet it are frozen at full size, and named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ssr_exp.rescaling.tracing.rules import (
    elementwise,
    indexing,
    normalisations,
    operations,
    parameters,
    products,
    reshaping,
)
from ssr_exp.rescaling.tracing.rules.operations import Tracer

Rule = Callable[["Tracer", Any, Sequence[Any], dict[str, Any], Any], None]

MOVES = """view _unsafe_view reshape permute transpose t unsqueeze squeeze expand slice select split
split_with_sizes unbind cat stack flip roll pixel_shuffle pixel_unshuffle repeat channel_shuffle
alias detach clone contiguous _to_copy lift_fresh unfold narrow movedim unsafe_split
unsafe_split_with_sizes""".split()
POINTWISE = """hardswish hardswish_ hardsigmoid hardsigmoid_ hardtanh hardtanh_ leaky_relu
leaky_relu_ elu elu_ celu celu_ selu selu_ silu silu_ mish mish_ gelu gelu_ softplus relu6 relu6_
log_sigmoid_forward threshold threshold_ clamp_min_ clamp_max_ clamp_ _prelu_kernel rrelu
rrelu_with_noise addcmul addcdiv lerp where masked_fill_""".split()
SAME = """as_strided_ dropout native_dropout alpha_dropout feature_dropout _softmax
_log_softmax softmax cumsum _safe_softmax""".split()
SPATIAL = """max_pool{n}d_with_indices max_pool{n}d avg_pool{n}d adaptive_avg_pool{n}d
_adaptive_avg_pool{n}d adaptive_max_pool{n}d fractional_max_pool{n}d upsample_nearest{n}d
_upsample_nearest_exact{n}d reflection_pad{n}d replication_pad{n}d"""
INTERPOLATIONS = """upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d grid_sampler_3d
cudnn_grid_sampler""".split()
REDUCTIONS = """mean sum amax amin max min var var_mean std std_mean argmax prod
linalg_vector_norm norm logsumexp any all""".split()
NORMS = """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
cudnn_batch_norm _batch_norm_no_update""".split()
ATTENTION = """_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention
_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_cudnn_attention
_scaled_dot_product_fused_attention_overrideable""".split()
MAKERS = """empty zeros ones full arange rand randn randint linspace logspace eye empty_strided
bernoulli scalar_tensor new_empty new_zeros new_ones new_full""".split()
LIKE = """empty_like zeros_like ones_like full_like rand_like randn_like randint_like
bernoulli bernoulli_ normal_ uniform_ exponential_ random_ fill_ zero_""".split()
FAKE_QUANTISED = """_fused_moving_avg_obs_fq_helper fake_quantize_per_tensor_affine_cachemask
_fake_quantize_per_tensor_affine_cachemask_tensor_qparams
fake_quantize_per_channel_affine_cachemask""".split()


def find(func: Any) -> Rule:
    """Choose the rule of an operation by its name, else by what PyTorch says of it."""
    name = func.overloadpacket.__name__
    if name in RULES:
        return RULES[name]
    return elementwise.pointwise if torch.Tag.pointwise in func.tags else operations.unknown


MOVING = frozenset((*MOVES, *MAKERS, *LIKE))  # they compute nothing of what they are given
RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, reshaping.move),
    **dict.fromkeys(POINTWISE, elementwise.pointwise),
    **dict.fromkeys(SAME, elementwise.same),
    **dict.fromkeys(
        (name for n in "123" for name in SPATIAL.format(n=n).split()), reshaping.spatial
    ),
    **dict.fromkeys(INTERPOLATIONS, reshaping.spatial),
    **dict.fromkeys(REDUCTIONS, elementwise.reduce),
    **dict.fromkeys(NORMS, normalisations.batch_norm),
    **dict.fromkeys(MAKERS, elementwise.nothing),
    **dict.fromkeys(LIKE, elementwise.alike),
    **dict.fromkeys(FAKE_QUANTISED, parameters.fake_quantised),
    **dict.fromkeys(ATTENTION, products.attention),
    "convolution": products.convolution,
    "deform_conv2d": products.deformable,
    "addmm": products.linear,
    "mm": products.linear,
    "embedding": products.embedding,
    "bmm": products.batched,
    "baddbmm": products.batched,
    "native_layer_norm": normalisations.layer_norm,
    "_fused_rms_norm": normalisations.layer_norm,
    "native_group_norm": normalisations.group_norm,
    "glu": elementwise.glu,
    "_weight_norm_interface": normalisations.weight_norm,
    "dot": elementwise.dot,
    "vdot": elementwise.dot,
    "mv": parameters.times_vector,
    "index_select": indexing.select_by_index,
    "copy_": reshaping.write,
    "index": indexing.index,
    "_unsafe_index": indexing.index,
    "gather": indexing.gather,
    "constant_pad_nd": reshaping.pad,
}
