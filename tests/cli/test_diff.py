"""`ablc diff` as a reviewer uses it: files, folders, and real git repositories."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from processes import SPECS, ablc

from ablc.api import load, plan
from ablc.cli.diff import diff_command
from ablc.planning.diff import apply
from ablc.planning.plan import fingerprint

GOLDENS = Path(__file__).resolve().parent / "diff"
MODEL = 'model = "EleutherAI/pythia-70m"\n'


@pytest.mark.parametrize("format", ["human", "md", "github", "json"])
@pytest.mark.parametrize("pair", ["17-18", "01-24", "frozen-thawed", "families", "recipes", "broken-good"])
def test_as_it_prints(pair: str, format: str, update_goldens: bool) -> None:
    before, _, after = pair.partition("-")
    if before.isdigit():
        done = ablc("diff", f"specs/{before}.abl", f"specs/{after}.abl", "--format", format)
    else:
        folder = GOLDENS / pair
        done = ablc("diff", "before.abl", "after.abl", "--format", format, cwd=folder)
    golden = GOLDENS / f"{pair}.{format}.txt"
    shown = done.stdout + done.stderr
    if update_goldens:
        golden.write_text(shown)
    assert shown == golden.read_text()
    assert done.returncode == (2 if pair.startswith("broken") else 0)


def test_the_json_makes_the_second_model_of_the_first() -> None:
    (pair,) = json.loads(ablc("diff", SPECS / "17.abl", SPECS / "18.abl", "--format", "json").stdout)["pairs"]
    before, after = (plan(load(SPECS / f"{number}.abl")) for number in ("17", "18"))
    assert fingerprint(apply(pair["difference"], before.blueprint)) == after.fingerprint
    assert pair["measures"]["params"] == {"before": 214_255_880, "after": 220_353_704}


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / f"{name}.abl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if "model" in text or "extends" in text else MODEL + text)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write(tmp_path / "a", same="mlp = none", text="mlp = lora(8)", gone="mlp[0] = none", changed="mlp = lora(8)")
    write(tmp_path / "b", same="mlp = none", text="mlp = lora( r=8 ) # !", new="mlp[1] = none", changed="mlp = lora(9)")
    write(tmp_path / "a", old="mlp[2] = none")
    write(tmp_path / "b", renamed="mlp[2] = none")
    return tmp_path


def test_folders_are_paired_by_name(folders: Path) -> None:
    done = ablc("diff", "a", "b", cwd=folders)
    heads = [line for line in done.stdout.splitlines() if ".abl" in line]
    assert heads == [
        "a/changed.abl → b/changed.abl",
        "a/gone.abl (removed)",
        "b/new.abl (added)",
        "a/old.abl → b/renamed.abl: same model",
        "a/text.abl → b/text.abl: same model",
    ]
    assert done.stdout.endswith("6 specs: 1 changed, 1 added, 1 removed, 3 with the same model\n")
    assert ablc("diff", "a", "b", "--exit-code", cwd=folders).returncode == 1
    assert ablc("diff", "a/text.abl", "b/text.abl", "--exit-code", cwd=folders).returncode == 0


def test_many_files_are_compared_as_few_are(tmp_path: Path) -> None:
    for side, more in (("a", 0), ("b", 1)):
        texts = {f"{n:03}": f"mlp[{n % 6}] = lora({8 + n + more * (n % 2)})" for n in range(300)}
        write(tmp_path / side, **texts)
        write(tmp_path / f"{side}-few", **dict([*texts.items()][:4]))
    many, few = (
        json.loads(ablc("diff", *pair, "--format", "json", cwd=tmp_path).stdout)["pairs"]
        for pair in (("a", "b"), ("a-few", "b-few"))
    )
    assert [pair["before"][-7:] for pair in many] == [f"{n:03}.abl" for n in range(300) if n % 2]
    assert [pair["difference"] for pair in many[:2]] == [pair["difference"] for pair in few]


def test_a_claim_that_stops_holding_is_told(tmp_path: Path) -> None:
    claim = "expect params < 57_900_000\nexpect layers.mlp == 6"
    write(tmp_path, a=f"mlp = lora(8)\n{claim}", b=f"mlp = lora(16)\n{claim}")
    forth, back = (ablc("diff", *pair, cwd=tmp_path).stdout for pair in (("a.abl", "b.abl"), ("b.abl", "a.abl")))
    assert forth.endswith("expect params < 57_900_000: stopped holding\n\n")
    assert back.endswith("expect params < 57_900_000: holds now\n\n")
    page = ablc("diff", "a.abl", "b.abl", "--format", "github", cwd=tmp_path).stdout
    assert "| changed, **a claim stopped holding** |" in page


def test_another_dtype_is_told(tmp_path: Path) -> None:
    write(tmp_path, a="mlp = none", b='model = "EleutherAI/pythia-70m"(dtype = float32)\nmlp = none')
    done = ablc("diff", "a.abl", "b.abl", "--exit-code", cwd=tmp_path)
    assert done.returncode == 1
    assert "dtype float16 → float32\n" in done.stdout and "same model" in done.stdout
    assert "bytes of weights" in done.stdout and "+100.00" in done.stdout


def test_frozen_parts_that_are_replaced_are_one_line(tmp_path: Path) -> None:
    write(tmp_path, a="freeze mlp", b="mlp = lora(8)\nfreeze mlp", c="mlp = full")
    replaced, back = (ablc("diff", *pair, cwd=tmp_path).stdout for pair in (("a.abl", "b.abl"), ("b.abl", "c.abl")))
    assert "mlp, frozen → Linear(512, 8) · Linear(8, 512), frozen" in replaced and "trained →" not in replaced
    assert "Linear(8, 512), frozen → mlp " in back


def test_a_new_spec_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a", x="mlp = none")
    write(tmp_path / "b", x="mlp = none", y="mlp = lora(8)\ntrain.lr = 1e-3\nexpect params == 5")
    said = ablc("diff", "a", "b", cwd=tmp_path).stdout
    assert "b/y.abl (added)\nbase EleutherAI/pythia-70m\n" in said
    assert "train.lr unset → 0.001\nexpect params == 5: fails\n" in said
    assert "| added, **a claim fails** |" in ablc("diff", "a", "b", "--format", "github", cwd=tmp_path).stdout


@pytest.mark.parametrize("other", ["vary s = 1, 2\nvary r = 8, 9", "vary rank = 8, 9\nvary s = 1, 2"])
def test_variants_are_paired_by_what_they_are(other: str, tmp_path: Path) -> None:
    rest = "mlp = lora({})\nattention.qkv = lora(s)"
    write(tmp_path, a="vary r = 8, 9\nvary s = 1, 2\n" + rest.format("r"))
    write(tmp_path, b=f"{other}\n" + rest.format("rank" if "rank" in other else "r"))
    assert ablc("diff", "a.abl", "b.abl", cwd=tmp_path).stdout == "a.abl → b.abl: same model\n"


def test_names_with_more_than_one_at(tmp_path: Path) -> None:
    write(tmp_path / "v@2", sweep="vary r = 8, 16\nmlp = lora(r)")
    assert "@r=8 → @r=16" in ablc("diff", "v@2/sweep.abl@r=8", "v@2/sweep.abl@r=16", cwd=tmp_path).stdout


@pytest.mark.parametrize("format", ["human", "md", "github"])
def test_a_name_begins_no_line_of_its_own(format: str, tmp_path: Path) -> None:
    write(tmp_path / "a", **{"x\n::error::y": "mlp = none"})
    write(tmp_path / "b", **{"x\n::error::y": "mlp = lroa(8)", "z\n::error::": "mlp = none"})
    done = ablc("diff", "a", "b", "--format", format, cwd=tmp_path)
    assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("::")]


def test_two_variants_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, sweep="vary r = 8, 16\nmlp = lora(r)")
    said = ablc("diff", "sweep.abl@r=8", "sweep.abl@r=16", cwd=tmp_path).stdout
    assert "@r=8 → @r=16\n" in said and "Linear(512, 8) · Linear(8, 512) → Linear(512, 16)" in said


# --- git -------------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits on main, a branch from the first, and an edit that isn't committed."""
    git(tmp_path, "init", "-q", "-b", "main")
    write(tmp_path / "specs", a="mlp = lora(8)", b='extends "base/c.abl"\nattention.qkv = lora(4)', old="mlp = none")
    write(tmp_path / "specs" / "base", c="mlp = lora(8)")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "checkout", "-q", "-b", "side")
    write(tmp_path / "specs", side="mlp = none")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "side")
    git(tmp_path, "checkout", "-q", "main")
    write(tmp_path / "specs" / "base", c="mlp = lora(9)")
    git(tmp_path, "rm", "-q", "specs/old.abl")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "two")
    write(tmp_path / "specs", a="mlp = lora(10)", fresh="mlp = lora(8)")
    (tmp_path / ".git" / "info" / "exclude").write_text("ignored*\n")
    write(tmp_path / "specs", ignored="mlp = none")
    return tmp_path


def status(repository: Path, *arguments: str) -> dict[str, str]:
    done = ablc("diff", "--format", "json", *arguments, cwd=repository)
    assert done.returncode == 0, done.stderr
    pairs = json.loads(done.stdout)["pairs"]
    return {(pair["after"] or pair["before"]).rpartition("/")[2]: pair["status"] for pair in pairs}


WORKING = {"a.abl": "changed", "fresh.abl": "added"}
TWO = {"b.abl": "changed", "c.abl": "changed", "old.abl": "removed"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], WORKING),
        (["HEAD"], WORKING),
        (["HEAD~1"], {**WORKING, **TWO}),
        (["HEAD~1", "--", "specs/base"], {"c.abl": "changed"}),
        (["HEAD~1", "HEAD"], TWO),
        (["HEAD~1..HEAD"], TWO),
        (["HEAD~1", "HEAD", "--", "specs/old.abl"], {"old.abl": "removed"}),
        (["HEAD~1", "specs/a.abl"], {"a.abl": "changed"}),
        (["specs/a.abl"], {"a.abl": "changed"}),
        (["--against", "HEAD~1", "specs/a.abl", "specs/base"], {"a.abl": "changed", "c.abl": "changed"}),
        (["main...side"], {"side.abl": "added"}),
        (["side..."], TWO),
        (["side", "main"], {**TWO, "side.abl": "removed"}),
    ],
)
def test_revisions(repository: Path, arguments: list[str], expected: dict[str, str]) -> None:
    assert status(repository, *arguments) == expected


def test_a_file_that_it_extends_is_the_one_of_then(repository: Path) -> None:
    said = ablc("diff", "HEAD~1", "HEAD", "--", "specs/b.abl", cwd=repository).stdout
    assert said.startswith("specs/b.abl\n") and "Linear(512, 8) · Linear(8, 512) → Linear(512, 9)" in said


def test_links_and_names_that_look_like_revisions(repository: Path) -> None:
    (repository / "specs" / "link.abl").symlink_to("a.abl")
    (repository / "specs" / "fresh.abl").rename(repository / "specs" / "HEAD:ü x.abl")
    said = ablc("diff", "--", "specs", cwd=repository).stdout
    assert [line for line in said.splitlines() if ".abl" in line] == ["specs/HEAD:ü x.abl (added)", "specs/a.abl"]


def test_whatever_a_spec_reads_is_the_one_of_then(repository: Path) -> None:
    specs = repository / "specs"
    (specs / "bases").mkdir()
    (specs / "bases" / "config.json").write_text('{"model_type": "gpt_neox", "num_hidden_layers": 2}')
    (specs / "link").symlink_to("bases")
    (specs / "alias.abl").symlink_to("base/c.abl")
    (specs / "common.inc").write_text("mlp = lora(8)\n")
    write(specs, d='extends "alias.abl"\nmlp[0] = none', e='extends "common.inc"\nmodel = "./link"')
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    assert ablc("diff", cwd=repository).stdout == "6 specs: 6 with the same model\n"
    (specs / "common.inc").write_text("mlp = lora(9)\n")
    (specs / "bases" / "config.json").write_text('{"model_type": "gpt_neox", "num_hidden_layers": 3}')
    said = ablc("diff", cwd=repository).stdout
    assert said.startswith("specs/e.abl\n") and "num_hidden_layers 2 → 3" in said and "layer[2:3]" in said


def test_what_was_broken_before_is_counted_and_no_more(repository: Path) -> None:
    write(repository / "specs", a='extends "nope.abl"')
    git(repository, "commit", "-qam", "broken")
    done = ablc("diff", cwd=repository)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n4 specs: 1 added, 1 broken as before, 2 with the same model\n")
    write(repository / "specs", a='extends "nope.abl"\nmlp = none')
    assert ablc("diff", cwd=repository).returncode == 2


def test_after_dashes_all_are_paths(repository: Path) -> None:
    write(repository / "specs", b="mlp = lora(8)")
    assert status(repository, "--", "specs/a.abl", "specs/b.abl") == {"a.abl": "changed", "b.abl": "changed"}
    (repository / "specs" / "a.abl").unlink()
    assert status(repository / "specs" / "base", "--", "../a.abl") == {"a.abl": "removed"}
    assert status(repository / "specs" / "base", "../a.abl") == {"a.abl": "removed"}


def test_a_name_that_means_two_things_is_refused(repository: Path) -> None:
    (repository / "side").mkdir()
    for arguments in (["side"], ["side", "main"], ["side", "specs"]):
        assert told(*arguments, cwd=repository).endswith("`side` is a revision and a path here")
    assert status(repository, "side", "main", "--") == {**TWO, "side.abl": "removed"}
    write(repository / "side", x="mlp = none")
    assert status(repository, "--", "side") == {"x.abl": "added"}
    assert status(repository, "./side") == {"x.abl": "added"}


def test_states_of_repositories(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("clones")
    git(place, "clone", "-q", "--bare", str(repository), "bare")
    assert status(place / "bare", "HEAD~1", "HEAD") == TWO
    assert told("HEAD", cwd=place / "bare").endswith("this repository has no working tree")
    git(place, "clone", "-q", "--depth=1", f"file://{repository}", "shallow")
    done = ablc("diff", "HEAD~1", "--", cwd=place / "shallow")
    assert done.returncode == 2 and "git fetch --unshallow" in done.stderr
    git(place, "clone", "-q", str(repository), "sparse")
    git(place / "sparse", "sparse-checkout", "set", "specs/base")
    assert status(place / "sparse", "HEAD") == {}
    git(repository, "worktree", "add", "-q", str(place / "tree"), "side")
    assert status(place / "tree", "main") == {
        **dict.fromkeys(("b.abl", "c.abl"), "changed"),
        "old.abl": "added",
        "side.abl": "added",
    }
    done = ablc("diff", cwd=repository, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert done.returncode == 2 and "dubious ownership" in done.stderr
    (place / "link").symlink_to(repository)
    assert status(repository, "HEAD", "--", str(place / "link" / "specs" / "a.abl")) == {"a.abl": "changed"}


def test_a_blob_that_isnt_there_is_told(repository: Path) -> None:
    blob = git(repository, "rev-parse", "HEAD:specs/a.abl")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    done = ablc("diff", "HEAD", cwd=repository)
    assert done.returncode == 2 and f"{blob[:10]} isn't in this clone" in done.stderr


def test_from_a_folder_inside(repository: Path) -> None:
    assert status(repository / "specs" / "base", "HEAD~1", "HEAD", "c.abl") == {"c.abl": "changed"}


def test_a_broken_side_is_told_by_its_revision_and_the_other_is_shown(repository: Path) -> None:
    write(repository / "specs", a='extends "base/c.abl"\nmlp = lroa(8)')
    write(repository / "specs" / "base", c="mlp = lora(8) x")
    git(repository, "commit", "-qam", "broken")
    write(repository / "specs", a="mlp = lora(8)")
    done = ablc("diff", "HEAD", "--", "specs/a.abl", cwd=repository)
    assert done.returncode == 2
    assert "--> HEAD:specs/a.abl:2:7" in done.stderr and "--> HEAD:specs/base/c.abl:2:15" in done.stderr
    assert "/tmp" not in done.stderr and "specs/a.abl (broken)" in done.stdout and "Linear(512, 8)" in done.stdout


def told(*arguments: str, cwd: Path) -> str:
    done = ablc("diff", *arguments, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()[0]


def test_what_cant_be_compared(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    alone, empty = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("empty")
    git(empty, "init", "-q")
    write(alone, a="mlp = none")
    assert told("HEAD~9", cwd=repository).endswith("there is no revision, file or folder `HEAD~9`")
    assert told("--against", "--output=x", cwd=repository).endswith("there is no revision `--output=x`")
    assert told("HEAD", "--", str(alone), cwd=repository).endswith(f"lies outside the repository in {repository}")
    assert told("nope..main", cwd=repository).endswith("there is no revision, file or folder `nope..main`")
    assert told("nope..main", "--", cwd=repository).endswith("there is no revision `nope`")
    assert told("main", "side", "HEAD", "--", cwd=repository).endswith(
        "`HEAD` is a revision too many: two can be compared"
    )
    assert told(cwd=alone).endswith("isn't in a git repository")
    assert told("a.abl", "b.abl", cwd=alone).endswith("there is no file or folder `b.abl`")
    assert told(cwd=empty).endswith("this repository has no commits yet")
    assert told("specs", "specs/a.abl", cwd=repository).endswith("are a file and a folder")
    (alone / "none").mkdir()
    assert told("none", "none", cwd=alone).endswith("there are no specs in none and none")


@pytest.mark.parametrize("name", [b"..", b"/outside"])
def test_a_commit_leads_nowhere_outside(repository: Path, tmp_path: Path, name: bytes) -> None:
    def made(*arguments: str, data: bytes) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode().strip()

    blob = made("hash-object", "-w", "--stdin", data=b"mlp = none")
    inner = made("mktree", data=f"100644 blob {blob}\tescaped.abl\n".encode())
    entry = b"40000 " + name + b"\0" + bytes.fromhex(inner)
    tree = made("hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=entry)
    commit = git(repository, "commit-tree", "-m", "x", tree)
    done = ablc("diff", "--format", "json", commit, "HEAD", cwd=repository)
    assert done.returncode == 0 and "escaped" not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("escaped.abl"))


def test_git_isnt_needed_for_files(tmp_path: Path) -> None:
    write(tmp_path, a="mlp = lora(8)", b="mlp = lora(9)")
    assert ablc("diff", "a.abl", "b.abl", cwd=tmp_path, PATH="").returncode == 0
    assert ablc("diff", "a.abl", cwd=tmp_path, PATH="").stderr.startswith(
        "error[no-revision]: git isn't installed here"
    )


def test_a_summary_holds_no_more_than_github_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, rank in (("a", 8), ("b", 16)):
        (tmp_path / folder).mkdir()
        for number in range(20):
            (tmp_path / folder / f"{number}.abl").write_text(f"{MODEL}mlp[:{number % 5 + 1}] = lora({rank})")
    monkeypatch.setattr("ablc.cli.diff.MOST_BYTES", 6000)
    assert diff_command([str(tmp_path / "a"), str(tmp_path / "b")], None, None, "github", False) == 0
    page = capsys.readouterr().out
    assert page.startswith("**20 specs: 20 changed**") and 3000 < len(page.encode()) < 6300
    assert page.count("<details>") == page.count("</details>") > 0
    said = re.findall(r"^… and (\d+) (lines|specs) more: `ablc diff` shows all of them$", page, re.MULTILINE)
    assert [what for _, what in said][-1:] == ["specs"] and 20 - int(said[-1][0]) == page.count("<details>")
