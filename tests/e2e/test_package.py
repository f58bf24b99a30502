"""The deployment package, opened: what is not in it is missing on Lambda."""

import json
import marshal
import os
import re
import struct
import subprocess
import sys
import zipfile
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ops.packaging import Package, build_package
from ops.project import PROJECT
from ops.wheels import KEPT_SERVICES, PackagingError, Platform, build_wheels

# What each requirement is imported as; a new requirement needs its line here.
MODULES = {
    "boto3": "boto3",
    "aws-lambda-powertools": "aws_lambda_powertools",
    "pyyaml": "yaml",
    "msgspec": "msgspec",
    "duckdb": "duckdb",
    "pyjwt": "jwt",
    "fsspec": "fsspec",
}

# Runs without site-packages and without the environment, so all but the standard library is the package's.
IMPORT_ALL = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name != "__main__"}
print(json.dumps(files))
"""

MAKE_CLIENTS = """
import sys
sys.path.insert(0, sys.argv[1])
import boto3
for service in sys.argv[2:]:
    boto3.client(service, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
"""


@pytest.fixture(scope="module")
def package() -> Package:
    return build_package("dev")


@pytest.fixture(scope="module")
def for_this_machine() -> Package:
    """The local cloud's package on a machine that cannot run what Lambda runs, made here."""
    return build_package("dev", Platform.THIS_MACHINE)


@pytest.fixture(scope="module")
def unpacked(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    with zipfile.ZipFile(package.zip_path) as archive:
        archive.extractall(folder)
    return folder


def run_alone(code: str, *arguments: str, stage: str = "dev") -> str:
    environment = {"PATH": os.defpath, "THERMONET_STAGE": stage}
    command = [sys.executable, "-S", "-I", "-B", "-c", code, *arguments]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def requirements() -> list[Requirement]:
    lines = (PROJECT / "requirements" / "runtime.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "--"))]


def test_the_stages_differ_in_their_templates_only(package: Package) -> None:
    prod = build_package("prod")
    assert prod.zip_path.read_bytes() == package.zip_path.read_bytes()
    templates = [one.template_path.read_text() for one in (package, prod)]
    assert ["thermonet-prod-" in template for template in templates] == [False, True]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_app_and_every_requirement_import_from_the_package_alone(unpacked: Path, stage: str) -> None:
    assert {requirement.name for requirement in requirements()} == set(MODULES)
    files = json.loads(run_alone(IMPORT_ALL, str(unpacked), "app", *MODULES.values(), stage=stage))
    for name in ("app", *MODULES.values()):
        assert Path(files[name]).is_relative_to(unpacked)
    assert not [file for file in files.values() if file and "site-packages" in file]


def test_the_packaged_versions_are_those_of_the_lock_and_no_others(unpacked: Path) -> None:
    locked = re.findall(r"^([\w.-]+)==([\w.]+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(locked) > len(requirements())
    packaged = {folder.name.removesuffix(".dist-info") for folder in unpacked.glob("*.dist-info")}
    assert packaged == {f"{name.replace('-', '_')}-{version}" for name, version in locked}


def test_a_foreign_machine_gets_the_same_package_but_for_what_the_wheels_are_called(
    package: Package, for_this_machine: Package
) -> None:
    with zipfile.ZipFile(package.zip_path) as lambdas, zipfile.ZipFile(for_this_machine.zip_path) as ours:
        assert sorted(lambdas.namelist()) == sorted(ours.namelist())
        different = {name for name in ours.namelist() if ours.read(name) != lambdas.read(name)}
    assert {Path(name).name for name in different if not name.endswith(".so")} == {"WHEEL", "RECORD"}


@pytest.mark.parametrize(
    ("system", "machine", "platform"),
    [
        ("Linux", "x86_64", Platform.LAMBDA),
        ("Linux", "aarch64", Platform.THIS_MACHINE),
        ("Darwin", "x86_64", Platform.THIS_MACHINE),
        ("Darwin", "arm64", Platform.THIS_MACHINE),
    ],
)
def test_the_local_cloud_gets_lambdas_wheels_where_they_run(system: str, machine: str, platform: Platform) -> None:
    assert Platform.of_local_cloud(system, machine) is platform


def test_every_wheel_is_made_for_lambda(unpacked: Path) -> None:
    wheels = list(unpacked.glob("*.dist-info/WHEEL"))
    assert wheels
    for wheel in wheels:
        platforms = re.findall(r"^Tag: [^-]+-[^-]+-(\S+)$", wheel.read_text(), re.MULTILINE)
        assert any(runs_on_lambda(platform) for platform in platforms), wheel


def runs_on_lambda(platform: str) -> bool:
    """Lambda's Python 3.11 has glibc 2.26 on x86_64."""
    if platform in {"any", "manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"}:
        return True
    version = re.fullmatch(r"manylinux_2_(\d+)_x86_64", platform)
    return version is not None and int(version[1]) <= 26


def test_no_library_needs_a_newer_glibc_than_lambda_has(unpacked: Path) -> None:
    libraries = list(unpacked.rglob("*.so*"))
    assert libraries
    for library in libraries:
        versions = {int(version) for version in re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes())}
        assert max(versions, default=0) <= 26, library


def test_the_package_describes_every_service_that_the_app_has_a_client_of(unpacked: Path) -> None:
    sources = [path.read_text() for path in (PROJECT / "chalicelib").rglob("*.py")]
    services = {name for source in sources for name in re.findall(r'\.client\(\s*"([\w-]+)"', source)}
    assert services
    assert services <= KEPT_SERVICES
    run_alone(MAKE_CLIENTS, str(unpacked), *sorted(services))


def test_the_package_is_under_30_mb(package: Package) -> None:
    assert package.zip_path.stat().st_size < 30_000_000


def test_the_package_has_the_sources_as_they_are(package: Package) -> None:
    with zipfile.ZipFile(package.zip_path) as archive:
        names = archive.namelist()
        assert archive.read("app.py") == (PROJECT / "app.py").read_bytes()
    sources = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "chalicelib").rglob("*")
        if path.suffix in {".py", ".yaml"}
    }
    assert sources <= set(names)
    assert not [name for name in names if name.startswith(("app.", "chalicelib/")) and name.endswith(".pyc")]


def test_no_cold_start_has_to_compile_a_dependency(unpacked: Path) -> None:
    own = {unpacked / "app.py", *(unpacked / "chalicelib").rglob("*"), *(unpacked / "chalice").rglob("*")}
    for source in set(unpacked.rglob("*.py")) - own:
        magic, flags = struct.unpack("<4sI", Path(cache_from_source(str(source))).read_bytes()[:8])
        # Flag 1 and not 2: known by a hash of its source, not by a time, and taken without a look at the source.
        assert (magic, flags) == (MAGIC_NUMBER, 1), source


def test_the_byte_code_tells_nothing_of_the_machine_that_made_it(unpacked: Path) -> None:
    code = marshal.loads(Path(cache_from_source(str(unpacked / "boto3" / "__init__.py"))).read_bytes()[16:])
    assert code.co_filename == "/var/task/boto3/__init__.py"


def test_lambda_can_read_what_was_packaged_under_any_umask(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.packaging.LOCAL_FOLDER", tmp_path)
    before = os.umask(0o077)
    try:
        anew = build_package("dev")
    finally:
        os.umask(before)
    with zipfile.ZipFile(package.zip_path) as usual, zipfile.ZipFile(anew.zip_path) as private:
        modes = [{one.filename: one.external_attr >> 16 for one in archive.infolist()} for archive in (usual, private)]
        assert modes[0] == modes[1]
        assert all(mode & 0o444 == 0o444 for mode in modes[0].values())
        assert all(usual.read(name) == private.read(name) for name in modes[0])


def test_unchanged_sources_are_not_packaged_again(package: Package) -> None:
    built_at = package.zip_path.stat().st_mtime_ns
    again = build_package("dev")
    assert (again, again.zip_path.stat().st_mtime_ns) == (package, built_at)


def test_a_requirement_that_no_wheel_fulfils_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    lock = tmp_path / "runtime.txt"
    lock.write_text(f"thermonet-needs-what-is-not-there==1 --hash=sha256:{64 * '0'}\n")
    with pytest.raises(PackagingError, match="thermonet-needs-what-is-not-there"):
        build_wheels(Platform.LAMBDA, lock, tmp_path)
    assert not list((tmp_path / "wheels").iterdir())
