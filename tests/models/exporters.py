#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Freshly exported models (torch.onnx.export; graphs as scikit-learn's and Keras' exporters write them) against their makers.
"""exporters.py [-v] [--floor N] [NAME...]

Each network gets seeded random weights, is exported at four opsets, compiled by millrace-model, run in batches and
compared with what torch (or scikit-learn, or numpy) answers. All of them run in ONNX Runtime 1.30 with these answers,
at 5 rows and at 3: what fails or is refused here is ours. A refusal is no failure: it is counted, by its reason.
Exit status: 0, or 1 when an answer was wrong, a program crashed, or fewer than N passed.
"""
import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import exporters_blocks  # noqa: F401 (registers its cases)
import exporters_graphs
import exporters_sklearn  # noqa: F401 (registers its cases)
import exporters_torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin", "millrace-model")
OPSETS, IN_TURN = (9, 13, 14), (10, 11, 12)  # each network: all of the former and the next of the latter
RELATIVE, ABSOLUTE = 1e-3, 1e-5  # absolute: of the largest value, or of 1


class Unsupported(Exception):
    """The compiler, or an old opset's exporter, said no and why."""


def tool(*arguments):
    """Standard output; Unsupported with the tool's words after a refusal; AssertionError after a crash."""
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 1:
        raise Unsupported(done.stderr.strip() or done.stdout.strip())
    assert done.returncode == 0, f"millrace-model {arguments[0]} ended with {done.returncode}: {done.stderr[-300:]}"
    return done.stdout


def check_close(got, want):
    want = np.asarray(want)
    assert got.size == want.size, f"{got.size} values, expected {want.size}"
    got, want = got.reshape(want.shape).astype(np.float64), want.astype(np.float64)
    finite = np.abs(want[np.isfinite(want)])
    limit = ABSOLUTE * max(1.0, finite.max() if finite.size else 1.0)
    np.testing.assert_allclose(got, want, rtol=RELATIVE, atol=limit)


def backend_test(folder, model, inputs, outputs):
    """The same comparison by `millrace-model test`, for tensors that .npy files do not carry to the tool."""
    case = os.path.join(folder, "case")
    os.makedirs(os.path.join(case, "test_data_set_0"))
    os.replace(model, os.path.join(case, "model.onnx"))
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for i, array in enumerate(arrays):
            onnx.save_tensor(numpy_helper.from_array(np.ascontiguousarray(array)),
                             os.path.join(case, "test_data_set_0", f"{kind}_{i}.pb"))
    done = subprocess.run([TOOL, "test", case], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.strip()
    if ", 0 unsupported" not in done.stdout:
        raise Unsupported(done.stdout.splitlines()[0])


def compile_and_compare(folder, model, inputs, outputs):
    artifact = os.path.join(folder, "model.mrm")
    tool("compile", model, "-o", artifact)
    files = []
    for i, array in enumerate(inputs):
        files.append(os.path.join(folder, f"in{i}.npy"))
        np.save(files[-1], np.ascontiguousarray(array))
    answers = [os.path.join(folder, f"out{i}.npy") for i in range(len(outputs))]
    try:
        tool("run", artifact, *files, "--batch", "3", *(word for path in answers for word in ("-o", path)))
    except Unsupported as why:
        if "npy" not in str(why):
            raise AssertionError(f"compiled, but run refused: {why}") from why
        backend_test(folder, model, inputs, outputs)
        return
    for path, want in zip(answers, outputs):
        check_close(np.load(path), want)


def export(name, opset, path):
    """Write torch's export and return (inputs, outputs) as arrays; Unsupported if torch cannot at this opset."""
    builder, static = exporters_torch.CASES[name]
    torch.manual_seed(len(name) * 1009 + sum(map(ord, name)))
    module, inputs = builder()
    for norm in module.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):  # statistics that do something
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    keep = getattr(module, "keep_training", False)
    module.train(keep)
    with torch.no_grad():
        outputs = module(*inputs)
    leaves = torch.utils._pytree.tree_flatten(outputs)[0]
    names = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(len(leaves))]
    axes = {} if static else {n: {0: "batch"} for n in sum(names, [])}
    mode = torch.onnx.TrainingMode.PRESERVE if keep else torch.onnx.TrainingMode.EVAL
    try:
        torch.onnx.export(module, inputs, path, opset_version=opset, input_names=names[0], output_names=names[1],
                          dynamic_axes=axes, training=mode)
    except Exception as why:  # torch raises many kinds
        raise Unsupported(f"torch does not export it: {str(why).strip().splitlines()[0]}") from why
    return [x.numpy() for x in inputs], [y.numpy() for y in leaves]


def torch_check(name, opset):
    def check(folder):
        model = os.path.join(folder, "model.onnx")
        compile_and_compare(folder, model, *export(name, opset, model))
    return f"torch {name} opset {opset}", check


def graph_check(name, builder):
    def check(folder):
        model = os.path.join(folder, "model.onnx")
        np.random.seed(sum(map(ord, name)))
        proto, inputs, outputs = builder()
        onnx.save(proto, model)
        compile_and_compare(folder, model, inputs, outputs)
    return name, check


def all_checks():
    for i, name in enumerate(exporters_torch.CASES):
        for opset in (*OPSETS, IN_TURN[i % len(IN_TURN)]):
            yield torch_check(name, opset)
    for name, builder in exporters_graphs.CASES.items():
        yield graph_check(name, builder)


def verdict(check):
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(folder)
            return "pass", ""
        except Unsupported as why:
            text = re.sub(r"\S*/(model\.onnx|case)\S*:? *", "", str(why)).replace("millrace-model: ", "")
            return ("not exported" if "torch does not" in text else "unsupported"), " ".join(text.split())
        except Exception as why:  # a wrong answer, a crash, a time-out
            return "FAIL", " ".join(str(why).split())[:400]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("-v", action="store_true", help="print every verdict")
    arguments.add_argument("--floor", type=int, default=0, help="fewest that must pass")
    arguments.add_argument("names", nargs="*", help="parts of names")
    options = arguments.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    counts, reasons = collections.Counter(), collections.Counter()
    for name, check in all_checks():
        if options.names and not any(part in name for part in options.names):
            continue
        said, why = verdict(check)
        counts[said] += 1
        reasons[re.sub(r" \(node .*| '[^']*'", "", why)] += said == "unsupported"
        if said == "FAIL" or options.v:
            print(f"{said}: {name}{': ' if why else ''}{why}", flush=True)
    for why, times in reasons.most_common(40):
        if times:
            print(f"unsupported x {times}: {why}")
    print(f"{counts['pass']} pass, {counts['unsupported']} unsupported, {counts['not exported']} not exported by torch, "
          f"{counts['FAIL']} FAIL")
    low = counts["pass"] < options.floor
    if low:
        print(f"FAILED: only {counts['pass']} pass, at least {options.floor} must")
    print(f"{counts['pass']} passed, {counts['FAIL'] + low} failed, 0 skipped")
    return 1 if counts["FAIL"] or low else 0


if __name__ == "__main__":
    sys.exit(main())
