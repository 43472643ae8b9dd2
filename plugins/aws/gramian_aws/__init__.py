"""Gramian on AWS: stores on DynamoDB and S3, schedules, jobs, and the functions' node."""
