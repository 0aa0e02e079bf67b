"""`ablc eval`: lm-eval scores the run's own model, on a task that local files define."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablc.cli.evaluate import eval_command
from ablc.cli.output import answer
from ablc.exporting.evaluation import file_name

from .conftest import NEOX, plan_of, record, trained

ROWS = [
    {"question": "def f(x):\n    return", "choices": [" x", " y + 1", " None"], "gold": 0},
    {"question": "import", "choices": [" os", " banana", " 17"], "gold": 1},
    {"question": "for i in range(", "choices": ["3", "x, y", ")"], "gold": 2},
    {"question": "while", "choices": [" True", " 0", " :"], "gold": 0},
    {"question": "print('", "choices": ["a", "Hello", "0"], "gold": 1},
]
TASK = """
task: continue_code
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
target_delimiter: ""
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def live() -> Any:
    return trained(plan_of(NEOX + "attention[0] = none; mlp = nonlinear_lora(4)"))


@pytest.fixture
def run(tmp_path: Path, tokenizer_file: Path, live: Any) -> Path:
    plan = plan_of(NEOX + "attention[0] = none; mlp = nonlinear_lora(4)")
    return record(tmp_path / "run", plan, live, str(tokenizer_file))


@pytest.fixture
def evaluate(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Evaluate:
    """`ablc eval RUN --tasks …` in this process; gives the exit code and both outputs."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "task.yaml").write_text(TASK.format(file=folder / "rows.jsonl"))
    (folder / "lost.yaml").write_text(TASK.replace("continue_code", "lost").format(file=folder / "lost.jsonl"))

    def evaluate(tasks: str = "continue_code", **changed: Any) -> tuple[int, str, str]:
        options = {"run": run, "path": folder, "limit": None, "batch": 2, "format": "human", **changed}
        where, path, limit, batch, format = options.values()
        code = answer(lambda: eval_command(where, tasks, path, limit, batch, format))
        return code, *capsys.readouterr()

    return evaluate


@torch.no_grad()
def accuracy(model: Any, rows: list[dict[str, Any]]) -> float:
    """The share of rows whose gold choice has the highest log-likelihood, counted here by the bytes' own alphabet."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encode = lambda text: [alphabet.index(c) for piece, _ in split.pre_tokenize_str(text) for c in piece]  # noqa: E731
    right = 0
    for row in rows:
        scores = []
        for choice in row["choices"]:
            ids, given = encode(row["question"] + choice), len(encode(row["question"]))
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            scores.append(float(sum(logs[at - 1, ids[at]] for at in range(given, len(ids)))))
        right += scores.index(max(scores)) == row["gold"]
    return right / len(rows)


@pytest.mark.slow
def test_the_score_is_the_models_own(evaluate: Evaluate, run: Path, live: Any) -> None:
    expected = accuracy(live, ROWS)
    assert 0 < expected < 1  # else another model might have it too
    code, said, _ = evaluate()
    assert code == 0
    head, row, last = said.splitlines()[-3:]
    assert head.split() == ["task", "metric", "value", "standard", "error"]
    assert row.split()[:3] == ["continue_code", "acc", f"{expected:.4f}"]
    assert last == f"wrote {run / 'eval-continue_code.json'}"
    facts = json.loads((run / "eval-continue_code.json").read_text())
    assert facts["results"]["continue_code"]["acc,none"] == pytest.approx(expected)
    assert facts["n-samples"]["continue_code"]["effective"] == 5
    assert facts["fingerprint"] == json.loads((run / "plan.json").read_text())["fingerprint"]


@pytest.mark.slow
def test_as_json_it_is_what_the_file_says(evaluate: Evaluate, run: Path) -> None:
    code, said, _ = evaluate(format="json", limit=2)
    assert code == 0
    facts = json.loads(said)
    assert facts == json.loads((run / "eval-continue_code-limit2.json").read_text())
    assert (facts["limit"], facts["batch_size"]) == (2, 2)
    assert facts["n-samples"]["continue_code"]["effective"] == 2


@pytest.mark.parametrize(
    ("tasks", "changed", "sentence"),
    [
        pytest.param("continue_cod", {}, "lm-eval knows no task `continue_cod`", marks=pytest.mark.slow),
        (",", {}, "no task is named"),
        pytest.param("lost", {}, "lm-eval stopped with FileNotFoundError", marks=pytest.mark.slow),
        ("continue_code", {"path": Path("nowhere")}, "there is no directory nowhere"),
        ("continue_code", {"run": Path("nowhere")}, "there is no run in nowhere"),
    ],
)
def test_what_cannot_be_scored(evaluate: Evaluate, tasks: str, changed: dict[str, Any], sentence: str) -> None:
    code, said, complaints = evaluate(tasks, **changed)
    assert (code, said) == (2, "")
    assert sentence in complaints and "Traceback" not in complaints


def test_a_run_without_its_tokenizer(evaluate: Evaluate, tokenizer_file: Path) -> None:
    tokenizer_file.unlink()
    code, _, complaints = evaluate()
    assert code == 2 and "the tokenizer of this run can't be had" in complaints


def test_without_lm_eval_it_says_what_to_install(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablc.exporting.evaluation.find_spec", lambda name: None)
    code, _, complaints = evaluate()
    assert code == 2 and "pip install 'ablc[eval]'" in complaints


def test_file_names_are_plain() -> None:
    assert file_name(["arc_easy", "lambada"]) == "eval-arc_easy,lambada.json"
    assert file_name(["arc_easy"], 3) == "eval-arc_easy-limit3.json"
    assert re.fullmatch(r"eval-arc_easy,\.\.-up-x-[0-9a-f]{8}\.json", file_name(["arc_easy", "../up/x"]))
    assert len(file_name(["x" * 500], 10**9)) < 255


def test_scores_of_other_tasks_have_another_file() -> None:
    lists = [["two words"], ["two-words"], ["a,b"], ["a", "b"], ["x" * 300], ["x" * 301]]
    assert len({file_name(tasks, limit) for tasks in lists for limit in (None, 3)}) == 2 * len(lists)
