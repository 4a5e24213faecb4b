// Publishes a lead event to Leadhook with amqplib.
//
//   npm install amqplib
//   AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f node examples/publish/publish.mjs examples/lead.delivered.json
//
// LEAD_EXCHANGE names another exchange than lead.events. Exit code 1: not accepted, publish it again later.

import { readFileSync } from "node:fs";
import amqp from "amqplib";

const body = readFileSync(process.argv[2]); // sent byte for byte: receivers get these bytes, and the signature is over them
const event = JSON.parse(body);

const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createConfirmChannel();
// The broker returns a message that no queue takes, and then confirms it: a confirm alone is not enough.
let returned = false;
channel.on("return", () => (returned = true));
channel.publish(process.env.LEAD_EXCHANGE ?? "lead.events", event.event, body, {
  mandatory: true,
  persistent: true,
  contentType: "application/json",
  // The same when you publish this event again, so that receivers recognize the duplicate.
  messageId: `${event.submissionId}/${event.event}`,
  // headers: { "organization-id": "acme" } for a campaign that the webhook store does not list
});
const confirmed = await channel.waitForConfirms().then(() => true, () => false);
await connection.close();

if (!confirmed || returned) {
  console.error(`not accepted, publish it again later: ${returned ? "returned" : "refused"}`);
  process.exit(1);
}
console.log("accepted: the broker has confirmed it");
