"""The rules of the image, of compose.yaml and of the workflow, as text: neither engine nor runner is where these tests run. Their commands
are those of `make`."""

import fnmatch
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import ROOT, render

DOCKERFILE = (ROOT / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
CARGO = (ROOT / "Cargo.toml").read_text()


def instructions(text):
    """(instruction, arguments) of a Dockerfile, with continued lines as one."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def stages():
    """The instructions before the first stage, and of each stage."""
    found = [[]]
    for instruction in instructions(DOCKERFILE):
        if instruction[0] == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def arguments(stage, name):
    return [value for instruction, value in stage if instruction == name]


BEFORE, BUILDER, FINAL = stages()


def test_bases_are_arguments_with_pinned_tags():
    defaults = dict(value.split("=", 1) for value in arguments(BEFORE, "ARG"))
    assert set(defaults) == {"BUILDER", "RUNTIME"}
    for image in defaults.values():
        name, tag = image.rsplit(":", 1)
        assert tag not in ("latest", "stable", "slim") and name
    assert arguments(BUILDER, "FROM") == ["${BUILDER} AS builder"]
    assert arguments(FINAL, "FROM") == ["${RUNTIME}"]


def test_the_builder_has_the_rust_that_is_needed():
    needed = re.search(r'^rust-version = "(.*)"$', CARGO, re.M)[1]
    assert f"BUILDER=rust:{needed}-trixie" in DOCKERFILE


def test_what_is_built_runs_on_the_same_debian():
    assert "-trixie" in DOCKERFILE and "cc-debian13:" in DOCKERFILE


def test_the_runtime_has_no_shell_and_is_not_root():
    assert re.search(r"RUNTIME=gcr\.io/distroless/cc-debian\d+:nonroot$", DOCKERFILE, re.M)
    assert arguments(FINAL, "RUN") == []
    assert arguments(FINAL, "USER") == ["65532:65532"]
    order = [name for name, _ in FINAL]
    assert order.index("USER") < order.index("ENTRYPOINT")


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD"])
def test_what_runs_needs_no_shell(name):
    [value] = arguments(FINAL, name)
    assert isinstance(yaml.safe_load(value), list)


def test_the_program_is_all_that_is_copied():
    [copied] = arguments(FINAL, "COPY")
    assert copied == "--from=builder /build/target/release/halyard /usr/local/bin/halyard"
    assert arguments(FINAL, "ENTRYPOINT") == ['["/usr/local/bin/halyard"]']
    assert arguments(FINAL, "CMD") == ['["serve"]']
    assert not arguments(FINAL, "ADD") and not arguments(BUILDER, "ADD")


def test_it_is_told_how_it_is_and_stopped_as_it_wants():
    assert arguments(FINAL, "EXPOSE") == ["50051"]
    assert arguments(FINAL, "STOPSIGNAL") == ["SIGTERM"]
    [check] = arguments(FINAL, "HEALTHCHECK")
    assert yaml.safe_load(check.split("CMD ")[1]) == ["/usr/local/bin/halyard", "health"]
    for option in ("--interval=", "--timeout=", "--start-period=", "--retries="):
        assert option in check


def test_labels_say_what_it_is():
    [labels] = arguments(FINAL, "LABEL")
    for label in ("title", "description", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels
    version = re.search(r'^version = "(.*)"$', CARGO, re.M)[1]
    assert f"VERSION={version}" in arguments(FINAL, "ARG")
    description = re.search(r'^description = "(.*)"$', CARGO, re.M)[1]
    assert description in labels


def test_no_secret_is_an_argument_of_the_build():
    for stage in (BEFORE, BUILDER, FINAL):
        for instruction in ("ARG", "ENV"):
            assert not any(re.search("key|token|password|secret", value, re.I) for value in arguments(stage, instruction))


def test_commands_are_those_of_make():
    assert arguments(BUILDER, "RUN") == ["make release-dependencies", "make release"]
    for target in ("release", "release-dependencies"):
        assert re.search(rf"^{target}:.*\n", MAKEFILE, re.M)
    release = re.search(r"^release:.*\n\t(.*)$", MAKEFILE, re.M)[1]
    assert release == "$(CARGO) build --locked --release"
    assert release in re.search(r"^release-dependencies:.*\n(?:\t.*\n)+", MAKEFILE, re.M)[0]


def test_the_dependencies_are_a_layer_of_their_own():
    order = [f"{name} {value}" for name, value in BUILDER]
    first = order.index("RUN make release-dependencies")
    assert order[first - 1] == "COPY Cargo.toml Cargo.lock Makefile ./"
    assert [line for line in order[:first] if line.startswith("COPY")] == ["COPY Cargo.toml Cargo.lock Makefile ./"]


def copied():
    """What of the source the builder is given."""
    return {word.rstrip("/") for value in arguments(BUILDER, "COPY") for word in value.split()[:-1]}


def test_everything_that_the_build_reads_is_copied():
    read = {"Cargo.toml", "Cargo.lock", "Makefile", "build.rs", "src", "proto", "migrations"}
    assert copied() == read
    # What is included from elsewhere would have to be copied too.
    included = set()
    sources = [path for path in ROOT.glob("src/**/*.rs") if "tests" not in path.parts and path.name != "tests.rs"]
    for path in [*sources, ROOT / "build.rs"]:
        source = path.read_text().split("#[cfg(test)]\nmod")[0]
        for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source):
            included.add((path.parent / name).resolve().relative_to(ROOT).parts[0])
    assert included <= read, included


def test_nothing_but_that_is_sent_to_the_builder():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines[1:]} == copied()
    assert all(line.startswith("!") for line in lines[1:])
    assert not any(fnmatch.fnmatch("secrets", line.removeprefix("!")) for line in lines[1:])


def test_dependencies_are_built_without_the_sources(tmp_path):
    for name in ("Cargo.toml", "Cargo.lock", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    before = (tmp_path / "Cargo.toml").read_text()
    # In place of a build: that cargo can read the manifest, and what it would build.
    cargo = tmp_path / "cargo-stand-in"
    cargo.write_text(
        "#!/bin/sh\n"
        'echo "$@" > asked\n'
        "cargo metadata --offline --no-deps --format-version 1 > metadata.json\n"
        "mkdir -p target/release/deps target/release/.fingerprint/halyard-1 target/release/.fingerprint/tokio-1\n"
        "touch target/release/halyard target/release/deps/libhalyard-1.rlib target/release/deps/libtokio-1.rlib\n"
    )
    cargo.chmod(0o755)
    subprocess.run(["make", "release-dependencies", f"CARGO={cargo}"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "asked").read_text().strip() == "build --locked --release"
    targets = {
        kind
        for target in yaml.safe_load((tmp_path / "metadata.json").read_text())["packages"][0]["targets"]
        for kind in target["kind"]
    }
    assert targets == {"lib", "bin", "custom-build"}
    # What was built of the stand-in must not be taken for the program: it is newer than the files that are copied.
    left = {path.name for path in tmp_path.glob("target/release/**/*")}
    assert "libtokio-1.rlib" in left and "tokio-1" in left
    assert not any("halyard" in name for name in left)
    assert (tmp_path / "Cargo.toml").read_text() == before
    assert not (tmp_path / "src").exists() and not (tmp_path / "build.rs").exists()


def test_dependencies_are_not_built_over_the_sources(tmp_path):
    for name in ("Cargo.toml", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.rs").write_text("fn main() {}")
    result = subprocess.run(["make", "release-dependencies", "CARGO=false"], cwd=tmp_path, capture_output=True)
    assert result.returncode != 0
    assert (tmp_path / "src" / "main.rs").exists()
    assert (tmp_path / "Cargo.toml").read_text() == CARGO


# compose.yaml


@pytest.mark.parametrize("name", ["postgres", "halyard"])
def test_composed_services_may_do_no_more_than_they_must(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert "privileged" not in service


def test_composed_secrets_are_files():
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        "database-password": "./secrets/database-password",
        "signing-key": "./secrets/signing-key",
    }
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items():
            assert not re.search("PASSWORD$|KEY$", name)
            if name.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    # Nobody commits them by mistake.
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_composed_database_is_awaited_and_keeps_its_data():
    postgres, halyard = COMPOSE["services"]["postgres"], COMPOSE["services"]["halyard"]
    assert re.search(r"postgres:17-", postgres["image"])
    assert "pg_isready" in postgres["healthcheck"]["test"]
    assert halyard["depends_on"]["postgres"]["condition"] == "service_healthy"
    [volume] = postgres["volumes"]
    assert volume.split(":")[0] in COMPOSE["volumes"]
    assert postgres["environment"]["PGDATA"].startswith(volume.split(":")[1])
    # SIGTERM would wait for every connection to be closed by its client.
    assert postgres["stop_signal"] == "SIGINT"


def test_nobody_else_reaches_the_composed_database():
    assert "ports" not in COMPOSE["services"]["postgres"]
    assert COMPOSE["networks"]["database"]["internal"] is True
    assert COMPOSE["services"]["postgres"]["networks"] == ["database"]
    assert COMPOSE["services"]["halyard"]["ports"] == ["127.0.0.1:50051:50051"]


def test_the_composed_image_is_the_one_that_is_built():
    halyard = COMPOSE["services"]["halyard"]
    version = re.search(r'^version = "(.*)"$', CARGO, re.M)[1]
    assert halyard["build"] == "." and f"halyard:{version}" in halyard["image"]
    user = int(halyard["user"].split(":")[0])
    assert arguments(FINAL, "USER") == [halyard["user"]]
    assert render().pod()["securityContext"]["runAsUser"] == user


def test_the_composed_server_may_end_as_slowly_as_it_wants():
    grace = int(render().options()["shutdown-grace"].removesuffix("s"))
    assert int(COMPOSE["services"]["halyard"]["stop_grace_period"].removesuffix("s")) >= grace + 6


# The workflows

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps_of(path):
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


def test_the_workflow_runs_what_ci_runs():
    run = [step["run"] for step in steps_of(ROOT / ".github" / "workflows" / "ci.yml") if step.get("run", "").startswith("make ")]
    ours = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    # Counting takes long, and says nothing about whether a change is right.
    assert run == [*ours, "make coverage"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_read_alone_and_use_nobody_elses_actions(path):
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
    uses = [step["uses"] for step in steps_of(path) if "uses" in step]
    assert {use.split("@")[0] for use in uses} <= {"actions/checkout", "actions/cache"}
    assert all(re.fullmatch(r"actions/\w+@(v\d+|[0-9a-f]{40})", use) for use in uses)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_that_there_are(path):
    called = [name for step in steps_of(path) for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))]
    assert called
    for name in called:
        assert re.search(rf"^{name}:.* ## ", MAKEFILE, re.M), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_the_rust_that_is_needed(path):
    needed = re.search(r'^rust-version = "(.*)"$', CARGO, re.M)[1]
    jobs = len(yaml.safe_load(path.read_text())["jobs"])
    text = path.read_text()
    assert text.count(f"rustup toolchain install {needed} ") == text.count(f"rustup default {needed}") == jobs


def test_the_chart_is_checked_with_everything_else():
    assert "chart" in re.search(r"^check: (.*) ##", MAKEFILE, re.M)[1].split()
