"""Publishes a lead event to Leadhook with pika.

    pip install pika
    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python examples/publish/publish.py examples/lead.delivered.json

LEAD_EXCHANGE names another exchange than lead.events. Exit code 1: not accepted, publish it again later.
"""

import json
import os
import sys

import pika

with open(sys.argv[1], "rb") as file:
    body = file.read()  # sent byte for byte: receivers get these bytes, and the signature is over them
event = json.loads(body)

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()  # without this, basic_publish does not wait for the broker
try:
    channel.basic_publish(
        exchange=os.environ.get("LEAD_EXCHANGE", "lead.events"),
        routing_key=event["event"],
        body=body,
        properties=pika.BasicProperties(
            delivery_mode=2,  # persistent
            content_type="application/json",
            # The same when you publish this event again, so that receivers recognize the duplicate.
            message_id=f"{event['submissionId']}/{event['event']}",
            # headers={"organization-id": "acme"} for a campaign that the webhook store does not list
        ),
        mandatory=True,  # the broker returns a message that no queue takes, instead of dropping it
    )
except (pika.exceptions.UnroutableError, pika.exceptions.NackError) as error:
    sys.exit(f"not accepted, publish it again later: {type(error).__name__}")
finally:
    connection.close()
print("accepted: the broker has confirmed it")
