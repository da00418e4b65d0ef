# SPDX-License-Identifier: Apache-2.0
"""Make Tests/Fixtures/training: 20 optimizer steps of every objective, in plain PyTorch.

  sft.jsonl, pairs.jsonl   20 pre-tokenised rows / pairs each; step i takes rows 4i .. 4i+3 mod 20,
                           so 20 steps are 4 epochs in file order
  adapter/                 the LoRA runs' initial PEFT adapter (A random, B zero), for models/llama
  golden.json              `settings` and, per run, `losses` and `grad_norms` (before the update and
                           before clipping), `learning_rates`, and of each trained tensor after the
                           last step the sum, the L2 norm and the L2 norm of its change. Values
                           are float64; `losses_f32` are those of the untouched float32 model: the
                           gap is what a correct float32 trainer may show.
  product_l1.json          penalty and gradients of lambda * sum|s B A| by automatic differentiation

The loops share nothing with any trainer: torch.optim.AdamW, clip_grad_norm_ and the formulas.
`crosscheck_trl.py` runs TRL's own trainers over the same rows and compares all 20 losses and
gradient norms of the six plain runs (SFT, DPO and ORPO, full and LoRA).
"""

import argparse
import json
import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional

import exact

STEPS, WARMUP, ROWS, BATCH = 20, 5, 20, 4
BETA = 0.1
SETTINGS = {
    "model": "models/llama",
    "steps": STEPS,
    "batch_size": BATCH,
    "optimizer": {"name": "adamw", "betas": [0.9, 0.999], "eps": 1e-8},
    "weight_decay": "of each run; never on tensors of one dimension",
    "max_grad_norm": 1.0,
    "schedule": {"name": "linear", "warmup_steps": WARMUP},
    "lora": {"r": 4, "alpha": 8, "dropout": 0, "target_modules": "all-linear"},
    "beta": BETA,
}


def factor(t):
    """Linear schedule with warm-up, as a factor on the learning rate at step t."""
    if t < WARMUP:
        return t / max(1, WARMUP)
    return (STEPS - t) / max(1, STEPS - WARMUP)


# Data


def random_ids(count, generator):
    return torch.randint(3, 97, (count,), generator=generator).tolist()


def random_length(low, high, generator):
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def sft_rows(generator):
    """Every third row is live throughout, labels[0] included: no position predicts it."""
    rows = []
    for index in range(ROWS):
        ids = random_ids(random_length(5, 24, generator), generator)
        masked = 0 if index % 3 == 0 else random_length(1, len(ids) - 2, generator)
        rows.append({"input_ids": ids, "labels": [exact.IGNORED] * masked + ids[masked:]})
    return rows


def pair_rows(generator):
    """Completions of 1 to 12 tokens; the second pair's rejected answer has a single token."""
    rows = []
    for index in range(ROWS):
        rows.append(
            {
                "prompt_input_ids": random_ids(random_length(2, 9, generator), generator),
                "chosen_input_ids": random_ids(random_length(2, 12, generator), generator),
                "rejected_input_ids": random_ids(
                    1 if index == 1 else random_length(2, 12, generator), generator
                ),
            }
        )
    return rows


# Objectives: (model, rows of the step) -> loss


def sft_loss(model, rows):
    return exact.token_mean_loss(model, rows)[0]


def completion_logps(model, prompt, completion):
    """Log-probabilities [len(completion)] of the completion's tokens, and the logits of the row."""
    ids = prompt + completion
    logits = exact.logits_alone(model, ids)
    log_p = functional.log_softmax(logits[:-1], dim=-1)
    tokens = log_p.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return tokens[len(prompt) - 1 :], tokens


def pair_logps(model, row):
    prompt = row["prompt_input_ids"]
    return [completion_logps(model, prompt, row[k + "_input_ids"]) for k in ("chosen", "rejected")]


def dpo_loss(model, rows, reference):
    losses = []
    for row in rows:
        chosen, rejected = (tokens.sum() for tokens, _ in pair_logps(model, row))
        with torch.no_grad():
            ref_chosen, ref_rejected = (t.sum() for t, _ in reference(model, row))
        x = BETA * ((chosen - ref_chosen) - (rejected - ref_rejected))
        losses.append(functional.softplus(-x))
    return torch.stack(losses).mean()


def log1mexp(p):
    return torch.where(p < -0.6931471805599453, torch.log1p(-p.exp()), torch.log(-torch.expm1(p)))


def orpo_loss(model, rows):
    """NLL by token over all prompts and chosen answers, plus beta * softplus(-log odds)."""
    odds, nll, tokens = [], 0.0, 0
    for row in rows:
        (chosen, whole), (rejected, _) = pair_logps(model, row)
        w, l = chosen.mean(), rejected.mean()
        odds.append(functional.softplus(-((w - l) - (log1mexp(w) - log1mexp(l)))))
        nll, tokens = nll - whole.sum(), tokens + len(whole)
    return nll / tokens + BETA * torch.stack(odds).mean()


# L1


def soft(x, k):
    return x.sign() * (x.abs() - k).clamp(min=0)


def product_penalty(b, a, scale):
    """sum |s B A| of one module; autograd's sign(0) is 0, as wanted."""
    return (scale * b @ a).abs().sum()


def lora_pairs(trained):
    """[(A, B)] of each adapted module, from the trained tensors by name."""
    return [
        (t, trained[n.replace("lora_A", "lora_B")]) for n, t in trained.items() if "lora_A" in n
    ]


def add_product_gradient(trained, penalty):
    """Add d(lambda * sum|s B A|) to the (already clipped) gradients."""
    scale = SETTINGS["lora"]["alpha"] / SETTINGS["lora"]["r"]
    for a, b in lora_pairs(trained):
        gradient_b, gradient_a = torch.autograd.grad(product_penalty(b, a, scale), [b, a])
        a.grad += penalty * gradient_a
        b.grad += penalty * gradient_b


# The loop


def load(base, adapter, double):
    model = exact.load_stock(base)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()
    return exact.make_exact(model) if double else model


def reference_of(model, lora):
    """LoRA: the same model with its adapter off. Full: a frozen copy, evaluated once per row."""
    if lora:

        def disabled(model, row):
            with model.disable_adapter():
                return pair_logps(model, row)

        return disabled
    stored = {}

    def precompute(rows):
        with torch.no_grad():
            for row in rows:
                stored[str(row)] = pair_logps(model, row)
        return lambda _, row: stored[str(row)]

    return precompute


def train(paths, run, rows, double):
    """One run of 20 steps; a dictionary of what it measured."""
    lora, l1 = run["adapter"] == "lora", run.get("l1")
    model = load(paths["base"], paths["adapter"] if lora else None, double)
    trained = {
        n.replace(".default.", "."): p for n, p in model.named_parameters() if p.requires_grad
    }
    start = {n: p.detach().clone() for n, p in trained.items()}
    decay = run["weight_decay"]
    groups = [
        {"params": [p for p in trained.values() if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in trained.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=run["learning_rate"], betas=(0.9, 0.999), eps=1e-8
    )
    objective = {"sft": sft_loss, "orpo": orpo_loss}.get(run["objective"])
    if run["objective"] == "dpo":
        reference = reference_of(model, lora)
        reference = reference if lora else reference(rows)
        objective = lambda model, batch: dpo_loss(model, batch, reference)

    losses, norms, rates = [], [], []
    for t in range(STEPS):
        rate = run["learning_rate"] * factor(t)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = objective(model, [rows[(BATCH * t + k) % len(rows)] for k in range(BATCH)])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0).item())
        losses.append(loss.item())
        rates.append(rate)
        if l1 and l1["form"] == "product":
            add_product_gradient(trained, l1["lambda"])
        optimizer.step()
        if l1 and l1["form"] in ("delta", "factor"):
            with torch.no_grad():
                for name, p in trained.items():
                    if p.dim() >= 2:
                        centre = start[name] if l1["form"] == "delta" else torch.zeros_like(p)
                        p.copy_(centre + soft(p - centre, rate * l1["lambda"]))
    result = {"losses": losses, "grad_norms": norms, "learning_rates": rates, "final": {}}
    for name, p in trained.items():
        p = p.detach()
        entry = {"sum": p.sum().item(), "norm": p.norm().item()}
        entry["delta_norm"] = (p - start[name]).norm().item()
        if l1 and l1["form"] in ("delta", "factor"):
            centre = start[name] if l1["form"] == "delta" else 0
            entry["zeros"] = int((p == centre).sum())
            entry["count"] = p.numel()
        result["final"][name] = entry
    if double:
        exact.restore(model)
    return result


FULL, LORA = 2e-3, 1e-2
RUNS = {
    "sft_full": dict(objective="sft", adapter="full", learning_rate=FULL, weight_decay=0.01),
    "sft_lora": dict(objective="sft", adapter="lora", learning_rate=LORA, weight_decay=0.01),
    "dpo_full": dict(objective="dpo", adapter="full", learning_rate=FULL, weight_decay=0.01),
    "dpo_lora": dict(objective="dpo", adapter="lora", learning_rate=LORA, weight_decay=0.01),
    "orpo_full": dict(objective="orpo", adapter="full", learning_rate=FULL, weight_decay=0.01),
    "orpo_lora": dict(objective="orpo", adapter="lora", learning_rate=LORA, weight_decay=0.01),
    # Weight decay is 0 where there is a penalty: otherwise lambda is not identifiable.
    "sft_full_prox": dict(
        objective="sft",
        adapter="full",
        learning_rate=FULL,
        weight_decay=0.0,
        l1={"form": "delta", "mode": "prox", "lambda": 0.3},
    ),
    "sft_lora_factor_prox": dict(
        objective="sft",
        adapter="lora",
        learning_rate=LORA,
        weight_decay=0.0,
        l1={"form": "factor", "mode": "prox", "lambda": 0.1},
    ),
    "sft_lora_product": dict(
        objective="sft",
        adapter="lora",
        learning_rate=LORA,
        weight_decay=0.0,
        l1={"form": "product", "mode": "post_clip", "lambda": 2e-3},
    ),
}


def make_adapter(base, folder, seed):
    """A random, B zero, as PEFT starts; the seed makes it the same file every time."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    get_peft_model(exact.load_stock(base), config).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    (folder / "adapter_model.safetensors").chmod(0o644)
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    saved |= {"base_model_name_or_path": "../../models/llama"}
    saved["target_modules"] = sorted(saved["target_modules"])
    path.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")


def product_l1(path, generator):
    """Two modules of awkward shapes; one has an exact zero row of P, where sign(0) = 0 decides."""
    cases = []
    for rows, columns, rank, scale, penalty in ((11, 7, 3, 2.0, 1e-2), (5, 13, 4, 0.5, 0.1)):
        b = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
        a = torch.randn(rank, columns, generator=generator, dtype=torch.float64)
        b[2] = 0
        b.requires_grad_(), a.requires_grad_()
        value = penalty * product_penalty(b, a, scale)
        value.backward()
        cases.append(
            {
                "scale": scale,
                "lambda": penalty,
                "B": b.tolist(),
                "A": a.tolist(),
                "penalty": value.item(),
                "dB": b.grad.tolist(),
                "dA": a.grad.tolist(),
            }
        )
    path.write_text(json.dumps(cases) + "\n")


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main():
    fixtures = pathlib.Path(__file__).parents[2] / "Tests/Fixtures"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=fixtures / "models/llama")
    parser.add_argument("--output", type=pathlib.Path, default=fixtures / "training")
    options = parser.parse_args()
    root = options.output
    generator = torch.Generator().manual_seed(7)
    root.mkdir(exist_ok=True)
    rows = {"sft": sft_rows(generator), "pairs": pair_rows(generator)}
    for name, content in rows.items():
        write_lines(root / f"{name}.jsonl", content)
    shutil.rmtree(root / "adapter", ignore_errors=True)
    make_adapter(options.model, root / "adapter", seed=11)
    product_l1(root / "product_l1.json", generator)

    paths = {"base": options.model, "adapter": root / "adapter"}
    golden = {"settings": SETTINGS, "runs": {}}
    for name, run in RUNS.items():
        data = rows["sft" if run["objective"] == "sft" else "pairs"]
        plain, true = (train(paths, run, data, double) for double in (False, True))
        gap = max(abs(p - t) for p, t in zip(plain["losses"], true["losses"]))
        assert gap < 1e-4, f"{name}: float32 strays by {gap}; the run is too chaotic to be a test"
        true["losses_f32"] = plain["losses"]
        golden["runs"][name] = run | true
        zeros = ""
        if "zeros" in next(iter(true["final"].values())):
            zeros = f"  zeros f64 {sum(e['zeros'] for e in true['final'].values())}"
            zeros += f" f32 {sum(e['zeros'] for e in plain['final'].values())}"
            zeros += f" of {sum(e['count'] for e in true['final'].values())}"
        first, last = true["losses"][0], true["losses"][-1]
        spread = min(true["grad_norms"]), max(true["grad_norms"])
        print(
            f"{name:21} {first:.5f} -> {last:.5f}  f32 gap {gap:.0e}  "
            f"grad norm {spread[0]:.3f}..{spread[1]:.3f}{zeros}"
        )
    (root / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
