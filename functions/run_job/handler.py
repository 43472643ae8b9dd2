"""A job that was submitted."""

from gramian_aws.function import background
from gramian_aws.lambda_jobs import run_job

handler = background(run_job)
