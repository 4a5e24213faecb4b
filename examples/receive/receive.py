"""Receives webhooks of Leadhook: verifies the signature, stores each delivery once, answers fast.

    WEBHOOK_SECRET=whsec_... python3 receive.py 8080

Needs Python 3.9 and no package. Each delivery becomes one file in the directory inbox/ (or INBOX).
"""

import base64
import hashlib
import hmac
import os
import re
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
INBOX = os.environ.get("INBOX", "inbox")
TOLERANCE = 300  # seconds that webhook-timestamp may differ from the clock of this machine
LARGEST = 16 << 20  # bytes; no webhook of Leadhook is larger
if len(KEY) < 24:
    sys.exit("WEBHOOK_SECRET must be whsec_ and the base64 of 24 bytes or more")


def is_signed(headers, body):
    """Whether these bytes were signed with our secret, under this id, within the last minutes."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not re.fullmatch("[0-9A-Za-z_-]{1,100}", webhook_id) or not re.fullmatch("[0-9]{1,12}", timestamp):
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    digest = hmac.new(KEY, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    # There is one signature for each active secret of the sender: two during a rotation.
    signatures = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


def store_once(webhook_id, body):
    """Stores the bytes under their id. False if this id was stored before.

    In your system: an INSERT into a table with webhook-id as its unique key. The link is as atomic as that.
    """
    with tempfile.NamedTemporaryFile(dir=INBOX, prefix=".") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, os.path.join(INBOX, webhook_id + ".json"))
        except FileExistsError:
            return False
    return True


class Receiver(BaseHTTPRequestHandler):
    timeout = 30  # seconds of silence after which a connection is closed

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if not 0 <= length <= LARGEST:
            return self.answer(413)
        body = self.rfile.read(length)  # the bytes as they came: nothing is parsed before they are verified
        if not is_signed(self.headers, body):
            return self.answer(401)  # for Leadhook a failed attempt: it tries again
        is_new = store_once(self.headers["webhook-id"], body)
        print("new" if is_new else "again", self.headers["webhook-id"], flush=True)
        self.answer(204)  # also for an id that was stored before: it has arrived

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


os.makedirs(INBOX, exist_ok=True)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
