"""What deploy/parity and deploy/compare need before their work: kirie, and a Python that has the published packages.

Only Python's own library is used here, and what is missing is said before anything long begins.
"""
from __future__ import annotations

import argparse, importlib.metadata, importlib.util, json, os, pathlib, shutil, subprocess, sys
from typing import Any, NoReturn

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements.txt"
PIP = "pip==26.3"
# By the name that they are imported by.
PACKAGES = {
    "torch": "torch", "torchvision": "torchvision", "segment_anything": "segment-anything",
    "mobile_sam": "mobilesam-mirror", "timm": "timm", "onnx": "onnx", "onnxruntime": "onnxruntime",
    "openvino": "openvino", "numpy": "numpy", "PIL": "pillow", "safetensors": "safetensors",
    "pycocotools": "pycocotools", "transformers": "transformers",
}
# In GB, what is downloaded and what it is unpacked, with PyTorch's CPU build and with the CUDA build. PyPI itself has
# only the latter for Linux on x86-64; pip finds the former where its configuration names a place that has it.
SIZES = {"CPU": (0.4, 1.5), "CUDA": (2.9, 5.1)}


def refuse(problem: str, remedy: str) -> NoReturn:
    """Ends the program, before any work, with what is missing and what to do."""
    print(f"deploy/{pathlib.Path(sys.argv[0]).stem}: {problem}\n{remedy}", file=sys.stderr)
    raise SystemExit(2)


def say(text: str) -> None:
    print(f"deploy/{pathlib.Path(sys.argv[0]).stem}: {text}", file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that both programs have."""
    parser.add_argument(
        "--kirie", metavar="PATH", help="the program to run; default: $KIRIE, else deploy/build makes it")
    parser.add_argument(
        "--venv", metavar="DIR", type=pathlib.Path, default=ROOT / ".build" / "published",
        help="the virtual environment of the published packages, made where it is missing and kept; default: "
        ".build/published. With $PYTHON set, that interpreter is used as it is and nothing is installed")
    parser.add_argument(
        "--reference", metavar="PATH", type=pathlib.Path, default=REQUIREMENTS.with_name("reference.py"),
        help="another program that makes models and cases, with the arguments and files of "
        "deploy/published/reference.py")


def enter(options: argparse.Namespace, work: pathlib.Path, disk: float, memory: float) -> str:
    """Returns the path of kirie, in a Python that has the published packages: the program starts anew in that one.

    disk: how many GB the work takes in its folder. memory: how many it takes at its peak, whatever else is asked of it.
    """
    if sys.version_info < (3, 11):
        refuse(
            f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}; the packages need 3.11 or later",
            "Put a later python3 first on the PATH, as Debian 12 has it.")
    if not options.reference.is_file():
        refuse(f"--reference: {options.reference} is not there", "Leave it out for deploy/published/reference.py.")
    kirie = found_kirie(options.kirie)
    given = bool(os.environ.get("PYTHON"))
    installs = not given and not is_complete(options.venv)
    if given:
        demand_packages(options.venv)
    elif installs:
        demand_room_for(options.venv)
    demand_space(work, disk, "models and tensors", "name another folder with $TMPDIR, or --work where there is one")
    if free_memory() < memory:
        refuse(f"the work takes {memory:.0f} GB of memory, and {free_memory():.1f} are free", "Free some.")
    if installs:
        install(options.venv)
    if not given and pathlib.Path(sys.prefix).resolve() != options.venv.resolve():
        python = str(options.venv / "bin" / "python")
        os.execv(python, [python, *sys.argv])
    return kirie or build()


def found_kirie(given: str | None) -> str | None:
    """The path of the program that is named; nothing where it is to be built."""
    named = given or os.environ.get("KIRIE")
    if not named:
        if not shutil.which("swift"):
            refuse(
                "no kirie is named, and swift is not on the PATH to build it",
                "Name the program with --kirie PATH or $KIRIE, or install Swift 6.1 or later.")
        return None
    path = shutil.which(named)
    if not path:
        refuse(f"{named} is no program", "Name a built kirie with --kirie PATH or $KIRIE, or neither to have it built.")
    try:
        run = subprocess.run([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        refuse(f"{path} does not start: {error.strerror}", "Name another with --kirie PATH, or none to have it built.")
    if run.returncode != 0:
        refuse(
            f"{path} --help ends with {run.returncode}: {run.stdout.strip()}",
            "deploy/build installs the libraries that kirie stands on, and builds it.")
    return os.path.abspath(path)


def build() -> str:
    if subprocess.run([ROOT / "deploy" / "build", "--product", "kirie"], stdout=subprocess.DEVNULL).returncode != 0:
        refuse("kirie was not built, as said above", "Name a built one with --kirie PATH or $KIRIE.")
    folder = subprocess.run(
        ["swift", "build", "-c", "release", "--show-bin-path"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return f"{folder.stdout.strip()}/kirie"


def demand_packages(venv: pathlib.Path) -> None:
    """This Python has each of the packages, in whatever version."""
    missing = [package for module, package in PACKAGES.items() if not importlib.util.find_spec(module)]
    if missing:
        refuse(
            f"$PYTHON ({sys.executable}) has no {', '.join(missing)}",
            f"Install them there (pip install -r {REQUIREMENTS}),\n"
            f"or unset $PYTHON: then they go into a virtual environment in {venv}.")


def versions() -> str:
    """What the figures stand beside, for the first line that is printed."""
    known = []
    for package in PACKAGES.values():
        try:
            known.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            known.append(f"{package} of no known version")  # a checkout, not a package
    return ", ".join(known)


def is_complete(venv: pathlib.Path) -> bool:
    """Whether all that is pinned today was installed there, to the end."""
    installed = venv / "requirements.txt"
    return (venv / "bin" / "python").is_file() and installed.is_file() \
        and installed.read_text() == REQUIREMENTS.read_text()


def demand_room_for(venv: pathlib.Path) -> None:
    """This Python can make a virtual environment, there."""
    if not importlib.util.find_spec("ensurepip"):
        refuse(
            f"{sys.executable} cannot make a virtual environment: its ensurepip is missing",
            "Debian: apt-get install python3-venv. Or set $PYTHON to an interpreter that has the packages of\n"
            f"{REQUIREMENTS}.")
    if venv.exists() and not (venv / "pyvenv.cfg").is_file() and any(venv.iterdir()):
        refuse(f"{venv} is there and is no virtual environment", "Name another folder with --venv DIR.")
    demand_space(venv, sum(SIZES["CPU"]), "the published packages", "name a folder elsewhere with --venv DIR")


def install(venv: pathlib.Path) -> None:
    """Makes the virtual environment, or goes on where an earlier run was cut off."""
    say(f"installing the packages of deploy/published/requirements.txt into {venv}")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    # Downloads wait beside what they are unpacked to, on the disk whose room is known; the folder is there after a cut.
    temporary = venv / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install"]
    surroundings = dict(os.environ, TMPDIR=str(temporary))

    def pip(*arguments: str | pathlib.Path, **streams: Any) -> subprocess.CompletedProcess[str]:
        run = subprocess.run([*command, *arguments], env=surroundings, stdin=subprocess.DEVNULL, text=True, **streams)
        if run.returncode != 0:
            for line in (run.stderr or "").strip().splitlines():
                say(f"pip: {line}")
            refuse(
                "pip did not get the packages, as it says above",
                "It needs a network that reaches PyPI, or a mirror that pip's own configuration names. Run this\n"
                "again: it goes on where it stopped. Or set $PYTHON to an interpreter that has the packages.")
        return run

    # 2 MB, so that a missing network is seen at once; and one that can tell what it would install without fetching it.
    pip("--quiet", PIP, stdout=sys.stderr, stderr=subprocess.PIPE)
    plan = pip(
        "--quiet", "--dry-run", "--report", "-", "-r", REQUIREMENTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    names = {entry["metadata"]["name"] for entry in json.loads(plan.stdout)["install"]}
    kind = "CUDA" if any(name.startswith("nvidia-") for name in names) else "CPU"
    download, unpacked = SIZES[kind]
    say(f"{len(names)} packages, PyTorch's {kind} build: at most {download} GB to download, {unpacked} GB on the disk")
    if kind == "CUDA":
        say("PyPI has no smaller build of PyTorch; pip takes the CPU build where its configuration names a place of it")
    demand_space(venv, download + unpacked, "the published packages", "name a folder elsewhere with --venv DIR")
    pip("-r", REQUIREMENTS, stdout=sys.stderr)
    shutil.rmtree(temporary)
    shutil.copyfile(REQUIREMENTS, venv / "requirements.txt")


def demand_space(folder: pathlib.Path, gigabytes: float, what: str, remedy: str) -> None:
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / 1e9
    if free < gigabytes:
        refuse(f"{folder}: {what} take {gigabytes:.1f} GB, and {free:.1f} are free", f"Make room, or {remedy}.")


def free_memory() -> float:
    """In GB, as Linux estimates it; without bound where nothing says it."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable")), float("inf"))
