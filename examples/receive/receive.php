<?php
// Receives webhooks of Leadhook: verifies the signature, stores each delivery once, answers fast.
//
//   WEBHOOK_SECRET=whsec_... php -S 127.0.0.1:8080 receive.php
//
// Needs PHP 8.1 and no package. Each delivery becomes one file in the directory inbox/ (or INBOX).

$key = (string) base64_decode(preg_replace('/^whsec_/', '', (string) getenv('WEBHOOK_SECRET')), true);
$inbox = getenv('INBOX') ?: 'inbox';
const TOLERANCE = 300; // seconds that webhook-timestamp may differ from the clock of this machine

/** Whether these bytes were signed with our secret, under this id, within the last minutes. */
function is_signed(string $key, string $id, string $timestamp, string $signatures, string $body): bool
{
    if (!preg_match('/^[0-9A-Za-z_-]{1,100}$/D', $id) || !preg_match('/^[0-9]{1,12}$/D', $timestamp)) {
        return false;
    }
    if (abs(time() - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    $fits = false;
    // There is one signature for each active secret of the sender: two during a rotation.
    foreach (explode(' ', $signatures) as $signature) {
        $fits = hash_equals($expected, $signature) || $fits;
    }
    return $fits;
}

/**
 * Stores the bytes under their id. False if this id was stored before.
 *
 * In your system: an INSERT into a table with webhook-id as its unique key. The link is as atomic as that.
 */
function store_once(string $inbox, string $id, string $body): bool
{
    $temporary = $inbox . '/.' . bin2hex(random_bytes(16));
    $file = fopen($temporary, 'x');
    try {
        if ($file === false || fwrite($file, $body) !== strlen($body) || !fsync($file)) {
            throw new RuntimeException('cannot write to the inbox');
        }
        if (@link($temporary, "$inbox/$id.json")) {
            return true;
        }
        clearstatcache();
        return file_exists("$inbox/$id.json") ? false : throw new RuntimeException('cannot link in the inbox');
    } finally {
        @unlink($temporary);
    }
}

/** The status to answer. */
function receive(string $key, string $inbox): int
{
    $body = file_get_contents('php://input'); // the bytes as they came: nothing is parsed before they are verified
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!is_signed($key, $id, $timestamp, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body)) {
        return 401; // for Leadhook a failed attempt: it tries again
    }
    error_log((store_once($inbox, $id, $body) ? 'new ' : 'again ') . $id);
    return 204; // also for an id that was stored before: it has arrived
}

@mkdir($inbox, 0700, true);
try {
    if (strlen($key) < 24) {
        throw new RuntimeException('WEBHOOK_SECRET must be whsec_ and the base64 of 24 bytes or more');
    }
    http_response_code(receive($key, $inbox));
} catch (Throwable $error) {
    error_log($error->getMessage());
    http_response_code(500); // not stored: Leadhook tries again
}
