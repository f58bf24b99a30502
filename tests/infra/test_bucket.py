"""The bucket keeps what must be kept, lets the rest expire, and is nobody else's."""

from tests.infra.rights import KINDS
from tests.infra.terraform_files import PROJECT, load, resources


def test_what_must_outlive_months_without_data_never_expires() -> None:
    rules = resources("aws_s3_bucket_lifecycle_configuration")["data"]["rule"]
    days = {
        rule["filter"][0]["prefix"]: rule["expiration"][0]["days"] for rule in rules if rule["filter"][0].get("prefix")
    }
    assert days == {"scratch/": 7, "static/": 7, "quarantine/": 90}
    # What was accepted and waits, the run that readers see, and the archive.
    assert {f"{kind.partition('/')[0]}/" for kind in KINDS} - set(days) == {"landing/", "runs/", "archive/"}
    (everything,) = [rule for rule in rules if not rule["filter"][0].get("prefix")]
    assert everything["expiration"] == [{"expired_object_delete_marker": True}]
    # What a claim removes can be had back for a week, and is then gone.
    assert everything["noncurrent_version_expiration"] == [{"noncurrent_days": 7}]


def test_the_bucket_is_private_encrypted_and_reached_by_tls_only() -> None:
    (block,) = resources("aws_s3_bucket_public_access_block").values()
    assert [value for key, value in block.items() if key != "bucket"] == [True] * 4
    (encryption,) = resources("aws_s3_bucket_server_side_encryption_configuration").values()
    assert encryption["rule"][0]["apply_server_side_encryption_by_default"] == [{"sse_algorithm": "AES256"}]
    assert "data" in resources("aws_s3_bucket_policy")
    assert load(PROJECT / "infra" / "bucket.tf")["data"][0]["aws_iam_policy_document"]["data_access"]["statement"][0][
        "condition"
    ] == [{"test": "Bool", "variable": "aws:SecureTransport", "values": ["false"]}]
