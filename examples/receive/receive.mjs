// Receives webhooks of Leadhook: verifies the signature, stores each delivery once, answers fast.
//
//   WEBHOOK_SECRET=whsec_... node receive.mjs 8080
//
// Needs Node 18 and no package. Each delivery becomes one file in the directory inbox/ (or INBOX).

import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import { mkdirSync } from "node:fs";
import { link, open, unlink } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";

const key = Buffer.from((process.env.WEBHOOK_SECRET ?? "").replace(/^whsec_/, ""), "base64");
if (key.length < 24) throw new Error("WEBHOOK_SECRET must be whsec_ and the base64 of 24 bytes or more");
const inbox = process.env.INBOX ?? "inbox";
const tolerance = 300; // seconds that webhook-timestamp may differ from the clock of this machine
const largest = 16 << 20; // bytes; no webhook of Leadhook is larger

/** Whether these bytes were signed with our secret, under this id, within the last minutes. */
function isSigned(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": timestamp = "", "webhook-signature": signatures = "" } = headers;
  if (!/^[0-9A-Za-z_-]{1,100}$/.test(id) || !/^[0-9]{1,12}$/.test(timestamp)) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > tolerance) return false;
  const digest = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  // There is one signature for each active secret of the sender: two during a rotation.
  return signatures.split(" ").some((signature) => {
    const given = Buffer.from(signature);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

/**
 * Stores the bytes under their id. False if this id was stored before.
 *
 * In your system: an INSERT into a table with webhook-id as its unique key. The link is as atomic as that.
 */
async function storeOnce(id, body) {
  const temporary = join(inbox, `.${randomUUID()}`);
  const file = await open(temporary, "wx");
  try {
    await file.writeFile(body);
    await file.sync();
    await link(temporary, join(inbox, `${id}.json`));
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    await file.close();
    await unlink(temporary);
  }
}

async function receive(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    if ((length += chunk.length) > largest) return 413;
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks); // the bytes as they came: nothing is parsed before they are verified
  if (!isSigned(request.headers, body)) return 401; // for Leadhook a failed attempt: it tries again
  const id = request.headers["webhook-id"];
  console.log((await storeOnce(id, body)) ? "new" : "again", id);
  return 204; // also for an id that was stored before: it has arrived
}

mkdirSync(inbox, { recursive: true });
createServer(async (request, response) => {
  const status = await receive(request).catch((error) => (console.error(error), 500));
  response.writeHead(status).end();
}).listen(Number(process.argv[2]), "127.0.0.1");
