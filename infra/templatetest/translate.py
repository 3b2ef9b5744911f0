"""Prints what CloudFormation would get: the template named in the argument, translated by the SAM translator.

Needs no network and no account. CodeUri is a folder until `sam build`; the translator wants an object in S3.
"""
import json
import logging
import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")

from samtranslator.translator.transform import transform  # noqa: E402  (reads the region when imported)
from samtranslator.yaml_helper import yaml_parse  # noqa: E402


class NoManagedPolicies:
    """The translator asks for the account's managed policies. The template uses none, and a test says so."""

    def load(self):
        return {}


logging.disable(logging.WARNING)
with open(sys.argv[1], encoding="utf-8") as f:
    template = yaml_parse(f.read())
template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
json.dump(transform(template, {}, NoManagedPolicies()), sys.stdout, indent=1, default=str)
