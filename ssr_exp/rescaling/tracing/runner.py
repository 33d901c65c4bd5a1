"""Runs under the tracer, in eval and in train mode: no data is computed, no weight is copied."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import input_examples, meta, nested
from ssr_exp.rescaling.inputs import Example, Signature
from ssr_exp.rescaling.tracing import positions
from ssr_exp.rescaling.tracing.labels import BATCH
from ssr_exp.rescaling.tracing.trace import CALLER, Shapes, Trace
from ssr_exp.rescaling.tracing.tracer import Tracer


def run(network: nn.Module, example: Example) -> Trace:
    """Trace `network`, in both modes, on inputs like an example (see `input_examples.read`).

    The network itself is neither changed nor moved, and no generator of random numbers either.

    Raises:
        SsrError: if the network does not run on such inputs, decides by their values, runs layers
            that it does not hold, or puts out no tensor.
    """
    _check_layers(network)
    signature = input_examples.read(network, example)
    # What runs inside inference mode is seen by no tracer.
    with meta.undrawn(), torch.inference_mode(False), torch.no_grad():
        loads, shapes = _one_sample(network, signature)
        shadow = meta.copied(network)
        tracer = Tracer(shadow, network, signature, loads)
        trace = tracer.trace
        try:
            _run(tracer, shadow, training=False)
        except SsrError:
            raise
        except Exception as error:  # a network may be anyone's code
            raise _stopped(tracer.path, signature, error) from error
        undo = tracer.mark()
        try:
            _run(tracer, shadow, training=True)
        except SsrError:
            raise
        except Exception as error:
            undo()
            inside = f"in {tracer.path}, " if tracer.path else ""
            trace.untrained = inside + cause(error)
    trace.calls.extend(tracer.calls())
    if shapes is not None:
        trace.batch, trace.outputs[False] = 1, shapes
    return trace


def _run(tracer: Tracer, network: nn.Module, *, training: bool) -> None:
    args, kwargs = tracer.trace.inputs.make(BATCH, device="meta")
    tracer.start(meta.tensors((args, kwargs)), training=training)
    inside = meta.hooks(network, tracer.enter, tracer.leave)
    with inside, positions.watched(network, tracer.trace.reads), tracer:
        output = network.train(training)(*args, **kwargs)
    outputs = nested.tensors(output)
    if not outputs and not training:
        raise SsrError(
            f"{type(network).__name__} puts out {type(output).__name__}, in which there is no "
            "tensor: its forward must return tensors, alone or in lists, dictionaries or objects."
        )
    for tensor in outputs:
        tracer.trace.readers[id(tensor)].add(CALLER)
        labels = tracer.labels(tensor).reshape(-1).numpy()
        tracer.trace.ledger.freeze(labels, "the network's output")
    tracer.trace.outputs[training] = nested.shapes(output)


def _one_sample(network: nn.Module, signature: Signature) -> tuple[list[int], Shapes | None]:
    """Run on one sample: the multiply-adds of each product, and the shapes of what comes out.

    The shapes are None if the network does not run on one.
    """
    shadow = meta.copied(network).eval()
    watch = meta.ModuleWatch(shadow)
    args, kwargs = signature.make(1, device="meta")
    try:
        with watch:
            output = shadow(*args, **kwargs)
    except Exception:  # a network may be anyone's code; a whole batch says what is wrong with it
        return [], None
    return watch.loads, nested.shapes(output)


def _check_layers(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if is_lazy(parameter):
            raise SsrError(
                f"{name} has no size yet (a lazy layer): run the network once on a batch of images "
                "where it is made."
            )
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and any(True for _ in module.parameters()):
            raise SsrError(
                f"{path or 'the network'} is a scripted module (torch.jit), whose layers cannot be "
                "rebuilt: give the network as it was before torch.jit.script or trace."
            )
        if "_orig_mod" in module._modules and any(True for _ in module.parameters()):
            raise SsrError(
                f"{path or 'the network'} is compiled (torch.compile), and what is compiled cannot "
                "be traced: give the network as it was before torch.compile (trainer.compile=true "
                "compiles each that is trained)."
            )


def _stopped(path: str, signature: Signature, error: Exception) -> SsrError:
    """Say where a run stopped, and why."""
    if meta.asks_for_values(error):
        return meta.values_refused("the network", path, error)
    taken, inside = f"inputs of {signature.text()}", f"in {path}, " if path else ""
    if signature.is_one_image and len(signature.shape) == 3:
        taken = f"images of {signature.text()} (channels x height x width)"
    return SsrError(f"the network does not run on {taken}: {inside}{cause(error)}.")
