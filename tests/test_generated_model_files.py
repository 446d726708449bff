"""Model files and checkpoints that are damaged, cut, or hold another description: refused, never another run."""

import base64
import copy
import json
import random
import zlib
from contextlib import suppress

import numpy as np
import pytest

import nnx
from nnx.io import container

OLD = (
    "c-q}nONbmr7!K$mc<=!VqL;BxVtR+J>i3#u4;%Gp(1VA}(A0ESPZwMLpsIQ|lV$MgNyKZ8Cg3fCLJ%2p6@p&G2VNFY&m"
    "Qz9i1nE6?Mx;Mxu#G3|Mmah|N8!_s~0cm@5D-y5(|_efs(}9J+Z3ldUAvrCv|1*TFw}Z9m}>d%u_}hVYDX`tHR>AW``4"
    "Ncci2w$4ImcbESaxXkt;ckSI#LCJhcrm8t)Ubp=-(Pb_6p^~NX_<OnHrV<b>j7#mU%p>$PC>CzsZ3k9}8kqlRYh{YDTs"
    "nXP~Xj)-xIhmI=$&4wjIUhupma_bk+`z0W8kN}i$@Z0NCyZD{s(HeY(1)^tN<Wi521brM8Ls76YjDE}HAw@!<3u_n!}F"
    "FRMsD;4$+&b4<miBKAe88OQq`>N(pI{Zk|sGqw8al;H%%#;VVdx=u0<hh7yxHDmE+8Y#tmi(M`c4bZjLC&I^|3(nsr-p"
    "S|i~?(;1G9zsBQ2maC*dkBl}2S~trvAMj!afB<NAFq4ZceMUqw#}$^{t(ggO_28YrTZa(qrk@P{LqC9y8@q1cI6)M{$n"
    "#(n1U_&*M@k_God80^jZ`^El^eJr^g-xHFpgs1_q{Lze(X7J7`YN43`1ROfq2rAO4qoipAzxha0Ezr=)*ARhMCqZ>sO-"
    "Vmottakom}>!w|q20K@aM^8m&Q27uTFQQ&!oxZT?7f^~r54)$ZJIT>&VH+5R5f43V$Ka(e<%Z8J@FH6({(E*i@F_{-)x"
    "Iu`EVaIa9xJb;f286AfW@7;;>bhE*JoI8CkroM;*M!n}dQc=~b)pZ3{=8`O+-#3vEq-7v^qr&2NfD(plpgl9IlFb<LX0"
    "lnSBdFm-JHz~bFrO2<^qyM_H59pA0r~xJE}t?#?ZpVm2E7rqT1AO^DK#j0;h*fE$6{EQ`iKVE~iWRl;rZ(K|;PF@}=p;"
    "!IJ~5rEPrx)LW$Q5~+IIh0>B2NJ-bA4X5%&QZH7W=Nt<zm5vR9sd9vmb_ClTL105qdCtxa2_E)@p6x>Id2Y-to-VXqoo"
    "zSWu`|{Uel$+J1tqXU9lw8=#^qxHgt9CrdJy60u@I!Y4LsSt<;Z+b-A?w|Yd@`?`Rc`c&FPo-p1*T<|CQP6`*;8QeDAm"
    "Xht==zE?1j2-C1X=Z1(>CWi@{DV0C|IwEE<^55N9s|KjB<FFbqs-+#udkDvZ-@7w6~o13TK#}{_I_@!HIH2Lh)@YTQmh"
    "%f#8M*PKlEV}dSpYi>de~kYJt}ekf"
)
"""A checkpoint from before there were checksums: zlib, then base 85."""


def some_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 12))
    return X, (X[0] > 0).astype(int)


def a_trainer(**options):
    net = nnx.Network(
        2, [nnx.Dense(3, "tanh"), nnx.Residual([nnx.Dense(3, "relu")]), nnx.Dense(1)], "sigmoid"
    )
    adam = nnx.Adam(nnx.schedules.Cosine(0.1, steps=30))
    regularization = nnx.Regularization(l2=1e-3, decayed=["W1"])
    return nnx.Trainer(net, adam, backend="numpy", regularization=regularization, **options)


def callbacks(folder):
    return [
        nnx.EarlyStopping("loss", patience=50),
        nnx.ReduceOnPlateau("loss", patience=2),
        nnx.MovingAverage(0.9),
        nnx.Snapshots(4),
        nnx.JSONLines(folder / "log.jsonl", overwrite=True),
        nnx.Checkpoints(folder / "checkpoints", steps=1, keep=2, best="loss"),
    ]


class Stop(nnx.Callback):
    """Ctrl-C within an epoch."""

    def on_step(self, trainer, progress):
        if trainer.steps == 8:
            raise KeyboardInterrupt


def fit(trainer, folder, *more, **options):
    return trainer.fit(*some_data(), epochs=4, batch_size=4, callbacks=[*more, *callbacks(folder)], **options)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a model file, and of a checkpoint within an epoch with the states of callbacks."""
    folder = tmp_path_factory.mktemp("written")
    trainer = a_trainer()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, folder, Stop())
    trainer.metadata["data"] = "made"
    trainer.save(folder / "model.safetensors")
    newest = max((folder / "checkpoints").glob("step-*"))
    return (folder / "model.safetensors").read_bytes(), newest.read_bytes()


def refused(path, resumes):
    """Whether a file is refused by all that read one, with an error that names it."""
    with pytest.raises(nnx.ModelFileError) as raised:
        nnx.Trainer.load(path, backend="numpy")
    assert str(path) in str(raised.value)
    if resumes:
        trainer = a_trainer()
        before = trainer.theta
        with pytest.raises(nnx.ModelFileError) as raised:
            fit(trainer, path.parent / "log", resume=path)
        assert str(path) in str(raised.value)
        np.testing.assert_array_equal(trainer.theta, before)


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flip(written, path, count, seed):
    """Flip bits one at a time: everywhere in the header's length and beginning, the others at random places."""
    dice = random.Random(seed)
    for content, resumes in zip(written, (False, True), strict=True):
        begin = range(8 * 40) if count > 1000 else dice.sample(range(8 * 40), count // 3)
        for bit in (*begin, *(dice.randrange(8 * len(content)) for _ in range(count))):
            path.write_bytes(flipped(content, bit))
            refused(path, resumes and bit % 8 == 0)


def test_a_flipped_bit_is_noticed(written, tmp_path):
    flip(written, tmp_path / "file.safetensors", 60, seed=1)


@pytest.mark.long
def test_many_flipped_bits_are_noticed(written, tmp_path):
    flip(written, tmp_path / "file.safetensors", 2000, seed=2)


def test_a_cut_file_is_noticed(written, tmp_path):
    path, dice = tmp_path / "file.safetensors", random.Random(3)
    for content in written:
        for length in (0, 7, 8, len(content) - 1, *(dice.randrange(len(content)) for _ in range(20))):
            path.write_bytes(content[:length])
            refused(path, resumes=False)
        path.write_bytes(content + b"\0" * 8)
        refused(path, resumes=False)


WRONG = (None, True, -1, 1.5, 10**400, "text", "", [], {}, [[]], {"name": "x"}, [1, "a"], float("inf"))
FREE = ("metadata", "plan")
"""Where anything of JSON's types may stand."""


def places(tree, path=()):
    """Yield the path to every place of a JSON tree that is not free."""
    yield path
    for key, branch in (
        tree.items() if isinstance(tree, dict) else enumerate(tree if isinstance(tree, list) else ())
    ):
        if key not in FREE:
            yield from places(branch, (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def mutated(description, dice):
    """Return a description with one wrong value, without one key, or with one more."""
    changed = copy.deepcopy(description)
    path = dice.choice([path for path in places(changed) if path])
    *outer, key = path
    parent, old = at(changed, outer), at(changed, path)
    kind = dice.choice(["replace", "replace", "delete", "add"])
    if kind == "add" and isinstance(old, dict) and "records" not in path:
        old["unknown"] = dice.choice(WRONG[:-1])
    elif kind == "delete" and isinstance(parent, dict):
        del parent[key]
    else:
        parent[key] = dice.choice([wrong for wrong in WRONG if type(wrong) is not type(old)])
    return changed


def sealed(content, path, description):
    """Write a file with another description, and the checksum that it then has."""
    path.write_bytes(content)
    tensors, _ = container.read(path)
    metadata = {
        "format": "nnx",
        "format_version": "1",
        "nnx_version": "0.1.0",
        "description": json.dumps(description),
    }
    path.write_bytes(b"".join(container.packed(tensors, metadata)))


def mutate(written, path, count, seed):
    dice = random.Random(seed)
    path.write_bytes(written[1])
    _, description = container.read(path)
    for _ in range(count):
        changed = mutated(description, dice)
        sealed(written[1], path, changed)
        for read in (
            lambda: nnx.Trainer.load(path, backend="numpy"),
            lambda: fit(a_trainer(), path.parent, resume=path),
        ):
            # An InputError, which a ModelFileError is not: a whole description, but of another fit.
            with suppress(nnx.ModelFileError, nnx.InputError):
                read()


@pytest.mark.long
def test_mutated_descriptions(written, tmp_path):
    """Where the checksum is right, too, no mistake is a raw error."""
    mutate(written, tmp_path / "file.safetensors", 60, seed=4)


@pytest.mark.long
def test_many_mutated_descriptions(written, tmp_path):
    mutate(written, tmp_path / "file.safetensors", 600, seed=5)


@pytest.mark.parametrize(
    ("path", "wrong", "said"),
    [
        (("rng",), {}, r"description\.rng has no 'bit_generator'"),
        (("rng", "state", "inc"), -1, "expected a whole number from 0"),
        (("network", "layers", 0, "n"), "8", r"layers\[0\]\.n is '8'; expected a whole number"),
        (("network", "layers", 0, "width"), 3, "unexpected keyword argument 'width'; expected n, activation, init"),
        (("optimizer", "learning_rate", "steps"), None, r"learning_rate\.steps is None; expected a whole number"),
        (("optimizer", "beta1"), 7, "beta1 must be between 0 and 1, not 7"),
        (("regularization", "l3"), 1, "description.regularization has the unknown 'l3'; expected l1, l2"),
        (("records", 0, "loss"), "low", r"records\[0\]\.loss is 'low'; expected a finite number"),
        (("position", "first_record"), 99, "position.first_record is 99; expected at most"),
        (("position", "last"), [1], "expected a step and its cost"),
        (("position", "step"), 99, "stands at step 99 of an epoch; this fit's have 3 steps"),
        (("callbacks", 0, "state", "waited"), "3", "the state of EarlyStopping.waited is '3'"),
        (("callbacks", 2, "arrays"), [], "the tensor callback.2.theta is of no callback"),
        (("callbacks", 3, "state", "epochs"), 5, "the snapshots' epochs is 5; expected a list"),
        (("steps",), 7.0, "description.steps is 7.0; expected a whole number"),
        (("extra",), 1, "description has the unknown 'extra'; expected network, optimizer"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_description_is_named(written, tmp_path, path, wrong, said):
    file = tmp_path / "file.safetensors"
    file.write_bytes(written[1])
    _, description = container.read(file)
    at(description, path[:-1])[path[-1]] = wrong
    sealed(written[1], file, description)
    with pytest.raises(nnx.ModelFileError, match=said):
        fit(a_trainer(), tmp_path, resume=file)


def test_mutated_descriptions_of_the_data():
    pytest.importorskip("polars", reason="the readers (extra cli) are not installed")
    from nnx.data import Preparation

    columns = [
        {"kind": "numbers", "fill": 1.5, "missing": 2, "categories": [], "rare": [], "remark": ""},
        {
            "kind": "categories",
            "fill": 0.0,
            "missing": 0,
            "categories": ["a", None],
            "rare": ["b"],
            "remark": "",
        },
    ]
    own = {
        "features": ["x", "kind"], "named": True, "mean": [0.0] * 5, "scale": [1.0] * 5, "target": "y",
        "labels": ["no", "yes"], "y_mean": 0.0, "y_scale": 1.0, "image_shape": None, "columns": columns,
    }  # fmt: skip
    assert Preparation.of({"preparation": own}).inputs[2:] == ["kind=a", "kind is missing", "kind is rare"]
    dice, refusals = random.Random(6), 0
    for _ in range(400):
        changed = mutated(own, dice)
        try:
            Preparation.of({"preparation": changed})
        except nnx.InputError:
            refusals += 1
    assert refusals > 200
    for more in ({"scale": [1.0] * 4 + [0]}, {"mean": [0.0]}, {"columns": columns[:1]}, {"y_scale": 0}):
        with pytest.raises(nnx.InputError, match="description of its data cannot be read: preparation"):
            Preparation.of({"preparation": {**own, **more}})
    with pytest.raises(nnx.InputError, match="preparation is 3; expected an object"):
        Preparation.of({"preparation": 3})


def test_the_newest_good_checkpoint_is_named(tmp_path):
    fit(a_trainer(), tmp_path)
    folder = tmp_path / "checkpoints"
    good, newest = sorted(folder.glob("step-*"))
    a_trainer().save(tmp_path / "model.safetensors")
    for path, hint in (
        (tmp_path / "model.safetensors", newest),
        (newest, good),
        (folder / "best.safetensors", good),
    ):
        path.write_bytes(flipped(path.read_bytes(), 8 * 2000))
        with pytest.raises(nnx.ModelFileError) as raised:
            nnx.Trainer.load(path, backend="numpy")
        assert str(raised.value).startswith(f"{str(path)!r} is damaged")
        assert str(raised.value).endswith(f"The newest good checkpoint beside it is {str(hint)!r}")


def test_a_fit_goes_on_from_before_a_damaged_checkpoint(tmp_path, caplog):
    """To the same end, and what the damaged one was is cleared away."""
    expected = a_trainer()
    fit(expected, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(a_trainer(), tmp_path / "broken", Stop())
    folder = tmp_path / "broken" / "checkpoints"
    newest = max(folder.glob("step-*"))
    content = newest.read_bytes()
    newest.write_bytes(flipped(content, 8 * len(content) - 20))  # in the numbers, behind the header
    trainer = a_trainer()
    fit(trainer, tmp_path / "broken", resume=folder)
    assert f"{str(newest)!r} is damaged" in caplog.text
    assert "trying the checkpoint before" in caplog.text
    np.testing.assert_array_equal(trainer.theta, expected.theta)
    kept = [path.name for path in sorted(folder.iterdir())]
    assert kept == ["best.safetensors", "step-00000011.safetensors", "step-00000012.safetensors"]


def test_files_from_before_checksums_go_on(tmp_path):
    def new():
        return nnx.Trainer(nnx.mlp([2, 2, 1], "tanh"), nnx.Adam(0.1), backend="numpy")

    def own(folder):
        return [nnx.EarlyStopping("loss", patience=50), nnx.Checkpoints(folder, steps=1, keep=1)]

    path = tmp_path / "step-00000006.safetensors"
    path.write_bytes(zlib.decompress(base64.b85decode("".join(OLD))))
    assert nnx.Trainer.load(path, backend="numpy").steps == 6
    options = {"epochs": 5, "batch_size": 4}
    expected, again = new(), new()
    expected.fit(*some_data(), callbacks=own(tmp_path / "whole"), **options)
    again.fit(*some_data(), callbacks=own(tmp_path), resume=tmp_path, **options)
    np.testing.assert_allclose(again.theta, expected.theta, rtol=1e-5)  # the file's nnx rounded otherwise


def test_the_same_model_gives_the_same_bytes(tmp_path):
    trainer = a_trainer()
    fit(trainer, tmp_path)
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    trainer.save(files[0])
    trainer.save(files[1])
    nnx.Trainer.load(files[0], backend="numpy").save(files[2])
    assert len({path.read_bytes() for path in files}) == 1


def test_other_programs_read_the_tensors(tmp_path):
    from safetensors.numpy import load_file

    trainer = a_trainer()
    trainer.save(tmp_path / "m.safetensors")
    found = load_file(tmp_path / "m.safetensors")
    for name, x in trainer.parameters.items():
        np.testing.assert_array_equal(found[name], x)
