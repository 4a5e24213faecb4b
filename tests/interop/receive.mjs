// Receives webhooks with the official Standard Webhooks library, for `make interop`. Copy the ones in examples/receive/
// instead.
//
//   npm install standardwebhooks
//   WEBHOOK_SECRET=whsec_... node receive.mjs 8080

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const seen = new Set(); // in production: a unique key, written in the transaction that acts on the event

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  try {
    webhook.verify(body.toString(), request.headers); // check the raw bytes before using them
  } catch {
    return response.writeHead(401).end(); // a failed attempt for Leadhook, which retries it
  }
  const id = request.headers["webhook-id"];
  if (!seen.has(id)) {
    seen.add(id);
    console.log("new:", JSON.parse(body).event, id);
  }
  response.writeHead(204).end(); // also for a duplicate, which has arrived
}).listen(Number(process.argv[2]), "127.0.0.1");
