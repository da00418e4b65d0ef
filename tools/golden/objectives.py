# SPDX-License-Identifier: Apache-2.0
"""Make Tests/Fixtures/training/objectives.json: losses, their gradients, and schedules.

  cases       inputs (summed log-probabilities of policy and reference, lengths, beta, KTO's z) and
              per loss [value, d/dlogpi_w, d/dlogpi_l], by automatic differentiation in float64.
              The first case is an easy one by hand, later ones reach |beta * D| = 1000 and tiny
              |logp|.
  batches     losses that look across the batch (aot, aot_unpaired): mean value, gradient per pair
  functions   softplus(-x), log1mexp(p) and ORPO's log odds to 50 digits (mpmath), rounded
  schedules   the factor on the learning rate at t = 0 .. T as transformers' own schedulers give it

Exponents of forward_kl, alpha divergence and AlphaPO are clamped at 80. Every pair loss that TRL
has is compared with TRL's own code on the same inputs before the file is written; `cdpo`, which TRL
no longer has, is compared with CPO's label smoothing, whose algebra is the same.
"""

import argparse
import json
import pathlib
from collections import defaultdict
from types import SimpleNamespace

import mpmath
import torch
import transformers
from torch.nn import functional
from trl import DPOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

SMOOTHING, EXO, TAU, ALPHA, CLAMP = 0.1, 1e-3, 0.05, 0.5, 80.0
GAMMA, ALPHA_PO = 0.5, 0.25


def sg(x):
    return torch.sigmoid(x)


def sp(x):
    """softplus; logsigmoid is exact on both sides where torch's softplus turns linear at 20."""
    return -functional.logsigmoid(-x)


def log1mexp(p):
    return torch.where(p < -0.6931471805599453, torch.log1p(-p.exp()), torch.log(-torch.expm1(p)))


def alpha_po(p):
    return (1 - torch.exp((-ALPHA_PO * p).clamp(max=CLAMP))) / ALPHA_PO


def log_odds(pw, pl):
    return (pw - pl) - (log1mexp(pw) - log1mexp(pl))


def with_reference(a, c, n_w, n_l, b, z):
    """Losses of the log-ratios a (chosen) and c (rejected)."""
    e, x = SMOOTHING, b * (a - c)
    forward_kl = lambda r: -torch.exp((-r).clamp(max=CLAMP))
    js = lambda r: -sp(-r)
    alpha = lambda r: torch.exp(((ALPHA - 1) * r).clamp(max=CLAMP)) / (ALPHA - 1)
    diverging = lambda f: sp(-b * (f(a) - f(c)))
    log_keep, log_flip = torch.log1p(torch.tensor(-EXO).double()), torch.tensor(EXO).double().log()
    return {
        "sigmoid": sp(-x),
        "cdpo": (1 - e) * sp(-x) + e * sp(x),
        "hinge": torch.relu(1 - x),
        "ipo": (a / n_w - c / n_l - 1 / (2 * b)) ** 2,
        "exo_pair": sg(x) * (-sp(-x) - log_keep) + sg(-x) * (-sp(x) - log_flip),
        "nca_pair": sp(-b * a) + 0.5 * sp(b * a) + 0.5 * sp(b * c),
        "robust": ((1 - e) * sp(-x) - e * sp(x)) / (1 - 2 * e),
        "bco_pair": sp(-b * a) + sp(b * c),
        "sppo_hard": (a - 0.5 / b) ** 2 + (c + 0.5 / b) ** 2,
        "apo_zero": sg(-b * a) + sg(b * c),
        "apo_down": sg(b * a) + sg(-x),
        "discopop": sg(-x / TAU) * sp(-x) + torch.exp(-x - sp(-x / TAU)),
        "sigmoid_norm": sp(-b * (a / n_w - c / n_l)),
        "sigmoid/forward_kl": diverging(forward_kl),
        "sigmoid/js": diverging(js),
        "sigmoid/alpha": diverging(alpha),
        "kto_desirable": sg(-b * (a - z)),
        "kto_undesirable": sg(-b * (z - c)),
        "apo_zero_unpaired_desirable": sg(-b * a),
        "apo_zero_unpaired_undesirable": sg(b * c),
    }


def without_reference(w, l, n_w, n_l, b):
    """Losses of the policy alone: sums w and l, or their means per token."""
    e, pw, pl = SMOOTHING, w / n_w, l / n_l
    simpo = b * (pw - pl) - GAMMA
    return {
        "orpo_odds": b * sp(-log_odds(pw, pl)),
        "cpo_sigmoid": sp(-b * (w - l)),
        "cpo_sigmoid_smoothed": (1 - e) * sp(-b * (w - l)) + e * sp(b * (w - l)),
        "cpo_hinge": torch.relu(1 - b * (w - l)),
        "cpo_ipo": (pw - pl - 1 / (2 * b)) ** 2,
        "simpo": sp(-simpo),
        "simpo_smoothed": (1 - e) * sp(-simpo) + e * sp(simpo),
        "alphapo": sp(-(b * (alpha_po(pw) - alpha_po(pl)) - GAMMA)),
    }


def evaluate(case):
    """{loss: [value, d/dlogpi_w, d/dlogpi_l]} of one case."""
    w = torch.tensor(case["logpi_w"], dtype=torch.float64, requires_grad=True)
    l = torch.tensor(case["logpi_l"], dtype=torch.float64, requires_grad=True)
    n_w, n_l, b = case["n_w"], case["n_l"], case["beta"]
    losses = with_reference(w - case["ref_w"], l - case["ref_l"], n_w, n_l, b, case["z"])
    losses |= without_reference(w, l, n_w, n_l, b)
    found = {}
    for name, loss in losses.items():
        grads = torch.autograd.grad(loss, [w, l], retain_graph=True, allow_unused=True)
        found[name] = [loss.item()] + [0.0 if g is None else g.item() for g in grads]
    return found


# Inputs

FIELDS = ("logpi_w", "logpi_l", "ref_w", "ref_l", "n_w", "n_l", "beta", "z")
BY_HAND = [
    (-12.0, -15.0, -12.5, -14.7, 6, 5, 0.1, 0.2),
    (-12.0, -15.0, -12.0, -15.0, 6, 5, 0.1, 0.0),  # a step-0 pair: x = 0
    (-20.0, -10020.0, -25.0, -15.0, 9, 40, 0.1, 0.1),  # x = 1001
    (-10020.0, -20.0, -15.0, -25.0, 40, 9, 0.1, 0.1),  # x = -1001
    (-2020.0, -20.0, -1015.0, -25.0, 200, 3, 1.0, 0.0),  # x = -1010, both ratios large
    (-1e-3, -30.0, -2e-3, -28.0, 4, 7, 0.1, 0.0),  # the chosen answer is nearly certain
    (-30.0, -1e-3, -28.0, -2e-3, 7, 4, 0.1, 0.3),
    (-0.5, -90.0, -0.7, -85.0, 1, 1, 2.0, 0.0),  # answers of one token
]


def cases(generator):
    rows = [dict(zip(FIELDS, row)) for row in BY_HAND]
    uniform = lambda low, high: low + (high - low) * torch.rand((), generator=generator).item()
    for _ in range(14):
        n_w, n_l = (int(torch.randint(1, 40, (), generator=generator)) for _ in range(2))
        w, l = -n_w * uniform(0.2, 5), -n_l * uniform(0.2, 5)
        beta = (0.01, 0.1, 0.5, 2.0)[int(torch.randint(4, (), generator=generator))]
        values = (w, l, w + uniform(-6, 6), l + uniform(-6, 6), n_w, n_l, beta, uniform(0, 2))
        rows.append(dict(zip(FIELDS, values)))
    return rows


def batches(generator):
    """Sorted losses over 7 pairs; the gradient follows the permutation."""
    found = []
    for smoothing in (0.0, 0.1):
        values = {k: (-30 * torch.rand(7, generator=generator).double() - 1) for k in FIELDS[:4]}
        w, l = (values[k].clone().requires_grad_() for k in FIELDS[:2])
        ref_w, ref_l = values["ref_w"], values["ref_l"]
        x = {
            "aot": (w - l).sort().values - (ref_w - ref_l).sort().values,
            "aot_unpaired": (w - ref_w).sort().values - (l - ref_l).sort().values,
        }
        entry = {k: v.tolist() for k, v in values.items()}
        entry |= {"beta": 0.1, "label_smoothing": smoothing, "losses": {}}
        for name, d in x.items():
            loss = ((1 - smoothing) * sp(-0.1 * d) + smoothing * sp(0.1 * d)).mean()
            grads = torch.autograd.grad(loss, [w, l], retain_graph=True)
            entry["losses"][name] = {
                "value": loss.item(),
                "d_w": grads[0].tolist(),
                "d_l": grads[1].tolist(),
            }
        found.append(entry)
    return found


def functions():
    """Hard arguments, in arithmetic that cannot lose digits."""
    mpmath.mp.dps = 400  # exp(-700) must survive an addition to 1
    mp = mpmath.mpf
    exact_sp = lambda x: mpmath.log1p(mpmath.exp(x))
    exact_log1mexp = lambda p: mpmath.log(-mpmath.expm1(p))
    xs = [0.0, 1e-9, 0.5, -0.5, 3.0, -3.0, 20.0, -20.0, 36.5, -36.5, 50.0, -50.0, 700.0, -700.0]
    ps = [
        -1e-30,
        -1e-12,
        -1e-8,
        -1e-3,
        -0.5,
        -0.69,
        -0.6931471805599453,
        -0.7,
        -1.0,
        -5.0,
        -20.0,
        -36.0,
        -50.0,
        -100.0,
        -700.0,
    ]
    odds = [
        (-1e-6, -3.0),
        (-3.0, -1e-6),
        (-40.0, -40.5),
        (-0.7, -0.69),
        (-1e-12, -1e-12),
        (-2.5, -0.01),
        (-700.0, -1.0),
    ]
    exact_odds = lambda w, l: (w - l) - (exact_log1mexp(w) - exact_log1mexp(l))
    return {
        "softplus_of_minus": [[x, float(exact_sp(-mp(x)))] for x in xs],
        "log1mexp": [[p, float(exact_log1mexp(mp(p)))] for p in ps],
        "log_odds": [[w, l, float(exact_odds(mp(w), mp(l)))] for w, l in odds],
    }


def schedules():
    """{name, steps, warmup, factors}: one entry more than there are steps."""
    makers = {
        "linear": lambda o, w, t: transformers.get_linear_schedule_with_warmup(o, w, t),
        "cosine": lambda o, w, t: transformers.get_cosine_schedule_with_warmup(o, w, t),
        "constant": lambda o, w, t: transformers.get_constant_schedule_with_warmup(o, w),
    }
    found = []
    for steps, warmup in ((10, 2), (20, 5), (7, 0), (1, 0), (3, 3), (13, 1)):
        for name, make in makers.items():
            optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
            factor = make(optimizer, warmup, steps).lr_lambdas[0]
            factors = [float(factor(t)) for t in range(steps + 1)]
            found.append({"name": name, "steps": steps, "warmup": warmup, "factors": factors})
    return found


# Witnesses: TRL's own code on the same inputs


class Nothing:
    """Stands in for every part of a trainer that the loss does not need."""

    def __getattr__(self, name):
        return Nothing()

    def __call__(self, first=None, *_, **__):
        return first

    def __bool__(self):
        return False


def trl_dpo(case, kind, divergence="reverse_kl"):
    """DPOTrainer's loss for one pair: a model that returns the wanted sums as its first token."""
    lengths = (case["n_w"], case["n_l"])
    width = max(lengths)
    log_probs = torch.zeros(2, width, dtype=torch.float32)
    log_probs[:, 0] = torch.tensor([case["logpi_w"], case["logpi_l"]])
    mask = torch.zeros(2, width + 1, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, 1 : 1 + length] = 1
    shape = torch.zeros(2, width)
    outputs = SimpleNamespace(
        log_probs=log_probs, entropy=shape, mean_logits=shape, is_top1=shape.bool()
    )
    trainer = Nothing()
    vars(trainer).update(
        ld_alpha=None,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        use_weighting=False,
        f_divergence_type=divergence,
        f_alpha_divergence_coef=ALPHA,
        beta=case["beta"],
        loss_types=[kind],
        loss_weights=[1.0],
        _total_train_tokens=0,
        _tp_size=1,
        label_smoothing=EXO if kind == "exo_pair" else SMOOTHING,
        accelerator=SimpleNamespace(
            device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
        args=SimpleNamespace(discopop_tau=TAU),
    )
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    inputs = {
        "input_ids": mask,
        "attention_mask": mask,
        "completion_mask": mask,
        "ref_chosen_logps": torch.tensor([case["ref_w"]]),
        "ref_rejected_logps": torch.tensor([case["ref_l"]]),
    }
    return DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False).item()


def trl_cpo(case, kind, smoothing=0.0, alpha=0.0):
    w, l = case["logpi_w"], case["logpi_l"]
    if kind in ("ipo", "simpo"):
        w, l = w / case["n_w"], l / case["n_l"]
    trainer = SimpleNamespace(
        alpha=alpha,
        beta=case["beta"],
        loss_type=kind,
        simpo_gamma=GAMMA,
        label_smoothing=smoothing,
        accelerator=SimpleNamespace(device="cpu"),
    )
    tensors = (torch.tensor(v, dtype=torch.float64) for v in (w, l))
    return CPOTrainer.cpo_loss(trainer, *tensors)[0].item()


def trl_orpo(case):
    trainer = SimpleNamespace(beta=case["beta"], accelerator=SimpleNamespace(device="cpu"))
    means = (case["logpi_w"] / case["n_w"], case["logpi_l"] / case["n_l"])
    return -ORPOTrainer.odds_ratio_loss(trainer, *(torch.tensor(m).float() for m in means))[
        0
    ].item()


def witnesses():
    """Loss name -> (TRL's value of a case, relative tolerance): DPO and ORPO compute in float32."""
    table = {
        name: (lambda c, n=name: trl_dpo(c, n), 1e-4)
        for name in (
            "sigmoid",
            "hinge",
            "ipo",
            "exo_pair",
            "nca_pair",
            "robust",
            "bco_pair",
            "sppo_hard",
            "apo_zero",
            "apo_down",
            "discopop",
            "sigmoid_norm",
        )
    }
    table |= {
        f"sigmoid/{ours}": (lambda c, t=theirs: trl_dpo(c, "sigmoid", t), 1e-4)
        for ours, theirs in (
            ("forward_kl", "forward_kl"),
            ("js", "js_divergence"),
            ("alpha", "alpha_divergence"),
        )
    }
    table |= {
        "orpo_odds": (trl_orpo, 1e-4),
        "cpo_sigmoid": (lambda c: trl_cpo(c, "sigmoid"), 1e-12),
        "cpo_sigmoid_smoothed": (lambda c: trl_cpo(c, "sigmoid", SMOOTHING), 1e-12),
        "cpo_hinge": (lambda c: trl_cpo(c, "hinge"), 1e-12),
        "cpo_ipo": (lambda c: trl_cpo(c, "ipo"), 1e-12),
        "simpo": (lambda c: trl_cpo(c, "simpo"), 1e-12),
        "simpo_smoothed": (lambda c: trl_cpo(c, "simpo", SMOOTHING), 1e-12),
        "alphapo": (lambda c: trl_cpo(c, "simpo", alpha=ALPHA_PO), 1e-9),
        "cdpo": (
            lambda c: trl_cpo(
                dict(c, logpi_w=c["logpi_w"] - c["ref_w"], logpi_l=c["logpi_l"] - c["ref_l"]),
                "sigmoid",
                SMOOTHING,
            ),
            1e-12,
        ),
    }
    return table


def confirm(rows):
    """Compare with TRL; where TRL's float32 overflows or its result is NaN, say so and go on."""
    compared, refused, wrong = 0, [], []
    for index, case in enumerate(rows):
        for name, (witness, tolerance) in witnesses().items():
            theirs, ours = witness(case), case["losses"][name][0]
            if not torch.isfinite(torch.tensor(theirs)):
                refused.append(f"{index}:{name}")
            elif abs(theirs - ours) > tolerance * max(abs(ours), 1e-2):
                wrong.append(f"case {index} {name}: TRL {theirs}, here {ours}")
            else:
                compared += 1
    print(f"{compared} values agree with TRL; TRL is not finite in {refused}")
    assert not wrong, "\n".join(wrong)


def main():
    default = pathlib.Path(__file__).parents[2] / "Tests/Fixtures/training/objectives.json"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=default)
    output = parser.parse_args().output
    generator = torch.Generator().manual_seed(3)
    rows = cases(generator)
    for case in rows:
        case["losses"] = evaluate(case)
    confirm(rows)
    golden = {
        "constants": {
            "label_smoothing": SMOOTHING,
            "exo_label_smoothing": EXO,
            "discopop_tau": TAU,
            "alpha_divergence": ALPHA,
            "simpo_gamma": GAMMA,
            "alphapo_alpha": ALPHA_PO,
            "exponent_clamp": CLAMP,
        },
        "cases": rows,
        "batches": batches(generator),
        "functions": functions(),
        "schedules": schedules(),
    }
    output.write_text(json.dumps(golden, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
