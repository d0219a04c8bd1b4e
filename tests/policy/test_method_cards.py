"""Every method has a card, and the card says what the code does: options, logged names, pictures, commands."""

import ast
import re
import warnings
from pathlib import Path

import pytest
import torch

import codistill
from codistill.methods import METHODS, options
from codistill.training import Config
from codistill.types import GroupShape, PeerOutputs, Progress

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "docs" / "methods"
SECTIONS = [
    "Idea",
    "Equations",
    "Options",
    "What is ours",
    "The authors' released code",
    "Stop-gradient",
    "What is logged",
    "Cost",
    "How to train it",
    "The paper's numbers",
    "A run",
]
VARIANTS = {
    "dml": [{}, {"target": "mean"}, {"preset": "released"}],
    **{name: [{}, {"preset": "released"}] for name in ("cl_ilr", "clnn", "one")},
    "okddip": [{}, {"preset": "released"}]
    + [{"ablation": a} for a in ("random", "entropy", "mean", "asymmetry", "no_two_level")],
}
LARGEST_PICTURE = 60_000


def card(name: str) -> str:
    return (CARDS / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    return card(name).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str, first_header: str) -> list[list[str]]:
    """The rows under the header whose first cell is `first_header`."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(f"| {first_header} |")]
    if not starts:
        return []
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("| ").split(" | ")])
    return rows


def number(text: str) -> object:
    """A Python literal, or a fraction such as 80/300."""
    over, slash, under = text.partition("/")
    return float(over) / float(under) if slash else ast.literal_eval(text)


def shape_for(name: str, peers: int) -> GroupShape:
    """The sizes of a group of `peers` students, or of the most that the method takes."""
    method = METHODS[name]
    peers = min(peers, method.max_peers or peers)
    shares = method.needs.trunk or method.needs.rescale_shared_gradients
    return GroupShape(peers, 5, (8,) * peers, 6, shares_trunk=shares, teachers=1)


def usual(name: str) -> codistill.methods.Method:
    """The method with its default options."""
    return codistill.methods.build(name, shape_for(name, 4))


def emitted(name: str) -> tuple[set[str], set[str]]:
    """The parts and diagnostics of a method, on random outputs, over its variants."""
    draw, shape = torch.Generator().manual_seed(0), shape_for(name, 3)
    peers = shape.peers
    outputs = PeerOutputs(
        torch.randn(peers, 4, 5, generator=draw),
        tuple(torch.randn(4, 8, generator=draw) for _ in range(peers)),
        torch.randn(4, 6, generator=draw),
        torch.randn(1, 4, 5, generator=draw),
        averaged_logits_PBC=torch.randn(peers, 4, 5, generator=draw),
    )
    parts, diagnostics = set(), set()
    for keywords in VARIANTS.get(name, [{}]):
        method = codistill.methods.build(name, shape, generator=draw, **keywords)
        step = method(outputs, torch.tensor([0, 1, 2, 3]), Progress(1, 2))
        parts |= set(step.parts)
        diagnostics |= set(step.diagnostics)
    return parts, diagnostics


@pytest.mark.parametrize("name", METHODS)
def test_card_has_every_section_once_and_in_order(name):
    # Sections of its own may follow.
    assert re.findall(r"^## (.+)$", card(name), flags=re.M)[: len(SECTIONS)] == SECTIONS
    for title in SECTIONS:
        assert section(name, title).strip(), title


@pytest.mark.parametrize("name", METHODS)
def test_option_table_holds_all_options_with_their_true_defaults_and_no_others(name):
    rows = table(section(name, "Options"), "option")
    stated = {row[0].strip("`"): number(row[1].strip("`")) for row in rows}
    assert stated == options(name)
    assert all(len(row) == 4 and all(row) for row in rows)


@pytest.mark.parametrize("name", METHODS)
def test_no_option_is_named_anywhere_that_does_not_exist(name):
    text = card(name)
    named = set(re.findall(r"method_options\.([a-z]\w*)", text))
    for keywords in re.findall(rf'build\("{name}", \w+(.*?)\)', text):
        named |= set(re.findall(r"(\w+)=", keywords))
    assert named - {"teachers"} <= set(options(name))
    flags = {flag.replace("-", "_") for flag in re.findall(r"(?<![\w`-])--([a-z][\w.-]*)", commands(text))}
    config = Config()
    for flag in flags - {"set"}:
        group, _, field = flag.rpartition(".")
        assert hasattr(getattr(config, group) if group else config, field), flag


def commands(text: str) -> str:
    return "\n".join(re.findall(r"^codistill .+$", text, flags=re.M))


@pytest.mark.parametrize("name", METHODS)
def test_every_logged_name_is_explained_and_no_other(name):
    rows = table(section(name, "What is logged"), "name")
    stated = {kind: {row[0].strip("`") for row in rows if row[1] == kind} for kind in ("part", "diagnostic")}
    parts, diagnostics = emitted(name)
    assert stated["part"] == parts
    assert stated["diagnostic"] == diagnostics
    assert len(rows) == len(parts | diagnostics)


@pytest.mark.parametrize("name", [*METHODS, "index"])
def test_links_lead_somewhere(name):
    targets = re.findall(r"\]\(([^)]+)\)", card(name))
    assert targets
    for target in targets:
        page, _, heading = target.partition("#")
        path = CARDS / (page or f"{name}.md")
        assert path.exists(), target
        if heading:
            headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
            assert heading in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], target


@pytest.mark.parametrize("name", METHODS)
def test_picture_is_there_small_and_undated_and_carries_its_evidence(name):
    run = section(name, "A run")
    assert re.findall(r"!\[.+\]\((.+)\)", run) == [f"images/{name}.svg"]
    evidence = run.partition("<sub>")[2].partition("</sub>")[0].replace("\n", " ")
    assert f"make_plots.py --methods {name}`" in evidence
    for fact in ("seed 0", "codistill", "PyTorch", "One seed, an illustration and no comparison."):
        assert fact in evidence, fact
    assert re.search(r"\b\d{4}-\d{2}-\d{2}\b", evidence)
    picture = (CARDS / "images" / f"{name}.svg").read_text(encoding="utf-8")
    assert len(picture.encode()) < LARGEST_PICTURE
    assert "dc:date" not in picture


@pytest.mark.parametrize("name", [*METHODS, "index"])
def test_code_that_the_symbol_table_names_is_in_the_source(name):
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "src" / "codistill").rglob("*.py"))
    rows = table(section(name, "Symbols" if name == "index" else "Equations"), "symbol")
    assert rows
    for _, code in rows:
        for quoted in re.findall(r"`([^`]+)`", code):
            for word in re.findall(r"[A-Za-z_]\w+", quoted):
                assert re.search(rf"\b{word}\b", source), word


@pytest.fixture
def one_thread():
    """Batches of two images are no work for two threads, and on a busy machine these wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("one_thread")
def test_lines_of_python_run(name):
    (snippet,) = re.findall(r"```python\n(.*?)```", section(name, "How to train it"), flags=re.S)
    draw = torch.Generator().manual_seed(0)
    names = {
        "codistill": codistill,
        "images": torch.randn(2, 3, 16, 16, generator=draw),
        "labels": torch.randint(100, (2,), generator=draw),
        "epoch": 1,
        "epochs": 10,
        "held_out_probs": torch.randn(2, 6, 100, generator=draw).softmax(-1),
        "held_out_labels": torch.randint(100, (6,), generator=draw),
    }
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("error")
        torch.manual_seed(0)
        exec(snippet, names)
    gradients = [p.grad for p in names["group"].parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("name", [*METHODS, "index"])
def test_equations_keep_to_what_github_renders(name):
    text = card(name)
    assert text.count("$$") % 2 == 0
    for equation in text.split("$$")[1::2]:
        # Markdown eats a backslash before punctuation, and GitHub refuses \operatorname.
        assert not re.search(r"\\[^A-Za-z]|\\operatorname", equation), equation
        assert equation.count("{") == equation.count("}")


def test_index_compares_methods_with_their_defaults():
    rows = table(card("index"), "method")
    assert len({row[0] for row in rows}) == len(rows) > 11
    header = next(line for line in card("index").splitlines() if line.startswith("| method |")).strip("| ").split(" | ")
    assert all(len(row) == len(header) for row in rows)
    for row in rows:
        name = re.findall(r"`(\w+)`", row[0])[0]
        cells, known, method = dict(zip(header, row, strict=True)), options(name), METHODS[name]
        temperature = getattr(usual(name), "temperature", None)
        assert cells["T"] == ("–" if temperature is None else f"{temperature:g}")
        stated = cells["ramp-up"]
        assert stated in ("–", "none") if "ramp_up" not in known else number(stated) == known["ramp_up"]
        assert cells["soft labels"].startswith("yes" if method.soft_labels else "no")
        needed = method.needs.trunk or method.needs.rescale_shared_gradients
        assert cells["shared trunk needed"].startswith("yes" if needed else "no")
        assert cells["peers"].startswith(str(method.min_peers))
        assert cells["deployed"].startswith("the leader") == (usual(name).leader is not None and method.max_peers != 1)


def test_pages_have_no_open_ends():
    for path in CARDS.glob("*.md"):
        assert not re.search(r"\b(TODO|FIXME|XXX)\b|METHODS\.md|\.\./shared", path.read_text(encoding="utf-8")), path
