"""`explorer lesson`: a broken file is named with line and reason, and a claim that its run denies is refused."""

import json

GOOD = """# A lesson
## The frog
[run](/?data=cifar10&image=317&model=cifar10/lenet&attack=fgsm)
> fooled: Fooled?
> answer: yes
"""


def test_check_names_file_line_and_reason(cli, tmp_path):
    file = tmp_path / "mine.md"
    file.write_text(GOOD.replace("lenet&", "lenett&").replace("answer: yes", "answer: perhaps"))
    said = cli("lesson", "check", str(file))
    assert said.code == 2 and f"{file}:3: Unknown model 'cifar10/lenett'" in said.out
    assert "no lesson yet: 1 fault" in said.err


def test_check_with_run_compares_with_what_is_claimed(cli, tmp_path):
    file = tmp_path / "mine.md"
    file.write_text(GOOD)
    said = cli("lesson", "check", str(file), "--run", "--device", "cpu", "--json", "-")
    assert said.code == 0 and json.loads(said.out)["runs"][0]["answer"] == "yes"
    file.write_text(GOOD.replace("answer: yes", "answer: no"))
    said = cli("lesson", "check", str(file), "--run", "--device", "cpu")
    assert said.code == 2 and "scene 1 claims 'no'; its run says 'yes'." in said.err


def test_a_file_that_is_not_there(cli, tmp_path):
    said = cli("lesson", "check", str(tmp_path / "none.md"))
    assert said.code == 2 and "cannot be read: No such file or directory." in said.err


def test_list_has_one_s_own_and_says_what_is_left_out(cli, tmp_path, monkeypatch):
    (tmp_path / "own.md").write_text(GOOD)
    (tmp_path / "broken.md").write_text("# Nothing in it\n")
    monkeypatch.setenv("EXPLORER_LESSONS", str(tmp_path))
    said = cli("lesson", "list")
    assert (
        said.code == 0
        and "own" in said.out
        and "A lesson is left out: broken.md, line 1: a lesson has at least" in said.out
    )
