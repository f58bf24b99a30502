"""`python -m simulator token`: what it prints opens what it was asked for, and every error names its option."""

import jwt
import pytest

from simulator.__main__ import main
from tests.factories import posted
from tests.functional.conftest import REGION, SIGNING_KEYS
from tests.functional.test_post_readings import assert_refused


@pytest.fixture
def mint(stage, capsys):
    def mint(*options):
        capsys.readouterr()
        code = main(["token", "--aws", "--stage", "dev", *options], {})
        printed = capsys.readouterr()
        return code, printed.out.strip(), printed.err.strip()

    return mint


def test_a_minted_token_is_taken_for_its_location_and_scope_and_nothing_else(stage, mint):
    code, token, signer = mint(
        "--subject", "gateway-7", "--location", "3", "--location", "a", "--scope", "readings:write", "--days", "30"
    )  # fmt: skip
    bearer = {"Authorization": f"Bearer {token}"}
    assert (code, signer) == (0, "signed for stage dev on AWS")
    for location in (3, "a"):
        assert stage.post(posted(location_id=location), **bearer).status_code == 200
    assert_refused(stage.post(posted(location_id="b"), **bearer), 403, "location_id: ")
    assert_refused(stage.http.get("/locations", headers=bearer), 403, "reports:read")


def test_a_token_says_what_it_was_asked_to_say(mint):
    _, token, _ = mint("--subject", "gateway-7", "--days", "0.5")
    claims = jwt.decode(token, SIGNING_KEYS["now"], algorithms=["HS256"])
    assert (claims["sub"], claims["locations"]) == ("gateway-7", ["*"])
    assert claims["scope"].split() == ["readings:write", "reports:read"]
    assert claims["exp"] - claims["iat"] == 43_200


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--subject", ""], "subject: "),
        (["--subject", "x" * 129], "subject: "),
        # What a shell hands over of bytes that are no text.
        (["--subject", "\udcff"], "subject: "),
        (["--subject", "a\nb"], "subject: "),
        (["--subject", "x", "--location", "a b"], "location: "),
        (["--subject", "x", *(f"--location={number}" for number in range(1_001))], "location: more than fit a token"),
        (["--subject", "x", *(f"--location={number:064}" for number in range(100))], "location: more than fit a token"),
        (["--subject", "x", "--location", "a", "--location", ""], "location: "),
        (["--subject", "x", "--days", "0"], "days: "),
        (["--subject", "x", "--days", "nan"], "days: "),
        (["--subject", "x", "--days", "1e9"], "days: "),
    ],
)
def test_what_no_token_could_say_is_an_error_that_names_the_option(mint, options, field):
    code, token, error = mint(*options)
    assert (code, token) == (2, "")
    assert error.startswith(f"error: {field}")


def test_as_many_locations_as_fit_a_token_are_taken_with_it(stage, mint):
    _, token, _ = mint("--subject", "x", *(f"--location={number}" for number in range(1_000)))
    assert stage.post(posted(location_id=999), Authorization=f"Bearer {token}").status_code == 200


@pytest.mark.parametrize("options", [["--scope", "readings:read"], ["--days", "x"]])
def test_what_is_no_choice_of_an_option_is_refused_by_its_name(mint, capsys, options):
    with pytest.raises(SystemExit) as ended:
        mint("--subject", "x", *options)
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_a_token_for_nobody_is_an_error_that_says_how_to_name_somebody(mint):
    assert "`make token SUBJECT=gateway-7`" in mint()[2]


def test_a_stage_that_is_not_deployed_is_named(mint):
    assert mint("--subject", "x", "--stage", "prod")[2].startswith("error: parameter /thermonet/prod/signing-keys")


def test_no_region_is_an_error_and_no_traceback(mint, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    code, _, error = mint("--subject", "x")
    assert code == 2
    assert error.startswith("error: the signing keys of stage dev cannot be read: You must specify a region.")


def test_the_region_is_taken_from_where_a_deployment_takes_it(stage, monkeypatch, capsys):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert main(["token", "--aws", "--subject", "x"], {"AWS_REGION": REGION}) == 0
    assert capsys.readouterr().err == "signed for stage dev on AWS\n"


def test_a_profile_that_does_not_exist_is_an_error_and_no_traceback(mint, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    code, _, error = mint("--subject", "x")
    assert code == 2
    assert "The config profile (nosuch) could not be found" in error
    assert "\n" not in error


def test_without_a_local_cloud_it_is_said_how_to_start_one_and_what_aws_needs(stage, monkeypatch, capsys):
    monkeypatch.setattr("ops.stages.find_cloud", lambda: None)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert main(["token", "--subject", "x"], {}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no local cloud of stage dev runs here: start one with `make cloud`; nor on AWS: ")
    assert "set AWS_REGION, and sign in or set AWS_PROFILE" in error
    assert error.count("\n") == 1


def test_what_is_left_of_a_local_cloud_in_a_shell_is_no_way_to_aws(stage, capsys):
    assert main(["token", "--aws", "--subject", "x"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}) == 2
    assert "`unset AWS_ENDPOINT_URL`" in capsys.readouterr().err
