"""Receives webhooks with the official Standard Webhooks library, for `make interop`. examples/receive/ has the one to copy.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_... python receive.py 8080
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
seen = set()  # in production: a unique key, written in the transaction that acts on the event


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            webhook.verify(body.decode(), headers)  # check the raw bytes before using them
        except (WebhookVerificationError, UnicodeDecodeError):
            return self.answer(401)  # a failed attempt for Leadhook, which retries it
        if headers["webhook-id"] not in seen:
            seen.add(headers["webhook-id"])
            print("new:", json.loads(body)["event"], headers["webhook-id"], flush=True)
        self.answer(204)  # also for a duplicate, which has arrived

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
