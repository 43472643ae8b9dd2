"""What the tests' AWS emulator adds to ministack, seen through boto3."""

from __future__ import annotations

import http.client
import io
import json
import time
import zipfile
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": ["ecs-tasks.amazonaws.com"]}, "Action": "sts:AssumeRole"}
    ],
}
PRINT_ITEM = """
import boto3, os, sys
item = {"pk": sys.argv[1], "job": os.environ["AWS_BATCH_JOB_ID"], "home": os.environ.get("HOME", "none")}
boto3.resource("dynamodb").Table(os.environ["TABLE"]).put_item(Item=item)
"""
FUNCTION = """
def handler(event, context):
    return {"statusCode": 200, "body": event["rawPath"] + "?" + event["rawQueryString"]}
"""


def template(allowed_action: str) -> dict:
    """A table with TTL, a queue whose jobs write one item under a role, and a second definition that sleeps."""
    role = {
        "AssumeRolePolicyDocument": TRUST,
        "Policies": [
            {
                "PolicyName": "table",
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {"Effect": "Allow", "Action": allowed_action, "Resource": {"Fn::GetAtt": ["Table", "Arn"]}}
                    ],
                },
            }
        ],
    }
    container = {
        "Image": "none",
        "Command": ["python", "-c", PRINT_ITEM, "Ref::item"],
        "Environment": [{"Name": "TABLE", "Value": {"Ref": "Table"}}],
        "JobRoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
    }
    return {
        "Resources": {
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "BillingMode": "PAY_PER_REQUEST",
                    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                    "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
                },
            },
            "Role": {"Type": "AWS::IAM::Role", "Properties": role},
            "Environment": {
                "Type": "AWS::Batch::ComputeEnvironment",
                "Properties": {"Type": "MANAGED", "ComputeResources": {"Type": "EC2", "MinvCpus": 0, "MaxvCpus": 4}},
            },
            "Queue": {
                "Type": "AWS::Batch::JobQueue",
                "Properties": {
                    "Priority": 1,
                    "ComputeEnvironmentOrder": [{"Order": 1, "ComputeEnvironment": {"Ref": "Environment"}}],
                },
            },
            "Job": {
                "Type": "AWS::Batch::JobDefinition",
                "Properties": {
                    "Type": "container",
                    "Parameters": {"item": "default"},
                    "ContainerProperties": container,
                },
            },
            "Sleep": {
                "Type": "AWS::Batch::JobDefinition",
                "Properties": {"Type": "container", "ContainerProperties": {"Command": ["sleep", "600"]}},
            },
        },
        "Outputs": {name: {"Value": {"Ref": name}} for name in ("Table", "Environment", "Queue", "Job", "Sleep")},
    }


@pytest.fixture
def client(emulator, monkeypatch):
    """Makes boto3 clients of the emulator, as the account's root."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client


@pytest.fixture
def deploy(client):
    """Create a stack and give its outputs."""
    cloudformation = client("cloudformation")
    names = []

    def create(document, name):
        names.append(name)
        cloudformation.create_stack(
            StackName=name, TemplateBody=json.dumps(document), Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    yield create
    for name in names:
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )


def ended(batch, job_id):
    deadline = time.monotonic() + 60
    while True:
        (job,) = batch.describe_jobs(jobs=[job_id])["jobs"]
        if job["status"] in ("SUCCEEDED", "FAILED"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.05)


def test_template_with_ttl_gives_table_with_ttl(client, deploy):
    """Expired items are swept by attribute, as the template asks."""
    outputs = deploy(template("dynamodb:PutItem"), "ttl")
    described = client("dynamodb").describe_time_to_live(TableName=outputs["Table"])["TimeToLiveDescription"]
    assert described == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}


def test_batch_job_runs_with_its_parameters_environment_and_role(client, deploy, emulator):
    """A real process: it wrote an item, and saw nothing of the emulator's own environment."""
    outputs = deploy(template("dynamodb:PutItem"), "runs")
    batch = client("batch")
    job = batch.submit_job(
        jobName="job", jobQueue=outputs["Queue"], jobDefinition=outputs["Job"], parameters={"item": "x"}
    )
    done = ended(batch, job["jobId"])
    log = (emulator.directory / "jobs" / f"{job['jobId']}.log").read_text()
    assert (done["status"], done["container"]["exitCode"]) == ("SUCCEEDED", 0), log
    item = client("dynamodb").get_item(TableName=outputs["Table"], Key={"pk": {"S": "x"}})["Item"]
    assert item["job"] == {"S": job["jobId"]}
    assert item["home"] == {"S": "none"}


def test_batch_job_without_permission_fails_with_reason_in_its_log(client, deploy, emulator):
    """The job's role is enforced, which finds a policy that is too narrow."""
    outputs = deploy(template("dynamodb:GetItem"), "denied")
    batch = client("batch")
    job = batch.submit_job(jobName="job", jobQueue=outputs["Queue"], jobDefinition=outputs["Job"])
    done = ended(batch, job["jobId"])
    assert (done["status"], done["container"]["exitCode"]) == ("FAILED", 1)
    assert "AccessDenied" in (emulator.directory / "jobs" / f"{job['jobId']}.log").read_text()


def test_terminated_batch_job_fails_with_given_reason(client, deploy):
    """As a reclaimed instance or an operator would end it."""
    outputs = deploy(template("dynamodb:PutItem"), "terminated")
    batch = client("batch")
    job = batch.submit_job(jobName="job", jobQueue=outputs["Queue"], jobDefinition=outputs["Sleep"])
    deadline = time.monotonic() + 30
    while batch.describe_jobs(jobs=[job["jobId"]])["jobs"][0]["status"] != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    batch.terminate_job(jobId=job["jobId"], reason="Host EC2 terminated")
    done = ended(batch, job["jobId"])
    assert (done["status"], done["statusReason"]) == ("FAILED", "Host EC2 terminated")
    assert done["container"]["exitCode"] == 128 + 15


def test_batch_submit_to_unknown_queue_is_refused(client):
    """Rather than a job that waits for ever."""
    with pytest.raises(ClientError, match="no such job queue"):
        client("batch").submit_job(jobName="job", jobQueue="absent", jobDefinition="absent")


def test_routes_in_body_of_http_api_reach_function(client, deploy, emulator):
    """With the raw query, which signatures cover, as it was sent."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("app.py", FUNCTION)
    storage = client("s3")
    storage.create_bucket(Bucket="emulator-code")
    storage.put_object(Bucket="emulator-code", Key="app.zip", Body=archive.getvalue())
    document = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {
            "Api": {"Type": "AWS::Serverless::HttpApi"},
            "Function": {
                "Type": "AWS::Serverless::Function",
                "Properties": {
                    "Runtime": "python3.11",
                    "Handler": "app.handler",
                    "CodeUri": {"Bucket": "emulator-code", "Key": "app.zip"},
                    "Events": {
                        "Get": {
                            "Type": "HttpApi",
                            "Properties": {"ApiId": {"Ref": "Api"}, "Path": "/things/{id}", "Method": "get"},
                        }
                    },
                },
            },
        },
        "Outputs": {"Api": {"Value": {"Ref": "Api"}}},
    }
    api = deploy(document, "routes")["Api"]
    connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=60)
    connection.request("GET", f"/_aws/execute-api/{api}/$default/things/7?b=%2Fx&a=+")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert (response.status, body) == (200, b"/things/7?b=%2Fx&a=+")
