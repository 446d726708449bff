"""What the command line says to those who do not know it: help, nearest names, how to begin."""

import re

import pytest


def text(shown):
    """Return what a box on a terminal holds, in one line."""
    return re.sub(r"[│╭╮╰╯─\s]+", " ", shown)


COMMANDS = [
    "",
    "train",
    "predict",
    "evaluate",
    "plot",
    "export",
    "show",
    "backends",
    "bench",
    "bench compare",
    "bench show",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_h_is_help(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(*command.split(), "-h")
    assert (status, err) == (0, "")
    assert (status, out, err) == run(*command.split(), "--help")
    assert "Usage:" in out
    assert "--help, -h" in out
    assert "<bool>" not in out
    assert "BOOLEAN" not in out
    assert "…" not in out  # nothing is cut off
    assert max(map(len, out.splitlines())) <= 80


def test_flags_and_choices_are_shown_as_such(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("train", "-h")[1]
    assert re.search(r"--no-plots +No pictures", out)
    assert "--plots" not in out
    assert re.search(r"--day-first/--month-first +[A-Z]", out)
    assert re.search(r"--quiet, -q +Say", out)
    assert re.search(r"--norm +batch\|layer\|none ", out)
    assert re.search(r"--dtype +float32\|float64 ", out)
    assert re.search(r"--learning-rate, --lr +<?[a-zA-Z]", out)


def test_lr_is_the_learning_rate_and_both_forms_of_plots_are_taken(run, tmp_path):
    assert run("train", "iris", "--epochs", 1, "--lr", 0.5, "--no-plots", "--out", "a")[0] == 0
    assert "learning-rate = 0.5" in (tmp_path / "a" / "config.toml").read_text()
    assert run("train", "iris", "--epochs", 1, "--no-plots", "--plots", "--out", "b")[0] == 0
    assert not list((tmp_path / "a").glob("*.png"))
    assert list((tmp_path / "b").glob("*.png"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--bs", "--batch-size"),
        ("--hidden", "--layers"),
        ("--wd", "--weight-decay"),
        ("--optim", "--optimizer"),
        ("--epoch", "--epochs"),
        ("--learning_rate", "--learning-rate"),
        ("--Target", "--target"),
    ],
)
def test_an_unknown_option_names_the_nearest(run, typed, meant):
    status, out, err = run("train", "iris", typed, 3)
    assert (status, out) == (2, "")
    assert f"No such option {typed}. Did you mean '{meant}'?" in text(err)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("trian", "train"), ("fit", "train"), ("eval", "evaluate"), ("iris", "nnx train iris")],
)
def test_an_unknown_command_names_the_nearest(run, typed, meant):
    status, out, err = run(typed)
    assert (status, out) == (2, "")
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in text(err)


def test_nothing_near_is_not_guessed(run):
    assert "No such command 'qqq'." in text(run("qqq")[2])
    assert "Did you mean" not in run("qqq")[2] + run("train", "iris", "--qqq")[2]


def test_how_to_begin(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert "nnx train FILE.csv --target COLUMN" in out
    assert "nnx predict runs/FILE-1 NEW.csv" in out
    status, _, err = run("train")
    assert status == 2
    assert "which data?" in err
    assert "digits, breast_cancer, wine, iris" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "digitz"], 1, "nor a data set of that name; there are: digits, "),
        (["train", "digitz"], 1, "spirals. Did you mean 'digits'?"),
        (["train", "pets"], 1, "spirals. Did you mean 'pets.csv'?"),
        (["train", "pet.csv", "--target", "kind"], 1, "there is no file 'pet.csv'. Did you mean 'pets.csv'?"),
        (["train", "--config", "pets.cvs"], 1, "No such file or directory. Did you mean 'pets.csv'?"),
        (["train", "--resume", "pets"], 1, "such as runs/digits-1. Did you mean 'pets.csv'?"),
        (["predict", "pets", "iris"], 1, "there is no model file 'pets'. Did you mean 'pets.csv'?"),
        (
            ["train", "pets.csv", "--target", "Kind"],
            1,
            "no column 'Kind'. Did you mean 'kind'? Its columns are: size",
        ),
        (
            ["train", "pets.csv", "--target", "kind", "--drop", "color"],
            1,
            "no column 'color'. Did you mean 'colour'? Its columns are: size",
        ),
        (
            ["train", "iris", "--optimizer", "sgd"],
            2,
            "unknown optimizer 'sgd'; did you mean 'gradient_descent'?",
        ),
        (["train", "iris", "--metrics", "acc"], 2, "unknown metric 'acc'; did you mean 'accuracy'?"),
        (["train", "iris", "--loss", "bce"], 2, "unknown loss 'bce'; did you mean 'binary_cross_entropy'?"),
        (["train", "iris", "--loss", "focl"], 2, "unknown loss 'focl'; did you mean 'focal'?"),
        (["train", "iris", "--activation", "swish"], 2, "unknown activation 'swish'; did you mean 'silu'?"),
        (["train", "iris", "--backend", "pytorch"], 2, "unknown backend 'pytorch'; did you mean 'torch'?"),
        (["train", "iris", "--task", "poisson_regression"], 2, "did you mean 'counts'?"),
    ],
)
def test_what_is_not_known_names_the_nearest(run, tmp_path, arguments, status, message):
    (tmp_path / "pets.csv").write_text("size,colour,kind\n" + "1,red,cat\n2,blue,dog\n" * 10)
    found, out, err = run(*arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_wrong_file_names_its_columns(run, tmp_path):
    names = [f"c{k}" for k in range(12)]
    rows = [
        [k % 7, *((j * k + k * k) % 11 for j in range(1, 12)), "cat" if k % 7 > 3 else "dog"]
        for k in range(60)
    ]
    text = "\n".join(",".join(map(str, row)) for row in [[*names, "kind"], *rows])
    (tmp_path / "pets.csv").write_text(text)
    assert run("train", "pets.csv", "--target", "kind", "--epochs", 1, "--no-plots", "--quiet")[0] == 0
    (tmp_path / "wrong.csv").write_text(text.replace("c3,c4", "C3,weight"))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    status, out, err = run("predict", "runs/pets-1", "wrong.csv")
    assert (status, out) == (1, "")
    assert (
        "wrong.csv lacks the columns 'c3', 'c4', which the model was trained on; beside the right ones it "
        in err
    )
    assert "it has the columns 'C3', 'weight', 'kind'. Did you mean 'C3' for 'c3'?" in err
    status, _, err = run("predict", "runs/pets-1", "other.csv")
    assert status == 1
    assert "and 4 more, which the model was trained on; it has the columns 'a', 'b'" in err
    status, _, err = run("evaluate", "runs/pets-1", "other.csv")
    assert status == 1
    assert "other.csv lacks the column 'kind'" in err
    for command in ("predict", "evaluate"):
        status, _, err = run(command, "pets.csv", "runs/pets-1")
        assert (status, err) == (2, "Error: the model comes first, then the data: runs/pets-1 pets.csv\n")
