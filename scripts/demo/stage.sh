# The set-up of the demo in one directory: settings, webhook store, three receivers, one worker. For `source`.

# started DIR NAME COMMAND...: runs it in the background; DIR/NAME.pid says its process id and when it began.
started() {
    local dir=$1 name=$2
    shift 2
    # What is to outlive the terminal must not hear that it was closed.
    if [ -e "$dir/logs" ]; then set -- nohup "$@"; fi
    "$@" < /dev/null &
    echo "$! $(began $!)" > "$dir/$name.pid"
}

# Whether that process runs still. An id can be taken again by somebody else, but not with the same beginning.
alive() {
    local pid began
    [ -s "$1" ] || return 1
    read -r pid began < "$1"
    kill -0 "$pid" 2> /dev/null && [ "$(began "$pid")" = "$began" ]
}

# When a process began, in ticks of the kernel; nothing where the system does not say, "ended" for one that has ended but
# was not waited for.
began() {
    local stat
    [ -r "/proc/$1/stat" ] || return 0
    stat=$(< "/proc/$1/stat") 2> /dev/null || return 0
    # The name before the parenthesis may hold blanks; the state is the first word behind it.
    read -ra stat <<< "${stat##*) }"
    if [ "${stat[0]}" = Z ]; then echo ended; else echo "${stat[19]}"; fi
}

# receiver DIR NAME ARGS...: a receiver on a free port. It prints to our stdout, or to a file where it outlives us.
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

# Where a receiver listens.
url_of() { sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$1/$2.record" | head -n 1; }

write_settings() {
    local dir=$1
    cat > "$dir/leadhook.toml" << END
# Settings of the demo. All that is not here has its default: see config/leadhook.toml.
[amqp]
prefix = "$PREFIX"
exchange = "$PREFIX.events"
[store]
path = "$dir/webhooks.yaml"
[egress]
# The receivers of the demo are on this machine and speak no TLS; by default neither may be called.
allow = ["127.0.0.0/8"]
plain_http = true
[backoff]
# Short, so that all is over soon: 1 s, 2 s, 4 s, each a fifth shorter or longer. The default is 15 s to 1 h.
initial = "1s"
maximum = "4s"
[admin]
listen = "127.0.0.1:0"
[log]
format = "text"
END
    # The broker's password is in here.
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
# The webhook store of the demo. The worker reads it again when you change it.
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

# stage_start DIR: everything but the broker, which stands.
stage_start() {
    local dir=$1
    # 24 random bytes, as Standard Webhooks wants them.
    SECRET=whsec_$(head -c 24 /dev/urandom | base64)
    LEADHOOK_LISTEN_SECRETS=$SECRET receiver "$dir" crm
    receiver "$dir" flaky --respond 500,200 --per-webhook
    receiver "$dir" down --respond 404
    write_settings "$dir"
    write_store "$dir"
    # shellcheck disable=SC1091
    . "$dir/env"
    "$(binary)" check > "$dir/check.txt" || { cat "$dir/check.txt" >&2; die "the demo's own configuration is broken"; }
    # The worker would wait for its broker for ever, as it should; here somebody waits for an answer.
    "$(binary)" demo-queues count > /dev/null || die "the demo needs a broker that it can use"
    started "$dir" worker "$(binary)" run > "$dir/worker.out" 2> "$dir/worker.log"
    until_true 20 "the worker's admin port (see its log)" worker_listens "$dir"
    # From now on the port is fixed, so that `leadhook health` finds it and a worker that you restart keeps it.
    sed -i "s/^listen = .*/listen = \"$ADMIN\"/" "$dir/leadhook.toml"
    until_true 60 "the worker" worker_ready "$dir"
}

# Sets ADMIN, once the worker has said it.
worker_listens() {
    alive "$1/worker.pid" || { tail -n 5 "$1/worker.log" >&2; die "the worker has ended"; }
    ADMIN=$(sed -n 's/.*admin listening.*address=\([0-9.:]*\).*/\1/p' "$1/worker.log" | head -n 1)
    [ -n "$ADMIN" ]
}

worker_ready() {
    alive "$1/worker.pid" || { tail -n 5 "$1/worker.log" >&2; die "the worker has ended"; }
    "$(binary)" health > /dev/null 2>&1
}

# stage_stop DIR: the worker first, so that no attempt meets a receiver that has gone.
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

# until_true SECONDS WHAT COMMAND...: waits for a state, and gives up with a sentence.
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" > /dev/null; do
        [ $SECONDS -lt $deadline ] || die "$what: not there in time"
        sleep 0.1
    done
}
