"""Publishes a lead event to Leadhook with pika.

    pip install pika
    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python examples/publish/publish.py examples/lead.delivered.json

LEAD_EXCHANGE names another exchange than lead.events. Exit code 1: not taken, publish it again later.
"""

import json
import os
import sys

import pika

with open(sys.argv[1], "rb") as file:
    body = file.read()  # goes out byte for byte: what is signed later is what you write here
event = json.loads(body)

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()  # without this, basic_publish says nothing about what became of the message
try:
    channel.basic_publish(
        exchange=os.environ.get("LEAD_EXCHANGE", "lead.events"),
        routing_key=event["event"],
        body=body,
        properties=pika.BasicProperties(
            delivery_mode=2,  # persistent
            content_type="application/json",
            # The same whenever you publish this event again: then the receiver can tell the duplicate.
            message_id=f"{event['submissionId']}/{event['event']}",
            # headers={"organization-id": "acme"} for a campaign that the webhook store does not list
        ),
        mandatory=True,  # a message that no queue takes comes back, instead of vanishing
    )
except (pika.exceptions.UnroutableError, pika.exceptions.NackError) as error:
    sys.exit(f"not taken, publish it again later: {type(error).__name__}")
finally:
    connection.close()
print("taken: the broker has confirmed it")
