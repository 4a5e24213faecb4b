# The set-up of the demo in one directory: settings, webhook store, three receivers, one worker. For `source`.

# started DIR NAME COMMAND...: runs the command in the background. DIR/NAME.pid holds its process id and start time.
started() {
    local dir=$1 name=$2
    shift 2
    # A process that outlives the terminal must not get SIGHUP when that closes.
    if [ -e "$dir/logs" ]; then set -- nohup "$@"; fi
    "$@" < /dev/null &
    echo "$! $(began $!)" > "$dir/$name.pid"
}

# Returns whether that process still runs. Another process may get the same id, but not with the same start time.
alive() {
    local pid began
    [ -s "$1" ] || return 1
    read -r pid began < "$1"
    kill -0 "$pid" 2> /dev/null && [ "$(began "$pid")" = "$began" ]
}

# Prints the start time of a process in kernel ticks. Prints nothing if the system does not tell, and "ended" for a
# process that has ended but was not waited for.
began() {
    local stat
    [ -r "/proc/$1/stat" ] || return 0
    stat=$(< "/proc/$1/stat") 2> /dev/null || return 0
    # The name before the parenthesis may contain spaces. The state is the first word after it.
    read -ra stat <<< "${stat##*) }"
    if [ "${stat[0]}" = Z ]; then echo ended; else echo "${stat[19]}"; fi
}

# receiver DIR NAME ARGS...: starts a receiver on a free port. It prints to our stdout, or to a file if it outlives us.
receiver() {
    local dir=$1 name=$2
    shift 2
    rm -f "$dir/$name.record"
    (
        if [ -e "$dir/logs" ]; then exec > "$dir/$name.log"; fi
        started "$dir" "$name" "$(binary)" listen --port 0 --name "$(printf '%-5s' "$name")" --brief \
            --record "$dir/$name.record" "$@" 2> "$dir/$name.err"
    )
    until_true 10 "the receiver $name" grep -qs '"listening"' "$dir/$name.record"
}

# Prints the URL of a receiver.
url_of() { sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$1/$2.record" | head -n 1; }

write_settings() {
    local dir=$1
    cat > "$dir/leadhook.toml" << END
# Settings of the demo. All others have their defaults: see config/leadhook.toml.
[amqp]
prefix = "$PREFIX"
exchange = "$PREFIX.events"
[store]
path = "$dir/webhooks.yaml"
[egress]
# The demo's receivers are on this machine and do not speak TLS. By default, webhooks may go to neither.
allow = ["127.0.0.0/8"]
plain_http = true
[backoff]
# Short waits, so that the demo ends soon: 1 s, 2 s, 4 s, each up to a fifth shorter or longer. The default is 15 s to
# 1 h.
initial = "1s"
maximum = "4s"
[admin]
listen = "127.0.0.1:0"
[log]
format = "text"
END
    # This file contains the broker's password.
    (
        umask 077
        {
            printf 'export LEADHOOK__AMQP__URLS=%q\n' "$URLS"
            [ -z "$MANAGEMENT" ] || printf 'export LEADHOOK__AMQP__MANAGEMENT_URL=%q\n' "$MANAGEMENT"
            printf 'export LEADHOOK_CONFIG=%q\n' "$dir/leadhook.toml"
            printf 'export WEBHOOK_ACME_SECRET=%q\n' "$SECRET"
        } > "$dir/env"
    )
}

write_store() {
    local dir=$1 crm flaky down
    crm=$(url_of "$dir" crm) flaky=$(url_of "$dir" flaky) down=$(url_of "$dir" down)
    cat > "$dir/webhooks.yaml" << END
# The webhook store of the demo. The worker reloads it when you change it.
organizations:
  acme:
    webhook:                      # for all campaigns of acme that do not override it
      url: $crm/acme
      events: "*"
      retry_attempts: 3
      timeout: 5
      signing_secrets: ["\${WEBHOOK_ACME_SECRET}"]
    campaigns:
      ABC:                        # two kinds of event go elsewhere, the others to acme's own webhook
        override: true
        webhook:
          url: $flaky/acme/ABC
          events: [lead.delivered, lead.processed]
      DEF:                        # two targets: lead.processed is delivered twice
        override: true
        webhooks:
          - name: crm           # credentials never follow to another URL: it says them itself
            url: $crm/acme/DEF/crm
            events: "*"
            signing_secrets: ["\${WEBHOOK_ACME_SECRET}"]
          - { name: audit, url: "$flaky/acme/DEF/audit", events: [lead.processed] }
      QUIET:                      # none, whatever acme says
        override: true
        webhook: { enabled: false }
  globex:
    webhook:
      url: $down/globex
      events: [lead.delivered, lead.failed]
      retry_attempts: 3
      timeout: 5
    campaigns:
      XYZ: {}                     # listed, so that its events need not name the organization
END
}

# stage_start DIR: starts everything except the broker, which already runs.
stage_start() {
    local dir=$1
    # 24 random bytes, as Standard Webhooks requires.
    SECRET=whsec_$(head -c 24 /dev/urandom | base64)
    LEADHOOK_LISTEN_SECRETS=$SECRET receiver "$dir" crm
    receiver "$dir" flaky --respond 500,200 --per-webhook
    receiver "$dir" down --respond 404
    write_settings "$dir"
    write_store "$dir"
    # shellcheck disable=SC1091
    . "$dir/env"
    "$(binary)" check > "$dir/check.txt" || { cat "$dir/check.txt" >&2; die "the demo's own configuration is broken"; }
    # The worker would wait for its broker indefinitely, as it should. Here a person waits for an answer.
    "$(binary)" demo-queues count > /dev/null || die "the demo needs a broker that it can use"
    started "$dir" worker "$(binary)" run > "$dir/worker.out" 2> "$dir/worker.log"
    until_true 20 "the worker's admin port (see its log)" worker_listens "$dir"
    # From now on the port is fixed. So `leadhook health` finds it, and a worker that you restart keeps it.
    sed -i "s/^listen = .*/listen = \"$ADMIN\"/" "$dir/leadhook.toml"
    until_true 60 "the worker" worker_ready "$dir"
}

# Sets ADMIN once the worker has logged its address.
worker_listens() {
    alive "$1/worker.pid" || { tail -n 5 "$1/worker.log" >&2; die "the worker has ended"; }
    ADMIN=$(sed -n 's/.*admin listening.*address=\([0-9.:]*\).*/\1/p' "$1/worker.log" | head -n 1)
    [ -n "$ADMIN" ]
}

worker_ready() {
    alive "$1/worker.pid" || { tail -n 5 "$1/worker.log" >&2; die "the worker has ended"; }
    "$(binary)" health > /dev/null 2>&1
}

# stage_stop DIR: stops the worker first, so that no attempt meets a stopped receiver.
stage_stop() {
    stop "$1/worker.pid"
    receivers_stop "$1"
}

receivers_stop() {
    local name
    for name in crm flaky down; do
        stop "$1/$name.pid"
    done
}

stop() {
    local file=$1 pid
    if alive "$file"; then
        read -r pid _ < "$file"
        kill "$pid" 2> /dev/null || true
        for _ in $(seq 1 100); do
            alive "$file" || break
            sleep 0.1
        done
        if alive "$file"; then kill -KILL "$pid" 2> /dev/null || true; fi
    fi
    rm -f "$file"
}

# until_true SECONDS WHAT COMMAND...: waits until the command succeeds, and fails with a message after that time.
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" > /dev/null; do
        [ $SECONDS -lt $deadline ] || die "timed out waiting for $what"
        sleep 0.1
    done
}
