"""What a release consists of agrees: the version, the bounds of the recipe, the citation, the changelog, the forms."""

import re
import tomllib
from pathlib import Path

import pytest

import nnx

TOP = Path(__file__).parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "cupy-cuda12x": "cupy", "cupy-cuda13x": "cupy"}
"""The names that conda-forge has for packages of PyPI, where they are others."""


def read(name):
    return pytest.importorskip("yaml").safe_load((TOP / name).read_text(encoding="utf-8"))


def bounds(requirements):
    """The lower bounds of requirements by conda-forge's names, as they are written there."""
    found = {}
    for requirement in requirements:
        name, bound = re.match(r"([\w-]+)(?:\[[^]]*\])?(>=[\d.]+)?", requirement).groups()
        if name != PROJECT["name"]:
            found[CONDA.get(name, name.lower())] = bound
    return found


def of_conda(requirements):
    return dict(text.split(" ", 1) if " " in text else (text, None) for text in requirements)


@pytest.mark.needs("yaml")
def test_the_recipe_has_the_bounds_of_the_core():
    recipe = read("recipe/recipe.yaml")
    run = of_conda(recipe["requirements"]["run"])
    assert run.pop("python") == ">=${{ python_min }}"
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    assert run == bounds(PROJECT["dependencies"])
    assert "setuptools >=77" in recipe["requirements"]["host"]


@pytest.mark.needs("yaml")
def test_the_recipe_has_the_bounds_of_the_extras():
    recipe = read("recipe/recipe.yaml")
    constraints = of_conda(recipe["requirements"]["run_constraints"])
    every = bounds(requirement for extra in sorted(EXTRAS) for requirement in EXTRAS[extra])
    assert constraints == {name: every[name] for name in constraints}
    assert constraints.keys() >= bounds(EXTRAS["cli"]).keys()
    command_line = next(part for part in recipe["tests"] if "nnx train digits" in str(part))
    assert set(command_line["requirements"]["run"]) == bounds(EXTRAS["cli"]).keys()


@pytest.mark.needs("yaml")
def test_the_recipe_and_the_citation_have_the_version_and_the_license():
    recipe, citation = read("recipe/recipe.yaml"), read("CITATION.cff")
    assert recipe["context"]["version"] == citation["version"] == nnx.__version__
    assert recipe["about"]["license"] == citation["license"] == PROJECT["license"]
    assert recipe["about"]["summary"] == PROJECT["description"].partition(", with NumPy")[0]
    assert recipe["build"]["python"]["entry_points"] == [f"nnx = {PROJECT['scripts']['nnx']}"]


@pytest.mark.needs("yaml")
def test_the_recipe_and_the_citation_have_the_address_of_the_repository():
    recipe, citation = read("recipe/recipe.yaml"), read("CITATION.cff")
    address = PROJECT.get("urls", {}).get("Repository")
    about = {recipe["about"][name] for name in ("homepage", "repository")}
    assert about == {address or "https://FILL-IN.example"}
    assert citation.get("repository-code") == address


def test_the_pages_install_from_one_place_and_name_every_extra():
    """An extra without a row, or a page that takes nnx from the index while others take it from a clone."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in (TOP / "docs").glob("*.[mi]*")}
    found = {
        (place, name) for name, text in pages.items() for place in re.findall(r"(\.|nnx-array)\[[a-z]", text)
    }
    places = {place for place, _ in found}
    assert len(places) == 1, sorted(found)
    table = pages["install.md"].partition("| extra |")[2].partition("\n\n")[0]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")
    }
    assert named == EXTRAS.keys()


def test_the_changelog_has_the_version_below_what_is_not_released():
    text = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[([^]]+)\](?: - (\d{4}-\d\d-\d\d))?$", text, flags=re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    version, date = sections[1]
    assert version == nnx.__version__
    assert date


def test_the_versions_of_python_begin_with_the_oldest_that_is_allowed():
    listed = [x.rpartition(" ")[2] for x in PROJECT["classifiers"] if "Python :: 3." in x]
    assert f">={listed[0]}" == PROJECT["requires-python"]
    assert listed == sorted(listed, key=lambda version: int(version.partition(".")[2]))


@pytest.mark.needs("yaml")
@pytest.mark.parametrize("form", ["bug", "feature", "speed"])
def test_a_form_asks_for_something(form):
    made = read(f".github/ISSUE_TEMPLATE/{form}.yml")
    assert {"name", "description", "body"} <= made.keys()
    ids = [part["id"] for part in made["body"]]
    assert len(ids) == len(set(ids))
    assert any(part.get("validations", {}).get("required") for part in made["body"])
    for part in made["body"]:
        assert part["type"] in {"textarea", "input", "dropdown", "checkboxes", "markdown"}
        assert part["attributes"]["label"]
