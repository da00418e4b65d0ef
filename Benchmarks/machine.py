# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the machine share: a random model, recipes, runs, control groups.

Only the standard library. A recipe is a dict as its YAML would be; a recipe with one branch is run by
`paft sft` or `paft align`, one with two by `paft run`.
"""
import contextlib, json, os, pathlib, resource, shlex, shutil, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Put before every command, such as "chrt -r 5" on a machine that is shared.
RUNNER = shlex.split(os.environ.get("RUNNER", ""))


def commit():
    return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()


def cpu():
    """As `paft topology` names it: with family and model where the name is the maker's alone."""
    told = dict(reversed([[word.strip() for word in l.split(":", 1)] for l in open("/proc/cpuinfo") if ":" in l]))
    name = told["model name"]
    if not any(c.isdigit() for c in name):
        name += f" (family {told['cpu family']}, model {told['model']})"
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"


class Data:
    """The folder with models/story-llama-0.66M, sft/ and preference/."""

    def __init__(self, folder):
        folder = pathlib.Path(folder or os.environ["PAFT_DATA"]).resolve()
        self.story = str(folder / "models/story-llama-0.66M")
        self.sft = str(folder / "sft/rasbt-instruction-data.json")
        self.pairs = str(folder / "preference/rasbt-instruction-data-with-preference.json")


class Paft:
    def __init__(self, path):
        self.path = str(pathlib.Path(path or ROOT / ".build/release/paft").resolve())
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="paft-benchmark-"))

    def close(self):
        shutil.rmtree(self.work, ignore_errors=True)

    def random_model(self, data, hidden=768, layers=8, heads=12, vocabulary=4096):
        """57 million parameters by default, as good as random: one step of pre-training."""
        texts = self.work / "texts.jsonl"
        with open(texts, "w") as file:
            for row in json.load(open(data.sft)):
                text = " ".join([row["instruction"], row["input"], row["output"]])
                file.write(json.dumps({"text": text}) + "\n")
        sizes = dict(hidden=hidden, layers=layers, heads=heads, vocabulary=vocabulary)
        arguments = [str(x) for k, v in sizes.items() for x in ("--" + k, v)]
        subprocess.run(
            [self.path, "pretrain", "--data", texts, "--output", self.work / "base", *arguments,
             "--max-steps", "1", "--max-length", "64", "--batch-size", "2", "--save-steps", "0", "--quiet"],
            check=True, stdout=subprocess.DEVNULL)
        return str(self.work / "base")

    def command(self, recipe):
        """The command that runs a recipe, into an output folder that is removed before."""
        output = str(self.work / "out")
        shutil.rmtree(output, ignore_errors=True)
        if "sft" in recipe and "align" in recipe:
            return [self.path, "run", self.file(recipe), "--json", "--quiet"]
        branch = "sft" if "sft" in recipe else "align"
        settings = {k: v for k, v in recipe.items() if k not in ("model", branch)} | recipe[branch]
        data = settings.pop("data")
        sets = [x for k, v in settings.items() for x in ("--set", f"{k}={json.dumps(v)}")]
        return [self.path, branch, "--model", recipe["model"], "--data", data, "--output", output,
                *sets, "--json", "--quiet"]

    def file(self, recipe):
        path = self.work / "recipe.yaml"
        path.write_text(json.dumps(recipe | {"output": str(self.work / "out")}))
        return str(path)

    def plan(self, recipe):
        return json.loads(subprocess.check_output(
            [*RUNNER, self.path, "plan", self.file(recipe), "--json"], text=True))

    def run(self, recipe, prefix=(), groups=(), check=True, wait=None):
        """Runs a recipe; gives the finished Run. `groups` are folders of control groups to enter."""
        return Run([*RUNNER, *prefix, *self.command(recipe)], groups, check)


class Run:
    """A command that ended: its code, output and seconds, peak memory and CPU time as the kernel counted them."""

    def __init__(self, command, groups=(), check=True):
        def enter():
            for group in groups:
                pathlib.Path(group, "cgroup.procs").write_text(str(os.getpid()))

        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            started = time.monotonic()
            process = subprocess.Popen(command, stdout=out, stderr=errors, preexec_fn=enter)
            _, status, usage = os.wait4(process.pid, 0)
            self.seconds = time.monotonic() - started
            process.returncode = self.code = os.waitstatus_to_exitcode(status)
            self.peak = usage.ru_maxrss * 1024
            self.cpu = usage.ru_utime + usage.ru_stime
            out.seek(0), errors.seek(0)
            self.output, self.errors = out.read(), errors.read()
        if check and self.code != 0:
            sys.exit(f"{shlex.join(map(str, command))}: exit code {self.code}\n{self.errors}")

    @property
    def report(self):
        return json.loads(self.output)


@contextlib.contextmanager
def group(controller, **settings):
    """A control group of version 1 with files set, e.g. group("cpu", cpu__cfs_quota_us=100000); None
    where groups cannot be made. Removed at the end."""
    folder = pathlib.Path("/sys/fs/cgroup", controller, f"paft-benchmark-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        print(f"no control groups of {controller}: {error}", file=sys.stderr)
        yield None
        return
    try:
        for name, value in settings.items():
            (folder / name.replace("__", ".")).write_text(str(value))
        yield folder
    finally:
        folder.rmdir()


def table(header, rows):
    """Markdown; numbers, which are texts already, to the right from the second column on."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(header), "|---|" + "---:|" * (len(header) - 1), *map(line, rows)])


def write(name, text):
    path = ROOT / "Benchmarks/Results" / name
    path.write_text(text.rstrip() + "\n")
    print(f"Benchmarks/Results/{name}", file=sys.stderr)
